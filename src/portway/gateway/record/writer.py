"""A thread that writes batches of lines, so that no file ever holds up the loop; and the account of what it lost.

The queue is bounded in bytes. When a file takes nothing (full disk, stopped reader, dead mount) batches wait, then new
ones are dropped and counted, and writing is tried again every second: what waited is written when it works again.
"""

import threading
from queue import SimpleQueue
from typing import NamedTuple

from portway.gateway.record.sinks import Sink

QUEUE_BYTES = 8 << 20
"""What may wait for one file in one worker: some 10,000 audit events."""

RETRY = 1.0


class Batch(NamedTuple):
    """Whole lines."""

    data: bytes
    lines: int


class LineWriter:
    """Writes what is submitted, in order, in its own daemon thread.

    `dropped` counts lines that will never be written, `failure` says why the last attempt did not work ("" when it
    did). Both may be read from any thread.
    """

    def __init__(self, sink: Sink, name: str, limit: int = QUEUE_BYTES, retry: float = RETRY) -> None:
        self.name = name
        self.failure = ""
        self._sink = sink
        self._limit = limit
        self._retry = retry
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._ending = threading.Event()
        # Each counter has one writing thread, so that none needs a lock.
        self._refused = self._lost = 0
        self._submitted_bytes = self._settled_bytes = 0
        self._submitted_lines = self._settled_lines = 0
        self._thread = threading.Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """Bytes not yet written."""
        return self._submitted_bytes - self._settled_bytes

    def submit(self, data: bytes, lines: int) -> None:
        """Queue `lines` whole lines; they are dropped when too much waits already. Never blocks. One thread only."""
        if self.waiting + len(data) > self._limit or self._ending.is_set():
            self._refused += lines
            return
        self._submitted_bytes += len(data)
        self._submitted_lines += lines
        self._queue.put(Batch(data, lines))

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, give up after `timeout` seconds, and count the rest as dropped."""
        self._ending.set()
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._refused += self._submitted_lines - self._settled_lines

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            lost = self._write(batch)
            self._lost += lost
            self._settled_lines += batch.lines
            self._settled_bytes += len(batch.data)
        self._sink.close()

    def _write(self, batch: Batch) -> int:
        """Write a batch, however long it takes. The number of lines that were lost on the way."""
        rest, lost = memoryview(batch.data), 0
        while rest:
            try:
                taken = self._sink.write(rest)
                self.failure = "" if taken else "nobody reads it"
            except OSError as error:
                self.failure = error.strerror or str(error)
                if self._ending.is_set():
                    return lost + bytes(rest).count(b"\n")
                rest, cut = _from_line_start(batch.data, rest)
                lost += cut
                self._ending.wait(self._retry)
                continue
            if not taken and self._ending.is_set():
                return lost + bytes(rest).count(b"\n")
            rest = rest[taken:]
        return lost


def _from_line_start(data: bytes, rest: memoryview) -> tuple[memoryview, int]:
    """After an error in the middle of a line, go on with the next one: (rest, lines given up)."""
    done = len(data) - len(rest)
    if done == 0 or data[done - 1] == 0x0A:
        return rest, 0
    newline = data.find(b"\n", done)
    return (rest[newline + 1 - done :], 1) if newline >= 0 else (rest[len(rest) :], 1)
