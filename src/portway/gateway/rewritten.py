"""A body on its way through a rewriter, no faster than the client reads it.

A few compressed bytes may stand for gigabytes, so what comes out is taken a bounded piece at a time, and not at all
while the client's side is blocked. The relay owns the connections; this owns what waits between them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from portway.gateway.rewrite import BodyRewriter

TURN: Final = 16384
"""Bytes of a document that are rewritten in one turn of the loop, at some 5 MB a second: others wait no longer."""


class RewrittenBody:
    """`add` what the backend sent, `finish` when it sent all; `pump` gives on what the client can take."""

    def __init__(self, rewriter: BodyRewriter) -> None:
        self._rewriter = rewriter
        self._waiting: deque[bytes] = deque()
        self._pieces: Iterator[bytes] | None = None
        self._finish: Callable[[], None] | None = None

    def add(self, data: bytes) -> None:
        """Bytes of the backend's body."""
        self._waiting.append(data)

    def finish(self, then: Callable[[], None]) -> None:
        """No more will come; `then` is called once everything was given on."""
        self._finish = then

    def pump(self, give: Callable[[bytes], None], blocked: Callable[[], bool]) -> bool:
        """Gives on pieces until nothing waits, the client's side is blocked or the turn is used up: True for the last,
        after which it wants to be called again. Raises RewriteError.
        """
        until = self._rewriter.work + TURN
        while not blocked():
            piece = self._next()
            if piece is None:
                break
            give(piece)
            if self._rewriter.work >= until:
                return True
        else:
            return False
        then, self._finish = self._finish, None
        if then is not None:
            give(self._rewriter.close())
            then()
        return False

    def _next(self) -> bytes | None:
        while True:
            if self._pieces is not None:
                piece = next(self._pieces, None)
                if piece is not None:
                    return piece
                self._pieces = None
            if not self._waiting:
                return None
            self._pieces = self._rewriter.pieces(self._waiting.popleft())
