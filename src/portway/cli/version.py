"""`portway version`."""

import platform

import click

from portway import __version__
from portway.cli import output


@click.command("version")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), help="instead of a line")
def command(form: str | None) -> None:
    """Print the version."""
    found = {"portway": __version__, "python": platform.python_version(), "platform": platform.machine()}
    if form is None:
        click.echo(f"portway {__version__} (Python {found['python']}, {found['platform']})")
    else:
        click.echo((output.as_json if form == "json" else output.as_yaml)(found))
