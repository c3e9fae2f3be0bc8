"""Which endpoint a new connection goes to. Pure but for the clock that is passed in; `tcp` and `udp` dial.

The choice is kube-proxy's: ready endpoints; without any, those that still serve while they terminate; with policy Local
only those of this node; hints count when every ready endpoint has one and one fits. Endpoints that terminate get no new
connection beside ready ones, and what is established stays.
Source: pkg/proxy/topology.go (CategorizeEndpoints), pkg/proxy/userspace/roundrobin.go for the affinity's meaning.
"""

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from portway.client.records import Endpoint, EndpointMap
from portway.gateway.l4.wants import version

FIRST_REST, LONGEST_REST = 1.0, 30.0
"""Seconds that an endpoint which can't be reached is passed over while there are others: doubling."""
CLIENTS = 50_000
"""Clients whose endpoint one port of a service remembers; the one remembered longest without a visit goes first."""


@dataclass(frozen=True, slots=True)
class Here:
    """The node that we are."""

    node: str
    zone: str = ""


def eligible(endpoints: Iterable[Endpoint], family: int, local_only: bool, here: Here) -> tuple[Endpoint, ...]:
    """The endpoints that new connections may go to."""
    fitting = [e for e in endpoints if version(e.address) == family and (not local_only or e.node == here.node)]
    ready = [e for e in fitting if e.ready]
    if not ready:
        return tuple(e for e in fitting if e.serving and e.terminating)
    return tuple(ready if local_only else _hinted(ready, here))


def _hinted(ready: list[Endpoint], here: Here) -> list[Endpoint]:
    """Those that hints give to this node or zone; all when the hints don't cover everybody, or none fits."""
    if all(e.hinted_nodes for e in ready):
        fit = [e for e in ready if here.node in e.hinted_nodes]
        if fit:
            return fit
    if here.zone and all(e.hinted_zones for e in ready):
        return [e for e in ready if here.zone in e.hinted_zones] or ready
    return ready


Target = tuple[str, int]
"""(address, port)"""


class Balancer:
    """Endpoints for one port of a service, in one family and under one policy.

    `endpoints` gives the service's endpoints now: the same mapping as long as they are the same, as ClusterState does.
    `allowed` decides whether an address and port may be dialled at all. `clock` counts seconds.
    """

    def __init__(
        self,
        endpoints: Callable[[], EndpointMap | None],
        port_name: str,
        family: int,
        local_only: bool,
        here: Callable[[], Here],
        allowed: Callable[[str, int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.local_only, self.port_name = local_only, port_name
        self.affinity_seconds = 0
        self._endpoints, self._family, self._here = endpoints, family, here
        self._allowed, self._clock = allowed, clock
        self._seen: tuple[EndpointMap | None, Here] | None = None
        self._targets: tuple[Target, ...] = ()
        self._members: frozenset[Target] = frozenset()
        self._next = random.randrange(1 << 16)
        self._clients: dict[str, tuple[Target, float]] = {}
        self._resting: dict[Target, tuple[float, float]] = {}
        """Until when, and for how long that was."""

    def targets(self) -> tuple[Target, ...]:
        """Where new connections may go now."""
        found, here = self._endpoints(), self._here()
        if self._seen is None or self._seen[0] is not found or self._seen[1] != here:
            endpoints = (found or {}).get(self.port_name, ())
            chosen = eligible(endpoints, self._family, self.local_only, here)
            self._targets = tuple(dict.fromkeys((e.address, e.port) for e in chosen))
            self._members = frozenset(self._targets)
            self._resting = {target: rest for target, rest in self._resting.items() if target in self._members}
            self._seen = found, here
        return self._targets

    def has(self, target: Target) -> bool:
        """Whether a new connection may still go there."""
        self.targets()
        return target in self._members

    def pick(self, client: str, tried: Collection[Target] = ()) -> Target | None:
        """An endpoint for a client's new connection, none of `tried`; None when there is none.

        With affinity the client's last one, if it was visited within the time and is still there.
        """
        targets = self.targets()
        if not targets:
            return None
        if not self.affinity_seconds:
            return self._turn(targets, tried)
        known, visited = self._clients.pop(client, (None, 0.0))
        now = self._clock()
        stays = known in self._members and now - visited < self.affinity_seconds and known not in tried
        target = known if stays and known is not None and self._allowed(*known) else self._turn(targets, tried)
        if target is not None:
            self._clients[client] = target, now
            if len(self._clients) > CLIENTS:
                del self._clients[next(iter(self._clients))]
        return target

    def _turn(self, targets: tuple[Target, ...], tried: Collection[Target]) -> Target | None:
        """The next one around; one that rests only if all others do, or were tried."""
        spare = None
        for _ in targets:
            self._next += 1
            target = targets[self._next % len(targets)]
            if target in tried or not self._allowed(*target):
                continue
            if not self._resting or self._resting.get(target, (0.0, 0.0))[0] <= self._clock():
                return target
            spare = spare or target
        return spare

    def failed(self, target: Target) -> None:
        """It could not be reached."""
        _, last = self._resting.get(target, (0.0, 0.0))
        rest = min(last * 2, LONGEST_REST) or FIRST_REST
        self._resting[target] = self._clock() + rest, rest

    def reached(self, target: Target) -> None:
        """It could."""
        if self._resting:
            self._resting.pop(target, None)
