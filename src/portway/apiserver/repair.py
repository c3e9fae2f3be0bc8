"""Brings what services hold and what is claimed into step again, after a crash in between or a hand that meddled.

    a service holds what nobody claimed           the claim is made (a database from before there were claims)
    a claim whose service doesn't hold it         it is given back, once it is too old for a write under way
    two services hold the same                    a warning: whose claim it is keeps it

One pass at start, then one a minute, and at once when a claim goes that is still held. Each server repairs; every step
is a compare-and-swap, so they don't get into each other's way.
Source: pkg/registry/core/service/ipallocator/controller/repairip.go (rules, grace), as facts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from portway.apiserver.allocator import Allocator, Held, held_by
from portway.apiserver.claims import StoredClaims, held_of, is_allocated, parent_of
from portway.apiserver.entries import Change, Entry
from portway.apiserver.kinds.base import Lookup
from portway.kube.errors import StatusError
from portway.kube.objects import Object, from_rfc3339
from portway.storage import StorageError

INTERVAL = 60.0
GRACE = 60.0
"""Seconds that a write may be under way: no request takes longer."""
_TOGETHER = 100
"""Services whose missing claims are made at the same time."""
_log = logging.getLogger(__name__)

Owner = tuple[str, str]


class Repair:
    """The repair of one server. `run` is to be owned by a task."""

    def __init__(
        self, claims: StoredClaims, allocator: Allocator, lookup: Lookup, now: Callable[[], float] = time.time
    ) -> None:
        self._claims = claims
        self._allocator = allocator
        self._lookup = lookup
        self._now = now
        self._wake = asyncio.Event()
        self._told: set[str] = set()

    def changed(self, change: Change) -> None:
        """To be told of changes of claims: one that went though its service still holds it is made again."""
        claim = change.entry
        if change.type == "DELETED" and (owner := parent_of(claim.obj)) and self._holds(owner, held_of(claim)):
            self._wake.set()

    async def run(self) -> None:
        """Repairs until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.once()
            except (StorageError, StatusError) as error:
                _log.warning("addresses and ports of services could not be looked after: %s", error)

    async def once(self) -> None:
        """One pass."""
        await self._claims.seen()
        services = list(self._lookup.objects("", "services"))
        in_use = {what for service in services for what in held_by(service)}
        left_over = [claim for what, claim in self._claims.all() if self._is_left_over(what, claim, in_use)]
        for claim in left_over:
            await self._claims.drop(claim)
        if left_over:
            await self._claims.seen()
        for start in range(0, len(services), _TOGETHER):
            some = services[start : start + _TOGETHER]
            missing = [(what, one["metadata"]) for one in some for what in held_by(one) if self._is_missing(what, one)]
            await asyncio.gather(*(self._claims.claim(what, service) for what, service in missing))
            await asyncio.sleep(0)

    def _is_missing(self, what: Held, service: Object) -> bool:
        """Whether the claim is to be made."""
        if not self._allocator.in_range(what):
            self._warn(service, what, "is not within any range; create the service anew")
            return False
        found = self._claims.find(what)
        if found is not None and parent_of(found.obj) != _key(service):
            self._warn(service, what, "is another's too; create the service anew")
        return found is None

    def _is_left_over(self, what: Held, claim: Entry, in_use: set[Held]) -> bool:
        """Whether a claim goes: nobody holds what it is on, or a service does but the claim says another thing.

        An IPAddress that somebody made for something else than a service is theirs.
        """
        owner, made = parent_of(claim.obj), claim.obj["metadata"].get("creationTimestamp")
        if owner is not None and self._holds(owner, what):
            return False
        if what not in in_use and not is_allocated(claim.obj):
            return False
        return made is None or self._now() - from_rfc3339(made) > GRACE

    def _holds(self, owner: Owner, what: Held) -> bool:
        service = self._lookup.find("", "services", *owner)
        return service is not None and what in held_by(service)

    def _warn(self, service: Object, what: Held, text: str) -> None:
        """Says it once: it stays so until somebody acts."""
        line = f"service {'/'.join(_key(service))}: {what} {text}"
        if line not in self._told:
            self._told.add(line)
            _log.warning("%s", line)


def _key(service: Object) -> Owner:
    return service["metadata"].get("namespace", ""), service["metadata"]["name"]
