"""One question in flight per key: whoever asks the same meanwhile hears the same answer.

Each asker has a future of its own, so that one who goes away takes nobody else's answer along. Bounded: a flood of
different questions is answered 429. Lives on one event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from portway.kube.errors import TooManyRequests

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LIMIT: Final = 256
"""Different questions under way at one time in one worker (upstream's client: burst 400 per process)."""


class Flights(Generic[K, V]):
    """Questions under way."""

    def __init__(self, name: str, limit: int = LIMIT) -> None:
        """`name` is what is asked about, in the plural: for the tasks' names and the 429."""
        self._name = name
        self._limit = limit
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._began: dict[K, float] = {}
        self._tasks: set[asyncio.Task[V]] = set()

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def age(self, key: K) -> float:
        """Seconds since the question of that key was asked; 0 when none is under way."""
        began = self._began.get(key)
        return asyncio.get_running_loop().time() - began if began is not None else 0.0

    def ask(self, key: K, question: Callable[[], Coroutine[Any, Any, V]], *, spare: int = 0) -> asyncio.Future[V]:
        """The answer to the question of that key. TooManyRequests, raised, when `limit` less `spare` are under way."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(future)
            return future
        if len(self._waiting) >= self._limit - spare:
            raise TooManyRequests(f"too many {self._name} are being asked for, please try again later", retry_after=1)
        self._waiting[key] = [future]
        self._began[key] = asyncio.get_running_loop().time()
        task = asyncio.get_running_loop().create_task(question(), name=f"ask for {self._name}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._landed, key))
        return future

    def close(self) -> None:
        """Give up what is under way; who waits is cancelled."""
        for task in self._tasks:
            task.cancel()

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        self._tasks.discard(task)
        del self._began[key]
        for future in self._waiting.pop(key):
            if future.done():
                continue
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
                # A client that went away awaits nothing; asyncio need not complain that nobody took the refusal.
                future.exception()
            else:
                future.set_result(task.result())


__all__ = ["Flights"]
