"""Current state and retained history in memory. Pure and synchronous; one thread at a time.

The current state is a dict with a sorted list of its keys; history is the list of changes since the last compaction.
An older state is the current one with the later changes of that prefix taken back, so nothing is kept twice: values are
shared between state and history. Reads cost what they touch, plus, for an old revision, one look at each later change.

`local.py` puts the asynchronous face on it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from portway.storage.errors import Compacted, FutureRevision
from portway.storage.protocol import FIRST_REVISION, Event, KeyValue, Page
from portway.storage.writes import Change

_LAST_CHARACTER = 0x10FFFF


class Keyspace:
    """What a store knows: the state now, and how it came about since `compacted`."""

    def __init__(self, state: dict[str, KeyValue] | None = None, compacted: int = 0, *, gaps: bool = False) -> None:
        """Start from the `state` at revision `compacted` (0: a store that never compacted starts empty).

        `gaps`: the counter counts others' writes too, so that revisions only grow, and may be left out.
        """
        self.revision = max(compacted, FIRST_REVISION)
        self._gaps = gaps
        self.compacted = compacted
        self._state = dict(state or {})
        self._keys = sorted(self._state)
        self._history: list[Change] = []

    def get(self, key: str) -> KeyValue | None:
        """The key now, or None."""
        return self._state.get(key)

    def state(self) -> dict[str, KeyValue]:
        """A copy of the current state."""
        return dict(self._state)

    def apply(self, change: Change) -> None:
        """Take in the next change; it must carry the next revision (with gaps: a later one)."""
        kv = change.event.kv
        if kv.mod_revision != self.revision + 1 and (not self._gaps or kv.mod_revision <= self.revision):
            raise ValueError(f"revision {kv.mod_revision} cannot follow {self.revision}")
        if change.after is None:
            del self._state[kv.key]
            del self._keys[bisect_left(self._keys, kv.key)]
        else:
            if change.before is None:
                insort(self._keys, kv.key)
            self._state[kv.key] = kv
        self._history.append(change)
        self.revision = kv.mod_revision

    def advance(self, revision: int) -> None:
        """Know that nothing here was changed up to `revision`. Only where there may be gaps."""
        if not self._gaps:
            raise ValueError("every revision is a change of this keyspace")
        self.revision = max(self.revision, revision)

    def page(self, prefix: str, revision: int, limit: int, after: str) -> Page:
        """See `Store.list`."""
        at = revision or self.revision
        earlier = self._earlier(prefix, at)
        if earlier:
            return self._page_of_the_past(prefix, earlier, at, limit, after)
        low, high = self._range(prefix, after)
        stop = min(low + limit, high) if limit > 0 else high
        items = [self._state[key] for key in self._keys[low:stop]]
        return Page(items, at, stop < high, high - stop)

    def events_after(self, prefix: str, revision: int) -> list[Event]:
        """The retained events under `prefix` with a greater revision; raises `Compacted` or `FutureRevision`."""
        return [change.event for change in self._changes_after(revision) if change.event.kv.key.startswith(prefix)]

    def compact(self, revision: int) -> list[Change]:
        """Forget the history up to and including the change that made `revision`; what was forgotten."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision <= self.compacted:
            return []
        count = self._index(revision)
        forgotten = self._history[:count]
        del self._history[:count]
        self.compacted = revision
        return forgotten

    def _index(self, revision: int) -> int:
        """How many retained changes have a revision up to this one."""
        return bisect_right(self._history, revision, key=_revision_of)

    def _changes_after(self, revision: int) -> list[Change]:
        if revision < self.compacted:
            raise Compacted(self.compacted)
        if revision > self.revision:
            raise FutureRevision(self.revision)
        return self._history[self._index(revision) :]

    def _earlier(self, prefix: str, revision: int) -> dict[str, KeyValue | None]:
        """What the keys that changed after `revision` were then: each one's first later change tells."""
        earlier: dict[str, KeyValue | None] = {}
        for change in self._changes_after(revision):
            key = change.event.kv.key
            if key.startswith(prefix):
                earlier.setdefault(key, change.before)
        return earlier

    def _page_of_the_past(
        self, prefix: str, earlier: dict[str, KeyValue | None], at: int, limit: int, after: str
    ) -> Page:
        low, high = self._range(prefix, after)
        names = [key for key in self._keys[low:high] if earlier.get(key, self) is not None]
        gone = [key for key, kv in earlier.items() if kv is not None and key > after and key not in self._state]
        if gone:
            names = sorted(names + gone)
        shown = names[:limit] if limit > 0 else names
        items = [earlier.get(key) or self._state[key] for key in shown]
        return Page(items, at, len(shown) < len(names), len(names) - len(shown))

    def _range(self, prefix: str, after: str) -> tuple[int, int]:
        """Where in the sorted keys the prefix's keys behind `after` begin and end."""
        end = _successor(prefix)
        low = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        high = bisect_left(self._keys, end) if end else len(self._keys)
        return low, max(low, high)


def _revision_of(change: Change) -> int:
    return change.event.kv.mod_revision


def _successor(prefix: str) -> str:
    """The least string greater than everything that starts with `prefix`; "" when there is none."""
    stem = prefix.rstrip(chr(_LAST_CHARACTER))
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else ""
