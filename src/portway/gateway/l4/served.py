"""One service as it is served: its listeners, and the balancers that they share."""

from collections.abc import Callable

from portway.client.records import Service
from portway.gateway.l4.addresses import AddressUnavailableError
from portway.gateway.l4.balance import Balancer
from portway.gateway.l4.health import HealthListener
from portway.gateway.l4.listeners import CannotListenError, Key, Listener, Listeners
from portway.gateway.l4.wants import CLUSTER, HEALTH, Want, Where, version

BalancerMaker = Callable[[Key, str, str, int, bool], Balancer]
"""Of a service, a port's protocol and name, the address family and whether only local endpoints count."""


class Served:
    """What is open for one service. `settle` brings it to what the service wants now."""

    def __init__(self, key: Key, listeners: Listeners, make: BalancerMaker, health: Callable[[], bytes]) -> None:
        self.open: dict[Where, tuple[Want, Listener]] = {}
        self._key, self._listeners, self._make, self._health = key, listeners, make, health
        self._balancers: dict[tuple[str, str, int, bool], Balancer] = {}
        """A client keeps its endpoint whichever of a port's addresses it comes by."""

    def settle(self, service: Service, wanted: dict[Where, Want]) -> tuple[list[str], str]:
        """Opens and closes; what can't be opened, in words, and why cluster addresses can't be had at all ("": they
        can, or nobody wanted one).
        """
        problems: list[str] = []
        unavailable = ""
        for want in wanted.values():
            try:
                self._settle_one(want)
            except (CannotListenError, AddressUnavailableError) as error:
                if want.kind == CLUSTER and isinstance(error, AddressUnavailableError) and error.every:
                    unavailable = str(error)
                else:
                    problems.append(f"{want.kind} {want.where} cannot be served: {error}")
        used = {self._name(want) for want, _ in self.open.values()}
        self._balancers = {name: balancer for name, balancer in self._balancers.items() if name in used}
        for balancer in self._balancers.values():
            balancer.affinity_seconds = service.exposure.affinity_seconds
        return problems, unavailable

    def _settle_one(self, want: Want) -> None:
        known = self.open.get(want.where)
        if known is not None and known[0] == want:
            return
        if known is not None and isinstance(known[1], HealthListener) == (want.kind == HEALTH):
            listener = known[1]
            if not isinstance(listener, HealthListener):
                listener.balancer = self._balancer(want)
                listener.allow(want.sources)
            self.open[want.where] = want, listener
            return
        if known is not None:
            self.close(want.where)
        listener = self._listeners.open(self._key, want, self._balancer(want), self._health)
        self.open[want.where] = want, listener

    @staticmethod
    def _name(want: Want) -> tuple[str, str, int, bool]:
        return want.where.protocol, want.port_name, version(want.where.address), want.local_only

    def _balancer(self, want: Want) -> Balancer:
        name = self._name(want)
        if name not in self._balancers:
            self._balancers[name] = self._make(self._key, *name)
        return self._balancers[name]

    def unwanted(self, wanted: dict[Where, Want]) -> list[Where]:
        """Where it is listened without need."""
        return [where for where in self.open if where not in wanted]

    def close(self, where: Where) -> None:
        """No more there."""
        _, listener = self.open.pop(where)
        self._listeners.close(where, listener)
