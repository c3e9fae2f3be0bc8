"""The seam of what a door answers itself: health, metrics, the catalogue."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from portway.kube.identity import User

Answer: TypeAlias = tuple[int, bytes, bytes]
"""(code, head without its empty line, body)."""
First: TypeAlias = Callable[[], Awaitable[object]]
"""What must be done before there is an answer; then it is asked for again. Raises StatusError."""


class LocalAnswers(Protocol):
    """What the door answers itself."""

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | First | None:
        """The answer, or None when the path is the API's.

        `page`: a person's browser asks. `host`: as it wrote it. `user`: who asks.
        """
        ...
