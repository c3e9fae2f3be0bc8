"""What tests of other people's clients stand on: a credential plugin, a wire that can be cut, a namespace.

    with wire(port) as way:
        config = exec_kubeconfig(cluster, directory, server=way.server)
        ...
        way.cut()                      # every connection, in the middle of whatever it was doing
        with way.down(): ...           # and who comes meanwhile is turned away
    with way.held(): ...           # and who comes meanwhile waits

The cluster itself comes from `portway.testing.cluster`.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from portway.testing.cluster import Cluster, wait_until
from portway.testing.demo import admin_token

EXEC = "client.authentication.k8s.io"
PLUGIN = """#!/bin/sh
echo run >> "{log}"
printf '{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":"%s"}}}}' "{token}"
"""


@dataclass(frozen=True)
class ExecConfig:
    """A kubeconfig whose only credential is a plugin; the plugin writes a line for each of its runs."""

    path: Path
    log: Path

    @property
    def runs(self) -> int:
        """How often the plugin was asked."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def exec_kubeconfig(
    cluster: Cluster, directory: Path, *, server: str = "", namespace: str = "default", version: str = "v1"
) -> ExecConfig:
    """Writes the administrator's kubeconfig with a plugin that prints a token.

    `server` replaces the cluster's URL; `version` is that of client.authentication.k8s.io.
    """
    log, plugin, path = directory / "plugin.log", directory / "plugin", directory / "exec.kubeconfig"
    plugin.write_text(PLUGIN.format(log=log, version=f"{EXEC}/{version}", token=admin_token(cluster)))
    plugin.chmod(0o755)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = server or cluster.server
    content["contexts"][0]["context"]["namespace"] = namespace
    content["users"][0]["user"] = {
        "exec": {
            "apiVersion": f"{EXEC}/{version}",
            "command": str(plugin),
            "interactiveMode": "Never",
            "provideClusterInfo": False,
        }
    }
    path.write_text(yaml.safe_dump(content))
    return ExecConfig(path, log)


@contextmanager
def namespace(cluster: Cluster, name: str) -> Iterator[str]:
    """A namespace for the time of the block, with its service account."""
    token, path = admin_token(cluster), f"/api/v1/namespaces/{name}"
    assert cluster.request("POST", "/api/v1/namespaces", token, {"metadata": {"name": name}})[0] == 201
    account = f"{path}/serviceaccounts/default"
    wait_until(lambda: cluster.request("GET", account, token)[0] == 200, f"{name} got no service account")
    yield name
    assert cluster.request("DELETE", path, token)[0] in (200, 202)


class Wire:
    """A TCP way to a port of this machine, for one test to break."""

    def __init__(self, port: int) -> None:
        self.opened = 0
        """Connections that came through so far."""
        self._target = port
        self._open: set[socket.socket] = set()
        self._is_down = False
        self._passable = threading.Event()
        self._passable.set()
        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def server(self) -> str:
        """The URL at which clients find the server that stands behind."""
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def cut(self) -> int:
        """Breaks every connection off; returns how many there were."""
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets who comes wait for the end of the block, so that clients that try again without a pause don't spin."""
        self._passable.clear()
        try:
            self.cut()
            yield
        finally:
            self._passable.set()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Turns everybody away for the time of the block."""
        self._is_down = True
        try:
            self.cut()
            yield
        finally:
            self._is_down = False

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        relay = self._relay

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # whichever side it was: both are closed
                    relay(self.request)

        return Handler

    def _relay(self, near: socket.socket) -> None:
        if self._is_down:
            return
        self._passable.wait()
        with socket.create_connection(("127.0.0.1", self._target)) as far:
            pair = {near, far}
            with self._lock:
                self.opened += 1
                self._open |= pair
            try:
                _pump(near, far)
            finally:
                with self._lock:
                    self._open -= pair

    @contextmanager
    def serving(self) -> Iterator[Wire]:
        """Accepts for the time of the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="wire")
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self.cut()
            self._server.server_close()


def _pump(near: socket.socket, far: socket.socket) -> None:
    """Carries bytes both ways until one side ends."""
    other = {near: far, far: near}
    while True:
        for ready in select.select([near, far], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            other[ready].sendall(data)


@contextmanager
def wire(cluster: Cluster) -> Iterator[Wire]:
    """A way to the cluster's TLS port."""
    with Wire(int(cluster.server.rpartition(":")[2])).serving() as way:
        yield way
