"""How a target's addresses are reached: directly, through port-forwarding, or not at all but through the API server.

From addresses to endpoints. `Reach` is the seam that locations use; which one is best for a cluster is `paths.py`'s.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from portway.client.portforward.forwarder import PortForwarder
from portway.client.protocol import ApiUnreachable
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.endpoint import Dialler, Endpoint, Endpoints
from portway.gateway.upstream.trust import Trust
from portway.kube.errors import StatusError

if TYPE_CHECKING:
    from portway.gateway.upstream.connection import Upstream

DIRECT: Final = "direct"
TUNNEL: Final = "tunnel"
THROUGH: Final = "through"


class Places(NamedTuple):
    """The addresses of a target: literal ones, the pod behind each (() where there are none), and how far their
    certificates are trusted (None: no TLS).
    """

    namespace: str
    addresses: tuple[tuple[str, int], ...]
    pods: tuple[str, ...]
    trust: Trust | None

    @property
    def tls(self) -> tuple[ssl.SSLContext | None, str]:
        """(context, server name)."""
        return (self.trust.context, self.trust.server_name) if self.trust is not None else (None, "")


class Reach(Protocol):
    """A way to addresses."""

    name: str

    def endpoints(self, places: Places) -> tuple[Endpoint, ...]:
        """What to dial; () when this way does not lead there."""
        ...


class Direct:
    """From here to the addresses themselves, as far as the policy allows."""

    name = DIRECT

    def __init__(self, endpoints: Endpoints, policy: AddressPolicy) -> None:
        self._endpoints = endpoints
        self._policy = policy

    def endpoints(self, places: Places) -> tuple[Endpoint, ...]:
        context, name = places.tls
        allowed = (a for a in places.addresses if self._policy.allows(a[0]))
        return tuple(self._endpoints.get(address, port, context, name) for address, port in allowed)


class Tunnel:
    """Through pods/portforward: to the ports of pods, and to nothing else."""

    name = TUNNEL

    def __init__(self, endpoints: Endpoints, forwarder: PortForwarder) -> None:
        self._endpoints = endpoints
        self._forwarder = forwarder

    def endpoints(self, places: Places) -> tuple[Endpoint, ...]:
        context, name = places.tls
        found = []
        for (_, port), pod in zip(places.addresses, places.pods, strict=False):
            endpoint = self._endpoints.get(f"pod/{places.namespace}/{pod}", port, context, name)
            if endpoint.dialler is None:
                endpoint.dialler = self._dialler(places.namespace, pod, endpoint)
            found.append(endpoint)
        return tuple(found)

    def _dialler(self, namespace: str, pod: str, endpoint: Endpoint) -> Dialler:
        async def dial(factory: Callable[[], "Upstream"]) -> "Upstream":
            try:
                if endpoint.tls is None:
                    return (await self._forwarder.connect(namespace, pod, endpoint.port, factory))[1]
                sock = await self._forwarder.socket(namespace, pod, endpoint.port)
            except (StatusError, ApiUnreachable) as error:
                raise OSError(f"port-forward to {pod}: {error}") from error
            loop = asyncio.get_running_loop()
            try:
                made = await loop.create_connection(
                    factory, sock=sock, ssl=endpoint.tls, server_hostname=endpoint.server_name
                )
            except BaseException:
                sock.close()
                raise
            return made[1]

        return dial


class Through:
    """The API server finds the target, and proxies to it."""

    name = THROUGH

    def endpoints(self, _places: Places) -> tuple[Endpoint, ...]:
        return ()
