"""healthCheckNodePort: tells an outside load balancer whether this node has endpoints of a service (policy Local).

Whatever is asked gets kube-proxy's answer: 200 with endpoints, 503 without, the same JSON in both.
Source: pkg/proxy/healthcheck/service_health.go, as facts.
"""

import asyncio
import json
import socket
from collections.abc import Callable

from portway.client.records import Endpoint, EndpointMap
from portway.gateway.l4.sockets import EXHAUSTED, PAUSE_SECONDS

_HEAD_BYTES = 8192
_SECONDS = 5.0
_CLIENTS = 64
"""Of one port at once; a further one ends the oldest, so that those who only hold on keep no balancer from asking."""


def local_endpoints(endpoints: EndpointMap | None, node: str) -> int:
    """How many addresses of a service are ready on this node."""
    every: list[Endpoint] = [one for listed in (endpoints or {}).values() for one in listed]
    return len({one.address for one in every if one.ready and one.node == node})


def answer(namespace: str, name: str, count: int) -> bytes:
    """The whole response."""
    status = "200 OK" if count else "503 Service Unavailable"
    service = {"namespace": namespace, "name": name}
    body = json.dumps({"service": service, "localEndpoints": count, "serviceProxyHealthy": True}, indent="\t")
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


class HealthListener:
    """One such port."""

    def __init__(self, sock: socket.socket, answers: Callable[[], bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._sock, self._answers, self._loop = sock, answers, loop
        self._clients: dict[socket.socket, tuple[bytearray, asyncio.TimerHandle]] = {}
        self._paused: asyncio.TimerHandle | None = None
        self._listen()

    def _pause(self) -> None:
        """The socket would be reported as ready for ever meanwhile."""
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self._listen)

    def _listen(self) -> None:
        self._paused = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for client in [*self._clients]:
            self._drop(client)

    def _accept(self) -> None:
        try:
            client, _ = self._sock.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._pause()
            return
        if len(self._clients) >= _CLIENTS:
            self._drop(next(iter(self._clients)))
        client.setblocking(False)
        self._clients[client] = bytearray(), self._loop.call_later(_SECONDS, self._drop, client)
        self._loop.add_reader(client.fileno(), self._read, client)

    def _read(self, client: socket.socket) -> None:
        head = self._clients[client][0]
        try:
            data = client.recv(_HEAD_BYTES)
            head += data
            if b"\r\n\r\n" in head:
                client.send(self._answers())
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or b"\r\n\r\n" in head or len(head) > _HEAD_BYTES:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        _, timer = self._clients.pop(client)
        timer.cancel()
        self._loop.remove_reader(client.fileno())
        client.close()
