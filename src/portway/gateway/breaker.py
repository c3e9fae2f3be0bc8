"""A circuit breaker: after failures in a row nobody is asked for a while, then one question at a time probes.

Values and a clock, no I/O: `reviews` asks, and answers at once, failing closed, while the breaker says no.

    closed ──failures in a row──► open ──rest is over──► half-open ──success──► closed
                                   ▲                        │
                                   └──── failure, rest × 2 ─┘
"""

from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
"""Failures in a row that open it (Envoy's consecutive_5xx; upstream's delegated questions: 5 attempts each)."""
REST: Final = 1.0
REST_CAP: Final = 30.0
"""Seconds of rest: the first, and the longest after doublings (gRPC's and our informers' cap are of that order)."""


class Breaker:
    """Whoever is admitted reports `succeeded`, `failed` or `abandoned`, whatever happens."""

    __slots__ = ("_cap", "_clock", "_failed", "_limit", "_probing", "_rest", "_until")

    def __init__(
        self, clock: Callable[[], float], *, failures: int = FAILURES, rest: float = REST, cap: float = REST_CAP
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._limit = failures
        self._rest = rest
        self._cap = max(rest, cap)
        self._failed = 0
        self._until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the last answers were failures, so that at most probes are asked."""
        return self._failed >= self._limit

    @property
    def refusing(self) -> bool:
        """Whether a question asked now would be turned away. Asking this changes nothing."""
        return self.open and (self._probing or self._clock() < self._until)

    @property
    def retry_after(self) -> int:
        """Whole seconds, at least one, after which asking again makes sense."""
        return max(1, int(self._until - self._clock() + 0.999)) if self.open else 1

    def admit(self) -> bool:
        """Whether a question may be asked now; in the half-open state, by one at a time."""
        if self.refusing:
            return False
        self._probing = self.open
        return True

    def succeeded(self) -> None:
        """An answer came, whatever it says."""
        self._failed = 0
        self._probing = False

    def failed(self) -> None:
        """No answer came. Those that were under way when it opened count once, not once each."""
        was_open, was_probing = self.open, self._probing
        self._probing = False
        if was_open and not was_probing:
            return
        self._failed += 1
        if self._failed >= self._limit:
            doublings = min(self._failed - self._limit, 32)
            self._until = self._clock() + min(self._rest * 2.0**doublings, self._cap)

    def abandoned(self) -> None:
        """The question was given up before it could tell anything: the next may probe."""
        self._probing = False


__all__ = ["Breaker"]
