"""PortForwarder: connections to the ports of a cluster's pods, through its API server.

    forwarder = PortForwarder(config)
    transport, protocol = await forwarder.connect("default", "db-0", 5432, MyProtocol)
    sock = await forwarder.socket("default", "db-0", 5432)      # for what wants a socket: TLS, a database driver

Connections to one pod share sessions. A session that stands still, for one of its streams is slow, gets no new ones
while there may be another. Which form a cluster speaks is found out once, and again when it stops working.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote

from portway.client.api import ApiClient, ClusterConfig
from portway.client.portforward.carrier import Carrier, WebSocketCarrier
from portway.client.portforward.channel import ChannelTransport
from portway.client.portforward.pair import open_pair
from portway.client.portforward.pump import Pump
from portway.client.portforward.session import PATIENCE, Patience, Session
from portway.client.portforward.transport import SessionLostError, StreamTransport
from portway.client.portforward.upgrade import upgrade, websocket
from portway.kube.errors import StatusError

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
SPDY: Final = "SPDY/3.1"
CHANNEL: Final = "v4.channel.k8s.io"
FORMS: Final = (TUNNEL, SPDY, CHANNEL)
"""In the order in which they are tried."""
STREAM_PROTOCOL: Final = "portforward.k8s.io"

MAX_SESSIONS = 4
"""Sessions to one pod at the same time."""
BUSY_STREAMS = 64
"""Streams (two a connection) from which on another session is worth its cost."""
_FINAL = frozenset((401, 429))
"""Answers that another form would get as well."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Target(NamedTuple):
    """A pod. `uid` tells apart pods that follow one another under the same name; "" when that doesn't matter."""

    namespace: str
    pod: str
    uid: str = ""


