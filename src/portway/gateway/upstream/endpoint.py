"""One endpoint: where it is, the connections kept open to it, how busy and how well it is.

Endpoints outlive the routes that name them: a changed EndpointSlice makes new routes over the same endpoints. Which
one serves is `pick`: the ready one with the fewest requests under way, rested ones before those that keep failing.
"""

import asyncio
import ssl
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import randrange
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.gateway.upstream.connection import Memo, Upstream

FAILURES_BEFORE_REST = 3
LONGEST_REST = 30.0
SAMPLED = 8
"""With more endpoints than this, the least busy of two random ones is as good (Mitzenmacher) and costs nothing."""


Dialler = Callable[[Callable[[], "Upstream"]], Awaitable["Upstream"]]
"""Opens a connection for a protocol factory. Raises OSError."""


class Endpoint:
    """A place to dial: `address:port`, or a unix socket path with port 0; `dialler` knows another way there."""

    __slots__ = (
        "__weakref__",
        "active",
        "address",
        "dialler",
        "failures",
        "idle",
        "label",
        "memo",
        "port",
        "rests_until",
        "server_name",
        "tls",
    )

    def __init__(
        self,
        address: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        dialler: "Dialler | None" = None,
    ) -> None:
        self.address = address
        self.port = port
        self.tls = tls
        self.server_name = server_name
        self.dialler = dialler
        self.label = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.active = 0
        self.idle: list[Upstream] = []
        self.memo: Memo | None = None
        self.failures = 0
        self.rests_until = 0.0

    def failed(self, now: float) -> None:
        """Counts a dial or connection that failed; the third in a row makes it rest, longer each time."""
        self.failures += 1
        if self.failures >= FAILURES_BEFORE_REST:
            self.rests_until = now + min(2.0 ** (self.failures - FAILURES_BEFORE_REST), LONGEST_REST)

    async def dial(self, factory: Callable[[], "Upstream"]) -> "Upstream":
        """Opens one connection. Raises OSError (ssl.SSLError among them)."""
        try:
            return await self._dial(factory)
        except (ValueError, TypeError) as error:
            if isinstance(error, OSError):
                raise
            # A server name that TLS can't ask for (no IDNA, a null byte): whoever waits for us must hear of it.
            raise OSError(f'the server name "{self.server_name}" cannot be used: {error}') from error

    async def _dial(self, factory: Callable[[], "Upstream"]) -> "Upstream":
        if self.dialler is not None:
            return await self.dialler(factory)
        loop = asyncio.get_running_loop()
        if not self.port:
            _, made = await loop.create_unix_connection(factory, self.address)
        elif self.tls is None:
            _, made = await loop.create_connection(factory, self.address, self.port)
        else:
            _, made = await loop.create_connection(
                factory,
                self.address,
                self.port,
                ssl=self.tls,
                server_hostname=self.server_name,
            )
        return made

    def close_idle(self, before: float) -> None:
        """Closes pooled connections that were last used before a time."""
        kept = [c for c in self.idle if c.since > before]
        for connection in self.idle:
            if connection.since <= before:
                connection.close()
        self.idle = kept


class Endpoints:
    """Every endpoint that a route or an open connection still refers to, one object each."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[tuple[str, int, int, str], Endpoint] = weakref.WeakValueDictionary()

    def get(self, address: str, port: int, tls: ssl.SSLContext | None = None, server_name: str = "") -> Endpoint:
        """The endpoint at an address; connections are never shared between different trust settings."""
        key = (address, port, id(tls), server_name)
        found = self._known.get(key)
        if found is None or found.tls is not tls:
            found = self._known[key] = Endpoint(address, port, tls, server_name)
        return found

    def close_idle(self, before: float) -> None:
        """See Endpoint.close_idle."""
        for endpoint in list(self._known.values()):
            endpoint.close_idle(before)


def pick(endpoints: Sequence[Endpoint], now: float, tried: Collection[Endpoint] = ()) -> Endpoint | None:
    """The endpoint for the next attempt, or None when each was tried. Resting ones only when nobody else is left."""
    count = len(endpoints)
    if count == 1:
        return None if tried else endpoints[0]
    start = randrange(count)
    if count > SAMPLED and not tried:
        one, two = endpoints[start], endpoints[randrange(count)]
        best = one if one.active <= two.active else two
        if best.rests_until <= now:
            return best
    chosen: Endpoint | None = None
    resting: Endpoint | None = None
    for i in range(count):
        candidate = endpoints[(start + i) % count]
        if candidate in tried:
            continue
        if candidate.rests_until > now:
            if resting is None or candidate.rests_until < resting.rests_until:
                resting = candidate
        elif chosen is None or candidate.active < chosen.active:
            chosen = candidate
    return chosen or resting
