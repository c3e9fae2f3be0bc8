"""`portway user`: the people who log in with a password. Edits the htpasswd file; a running `portway up` is told."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portway.cli import output
from portway.cli.errors import CliError
from portway.cli.params import path_option
from portway.up import datadir, users
from portway.up.datadir import DataDir
from portway.up.settings import default_data_dir

F = TypeVar("F", bound=Callable[..., Any])


@click.group("user")
def command() -> None:
    """People who log in with a password (HTTP basic authentication).

    A new user may do nothing yet: bind a role to the name, or to a group given with --group.

    \b
    Examples:
      portway user add mara --group developers
      kubectl create clusterrolebinding developers --clusterrole=view --group=developers
      printf %s "$PASSWORD" | portway user passwd mara --password-stdin
    """


def _file_options(function: F) -> F:
    """Which file is edited."""
    data_dir = path_option("--data-dir", metavar="DIR", help="of the cluster  [default: ~/.portway]")
    file = path_option("--basic-auth-file", metavar="FILE", help="edit this file instead of DIR's")
    return data_dir(file(function))


def _password_option(function: F) -> F:
    option = click.option("--password-stdin", is_flag=True, help="read the password from standard input")
    return option(function)


class _Target:
    """The file, and the running cluster that reads it."""

    def __init__(self, data_dir: Path | None, basic_auth_file: Path | None) -> None:
        root = data_dir or default_data_dir()
        self.directory = DataDir(root)
        self.file = basic_auth_file or self.directory.htpasswd
        if basic_auth_file is None and not root.is_dir():
            raise CliError(f"there is no data directory {root} yet: `portway up` makes it; --data-dir names another")

    def tell(self, what: str) -> None:
        """Say what was done; and have the running cluster read the file again."""
        running = datadir.holder(self.directory)
        try:
            if running is not None:
                os.kill(running, signal.SIGHUP)
        except ProcessLookupError:
            running = None
        except PermissionError as error:
            raise CliError(f"{what}, but the running portway is another user's: send SIGHUP to {running}") from error
        click.echo(what if running is None else f"{what}; the running portway has been told")


@command.command("add")
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="a group of the user; may be repeated")
@_password_option
@_file_options
def add(
    name: str, groups: tuple[str, ...], password_stdin: bool, data_dir: Path | None, basic_auth_file: Path | None
) -> None:
    """Add a user; the password is asked for."""
    target = _Target(data_dir, basic_auth_file)
    users.check_name(name)
    for group in groups:
        users.check_group(group)
    if users.has(target.file, name):
        raise CliError(f'user "{name}" exists already; `portway user passwd {name}` sets another password')
    users.put(target.file, name, _password(password_stdin), groups)
    target.tell(f'user "{name}" added')


@command.command("passwd")
@click.argument("name")
@_password_option
@_file_options
def passwd(name: str, password_stdin: bool, data_dir: Path | None, basic_auth_file: Path | None) -> None:
    """Set another password; what was logged in with the old one must log in again."""
    target = _Target(data_dir, basic_auth_file)
    known = {entry.name: entry for entry in users.entries(target.file)}
    if name not in known:
        raise CliError(f'no user "{name}" in {target.file}; `portway user list` shows them')
    users.put(target.file, name, _password(password_stdin), known[name].groups)
    target.tell(f'password of "{name}" changed')


@command.command("remove")
@click.argument("name")
@_file_options
def remove(name: str, data_dir: Path | None, basic_auth_file: Path | None) -> None:
    """Remove a user."""
    target = _Target(data_dir, basic_auth_file)
    users.remove(target.file, name)
    target.tell(f'user "{name}" removed')


@command.command("list")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml", "name"]), help="instead of a table")
@_file_options
def list_users(form: str | None, data_dir: Path | None, basic_auth_file: Path | None) -> None:
    """List the users."""
    found = users.entries(_Target(data_dir, basic_auth_file).file)
    if form == "name":
        click.echo("".join(f"{entry.name}\n" for entry in found), nl=False)
    elif form is None:
        rows = [(entry.name, ",".join(entry.groups) or "<none>", entry.scheme) for entry in found]
        click.echo(output.as_table(("NAME", "GROUPS", "HASH"), rows))
    else:
        plain = [{"name": entry.name, "groups": list(entry.groups), "hash": entry.scheme} for entry in found]
        click.echo((output.as_json if form == "json" else output.as_yaml)(plain))


def _password(from_stdin: bool) -> str:
    if from_stdin:
        try:
            password = sys.stdin.readline().rstrip("\r\n")
        except UnicodeDecodeError:
            raise CliError("the password is not text (UTF-8)") from None  # the codec's words quote it
    elif sys.stdin.isatty():
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise CliError("there is no terminal to ask for a password; give it with --password-stdin")
    if not password:
        raise CliError("the password is empty")
    return password
