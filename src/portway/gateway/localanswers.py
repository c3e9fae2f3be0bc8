"""The seam of what a door answers itself: health, metrics, the catalogue."""

from typing import Protocol


class LocalAnswers(Protocol):
    """What the door answers itself: health and metrics."""

    def answer(self, path: str, query: str, *, page: bool, host: str) -> tuple[int, bytes, bytes] | None:
        """(code, head without its empty line, body), or None when the path is the API's.

        `page`: a person's browser asks. `host`: as it wrote it.
        """
        ...
