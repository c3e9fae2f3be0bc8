"""`portway url`: the URL that reaches a service, for a browser, curl or a script."""

from collections.abc import Mapping
from typing import Any

import click

from portway.cli import cluster
from portway.cli.cluster import Connection
from portway.cli.errors import CliError
from portway.kube.objects import Object
from portway.kube.proxyurl import TargetId, join_id
from portway.up import links


@click.command("url")
@click.argument("service", metavar="NAME[:PORT]")
@click.option("--http", is_flag=True, help="on the plain listener of this machine, for a browser")
@cluster.options
def command(service: str, http: bool, **said: Any) -> None:
    """Print the URL that reaches a service through the door.

    PORT is a service port's number or name; without it the service's only, or evidently meant, port is taken. A port
    that speaks TLS (by its name, appProtocol or number) is reached with https.

    \b
    Examples:
      portway url elasticsearch-logging -n kube-system
      portway url hello:http --http
      curl -u demo "$(portway url hello --http)"
    """

    async def show(connection: Connection) -> None:
        name, _, port = service.partition(":")
        if http and not connection.plain_server:
            raise CliError(
                "the kubeconfig knows no plain listener of this cluster; portway up --insecure-port 8080 opens one"
            )
        path = f"/api/v1/namespaces/{cluster.segment(connection.namespace)}/services/{cluster.segment(name)}"
        found = await connection.client.get(path)
        server = connection.plain_server if http else connection.server
        click.echo(url(server, found, port))

    if not service.partition(":")[0] or service.count(":") > 1:
        raise click.UsageError(f'"{service}" is not NAME or NAME:PORT', click.get_current_context())
    cluster.connected(show, **said)


def url(server: str, service: Object, wanted: str) -> str:
    """The URL, with a slash at the end; CliError when the port is not there, or not told."""
    metadata = service["metadata"]
    port = choose_port(service, wanted)
    target = TargetId("https" if speaks_tls(port) else "", metadata["name"], port.get("name") or "")
    return links.proxy_url(server, metadata["namespace"], join_id(target)) + "/"


def choose_port(service: Object, wanted: str) -> Mapping[str, Any]:
    """The port of that number or name; without one the only, the unnamed, or the one that says http."""
    name = service["metadata"]["name"]
    usable = [port for port in links.ports(service) if port.get("protocol", "TCP") == "TCP"]
    if not usable:
        raise CliError(f"service {name} has no TCP port")
    spoken = ", ".join(_spoken(port) for port in usable)
    if wanted:
        for port in usable:
            if wanted in (str(port["port"]), port.get("name")):
                return port
        raise CliError(f"service {name} has no port {wanted}; it has {spoken}")
    for candidates in (usable, [p for p in usable if not p.get("name")], [p for p in usable if _is_web(p)]):
        if len(candidates) == 1:
            return candidates[0]
    raise CliError(f"service {name} has several ports: {spoken}; say which, as in {name}:{_spoken(usable[0])}")


def speaks_tls(port: Mapping[str, Any]) -> bool:
    """Whether a port's name, appProtocol or number says https."""
    return (
        port.get("name") == "https" or port.get("appProtocol") in ("https", "kubernetes.io/wss") or port["port"] == 443
    )


def _is_web(port: Mapping[str, Any]) -> bool:
    return port.get("name") == "http" or port.get("appProtocol") == "http" or port["port"] == 80


def _spoken(port: Mapping[str, Any]) -> str:
    return str(port.get("name") or port["port"])
