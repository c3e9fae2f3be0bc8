"""The live part of a terminal: one line per forward, drawn again every second below what was printed."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from portway.client.forwards.events import Event
from portway.client.forwards.forwards import Forward

EVERY = 1.0
_CLEAR = "\x1b[J"
_QUIET = ("connected", "closed")
"""What the numbers show; a line for each would push everything else away."""


class Screen:
    """Prints events with `printed`, and keeps the forwards' state below them."""

    def __init__(self, printed: Callable[[Event], None], out: TextIO | None = None) -> None:
        self._printed = printed
        self._out = out or sys.stdout
        self._lines = 0
        self._forwards: Sequence[Forward] = ()

    def tell(self, event: Event) -> None:
        """Prints an event above the state."""
        if event.event in _QUIET:
            return
        self._wipe()
        self._printed(event)
        self._draw()

    async def run(self, forwards: Sequence[Forward]) -> None:
        """Draws until cancelled."""
        self._forwards = forwards
        while True:
            self._wipe()
            self._draw()
            await asyncio.sleep(EVERY)

    def _wipe(self) -> None:
        if self._lines:
            self._out.write(f"\x1b[{self._lines}A\r{_CLEAR}")
            self._lines = 0

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        for line in lines(self._forwards):
            self._out.write(line[: width - 1] + "\n")
            self._lines += 1
        self._out.flush()


def lines(forwards: Sequence[Forward]) -> list[str]:
    """The state of all forwards as a table."""
    rows = [_row(forward) for forward in forwards]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]


def _row(forward: Forward) -> tuple[str, str, str, str, str]:
    sent, received = forward.traffic
    state = forward.waiting or f"{forward.pods} pod{'' if forward.pods == 1 else 's'}"
    connections = f"{len(forward.active)} open, {forward.connections} in all"
    moved = f"sent {size(sent)}, received {size(received)}"
    return forward.label, f"{forward.local} -> {forward.port}", connections, moved, state


def size(count: int) -> str:
    """Bytes for people: 999 B, 1.0 kB, 12 MB."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return ""
