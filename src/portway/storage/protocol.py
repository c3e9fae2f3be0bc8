"""What every store offers, and the values it hands out. No behaviour.

Implementations prove themselves with `portway.testing.store`. Next: `memory.py`, `sqlite.py` and `etcd.py`.

Revisions follow etcd's rules, because Kubernetes' resourceVersion was shaped by them: an empty store is at revision 1,
the first write makes revision 2, every write takes the next number of one counter over all keys, and no number is
ever used twice, neither after a restart nor after a compaction. Where other programs write to the same medium (etcd),
theirs are counted too: then a write takes a later number, not always the next. Compacting at N keeps the state at N and
all after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from portway.storage.errors import StoreUnavailable

EventType = Literal["PUT", "DELETE"]

FIRST_REVISION = 1
"""The revision of a store nothing has been written to."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it was at one revision.

    `create_revision` is the write that made the key (since its last deletion), `mod_revision` the last write to it.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One write. Its revision is `kv.mod_revision`.

    PUT: `kv` is the new state, `previous` the value it replaced; `created` says that there was none.
    DELETE: `kv` has the last value and the deletion's own revision; `previous` is that value too.
    """

    type: EventType
    kv: KeyValue
    previous: bytes | None
    created: bool

    @property
    def revision(self) -> int:
        """The write's number in the one order over all keys."""
        return self.kv.mod_revision


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: keys in code point order, all as they were at `revision`.

    `more` says that the limit cut the list short, `remaining` by how many keys.
    """

    items: list[KeyValue]
    revision: int
    more: bool
    remaining: int


class Watch(Protocol):
    """The events under one prefix after one revision, in revision order: none left out, none twice.

    One consumer at a time. Cancelling a pending `__anext__` loses nothing. Iteration ends quietly after `close()`, with
    `WatchLagged` when the consumer was too slow, and with `StoreClosed` when the store was closed.
    """

    def __aiter__(self) -> AsyncIterator[Event]:
        """Itself."""
        ...

    async def __anext__(self) -> Event:
        """The next event; waits for one."""
        ...

    def synced_revision(self) -> int:
        """The consumer has been given every event up to this revision: what a bookmark may say."""
        ...

    def close(self) -> None:
        """Stop watching. Safe to call twice, and while another task waits for the next event."""
        ...


class Store(Protocol):
    """Revisioned keys. Every write is on its medium before the call returns or an event tells of it.

    A cancelled write may or may not happen. Any call may raise `StoreClosed`, any write `StoreUnavailable`.
    """

    def current_revision(self) -> int:
        """The revision of the last write that readers can see."""
        ...

    async def latest_revision(self) -> int:
        """The revision of the last write that anybody who shares the medium was told of, and readers here can see it.

        A read that begins afterwards is consistent: what was finished before the call is in it.
        """
        ...

    async def get(self, key: str) -> KeyValue | None:
        """The key now, or None."""
        ...

    async def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """The keys that start with `prefix` as they were at `revision` (0: now).

        At most `limit` of them (0: all), beginning behind the key `after`, which need not exist. A list in pages names
        the first page's revision in the later ones. Raises `Compacted` or `FutureRevision`.
        """
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Make a key that must not exist; its revision. Raises `KeyExists`, `InvalidKey`."""
        ...

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        """Replace the value if the key's `mod_revision` is the expected one; the new revision.

        Raises `RevisionMismatch`, also when the key does not exist.
        """
        ...

    async def delete(self, key: str, expected_revision: int = 0) -> KeyValue:
        """Remove the key if its `mod_revision` is the expected one (0: whatever it is).

        Returns the last value with the deletion's revision as `mod_revision`. Raises `KeyMissing`, `RevisionMismatch`.
        """
        ...

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Follow the writes under `prefix` that came, and will come, after the revision.

        Raises `Compacted` when some of them have been dropped, `FutureRevision` when the revision is yet to come.
        """
        ...

    async def compact(self, revision: int) -> None:
        """Drop history: lists before `revision` and watches after an earlier one raise `Compacted` from now on.

        Open watches are not disturbed. A revision that is compacted already is no error. Raises `FutureRevision`.
        One at the first revision drops nothing, and need not outlive the store: etcd does not tell it from none.
        """
        ...

    async def compact_in_turn(self, revision: int) -> None:
        """`compact`, for those who share a medium and all call this once an interval: one of them compacts it.

        The others only forget what they hold themselves, so that history is kept for one interval everywhere.
        """
        ...

    def failure(self) -> StoreUnavailable | None:
        """Why nothing is written at present; None while writes are taken."""
        ...

    async def failed(self) -> StoreUnavailable:
        """Wait until there is a failure that only opening the store anew can mend, and return it."""
        ...

    async def close(self) -> None:
        """Finish the writes under way, end the watches and let go of the medium. Safe to call twice."""
        ...
