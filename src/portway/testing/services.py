"""A service proxy for tests: real sockets on loopback, a view that the test feeds, and what it wrote to the API.

with serving() as wire:
    web = wire.server(b"one")                 # a backend on a pod's address of its own
    wire.service("web", wire.address(), port=80)
    wire.endpoints("web", web)
    assert fetch(wire.address_of("web"), 80) == b"one"
"""

import asyncio
import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import uvloop

from portway.client.protocol import Client
from portway.client.view import ClusterView
from portway.gateway.l4.proxy import ServiceProxy
from portway.gateway.l4.settings import ServiceProxySettings
from portway.gateway.settings import Limits
from portway.kube.objects import Object
from portway.testing.cluster import wait_until

PODS = "127.64.0.0/10"
NODE = "here"
NAMESPACE = "ns"
_NUMBERS = itertools.count(1)
T = TypeVar("T")


def pod_address() -> str:
    """A loopback address of the pods' range that no other test of this run has."""
    number = next(_NUMBERS)
    return f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{number % 250 + 1}"


def service_address() -> str:
    """A loopback address outside of it."""
    number = next(_NUMBERS)
    return f"127.{140 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{number % 250 + 1}"


@dataclass
class Written:
    """A client that keeps what it is told to write."""

    events: list[Object] = field(default_factory=list)
    patches: list[tuple[str, Any]] = field(default_factory=list)

    async def create(self, _path: str, obj: Object) -> Object:
        self.events.append(obj)
        return obj

    async def patch(self, path: str, patch: Any, _content_type: str = "") -> Object:
        if path.endswith("/status"):
            self.patches.append((path, patch))
        return {}


class Server:
    """A TCP backend: `handle` has each connection in a thread of its own."""

    def __init__(self, handle: Callable[[socket.socket], None], listener: socket.socket) -> None:
        self.peers: list[str] = []
        """Addresses of those who connected, in order."""
        self._listener = listener
        self.address, self.port = self._listener.getsockname()[:2]
        self._handle = handle
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            self._handle(sock)
        self._open.discard(sock)

    def close(self) -> None:
        """Accepts no more, and ends what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for sock in [*self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def saying(words: bytes) -> Callable[[socket.socket], None]:
    """Waits for the client's first bytes, says its words, and then gives everything back until the client ends."""

    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(words)
        while data := sock.recv(65536):
            sock.sendall(data)

    return handle


class Wire:
    """A running service proxy, its view, and backends."""

    def __init__(self, **settings: Any) -> None:
        self.written = Written()
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._settings = ServiceProxySettings(
            api_socket="", node=NODE, **{"cluster_cidrs": (PODS,), "nodeport_addresses": ("127.0.0.0/8",)} | settings
        )
        self._servers: list[Server] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._main())
        self.loop.close()

    async def _main(self) -> None:
        self.view = ClusterView()
        self._stop = asyncio.Event()
        self.proxy = ServiceProxy(self._settings, self.view, cast(Client, self.written), self.loop)
        running = asyncio.create_task(self.proxy.run())
        self._started.set()
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await self.proxy.drain(5)

    def start(self) -> None:
        self._thread.start()
        self._started.wait(10)

    def stop(self) -> None:
        """Ends it as SIGTERM does; returns when it is gone."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)

    def close(self) -> None:
        self.stop()
        for server in self._servers:
            server.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs on its loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def apply(self, plural: str, obj: Object, event: str = "MODIFIED") -> None:
        """An event of the API, taken in and acted upon."""

        async def applied() -> None:
            self.view.apply(plural, event, obj)
            await asyncio.sleep(0.01)

        self.call(applied())

    def server(
        self, said: bytes | Callable[[socket.socket], None] = b"", address: str | None = None, port: int = 0
    ) -> Server:
        """A backend on an address of its own, that says something, or does."""
        listener = socket.create_server((address or pod_address(), port), backlog=512)
        made = Server(said if callable(said) else saying(said), listener)
        self._servers.append(made)
        return made

    def service(self, name: str, address: str = "", *ports: Object, **more: Any) -> str:
        """Applies a service; its cluster address. `ports`: by default TCP 80. `more`: its spec, and `status`,
        `annotations`, `namespace`.
        """
        address = address or service_address()
        status = more.pop("status", {})
        annotations = more.pop("annotations", {})
        namespace = more.pop("namespace", NAMESPACE)
        listed = list(ports) or [{"port": 80, "protocol": "TCP"}]
        spec = {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": listed} | more
        metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}", "annotations": annotations}
        self.apply("services", {"metadata": metadata, "spec": spec, "status": status})
        return address

    def endpoints(self, service: str, *endpoints: "Server | Object", port: int = 0, **more: Any) -> None:
        """Applies the service's only slice. Endpoints that aren't servers are as in an EndpointSlice."""
        described = [endpoint(one.address) if isinstance(one, Server) else one for one in endpoints]
        port = port or next((one.port for one in endpoints if isinstance(one, Server)), 1)
        self.apply("endpointslices", slice_object(service, described, port, **more))


def endpoint(address: str, node: str = NODE, **conditions: bool) -> Object:
    """One of a slice, ready unless said otherwise."""
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True} | conditions}


def slice_object(
    service: str, endpoints: list[Object], port: int, *, namespace: str = NAMESPACE, **more: Any
) -> Object:
    """An EndpointSlice of one port without a name."""
    labels = {"kubernetes.io/service-name": service}
    return {
        "metadata": {"namespace": namespace, "name": f"{service}-slice", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    } | more


@contextmanager
def serving(limits: Limits | None = None, **settings: Any) -> Iterator[Wire]:
    """A running one; everything is ended when the block is."""
    wire = Wire(limits=limits or Limits(), **settings)
    wire.start()
    try:
        yield wire
    finally:
        wire.close()


def connect(address: str, port: int, source: str = "", seconds: float = 10.0) -> socket.socket:
    """A connection, as soon as somebody listens."""
    made: list[socket.socket] = []

    def connected() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            made.append(socket.create_connection((address, port), seconds, (source, 0) if source else None))
        return bool(made)

    wait_until(connected, f"nobody listens on {address} port {port}", seconds)
    return made[0]


def fetch(address: str, port: int, source: str = "") -> bytes:
    """What one says who is spoken to there; b"" for an end or a reset."""
    try:
        with connect(address, port, source) as sock:
            sock.sendall(b"hello")
            return sock.recv(65536)
    except (ConnectionResetError, BrokenPipeError):  # it may come before connect(2) returns
        return b""
