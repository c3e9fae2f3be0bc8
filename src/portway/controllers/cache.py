"""The objects of one kind as last seen, by key and by index; fed by an informer and by the answers to own writes.

What a controller wrote is in the cache when the write returns: its next look sees it, though the watch has not told it
yet. Hence a version rule: nothing older than what is held is taken in.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from portway.client.confirm import is_newer
from portway.client.informer import key_of
from portway.kube.objects import Object, resource_version

Key = tuple[str, str]
T = TypeVar("T")
Listener = Callable[[Key, T | None, T | None], None]
"""Called with (key, before, after); None = there was none, there is none."""


class Cache(Generic[T]):
    """Facts about objects. `facts(object)` says what is kept; `indexes(fact)` under which other keys it is found."""

    def __init__(self, facts: Callable[[Object], T], indexes: Callable[[T], Iterable[Hashable]] = lambda _: ()) -> None:
        self._facts, self._indexes = facts, indexes
        self._held: dict[Key, tuple[str, T]] = {}
        self._index: dict[Hashable, dict[Key, None]] = {}
        self._listeners: list[Listener[T]] = []

    def listen(self, listener: Listener[T]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def get(self, key: Key) -> T | None:
        held = self._held.get(key)
        return None if held is None else held[1]

    def keys(self) -> list[Key]:
        return list(self._held)

    def values(self) -> Iterator[T]:
        return (fact for _, fact in self._held.values())

    def under(self, index: Hashable) -> list[T]:
        """What is found under an index key, in order of arrival."""
        return [self._held[key][1] for key in self._index.get(index, ())]

    def count(self, index: Hashable) -> int:
        return len(self._index.get(index, ()))

    def on_event(self, event: str, obj: Object) -> None:
        """What an informer tells."""
        (self.drop if event == "DELETED" else self.put)(obj)

    def put(self, obj: Object) -> None:
        """Take in an object, unless a newer state of it is held."""
        key, version = key_of(obj), resource_version(obj)
        held = self._held.get(key)
        if held is not None and not is_newer(version, held[0]):
            return
        after = self._facts(obj)
        before = None if held is None else held[1]
        self._held[key] = version, after
        if before is not None:
            self._unindex(key, before)
        for index in self._indexes(after):
            self._index.setdefault(index, {})[key] = None
        self._tell(key, before, after)

    def drop(self, obj: Object) -> None:
        """An object is gone, as of its resource version; what is held that is newer is another one by the same name."""
        key, version = key_of(obj), resource_version(obj)
        held = self._held.get(key)
        if held is None or (version and not is_newer(version, held[0]) and version != held[0]):
            return
        del self._held[key]
        self._unindex(key, held[1])
        self._tell(key, held[1], None)

    def _unindex(self, key: Key, fact: T) -> None:
        for index in self._indexes(fact):
            keys = self._index.get(index)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._index[index]

    def _tell(self, key: Key, before: T | None, after: T | None) -> None:
        for listener in self._listeners:
            listener(key, before, after)
