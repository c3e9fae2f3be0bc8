"""Keys to be worked on: each at most once at a time, and again when news came in the meantime."""

import asyncio
from collections.abc import Awaitable, Callable

from portway.client.backoff import Backoff

Key = tuple[str, str]
"""(namespace, name)"""

FIRST_RETRY, LAST_RETRY = 0.005, 30.0
"""Seconds; a write that lost a race is worth trying again at once, a broken one isn't."""


class WorkQueue:
    """A set of keys in order of arrival, worked off by `run`."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._retries: dict[Key, Backoff] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Have a key worked on. While it is being worked on, it is noted and worked on again afterwards."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._wake.set()

    def retry(self, key: Key, at_least: float | None = None) -> None:
        """Have a key worked on again after a delay that grows with each failure."""
        delay = self._retries.setdefault(key, Backoff(FIRST_RETRY, LAST_RETRY)).delay(at_least)
        if key in self._waiting or key in self._again or key in self._timers:
            return
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def succeeded(self, key: Key) -> None:
        """Forget a key's failures."""
        self._retries.pop(key, None)

    def idle(self) -> bool:
        """Whether nothing waits, nothing is being worked on and nothing is to be retried."""
        return not (self._waiting or self._busy or self._again or self._timers)

    async def run(self, work: Callable[[Key], Awaitable[None]]) -> None:
        """Work off keys, one after the other, until cancelled. Several `run`s share the queue."""
        try:
            while True:
                key = await self._take()
                try:
                    await work(key)
                finally:
                    self._busy.discard(key)
                    if key in self._again:
                        self._again.discard(key)
                        self.add(key)
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _take(self) -> Key:
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._busy.add(key)
        return key

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)
