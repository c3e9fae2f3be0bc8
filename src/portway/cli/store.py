"""`portway store`: move a cluster's objects between the places that can keep them. The work is `up.movestore`'s."""

from pathlib import Path
from typing import Any

import click

from portway.cli.errors import CliError
from portway.cli.params import path_option
from portway.options import values
from portway.up import movestore, stores

_DATABASE = "cluster.db"


@click.group("store")
def command() -> None:
    """Where a cluster's objects are kept.

    \b
    Examples:
      portway store copy --from ~/.portway --to etcd://127.0.0.1:2379
    """


@command.command("copy")
@click.option("--from", "source", required=True, metavar="STORE", help="DATA-DIR, a SQLite file, or etcd://HOST:2379")
@click.option("--to", "target", required=True, metavar="STORE", help="the same; holds no cluster yet")
@click.option("--etcd-prefix", metavar="PATH", help="what the keys in etcd begin with  [default: /portway]")
@path_option("--etcd-cafile", metavar="FILE", help="authorities that etcd's certificate is verified with, PEM")
@path_option("--etcd-certfile", metavar="FILE", help="client certificate for etcd, PEM")
@path_option("--etcd-keyfile", metavar="FILE", help="key of --etcd-certfile, PEM")
@click.option("--etcd-username", metavar="NAME", help="etcd's user, where it asks for one")
@path_option("--etcd-password-file", metavar="FILE", help="its first line is the password of --etcd-username")
def copy(source: str, target: str, **etcd: Any) -> None:
    """Copy all objects to an empty store, and compare. Stop every server on both first.

    \b
    Examples:
      portway store copy --from ~/.portway --to etcd://127.0.0.1:2379
      portway store copy --from etcds://etcd-1:2379 --etcd-cafile ca.pem --to ./cluster
    """
    given = {name.removeprefix("etcd_"): str(value) for name, value in etcd.items() if value}
    done = movestore.copy(_place(source, given), _place(target, given), lambda line: click.echo(line, err=True))
    click.echo(f"{done.keys} keys copied and compared (sha256 {done.digest[:16]}…); the store is at {done.revision}")


def _place(text: str, given: dict[str, str]) -> movestore.Place:
    try:
        found = stores.etcd_settings(text, given)
        if found is not None:
            return found
        path: Path = values.path(text.removeprefix("sqlite://"))
    except ValueError as error:
        raise CliError(str(error)) from None
    return path / _DATABASE if path.is_dir() else path
