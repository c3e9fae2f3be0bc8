"""The recorder of one worker: `add` a tuple per request, `flush` from a timer, `close` at the end.

`flush` counts, formats and hands the bytes to writer threads. It costs the loop a few microseconds a record, so short
intervals (10 to 100 ms) spread it; bytes reach a file every 100 ms, or earlier when there are many.
"""

import os
import select
from collections.abc import Callable
from time import monotonic

from portway.gateway.record import access
from portway.gateway.record.audit import AuditFormatter
from portway.gateway.record.fields import Record as RequestRecord
from portway.gateway.record.metrics import Metrics
from portway.gateway.record.policy import load_policy
from portway.gateway.record.sinks import FileSink, Sink, StreamSink
from portway.gateway.record.snapshots import Snapshots, SnapshotSink
from portway.gateway.record.writer import LineWriter
from portway.gateway.settings import Record

PENDING = 16384
"""Records that wait for a flush; of more, the oldest are dropped (and counted)."""

INTERVAL = 0.1
"""Seconds that formatted lines may wait before they go to the writer."""

CHUNK = 1000
"""Formatted lines that don't wait."""


class Log:
    """One log: lines gathered, and the thread that writes them."""

    def __init__(self, name: str, path: str, settings: Record) -> None:
        sink: Sink = StreamSink()
        if path != "-":
            sink = FileSink(path, settings.audit_log_maxsize << 20, settings.audit_log_maxbackup)
        self.name = name
        self.path = "standard output" if path == "-" else path
        self.writer = LineWriter(sink, name)
        self.overrun = 0
        self.told = self.counted = 0
        self._lines: list[str] = []

    @property
    def dropped(self) -> int:
        return self.writer.dropped + self.overrun

    def add(self, lines: list[str]) -> None:
        self._lines += lines

    def pass_on(self, due: bool) -> None:
        """Give the lines to the writer, when it is time or there are many."""
        if self._lines and (due or len(self._lines) >= CHUNK):
            # In pieces, so that when little room is left a part still fits.
            for first in range(0, len(self._lines), CHUNK):
                piece = self._lines[first : first + CHUNK]
                self.writer.submit("".join(piece).encode(), len(piece))
            self._lines = []

    def close(self) -> None:
        self.pass_on(due=True)
        self.writer.close()


class Recorder:
    """Audit log, access log and metrics of one worker. Not thread-safe: it lives on the worker's loop.

    add       takes one Record; it is a list's append
    metrics   further counters and gauges
    """

    def __init__(
        self,
        settings: Record,
        worker: int,
        report: Callable[[str], None] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """ConfigurationError for a bad policy file or format. `report` takes a line for the operator."""
        policy = load_policy(settings.audit_policy_file) if settings.audit_policy_file else None
        self._access_lines = access.formatter(settings.access_log)
        self._audit_lines = AuditFormatter(policy).lines
        self._audit = Log("audit log", settings.audit_log_path, settings) if settings.audit_log_path else None
        self._access = None
        if self._access_lines is not None and settings.access_log_path:
            self._access = Log("access log", settings.access_log_path, settings)
        self._report = report or _to_stderr
        self._clock = clock
        self._worker = worker
        self._records: list[RequestRecord] = []
        self.add = self._records.append
        self.metrics = Metrics()
        self._snapshots = Snapshots(settings.run_dir, worker, self.metrics)
        path = self._snapshots.path
        self._saver = None if path is None else LineWriter(SnapshotSink(path), "metrics", limit=1 << 20)
        self._next_pass = self._next_second = 0.0

    def flush(self) -> None:
        """Count and format what was added since; once per second leave a snapshot and report what was lost."""
        if self._records:
            self._take_batch()
        now = self._clock()
        due = now >= self._next_pass
        if due:
            self._next_pass = now + INTERVAL
        for log in self._logs():
            log.pass_on(due)
        if now >= self._next_second:
            self._next_second = now + 1.0
            self._each_second()

    def render(self) -> bytes:
        """OpenMetrics text over all workers (metrics.CONTENT_TYPE)."""
        self._take_batch()
        self._count_drops()
        return self._snapshots.render()

    def close(self) -> None:
        """Write what is left, waiting for at most two seconds a file, and report what could not be written."""
        self._take_batch()
        for log in self._logs():
            log.close()
        self._each_second()
        if self._saver is not None:
            self._saver.close()

    def _logs(self) -> list[Log]:
        return [log for log in (self._audit, self._access) if log is not None]

    def _take_batch(self) -> None:
        batch = self._records.copy()
        self._records.clear()
        self.metrics.observe(batch)
        if len(batch) > PENDING:
            for log in self._logs():
                log.overrun += len(batch) - PENDING
            batch = batch[-PENDING:]
        if self._audit is not None:
            self._audit.add(self._audit_lines(batch))
        if self._access is not None and self._access_lines is not None:
            self._access.add(self._access_lines(batch))

    def _each_second(self) -> None:
        for log in self._logs():
            lost = log.dropped - log.told
            if lost:
                log.told += lost
                why = f" ({log.writer.failure})" if log.writer.failure else ""
                lines = "1 line" if lost == 1 else f"{lost} lines"
                self._report(f"portway: worker {self._worker}: {log.name} {log.path}: {lines} lost{why}")
        self._count_drops()
        if self._saver is not None and not self._saver.waiting:
            self._saver.submit(self._snapshots.encoded(), 1)

    def _count_drops(self) -> None:
        for log in self._logs():
            lost = log.dropped - log.counted
            if lost:
                log.counted += lost
                self.metrics.inc("portway_record_dropped", log.name.split()[0], value=lost)


def _to_stderr(line: str) -> None:
    """Say it if there is room: the loop doesn't wait for whoever reads standard error."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if poll.poll(0):
        try:
            os.write(2, line.encode() + b"\n")
        except OSError:
            return
