"""How long to wait before asking again: doubling, capped, with jitter so that workers don't return in step."""

import random


class Backoff:
    """Delays of one retry loop, in seconds. `reset` after success."""

    def __init__(self, first: float = 0.05, cap: float = 30.0) -> None:
        self._first, self._cap = first, cap
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def delay(self, at_least: float | None = None) -> float:
        """The next delay: between 3/4 and 5/4 of the current step; never under what the server asked for."""
        step, self._next = self._next, min(self._next * 2, self._cap)
        return max(step * random.uniform(0.75, 1.25), at_least or 0.0)
