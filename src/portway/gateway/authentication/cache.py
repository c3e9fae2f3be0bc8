"""A bounded mapping that forgets what was not used lately; the store behind every cache of credentials here.

Two generations instead of a linked list: a hit in the young one is a plain dict lookup, which is what the hot path
can afford. When the young one is full it becomes the old one and the old one is dropped, so between half and all of
`limit` entries live, and an entry in use survives.
"""

from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """At most `limit` entries. Values are never None."""

    __slots__ = ("_half", "_old", "young")

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self.young: dict[K, V] = {}
        """Looked into directly by the hot path; everything else goes through get and put."""
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value, which thereby counts as used."""
        value = self.young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember, and forget the least recently used when there are too many."""
        if len(self.young) >= self._half and key not in self.young:
            self._old = self.young
            self.young = {}
        self.young[key] = value

    def discard(self, unwanted: Callable[[V], bool]) -> None:
        """Forget every value that `unwanted` names."""
        self.young = {k: v for k, v in self.young.items() if not unwanted(v)}
        self._old = {k: v for k, v in self._old.items() if not unwanted(v)}

    def values(self) -> Iterator[V]:
        return chain(self.young.values(), self._old.values())

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
