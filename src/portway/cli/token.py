"""`portway token create`: a bearer token for a service account, as `kubectl create token` makes it."""

import re
from typing import Any

import click

from portway.cli import cluster
from portway.cli.cluster import Connection
from portway.cli.errors import CliError
from portway.kube.objects import Object

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?\Z")


@click.group("token")
def command() -> None:
    """Make tokens that programs log in with."""


@command.command("create")
@click.argument("serviceaccount")
@click.option("--duration", default="", metavar="TIME", help="how long it is valid: 30m, 8h, 600s (at least 10m)")
@click.option("--audience", "audiences", multiple=True, metavar="NAME", help="who it is for; may be repeated")
@cluster.options
def create(serviceaccount: str, duration: str, audiences: tuple[str, ...], **said: Any) -> None:
    """Print a token of a service account.

    \b
    Examples:
      portway token create robot
      curl -H "Authorization: Bearer $(portway token create robot -n ci --duration 1h)" ...
    """
    request = token_request(audiences, seconds(duration))

    async def show(connection: Connection) -> None:
        account = (
            f"namespaces/{cluster.segment(connection.namespace)}/serviceaccounts/{cluster.segment(serviceaccount)}"
        )
        answer = await connection.client.create(f"/api/v1/{account}/token", request)
        token = (answer.get("status") or {}).get("token")
        if not token:
            raise CliError("the API answered without a token")
        click.echo(token)

    cluster.connected(show, **said)


def token_request(audiences: tuple[str, ...], lifetime: int) -> Object:
    """The TokenRequest; what isn't said (0, ()) is left to the API."""
    spec: dict[str, Any] = {}
    if audiences:
        spec["audiences"] = list(audiences)
    if lifetime:
        spec["expirationSeconds"] = lifetime
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def seconds(text: str) -> int:
    """`1h30m` → 5400; "" → 0. Raises click.BadParameter for anything else."""
    match = _DURATION.match(text)
    if match is None:
        raise click.BadParameter(f'"{text}" is not a time such as 30m, 8h or 600s', param_hint="--duration")
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest
