"""How a command reaches a cluster: kubectl's options for it, and one place where the API's errors become one line."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import click

from portway.cli import params
from portway.cli.errors import CliError
from portway.client.api import ApiClient
from portway.client.kubeconfig import KubeconfigError, Overrides, load
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import StatusError, Unauthorized

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("-n", "--namespace", default="", metavar="NAME", help="namespace, instead of the context's"),
    click.option(
        "--kubeconfig",
        default="",
        metavar="FILE",
        help="instead of $KUBECONFIG or ~/.kube/config",
        shell_complete=params.files,
    ),
    click.option("--context", default="", metavar="NAME", help="context of the kubeconfig to use"),
    params.checked_option("-s", "--server", metavar="URL", help="address of the cluster's API", check=params.server),
    params.checked_option("--token", metavar="TOKEN", help="bearer token to log in with", check=params.token),
    click.option("--insecure-skip-tls-verify", is_flag=True, help="do not verify the server's certificate"),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """The cluster that the options name.

    Attributes:
        client: speaks to it; closed by `connected`.
        server: its URL.
        namespace: where the user works; `explicit_namespace` is what -n said, "" when it wasn't given.
        plain_server: its plain listener, as the kubeconfig tells; "" when it doesn't.
    """

    client: ApiClient
    server: str
    namespace: str
    explicit_namespace: str
    plain_server: str


def segment(name: str) -> str:
    """A name as part of a path: whatever was typed is one segment."""
    return quote(name, safe="", errors="surrogateescape")


def options(command: F) -> F:
    """Add kubectl's connection options; the command gets them as keyword arguments, for `connected`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def connected(
    action: Callable[[Connection], Awaitable[T]],
    *,
    runner: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run,
    **said: Any,
) -> T:
    """Run `action` on the cluster that the options name. Raises CliError for all that a cluster can do wrong."""
    try:
        kubeconfig = load(said.pop("kubeconfig"))
        overrides = Overrides(**said)
        config = kubeconfig.resolve(overrides)
        plain = _plain_server(kubeconfig.contexts, kubeconfig.clusters, overrides.context or kubeconfig.current_context)
    except KubeconfigError as error:
        raise CliError(f"{error}; --kubeconfig or $KUBECONFIG names another file") from error

    async def talk() -> T:
        client = ApiClient(config, user_agent="portway-cli")
        try:
            connection = Connection(client, config.server, config.namespace, overrides.namespace, plain)
            return await action(connection)
        finally:
            await client.close()

    try:
        return runner(talk())
    except Unauthorized as error:
        raise CliError(f"{config.server} does not accept these credentials (401 Unauthorized)") from error
    except StatusError as error:
        raise CliError(error.message) from error
    except ApiUnreachable as error:
        raise CliError(f"cannot reach {error}") from error


def _plain_server(contexts: Any, clusters: Any, context: str) -> str:
    """The plain listener that `portway up` wrote into the cluster's extensions."""
    from portway.up.kubeconfig import EXTENSION

    cluster = clusters.get((contexts.get(context) or {}).get("cluster")) or {}
    extensions = cluster.get("extensions")
    for entry in extensions if isinstance(extensions, list) else ():
        if isinstance(entry, dict) and entry.get("name") == EXTENSION:
            extension = entry.get("extension")
            return str(extension.get("server") or "") if isinstance(extension, dict) else ""
    return ""
