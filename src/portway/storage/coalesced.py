"""One question asked for many callers: whoever asks while one is under way shares the next.

The answer a caller gets was asked for after its call, so a consistent read stays one however many share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Coalesced(Generic[Answer]):
    """Asks `ask` for all who call, never twice at once."""

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._running: asyncio.Future[Answer] | None = None
        self._next: asyncio.Future[Answer] | None = None

    async def __call__(self) -> Answer:
        """The answer to a question that is asked after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running), name="a question for several")
            self._next.add_done_callback(_heard)
        return await asyncio.shield(self._next)

    async def _after(self, previous: asyncio.Future[Answer] | None) -> Answer:
        if previous is not None:
            await asyncio.wait([previous])
        self._running, self._next = self._next, None
        return await self._ask()


def _heard(answer: asyncio.Future[Answer]) -> None:
    """An error that nobody waits for any more is not worth a word."""
    if not answer.cancelled():
        answer.exception()
