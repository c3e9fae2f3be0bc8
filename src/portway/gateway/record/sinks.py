"""Where batches of lines go: a file that several processes share and rotate, a pipe, a device, standard output.

All of it blocks or fails as files do; only `writer`'s thread calls it. A sink opens its file when it is first written
to, and again after an error, so that a log directory that comes back is found.
"""

import fcntl
import os
import select
import stat
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Protocol

WAIT = 0.1
"""Seconds that one write waits for a full pipe before it says so."""


class Sink(Protocol):
    """Takes bytes, some or all."""

    def write(self, data: memoryview) -> int:
        """How many leading bytes were taken; 0: not now. OSError when it can't."""
        ...

    def close(self) -> None: ...


class StreamSink:
    """A file descriptor that belongs to somebody else: standard output."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def write(self, data: memoryview) -> int:
        return _write_when_ready(self._descriptor, data)

    def close(self) -> None:
        """The descriptor is not ours to close."""


class FileSink:
    """A log file, appended to under a lock that all writers take; rotated by size when it is a regular file.

    A batch goes in whole or not at all (what a full disk cut short is truncated away), so every line in the file is
    complete. A rotated file is renamed `NAME-2026-01-02T15-04-05.678.EXT`, as kube-apiserver's logger does; the oldest
    over `backups` are removed (0 keeps all). `max_bytes` 0: never rotated. Somebody else may rename it, too.
    """

    def __init__(self, path: str, max_bytes: int = 0, backups: int = 0) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor = -1
        self._regular = False

    def write(self, data: memoryview) -> int:
        try:
            self._open()
            if not self._regular:
                return _write_when_ready(self._descriptor, data)
            self._append(data)
        except OSError:
            self.close()
            raise
        return len(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor >= 0:
            return
        # Non-blocking so that opening a FIFO without a reader fails at once; regular files don't care.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        self._descriptor = os.open(self._path, flags, 0o600)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def _append(self, data: memoryview) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if not self._current():
                # Rotated by another process since we opened it: the lock that counts is the new file's.
                self.close()
                self._open()
                self._append(data)
                return
            size = os.fstat(self._descriptor).st_size
            if self._max_bytes and size and size + len(data) > self._max_bytes and self._rotate():
                self.close()
                self._open()
                self._append(data)
                return
            self._write_whole(data, size)
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _write_whole(self, data: memoryview, size: int) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            if written:
                os.ftruncate(self._descriptor, size)
            raise

    def _current(self) -> bool:
        ours = os.fstat(self._descriptor)
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)

    def _rotate(self) -> bool:
        """Whether it worked. If not (a directory that we may not write to), a file that grows is better than none."""
        try:
            self._path.rename(self._unused_name())
            if self._backups:
                for old in sorted(self._rotated())[: -self._backups]:
                    old.unlink(missing_ok=True)
        except OSError:
            return not self._current()
        return True

    def _unused_name(self) -> Path:
        while True:
            moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
            path = self._path.with_name(f"{self._path.stem}-{moment}{self._path.suffix}")
            if not path.exists():
                return path
            sleep(0.001)

    def _rotated(self) -> list[Path]:
        shape = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]-[0-9][0-9]-[0-9][0-9].[0-9][0-9][0-9]"
        return list(self._path.parent.glob(f"{_literal(self._path.stem)}-{shape}{_literal(self._path.suffix)}"))


def _literal(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _write_when_ready(descriptor: int, data: memoryview) -> int:
    """One write, when there is room within WAIT seconds. Whole lines of up to PIPE_BUF bytes go into a pipe unmixed."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(WAIT * 1000):
        return 0
    try:
        return os.write(descriptor, data[: _piece(data)])
    except BlockingIOError:
        return 0


def _piece(data: memoryview) -> int:
    """Bytes of whole lines within PIPE_BUF; of one longer line, PIPE_BUF."""
    if len(data) <= select.PIPE_BUF:
        return len(data)
    return bytes(data[: select.PIPE_BUF]).rfind(b"\n") + 1 or select.PIPE_BUF
