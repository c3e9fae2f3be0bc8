"""Local ports, each forwarded to one port of a target: listening, choosing a pod per connection, counting.

forwards = Forwards(client, namespace, told, addresses=(("127.0.0.1", True),))
await forwards.open(parse(["svc/db", "5432"]))
await forwards.run()          # until cancelled
"""

import asyncio
import errno
import os
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import TypeVar

from portway.client.api import ApiClient
from portway.client.forwards.backends import Backends, follow
from portway.client.forwards.events import Event, Teller
from portway.client.forwards.local import Local
from portway.client.forwards.ports import Backend, Hopeless
from portway.client.forwards.words import PortPair, Wanted
from portway.client.portforward.forwarder import PortForwarder
from portway.client.portforward.transport import StreamTransport

REST_SECONDS = 1.0
"""How long a pod that refused a connection comes last."""
MAX_CONNECTIONS = 1000
"""Open local connections of one forward."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Forward:
    """One port of a target. Its numbers may be read at any time."""

    def __init__(
        self, forwarder: PortForwarder, namespace: str, backends: Backends, label: str, pair: PortPair, told: Teller
    ) -> None:
        self.label = label
        self.remote = pair.remote
        self.local = 0
        self.addresses: list[str] = []
        self.changed = asyncio.Event()
        self.connections = 0
        """How many there have been."""
        self.sent = self.received = 0
        """Bytes of connections that are over; see `traffic`."""
        self.active: set[Local] = set()
        self.waiting = ""
        """Why there is nobody to connect to; "" when there is."""
        self._forwarder, self._namespace, self._backends = forwarder, namespace, backends
        self._pair, self._told = pair, told
        self._load: dict[str, int] = {}
        self._resting: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._complained = ""
        self._looked = False

    @property
    def traffic(self) -> tuple[int, int]:
        """(sent to pods, received from them), in bytes."""
        return (
            self.sent + sum(one.sent for one in self.active),
            self.received + sum(one.received for one in self.active),
        )

    @property
    def pods(self) -> int:
        """How many pods there are to connect to."""
        return len(self.backends())

    @property
    def port(self) -> str:
        """The pods' port, as far as it is known: what kubectl shows behind the arrow."""
        numbers = {backend.port for backend in self.backends().values()}
        return str(numbers.pop()) if len(numbers) == 1 else self.remote

    def backends(self) -> dict[str, Backend]:
        """The pods to connect to now."""
        try:
            return self._backends.find(self.remote)
        except Hopeless:
            return {}

    async def first_pod(self) -> None:
        """Until there is a pod. Raises Hopeless when there never will be one."""
        while not self._backends.find(self.remote):
            self._looked = True
            self.news()
            self.changed.clear()
            await self.changed.wait()
        self._looked = True
        self.news()

    # Listening

    async def listen(self, addresses: Iterable[tuple[str, bool]]) -> None:
        """Listen on all addresses, with the same port. Raises Hopeless."""
        loop = asyncio.get_running_loop()
        port = self._pair.local if self._pair.local is not None else self._backends.local_port(self.remote) or 0
        problems: list[str] = []
        for address, needed in addresses:
            try:
                server = await loop.create_server(self._accepted, address, port)
            except (OSError, UnicodeError, OverflowError) as error:
                problems.append(f"unable to listen on {_place(address, port)}: {_words(error)}")
                if needed:
                    raise Hopeless(problems[-1]) from error
                continue  # localhost: one of its addresses is enough
            self._servers.append(server)
            port = self.local = server.sockets[0].getsockname()[1]
            self.addresses.append(address)
        if not self.addresses:
            raise Hopeless("; ".join(problems))
        for problem in problems:
            self.tell("trouble", message=problem)
        for address in self.addresses:
            port_number = int(self.port) if self.port.isdigit() else 0
            self.tell("listening", address=address, local=self.local, port=port_number)

    def _accepted(self) -> asyncio.Protocol:
        if len(self.active) >= MAX_CONNECTIONS:
            self.trouble(f"more than {MAX_CONNECTIONS} connections at once")
            return _Refused()
        self.connections += 1
        return Local(self, self.connections)

    async def close(self) -> None:
        """End all of it."""
        for server in self._servers:
            server.close()
        for local in list(self.active):
            local.end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # News

    def news(self) -> None:
        """The target has changed, or might have."""
        pods = self.backends()
        self._resting.clear()
        self._turns = {pod: turn for pod, turn in self._turns.items() if pod in pods}
        self.changed.set()
        waiting = "" if pods else self.why_none()
        turned = bool(waiting) != bool(self.waiting)
        self.waiting = waiting
        if turned and self._looked:
            self.tell("waiting" if waiting else "ready", message=waiting)

    def why_none(self) -> str:
        """Why there is no pod to connect to."""
        try:
            self._backends.find(self.remote)
        except Hopeless as error:
            return str(error)
        return self._backends.why_none()

    def tell(self, event: str, **more: object) -> None:
        """Tell what happened."""
        self._told(Event(event, self.label, self.remote, **more))  # type: ignore[arg-type]

    def trouble(self, message: str) -> None:
        """Something that is tried again; said once until it is over."""
        if message != self._complained:
            self._complained = message
            self.tell("trouble", message=message)

    # For its connections

    def own(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run a connection's task."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.label}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def choose(self, tried: Collection[str]) -> Backend | None:
        """The pod for a connection: not tried yet, not resting, with the fewest connections."""
        now = asyncio.get_running_loop().time()
        candidates = [backend for backend in self.backends().values() if backend.pod not in tried]
        if not candidates:
            return None
        chosen = min(candidates, key=lambda one: self._cost(one, now))
        self._turns[chosen.pod] = self.connections
        return chosen

    def _cost(self, backend: Backend, now: float) -> tuple[bool, int, int]:
        """Resting pods last, then busy ones, then the one whose turn was last."""
        pod = backend.pod
        return self._resting.get(pod, 0.0) > now, self._load.get(pod, 0), self._turns.get(pod, 0)

    def others(self, tried: Collection[str]) -> bool:
        """Whether there are pods that were not tried."""
        return any(pod not in tried for pod in self.backends())

    async def connect(self, backend: Backend, factory: Callable[[], P]) -> tuple[StreamTransport, P]:
        """See PortForwarder.connect."""
        return await self._forwarder.connect(self._namespace, backend.pod, backend.port, factory, uid=backend.uid)

    def failed(self, backend: Backend, message: str) -> None:
        """A pod could not be connected to: it comes last for a while, and its session may lead nowhere."""
        self._resting[backend.pod] = asyncio.get_running_loop().time() + REST_SECONDS
        if "refused" not in message:
            self._forwarder.drop(self._namespace, backend.pod, backend.uid)
        self.trouble(message)

    def opened(self, local: Local) -> None:
        """A local client is there."""
        self.active.add(local)

    def connected(self, local: Local) -> None:
        """It has a pod."""
        backend = local.backend
        if backend is not None:
            self._complained = ""
            self._load[backend.pod] = self._load.get(backend.pod, 0) + 1
            self.tell("connected", connection=local.number, pod=backend.pod, port=backend.port, local=self.local)

    def disconnected(self, local: Local) -> None:
        """It has its pod no more."""
        backend, local.backend = local.backend, None
        if backend is not None:
            self._load[backend.pod] -= 1
            if not self._load[backend.pod]:
                del self._load[backend.pod]

    def closed(self, local: Local) -> None:
        """A local client is gone."""
        if local not in self.active:
            return
        self.active.discard(local)
        pod = local.backend.pod if local.backend is not None else ""
        self.disconnected(local)
        self.sent += local.sent
        self.received += local.received
        self.tell("closed", connection=local.number, pod=pod, sent=local.sent, received=local.received)

    def gave_up(self, local: Local, message: str) -> None:
        """A local client reached no pod."""
        self.tell("failed", connection=local.number, local=self.local, message=message)

    def broke(self, local: Local, message: str) -> None:
        """A connection was lost under way."""
        pod = local.backend.pod if local.backend is not None else ""
        self.tell("failed", connection=local.number, local=self.local, pod=pod, message=message)


class Forwards:
    """All forwards of one command."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        told: Teller,
        *,
        addresses: Sequence[tuple[str, bool]],
        running_timeout: float = 60.0,
    ) -> None:
        """`running_timeout`: seconds that the first pod of a target may take to run (--pod-running-timeout)."""
        self.all: list[Forward] = []
        self._client, self._namespace, self._told = client, namespace, told
        self._addresses, self._running_timeout = addresses, running_timeout
        self._forwarder = PortForwarder(client)
        self._following: list[tuple[asyncio.Task[None], Backends]] = []

    async def open(self, wanted: Sequence[Wanted]) -> None:
        """Find all targets, wait until each has a pod, listen. Raises Hopeless, StatusError and ApiUnreachable."""
        loop = asyncio.get_running_loop()
        for one in wanted:
            group: list[Forward] = []
            backends = await follow(self._client, self._namespace, one, _all_news(group))
            made = (
                Forward(self._forwarder, self._namespace, backends, one.label, pair, self._told) for pair in one.ports
            )
            group.extend(made)
            self.all += group
            self._following.append((loop.create_task(backends.run(), name=f"follow {one.label}"), backends))
        for forward in self.all:
            await self._first_pod(forward)
            await forward.listen(self._addresses)

    async def _first_pod(self, forward: Forward) -> None:
        try:
            async with asyncio.timeout(self._running_timeout):
                await forward.first_pod()
        except TimeoutError as error:
            raise Hopeless(f"{forward.why_none()}, after {self._running_timeout:g} s") from error

    async def run(self) -> None:
        """Until cancelled. Following ends by a bug of ours only, which is raised."""
        await asyncio.gather(*(task for task, _ in self._following))

    async def close(self) -> None:
        """End all of it."""
        for task, _ in self._following:
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._following), return_exceptions=True)
        for forward in self.all:
            await forward.close()
        await self._forwarder.close()


def _all_news(group: list[Forward]) -> Callable[[], None]:
    def news() -> None:
        for forward in group:
            forward.news()

    return news


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
        return os.strerror(number).lower()
    return " ".join(str(error).split())
