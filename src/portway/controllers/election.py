"""One of several servers works at a time: leader election by a coordination.k8s.io Lease, as client-go's.

Whoever holds the Lease renews it every `RETRY_SECONDS`, and stops working when that has not succeeded for
`RENEW_SECONDS`, counted from when the last request that succeeded was sent: however late its answer came. The others
take it over when they have seen it unchanged for `LEASE_SECONDS`; only differences on one's own clock are compared,
never two machines' clocks. Every change names the resourceVersion it rests on, so that one of several wins. On an
orderly stop the Lease is given back at once.

client-go's own figures are 15 s, 10 s and 2 s (with up to 20 % jitter), with which a killed leader is followed after up
to 17.4 s. These are shorter, so that it is under 15 s.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from portway.client.protocol import ApiUnreachable
from portway.kube.errors import NotFound, StatusError
from portway.kube.objects import Object, now_micro

LEASE_SECONDS = 10
RENEW_SECONDS = 8.0
RETRY_SECONDS = 2.0
_JITTER = 1.2
_RELEASE_SECONDS = 2.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"

logger = logging.getLogger(__name__)


class Leases(Protocol):
    """What is asked of a client: its methods raise StatusError and ApiUnreachable."""

    async def get(self, path: str) -> Object: ...

    async def create(self, path: str, obj: Object) -> Object: ...

    async def update(self, path: str, obj: Object) -> Object: ...


class LeaderElection:
    """Competes for one Lease in kube-system, and works while it holds it."""

    def __init__(self, client: Leases, name: str, *, lease: str = "kube-controller-manager") -> None:
        """`name`: this server's, part of the holder's identity."""
        self._client = client
        self._lease = lease
        self.identity = f"{name}_{secrets.token_hex(8)}"
        self.leading = asyncio.Event()
        self._seen: Object | None = None
        self._seen_at = 0.0
        self._held_since = 0.0
        """When the last request that got or kept us the Lease was sent."""

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Works whenever this is the leader, until cancelled; then gives the Lease back. Raises what `work` raises."""
        try:
            while True:
                while not await self._try():
                    await asyncio.sleep(self._pause())
                self.leading.set()
                await self._lead(work)
                self.leading.clear()
                logger.warning("%s: the lease was lost, controllers stop until it is won again", self.identity)
        finally:
            if self.leading.is_set():
                self.leading.clear()
                await self._release()

    async def _lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Returns when the Lease is lost."""
        working = asyncio.create_task(work(), name="work of the leader")
        renewing = asyncio.create_task(self._renew(), name="leader's lease")
        try:
            await asyncio.wait([working, renewing], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                raise RuntimeError("the leader's work ended")
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)

    async def _renew(self) -> None:
        """Returns when the Lease could not be renewed in time."""
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout_at(self._held_since + RENEW_SECONDS):
                    await asyncio.sleep(RETRY_SECONDS)
                    while not await self._try():
                        if self._held_by_another():
                            return
                        await asyncio.sleep(RETRY_SECONDS / 4)

    async def _try(self) -> bool:
        """One attempt to get or keep the Lease."""
        began = asyncio.get_running_loop().time()
        try:
            found = await self._client.get(f"{LEASES}/{self._lease}")
            self._observe(found)
            if self._held_by_another() and self._left() > 0:
                return False
            self._observe(await self._client.update(f"{LEASES}/{self._lease}", self._taken(found)))
        except NotFound:
            if not await self._create():
                return False
        except (StatusError, ApiUnreachable):
            return False
        self._held_since = began
        return True

    async def _create(self) -> bool:
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._lease}, "spec": {}}
        try:
            self._observe(await self._client.create(LEASES, self._taken(lease)))
        except (StatusError, ApiUnreachable):
            return False
        return True

    def _taken(self, lease: Object) -> Object:
        """The Lease, held by us."""
        spec, now = lease.get("spec", {}), now_micro()
        ours = spec.get("holderIdentity") == self.identity
        changes = not ours and "resourceVersion" in lease["metadata"]
        return {
            **lease,
            "spec": spec
            | {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": spec.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + changes,
            },
        }

    def _observe(self, lease: Object) -> None:
        if self._seen is None or self._seen.get("spec") != lease.get("spec"):
            self._seen, self._seen_at = lease, asyncio.get_running_loop().time()

    def _held_by_another(self) -> bool:
        holder = (self._seen or {}).get("spec", {}).get("holderIdentity", "")
        return bool(holder) and holder != self.identity

    def _left(self) -> float:
        """Seconds until the Lease that was seen runs out."""
        seconds = (self._seen or {}).get("spec", {}).get("leaseDurationSeconds", LEASE_SECONDS)
        return float(self._seen_at + seconds - asyncio.get_running_loop().time())

    def _pause(self) -> float:
        """Until the next attempt: no longer than the Lease has left."""
        pause = RETRY_SECONDS * random.uniform(1, _JITTER)
        return min(pause, max(self._left(), 0.05)) if self._held_by_another() else pause

    async def _release(self) -> None:
        """Give the Lease back, so that nobody has to wait for it to run out."""
        with suppress(StatusError, ApiUnreachable, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                found = await self._client.get(f"{LEASES}/{self._lease}")
                if found.get("spec", {}).get("holderIdentity") == self.identity:
                    spec = found["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now_micro()}
                    await self._client.update(f"{LEASES}/{self._lease}", {**found, "spec": spec})