class _Pool:
    """The sessions to one pod. One is opened at a time."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.opening = asyncio.Lock()

    def best(self) -> Session | None:
        """The one to use; None when another should be opened."""
        usable = [session for session in self.sessions if session.usable]
        flowing = [session for session in usable if not session.stands_still]
        full = len(usable) >= MAX_SESSIONS
        if not flowing:
            return min(usable, key=_streams) if full else None
        chosen = min(flowing, key=_streams)
        return chosen if full or chosen.streams < BUSY_STREAMS else None


def _streams(session: Session) -> int:
    return session.streams


class PortForwarder:
    """All connections through one API server. Use it on one event loop, and `close` it there."""

    def __init__(self, cluster: ClusterConfig | ApiClient, patience: Patience = PATIENCE) -> None:
        self._patience = patience
        self._config = cluster.config if isinstance(cluster, ApiClient) else cluster
        self._pools: dict[Target, _Pool] = {}
        self._requests = itertools.count()
        self.form: str | None = None
        """The form that worked last; None before the first connection."""

    async def connect(
        self, namespace: str, pod: str, port: int, protocol_factory: Callable[[], P], *, uid: str = ""
    ) -> tuple[StreamTransport, P]:
        """Connect to a port (1 to 65535) of a pod; as asyncio's `create_connection`.

        The pod's side accepts before it has dialled: a port that nobody listens on shows as `connection_lost` with a
        PortForwardError, which says why. A session that breaks off gives SessionLostError. Raises StatusError (no such
        pod, not allowed), ApiUnreachable and SessionLostError.
        """
        target = Target(namespace, pod, uid)
        if self.form == CHANNEL:
            return await self._connect_channel(target, port, protocol_factory)
        while True:
            session = await self._session(target, port)
            if session is None:
                return await self._connect_channel(target, port, protocol_factory)
            try:
                stream = open_pair(session, port, next(self._requests))
            except SessionLostError:
                if session.usable:
                    raise
                continue  # it ended while we waited for it; the next one is new
            protocol = protocol_factory()
            stream.begin(protocol)
            return stream, protocol

    async def socket(self, namespace: str, pod: str, port: int, *, uid: str = "") -> socket.socket:
        """Connect, and give one end of a socket pair whose other end is the stream. Raises as `connect`.

        How the connection failed does not show there: a failure is a reset or an end.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        try:
            _, pump = await self.connect(namespace, pod, port, Pump, uid=uid)
            await loop.create_connection(lambda: Pump(pump), sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return theirs

    def drop(self, namespace: str, pod: str, uid: str = "") -> None:
        """Open no more streams in the sessions to a pod: they lead to what it was before. Those that are open go on."""
        pool = self._pools.pop(Target(namespace, pod, uid), None)
        for session in pool.sessions if pool is not None else ():
            session.leave()

    async def close(self) -> None:
        """End all sessions, and their streams."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            for session in list(pool.sessions):
                session.close()

    # Sessions

    async def _session(self, target: Target, port: int) -> Session | None:
        """A session to open a stream in; None when only the channel form works."""
        pool = self._pools.setdefault(target, _Pool())
        session = pool.best()
        if session is None or not await session.alive():
            async with pool.opening:
                if session is not None and not session.over:
                    session.abort(TimeoutError("the other side is silent"))
                session = pool.best()
                if session is None:
                    session = await self._open(target, port)
        return session

    async def _open(self, target: Target, port: int) -> Session | None:
        forms = [self.form, *(form for form in FORMS if form != self.form)] if self.form else list(FORMS)
        refusal: StatusError | None = None
        for form in forms:
            if form == CHANNEL:
                break
            try:
                session = await self._open_form(target, str(form))
            except StatusError as error:
                refusal = error
                if _final(error) or (form == self.form and error.code >= 500):
                    raise
                continue
            self.form = form
            return session
        if refusal is None or await self._speaks_channel(target, port):
            self.form = CHANNEL
            return None
        raise refusal

    async def _open_form(self, target: Target, form: str) -> Session:
        path = _path(target)
        if form == TUNNEL:
            done = await websocket(self._config, path, TUNNEL)
        else:
            done = await upgrade(self._config, "POST", path, SPDY, (("X-Stream-Protocol-Version", STREAM_PROTOCOL),))
        session = Session(client=True, patience=self._patience)
        carrier = WebSocketCarrier(session, client=True) if form == TUNNEL else Carrier(session)
        self._adopt(target, session)
        session.start(carrier)
        carrier.attach(done.transport, done.rest)
        return session

    def _adopt(self, target: Target, session: Session) -> None:
        pool = self._pools.setdefault(target, _Pool())
        pool.sessions.append(session)

        def gone() -> None:
            pool.sessions.remove(session)
            if not pool.sessions and self._pools.get(target) is pool and not pool.opening.locked():
                del self._pools[target]

        session.when_over(gone)

    # The channel form

    async def _speaks_channel(self, target: Target, port: int) -> bool:
        try:
            done = await websocket(self._config, f"{_path(target)}?ports={port}", CHANNEL)
        except StatusError:
            return False
        done.transport.abort()
        return True

    async def _connect_channel(
        self, target: Target, port: int, protocol_factory: Callable[[], P]
    ) -> tuple[StreamTransport, P]:
        try:
            done = await websocket(self._config, f"{_path(target)}?ports={port}", CHANNEL)
        except StatusError as error:
            if not _final(error):
                self.form = None  # the server is another one now, or the pod is gone: the next attempt tries all
            raise
        transport = ChannelTransport(self._patience)
        protocol = protocol_factory()
        transport.carrier.attach(done.transport, done.rest)
        transport.begin(protocol)
        return transport, protocol


def _path(target: Target) -> str:
    return f"/api/v1/namespaces/{quote(target.namespace, safe='')}/pods/{quote(target.pod, safe='')}/portforward"


def _final(error: StatusError) -> bool:
    """Whether another form would be answered the same."""
    return error.code in _FINAL or (error.code == 404 and (error.details or {}).get("kind") == "pods")
