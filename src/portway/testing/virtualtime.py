"""An event loop whose time is virtual: nothing waits, sleeping only moves the clock.

    play(scenario())        runs a coroutine; `loop.time()` begins at START and jumps to whatever comes next

When nothing is left that could happen, it says so (Stuck) instead of hanging. For code without sockets or threads.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_000.0
EPOCH = 1_800_000_000.0
"""What `wall` says at START."""


class Stuck(AssertionError):  # noqa: N818 - it says what is the case
    """Everybody waits for something that nobody will bring about."""


class _Selector(selectors.SelectSelector):
    """Where a loop would sleep, it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Stuck("nothing is left that could happen")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def play(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


def wall() -> float:
    """The wall clock that goes with the running loop's."""
    return EPOCH + asyncio.get_running_loop().time() - START


async def settle(turns: int = 20) -> None:
    """Lets everything happen that is due now, without moving the clock."""
    for _ in range(turns):
        await asyncio.sleep(0)


__all__ = ["EPOCH", "START", "Stuck", "VirtualLoop", "play", "settle", "wall"]
