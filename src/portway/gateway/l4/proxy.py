"""Keeps what is open the same as what services want: one look at a service for each change of it, and no more.

Level-triggered: `wants` says what a service should have now, `served` opens and closes the difference. A listener that
stays is not touched. What can't be opened is tried again, told, and in nobody's way.
"""

import asyncio
import logging
from functools import partial
from time import monotonic

from portway.client.backoff import Backoff
from portway.client.protocol import Client
from portway.client.recorder import Recorder
from portway.client.view import ClusterView
from portway.gateway.l4 import health
from portway.gateway.l4.addresses import Addresses, within
from portway.gateway.l4.balance import Balancer, Here
from portway.gateway.l4.dialled import EndpointPolicy
from portway.gateway.l4.flow import Traffic
from portway.gateway.l4.listeners import Key, Listeners
from portway.gateway.l4.poller import Poller
from portway.gateway.l4.report import COMPONENT, FAILED, Reporter, in_words
from portway.gateway.l4.served import Served
from portway.gateway.l4.settings import ServiceProxySettings
from portway.gateway.l4.udp import UdpTraffic
from portway.gateway.l4.wants import EVERYWHERE, wants

KINDS = ("services", "endpointslices", "nodes")
"""What is followed of the cluster."""
TURN_SECONDS = 0.005
"""How long services are looked at before connections get a turn."""
RETRY_FIRST, RETRY_CAP = 1.0, 60.0
"""Seconds until what could not be opened is tried again."""

logger = logging.getLogger(__name__)


class ServiceProxy:
    """Everything of one process. `run` it on its event loop, with a started view of KINDS."""

    def __init__(
        self, settings: ServiceProxySettings, view: ClusterView, client: Client, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._settings, self._view, self._loop = settings, view, loop
        self._recorder = Recorder(client, COMPONENT)
        self._reporter = Reporter(client, self._recorder, view.service)
        self._addresses = Addresses(settings.interface, own=settings.own_interface)
        self._poller = Poller(loop)
        self._tcp = Traffic(self._poller, settings.limits, loop.time(), self._say)
        self._udp = UdpTraffic(self._poller, settings.limits, loop.time(), self._say)
        self._listeners = Listeners(self._addresses, self._tcp, self._udp, loop, settings.door, settings.api_door)
        self._policy = EndpointPolicy(
            settings.cluster_cidrs, settings.door, settings.api_door, self._addresses, self._listeners
        )
        self._here = Here(settings.node)
        self._node_addresses: tuple[str, ...] = EVERYWHERE
        self._served: dict[Key, Served] = {}
        self._failed: dict[Key, tuple[Backoff, asyncio.TimerHandle]] = {}
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._words: asyncio.Queue[str] = asyncio.Queue()
        """What is to be told of the machine, not of a service."""
        self._told: set[str] = set()

    async def run(self) -> None:
        """Until cancelled; then nothing is listened on any more, and established connections go on."""
        self._addresses.open()
        self._place_node_ports()
        await self._view.wait_synced()
        self._changed("nodes", "", self._settings.node)
        self._all_dirty()
        end = self._view.subscribe(self._changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reporter.run(), name="service proxy reports")
                tasks.create_task(self._sweep(), name="service proxy sweep")
                tasks.create_task(self._reconcile(), name="service proxy reconcile")
                tasks.create_task(self._tell(), name="service proxy words")
        finally:
            end()
            for _, timer in self._failed.values():
                timer.cancel()
            self._close_listeners()

    async def drain(self, seconds: float) -> None:
        """After `run`: lets connections end, but those that rest; then takes everything back."""
        deadline = self._loop.time() + seconds
        while self._tcp.flows and self._loop.time() < deadline:
            self._tcp.end_quiet(self._loop.time())
            await asyncio.sleep(0.1)
        self._tcp.abort()
        self._addresses.close()
        self._poller.close()

    def _close_listeners(self) -> None:
        for served in self._served.values():
            for where in [*served.open]:
                served.close(where)
        self._served.clear()

    # What changed

    def _changed(self, plural: str, namespace: str, name: str) -> None:
        """A subscriber of the view. Endpoints are looked up when a client comes, so only services matter here."""
        if plural == "services":
            self._mark((namespace, name))
        elif plural == "nodes" and name == self._settings.node:
            node = self._view.node(name)
            self._here = Here(name, node.zone if node is not None else "")

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._wake.set()

    def _all_dirty(self) -> None:
        for service in self._view.services():
            self._mark((service.namespace, service.name))

    async def _reconcile(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                until = monotonic() + TURN_SECONDS
                while self._dirty and monotonic() < until:
                    key = next(iter(self._dirty))
                    del self._dirty[key]
                    self._settle(key)
                await asyncio.sleep(0)
            self._addresses.forget_leftover()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._tcp.sweep(self._loop.time())
            self._udp.sweep(self._loop.time())
            if self._addresses.changed():
                self._place_node_ports()
                self._all_dirty()

    def _place_node_ports(self) -> None:
        cidrs = self._settings.nodeport_addresses
        self._node_addresses = within(self._addresses.local, cidrs) if cidrs else EVERYWHERE

    # One service

    def _settle(self, key: Key) -> None:
        """Closes what a service doesn't want any more, opens what it wants."""
        service = self._view.service(*key)
        wanted = {want.where: want for want in wants(service, self._node_addresses)} if service is not None else {}
        served = self._served.get(key) or Served(key, self._listeners, self._balancer, partial(self._health, key))
        freed = served.unwanted(wanted)
        for where in freed:
            served.close(where)
        problems: list[str] = []
        if service is not None:
            problems, unavailable = served.settle(service, wanted)
            self._reporter.tell(service, in_words(problems))
            if unavailable and self._settings.interface:  # else it is as it was asked for
                self._say(f"cluster addresses of services are not served on this machine: {unavailable}")
        else:
            self._reporter.gone(key)
        if served.open:
            self._served[key] = served
        else:
            self._served.pop(key, None)
        self._retry(key, failed=bool(problems))
        if freed:
            for other in self._failed:
                self._mark(other)

    def _retry(self, key: Key, *, failed: bool) -> None:
        backoff, timer = self._failed.pop(key, (None, None))
        if timer is not None:
            timer.cancel()
        if failed:
            backoff = backoff or Backoff(RETRY_FIRST, RETRY_CAP)
            self._failed[key] = backoff, self._loop.call_later(backoff.delay(), self._mark, key)

    def _balancer(self, key: Key, protocol: str, port_name: str, family: int, local_only: bool) -> Balancer:
        return Balancer(
            partial(self._view.endpoints, *key),
            port_name,
            family,
            local_only,
            lambda: self._here,
            partial(self._policy.allows, key, protocol),
            self._loop.time,
        )

    def _health(self, key: Key) -> bytes:
        return health.answer(*key, health.local_endpoints(self._view.endpoints(*key), self._settings.node))

    # The machine

    def _say(self, words: str) -> None:
        """Something about this machine that its operator should know, once."""
        if words not in self._told:
            self._told.add(words)
            logger.warning("%s", words)
            self._words.put_nowait(words)

    async def _tell(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._settings.node}}
        while True:
            await self._recorder.warning(node, FAILED, await self._words.get())
