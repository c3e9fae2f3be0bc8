"""Files that fill up, rotate, vanish or are not read: nothing waits, what is lost is counted, and they recover."""

import fcntl
import itertools
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portway.gateway.record.sinks import FileSink, StreamSink
from portway.gateway.record.writer import LineWriter

numbers = itertools.count()
"""Threads are told apart by their names: a writer of an earlier test may still be ending."""


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for another thread's doing."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


@pytest.fixture
def writers() -> Iterator[Callable[..., LineWriter]]:
    made: list[LineWriter] = []

    def make(sink: FileSink | StreamSink, limit: int = 1 << 20) -> LineWriter:
        made.append(LineWriter(sink, f"test log {next(numbers)}", limit, retry=0.01))
        return made[-1]

    yield make
    for writer in made:
        writer.close(timeout=0.5)


def test_lines_arrive_in_order(tmp_path: Path, writers: Callable[..., LineWriter]) -> None:
    path = tmp_path / "log"
    writer = writers(FileSink(str(path)))
    for n in range(100):
        writer.submit(b"%d\n" % n, 1)
    writer.close()
    assert path.read_text() == "".join(f"{n}\n" for n in range(100))
    assert (writer.dropped, writer.waiting, writer.failure) == (0, 0, "")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_blocks_nobody_and_what_does_not_fit_is_counted(writers: Callable[..., LineWriter]) -> None:
    writer = writers(FileSink("/dev/full"), limit=1000)
    for _ in range(50):
        writer.submit(b"x" * 99 + b"\n", 1)  # would never return if it waited for room
    assert writer.dropped == 40
    until(lambda: writer.failure == "No space left on device")
    writer.close()
    assert writer.dropped == 50


def test_a_disk_that_has_room_again_gets_what_waited(tmp_path: Path, writers: Callable[..., LineWriter]) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    writer = writers(FileSink(str(path)))
    writer.submit(b"one\n", 1)
    until(lambda: writer.failure != "")
    path.unlink()
    writer.submit(b"two\n", 1)
    until(lambda: writer.waiting == 0)
    assert path.read_text() == "one\ntwo\n"
    assert (writer.dropped, writer.failure) == (0, "")


def test_a_directory_that_is_made_later_is_found(tmp_path: Path, writers: Callable[..., LineWriter]) -> None:
    writer = writers(FileSink(str(tmp_path / "later" / "log")))
    writer.submit(b"one\n", 1)
    until(lambda: writer.failure == "No such file or directory")
    (tmp_path / "later").mkdir()
    until(lambda: writer.waiting == 0)
    assert (tmp_path / "later" / "log").read_text() == "one\n"


def test_a_pipe_that_nobody_reads_blocks_nobody(writers: Callable[..., LineWriter]) -> None:
    reader, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        writer = writers(StreamSink(writing), limit=20000)
        for n in range(500):
            writer.submit(b"%099d\n" % n, 1)  # would never return if it waited for the reader
        assert 250 < writer.dropped < 500
        until(lambda: writer.failure == "nobody reads it")
        got = b""
        while writer.waiting or select.select([reader], [], [], 0)[0]:
            if select.select([reader], [], [], 0.01)[0]:
                got += os.read(reader, 65536)
        lines = got.splitlines()
        assert [int(line) for line in lines] == list(range(len(lines)))
        assert len(lines) + writer.dropped == 500
    finally:
        os.close(reader)
        os.close(writing)


def test_a_fifo_without_reader_and_then_with_one(tmp_path: Path, writers: Callable[..., LineWriter]) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = writers(FileSink(str(path)))
    writer.submit(b"one\n", 1)
    until(lambda: writer.failure == "No such device or address")
    with path.open("rb", buffering=0) as reader:
        assert reader.readline() == b"one\n"
    writer.submit(b"two\n", 1)
    until(lambda: writer.failure != "")
    with path.open("rb", buffering=0) as reader:
        assert reader.readline() == b"two\n"
    until(lambda: writer.waiting == 0)
    assert writer.dropped == 0


