"""Which way to a cluster's services is the best one from here: probed, never assumed, and looked at again.

The order is by what is lost on each (docs/design/doors.md): a direct connection; a port-forwarded one, which carries
bytes as they are; the API server's own proxy verb, which always works for whoever may use it. A direct way counts only
when every pod that is tried accepts: private addresses are private to many networks, and a lone answer may come from
another one's machine.
"""

import asyncio
import itertools
import logging
import socket
from time import monotonic
from typing import Final, NamedTuple

from portway.client.portforward.forwarder import PortForwarder
from portway.client.protocol import ApiUnreachable
from portway.client.records import Endpoint, Service
from portway.client.view import ClusterView
from portway.gateway.locations import Locations
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.reach import Direct, Reach, Through, Tunnel
from portway.kube.errors import StatusError

AUTO: Final = "auto"
"""The setting that asks for this."""
SAMPLE: Final = 3
"""Pods that must all be reachable directly."""
PATIENCE: Final = 1.0
"""Seconds that a probe may take: a way that needs longer is no good way."""
AGAIN: Final = 60.0
"""Seconds between two looks: a laptop changes networks."""

logger = logging.getLogger(__name__)


class Probe(NamedTuple):
    """What was found of one way: milliseconds that its connections took to be made, or why it can't be used."""

    way: str
    milliseconds: float | None
    why: str


class Paths:
    """Chooses the reach of `locations`. `run` is a task of its owner's."""

    def __init__(
        self,
        view: ClusterView,
        locations: Locations,
        policy: AddressPolicy,
        ways: tuple[Direct, Tunnel, Through],
        forwarder: PortForwarder,
    ) -> None:
        self._view = view
        self._locations = locations
        self._policy = policy
        self._direct, self._tunnel, self._through = ways
        self._forwarder = forwarder
        self.found: tuple[Probe, ...] = ()
        """The last look at each way, best first; () before the first."""

    async def run(self) -> None:
        """Looks again and again, from when the services are known."""
        await self._view.wait_synced()
        while True:
            await self.look()
            await asyncio.sleep(AGAIN)

    async def look(self) -> None:
        """Tries every way, and takes the best that works."""
        sample = list(itertools.islice(self._ready(), SAMPLE))
        first = not self.found
        direct, tunnel = await asyncio.gather(self._try_directly(sample), self._try_tunnel(sample))
        self.found = (direct, tunnel, Probe(self._through.name, None, "what remains"))
        chosen: Reach = self._through
        if direct.milliseconds is not None:
            chosen = self._direct
        elif tunnel.milliseconds is not None:
            chosen = self._tunnel
        before, self._locations.reach = self._locations.reach, chosen
        if first or chosen is not before:
            logger.info("services are reached by this way: %s", self.explain())

    def explain(self) -> str:
        """One line: the way that is used, and what was found of the others."""
        return f"{self._locations.reach.name} ({'; '.join(map(_said, self.found)) or 'not looked yet'})"

    def _ready(self) -> list[tuple[Service, Endpoint]]:
        """Ready pods behind TCP ports, each once, spread over the services."""
        found: dict[tuple[str, int], tuple[Service, Endpoint]] = {}
        for service in self._view.services():
            spoken = {port.name for port in service.ports if port.protocol == "TCP"}
            for port, endpoints in (self._view.endpoints(service.namespace, service.name) or {}).items():
                ready = next((e for e in endpoints if e.ready and e.pod), None) if port in spoken else None
                if ready is not None:
                    found.setdefault((ready.address, ready.port), (service, ready))
            if len(found) >= SAMPLE:
                break
        return list(found.values())

    async def _try_directly(self, sample: list[tuple[Service, Endpoint]]) -> Probe:
        if not sample:
            return Probe(self._direct.name, None, "no service has a ready pod")
        refused = [e.address for _, e in sample if not self._policy.allows(e.address)]
        if refused:
            return Probe(
                self._direct.name, None, f"{refused[0]} is no address of a pod's (--cluster-cidr says which are)"
            )
        started = monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(_connect(e.address, e.port) for _, e in sample))
        except (OSError, TimeoutError) as error:
            return Probe(self._direct.name, None, f"pods do not accept from here ({str(error) or 'no answer'})")
        return Probe(self._direct.name, _since(started), "")

    async def _try_tunnel(self, sample: list[tuple[Service, Endpoint]]) -> Probe:
        if not sample:
            return Probe(self._tunnel.name, None, "no service has a ready pod")
        service, endpoint = sample[0]
        started = monotonic()
        try:
            async with asyncio.timeout(PATIENCE * 5):
                transport, _ = await self._forwarder.connect(
                    service.namespace, endpoint.pod, endpoint.port, asyncio.Protocol
                )
        except (StatusError, ApiUnreachable, OSError, TimeoutError) as error:
            return Probe(self._tunnel.name, None, str(error) or "no answer")
        transport.abort()
        return Probe(self._tunnel.name, _since(started), "")


async def _connect(address: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (address, port))


def _since(started: float) -> float:
    return round((monotonic() - started) * 1e3, 1)


def _said(probe: Probe) -> str:
    return f"{probe.way}: {probe.why or f'{probe.milliseconds} ms'}"
