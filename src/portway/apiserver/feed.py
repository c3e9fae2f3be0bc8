"""The latest changes of a kind, or of a part of it, in revision order, and when those who follow them are woken.

A follower is a cursor, not a queue: a slow one costs no memory, and is cut when the log has moved past it. With few
followers each change wakes them at once. Many are woken in rounds, so far apart as they are many: what changed in
between goes to each as one chunk, which is put together once for all that stand at the same place and want the same.
`cache` fills feeds, a `watch` follows one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.apiserver.entries import Change

FEW = 16
"""So many followers are woken by every change."""
EACH = 0.0001
"""Seconds that a round is put off for each follower: about what it takes to serve one, so half of the time at most."""
_REMEMBERED, _SMALL = 32, 1 << 20
"""How many chunks a feed keeps for followers that come to the same place, and of how many bytes at most."""


class Feed:
    """A log of changes, and those who follow it."""

    def __init__(self, since: int, changes: Iterable[Change] = ()) -> None:
        """`changes`: all that there were after the revision `since`."""
        self.since = since
        """The log holds every change after this revision."""
        self._changes = list(changes)
        self._base = 0
        self._followers: set[asyncio.Event] = set()
        self._round: asyncio.TimerHandle | None = None
        self._next_round = 0.0
        self._chunks: dict[Hashable, bytes] = {}

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def start(self) -> int:
        """The cursor of the oldest change."""
        return self._base

    @property
    def followed(self) -> bool:
        """Whether anybody waits for changes."""
        return bool(self._followers)

    def add(self, change: Change) -> None:
        """Takes in the next change, and sees to it that followers are woken."""
        self._changes.append(change)
        if len(self._followers) > FEW:
            self._schedule()
        else:
            self._wake()

    def revision(self, index: int) -> int:
        """Returns the revision of one of the changes that it holds."""
        return self._changes[index].revision

    def forget(self, revision: int) -> None:
        """Drops the changes up to a revision."""
        count = bisect_right(self._changes, revision, key=_revision)
        del self._changes[:count]
        self._base += count
        self.since = max(self.since, revision)

    def cursor(self, revision: int) -> int | None:
        """Returns the place behind `revision`; None when the log doesn't go back so far."""
        if revision < self.since:
            return None
        return self._base + bisect_right(self._changes, revision, key=_revision)

    def read(self, cursor: int, most: int | None = None) -> list[Change] | None:
        """Returns the changes from a cursor on (advance it by their number); None when the log has moved past it."""
        if cursor < self._base:
            return None
        start = cursor - self._base
        return self._changes[start : None if most is None else start + most]

    def chunk(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Returns what `make` makes; once for all who ask with the same key one after the other."""
        found = self._chunks.get(key)
        if found is None:
            found = make()
            if len(found) <= _SMALL:
                if len(self._chunks) >= _REMEMBERED:
                    self._chunks.clear()
                self._chunks[key] = found
        return found

    def follow(self, wake: asyncio.Event) -> None:
        """Sets `wake` when there are changes, from now on."""
        self._followers.add(wake)

    def unfollow(self, wake: asyncio.Event) -> None:
        """Ends `follow`."""
        self._followers.discard(wake)
        if not self._followers:
            self._chunks.clear()

    def retire(self) -> None:
        """Ends the log: every cursor into it is lost, and whoever waits is woken to see that."""
        self._base += len(self._changes) + 1
        self._changes.clear()
        self._wake()

    def _schedule(self) -> None:
        if self._round is None:
            loop = asyncio.get_running_loop()
            self._round = loop.call_at(max(self._next_round, loop.time()), self._begin_round)

    def _begin_round(self) -> None:
        self._round = None
        self._next_round = asyncio.get_running_loop().time() + EACH * len(self._followers)
        self._wake()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.set()


_revision = attrgetter("revision")
