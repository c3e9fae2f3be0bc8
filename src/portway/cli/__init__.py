"""What a person types: `portway COMMAND`. One module per command, loaded when it is asked for.

`main` is the one place where errors become a line on standard error and an exit code: 0 done, 1 it didn't work, 2 it
was asked wrongly, 130 interrupted. A traceback here is a bug of ours.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.exceptions import NoArgsIsHelpError

from portway.cli.errors import CliError
from portway.options.errors import SettingsError
from portway.up.errors import UpError

COMMANDS = {
    "up": ("portway.cli.up", "run an embedded cluster and the door to it"),
    "proxy": ("portway.cli.proxy", "serve a cluster's API and services on this machine"),
    "gateway": ("portway.cli.gateway", "run a door for a team in front of a cluster"),
    "services": ("portway.cli.services", "list services, their health, what you may do, and links"),
    "cluster-info": ("portway.cli.cluster_info", "list the cluster's services and their URLs"),
    "url": ("portway.cli.url", "print the URL that reaches a service"),
    "forward": ("portway.cli.forward", "forward local ports to services, deployments and pods"),
    "user": ("portway.cli.user", "add, list and remove users who log in with a password"),
    "store": ("portway.cli.store", "copy a cluster's objects between SQLite and etcd"),
    "token": ("portway.cli.token", "make a token for a service account"),
    "completion": ("portway.cli.completion", "print a script that completes commands in a shell"),
    "version": ("portway.cli.version", "print the version"),
}
"""Name → module (which has a `command`) and the line in the list of commands."""


class _Commands(click.Group):
    """Commands by name, each imported only when it is used: `portway up` must not wait for what `portway url` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from portway.options.declared import closest

            raise click.UsageError(f'unknown command "{args[0]}"{closest(args[0], COMMANDS)}', ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start here:  portway up --demo        Help on a command:  portway COMMAND --help",
)
def cli() -> None:
    """One authenticated, authorised door to the services that run in a Kubernetes cluster."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit code."""
    try:
        result = cli.main(args=arguments, prog_name="portway", standalone_mode=False)
    except NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "portway"
        return _complain(f"{_sentence(error)}; see `{command} --help`", 2)
    except click.ClickException as error:
        return _complain(error.format_message(), 1)
    except SettingsError as error:
        return _complain(str(error), 2 if error.usage else 1)
    except (CliError, UpError) as error:
        return _complain(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output went away; what is still buffered has nowhere to go (and must not raise at exit).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run())


def _complain(message: str, code: int) -> int:
    print("portway: " + " ".join(message.split()), file=sys.stderr)
    return code


def _sentence(error: click.UsageError) -> str:
    """click's message as the middle of a line: no capital, no full stop."""
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]
