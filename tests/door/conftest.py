"""Doors as `portway proxy` makes them, for conversations: the API server is a socket of the test's."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from portway.door.answers import Catalogue
from portway.gateway.filter import FilterRules
from portway.gateway.hosts import Hosts
from portway.testing.cluster import self_signed
from portway.testing.conversation import Backend, RunningDoor, running
from portway.testing.rights import KnownRights

Proxy = tuple[RunningDoor, Backend]
MakeProxy = Callable[..., Proxy]

KUBECONFIG = """
current-context: there
contexts: [{{name: there, context: {{cluster: there, user: me}}}}]
clusters: [{{name: there, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: me, user: {{token: kubeconfig-token}}}}]
"""


@pytest.fixture
def make_proxy(tmp_path: Path) -> Iterator[MakeProxy]:
    """Makes a door in front of an API server: (door, API).

    `path` is that of the server's URL, `changes` are settings. Credentials are shown over `tls` only, as by kubectl.
    """
    with ExitStack() as stack:

        def make(path: str = "", *, tls: bool = False, **changes: Any) -> Proxy:
            api = Backend("127.0.0.1", _context(tmp_path) if tls else None)
            stack.callback(api.shutdown)
            kubeconfig = tmp_path / "kubeconfig"
            kubeconfig.write_text(KUBECONFIG.format(server=f"http{'s' if tls else ''}://127.0.0.1:{api.port}{path}"))
            settings: dict[str, Any] = {
                "api_socket": "",
                "kubeconfig": str(kubeconfig),
                "authorization_mode": "AlwaysAllow",
                "via": "through",
                "local": "portway:local",
                "host_bases": ("localhost",),
                "filter": FilterRules(),
                "answers": lambda view: Catalogue(view, KnownRights(), Hosts(("localhost",)), "there", "http"),
            }
            return stack.enter_context(running(tmp_path, **(settings | changes))), api

        yield make


def _context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(directory, "api"))
    return context


@pytest.fixture
def proxy(make_proxy: MakeProxy) -> Proxy:
    """`portway proxy` with its defaults, and services web (one port) and two (http, https) in demo."""
    made = make_proxy()
    made[0].service("web")
    made[0].service("two", ports=[{"name": "http", "port": 80}, {"name": "https", "port": 443}])
    return made
