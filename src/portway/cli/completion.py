"""`portway completion`: the script that teaches a shell to complete our commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a completion script.

    \b
    Examples:
      source <(portway completion bash)          # this shell; in ~/.bashrc for all
      portway completion fish > ~/.config/fish/completions/portway.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}", context)
    click.echo(kind(context.find_root().command, {}, "portway", "_PORTWAY_COMPLETE").source())