def test_a_reader_that_leaves_in_the_middle_costs_the_line_it_was_at(
    tmp_path: Path, writers: Callable[..., LineWriter]
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = writers(FileSink(str(path)), limit=1 << 22)
    # One line that no pipe holds, then a short one: the next reader must not begin in the middle.
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.submit(b"x" * (1 << 20) + b"\nlast\n", 2)
    select.select([reader], [], [], 10)
    os.close(reader)
    until(lambda: writer.failure == "No such device or address")
    with path.open("rb", buffering=0) as second:
        assert second.readline() == b"last\n"
    until(lambda: writer.waiting == 0)
    assert writer.dropped == 1


def test_a_write_that_fits_in_part_leaves_no_half_line(tmp_path: Path) -> None:
    """A file size limit is the full disk that a test can have; it is the process's, so a process of its own."""
    path = tmp_path / "log"
    script = """
import resource, signal, sys
from portway.gateway.record.sinks import FileSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = FileSink(sys.argv[1])
sink.write(memoryview(b"whole\\n"))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    sink.write(memoryview(b"does not fit\\n"))
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(memoryview(b"again\\n"))
"""
    done = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout == "File too large\n"
    assert path.read_text() == "whole\nagain\n"


def test_rotation_keeps_every_line_and_so_many_files(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "audit.log"), max_bytes=100, backups=2)
    for n in range(20):
        sink.write(memoryview(b"%029d\n" % n))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert all(file.name.startswith("audit") and file.suffix == ".log" for file in files)
    kept = [int(line) for file in files for line in file.read_text().split()]
    assert kept == list(range(12, 20)) or kept == list(range(11, 20))


def test_rotation_does_not_touch_others_files(tmp_path: Path) -> None:
    (tmp_path / "audit-notes.log").write_text("mine")
    (tmp_path / "audit2-2026-01-02T15-04-05.678.log").write_text("other's")
    sink = FileSink(str(tmp_path / "audit.log"), max_bytes=10, backups=1)
    for n in range(5):
        sink.write(memoryview(b"%09d\n" % n))
    assert {"audit-notes.log", "audit2-2026-01-02T15-04-05.678.log", "audit.log"} < {f.name for f in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_cannot_be_rotated_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    sink = FileSink(str(tmp_path / "audit.log"), max_bytes=10)
    for n in range(3):
        sink.write(memoryview(b"%09d\n" % n))
    assert len((tmp_path / "audit.log").read_text().splitlines()) == 3


def test_a_file_that_somebody_renames_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = FileSink(str(path))
    sink.write(memoryview(b"one\n"))
    path.rename(tmp_path / "log.1")
    sink.write(memoryview(b"two\n"))
    assert ((tmp_path / "log.1").read_text(), path.read_text()) == ("one\n", "two\n")


def test_processes_share_and_rotate_one_file_without_losing_or_mixing_lines(tmp_path: Path) -> None:
    script = """
import json, sys
from portway.gateway.record.sinks import FileSink
sink = FileSink(sys.argv[1], max_bytes=20000)
for n in range(200):
    sink.write(memoryview(b"".join(json.dumps([int(sys.argv[2]), n, m, "x" * 50]).encode() + b"\\n" for m in range(5))))
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path / "audit.log", str(worker)]) for worker in range(4)
    ]
    assert [worker.wait(timeout=50) for worker in workers] == [0] * 4
    seen = [json.loads(line)[:3] for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(seen) == [[w, n, m] for w in range(4) for n in range(200) for m in range(5)]
    assert len(list(tmp_path.iterdir())) > 10


def test_closing_waits_no_longer_than_it_may(writers: Callable[..., LineWriter]) -> None:
    reader, writing = os.pipe()
    os.set_blocking(writing, True)
    try:
        writer = writers(StreamSink(writing), limit=1 << 22)
        writer.submit((b"x" * 99 + b"\n") * 10000, 10000)
        until(lambda: writer.failure != "")
        begun = time.monotonic()
        writer.close(timeout=40.0)
        assert time.monotonic() - begun < 20.0
        assert 9000 < writer.dropped < 10000
        assert f"{writer.name} writer" not in {thread.name for thread in threading.enumerate()}
    finally:
        os.close(reader)
        os.close(writing)
