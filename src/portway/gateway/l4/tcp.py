"""Accepts TCP connections, for one port of a service, as long as there is room for them; `flow` does the rest."""

import socket
from collections.abc import Sequence

from portway.gateway.l4.balance import Balancer
from portway.gateway.l4.flow import Flow, Traffic
from portway.gateway.l4.poller import IN
from portway.gateway.l4.sockets import EXHAUSTED, PAUSE_SECONDS, reset, source_filter

ACCEPTED = 64
"""Connections taken before the other sockets get a turn."""


class TcpListener:
    """Accepts on a listening socket, for one port of a service."""

    def __init__(self, sock: socket.socket, traffic: Traffic, balancer: Balancer, sources: Sequence[str]) -> None:
        """`sock`: bound, listening, not blocking, with the options that its connections are to inherit."""
        self.balancer = balancer
        self.open = 0
        """Its connections."""
        self._sock, self._traffic = sock, traffic
        self.family = sock.family
        self.allow(sources)
        traffic.poller.add(sock.fileno(), IN, self._accept)

    def allow(self, sources: Sequence[str]) -> None:
        """Who may connect, CIDRs; () = everybody."""
        self._admits = source_filter(tuple(sources))

    def close(self) -> None:
        """Accepts no more. Connections go on."""
        self._traffic.paused.pop(self, None)
        self._traffic.poller.forget(self._sock.fileno())
        self._sock.close()

    def resume(self) -> None:
        """After a pause."""
        self._traffic.poller.add(self._sock.fileno(), IN, self._accept)

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTED):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    return
                continue  # ECONNABORTED and what else accept(2) tells of the connection, not of us
            self._take(client, address[0])

    def _pause(self, error: OSError) -> None:
        traffic = self._traffic
        traffic.exhausted(f"no connection can be accepted: {error.strerror}")
        traffic.poller.rest(self._sock.fileno())
        traffic.paused[self] = traffic.now + PAUSE_SECONDS

    def _take(self, client: socket.socket, address: str) -> None:
        limits, traffic = self._traffic.limits, self._traffic
        full = len(traffic.flows) >= limits.service_connections or self.open >= limits.service_connections_per_port
        if full or (self._admits is not None and not self._admits(address)):
            reset(client)
            return
        client.setblocking(False)
        self.open += 1
        flow = Flow(self, traffic, client, address)
        traffic.flows.add(flow)
        flow.dial()
