"""How workers see each other's figures: each leaves a snapshot in the run directory every second, and whoever is asked
for metrics adds them up.

A worker that takes a dead one's place takes over its counters: only the dead worker's last second is lost.

One file per worker number, replaced by rename. A file that is no snapshot, or another run's, counts as none.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import NamedTuple

import orjson

from portway.gateway.record.metrics import Histogram, Metrics, Series, render

FRESH = 10.0
"""Seconds after which a snapshot's gauges are taken for a dead worker's."""


class Snapshot(NamedTuple):
    """A worker's figures at one moment (unix time) of one run."""

    run: str
    moment: float
    counters: Counter[Series]
    histograms: dict[Series, Histogram]
    gauges: dict[str, float]


class Snapshots:
    """The run directory, as worker number `worker` uses it. With directory "" the worker is alone."""

    def __init__(self, directory: str, worker: int, metrics: Metrics, run: str = "") -> None:
        """Takes over what an earlier worker of this number has counted; that is a restart, and counted as one.

        `run` tells one life of the whole gateway from the next; by default it is the parent process that does.
        """
        self._run = run or _parent()
        self._directory = Path(directory) if directory else None
        self._worker = worker
        self._metrics = metrics
        self._adopt()

    @property
    def path(self) -> Path | None:
        """Where this worker's snapshot goes."""
        return None if self._directory is None else self._file(self._worker)

    def encoded(self) -> bytes:
        """This worker's snapshot as it goes into the file."""
        metrics = self._metrics
        return orjson.dumps(
            {
                "run": self._run,
                "moment": time(),
                "counters": [[*series, value] for series, value in metrics.counters.items()],
                "histograms": [[*series, h.counts, h.sum] for series, h in metrics.histograms.items()],
                "gauges": metrics.gauges(),
            }
        )

    def render(self) -> bytes:
        """OpenMetrics text over all workers, this one's figures being of now."""
        counters = Counter(self._metrics.counters)
        gauges = Counter(self._metrics.gauges())
        histograms = {series: Histogram(h.counts, h.sum) for series, h in self._metrics.histograms.items()}
        for other in self._others():
            counters.update(other.counters)
            for series, histogram in other.histograms.items():
                histograms.setdefault(series, Histogram()).add(histogram)
            if time() - other.moment < FRESH:
                gauges.update(other.gauges)
        return render(counters, histograms, gauges)

    def _adopt(self) -> None:
        path = self.path
        earlier = None if path is None else self._read(path)
        if earlier is not None:
            self._metrics.counters.update(earlier.counters)
            self._metrics.histograms.update(earlier.histograms)
            self._metrics.inc("portway_worker_restarts")

    def _others(self) -> Iterator[Snapshot]:
        if self._directory is None:
            return
        own = self._file(self._worker)
        for path in sorted(self._directory.glob("metrics-*.json")):
            snapshot = None if path == own else self._read(path)
            if snapshot is not None:
                yield snapshot

    def _read(self, path: Path) -> Snapshot | None:
        snapshot = _decoded(path)
        return snapshot if snapshot is not None and snapshot.run == self._run else None

    def _file(self, worker: int) -> Path:
        if self._directory is None:
            raise ValueError("there is no run directory")
        return self._directory / f"metrics-{worker}.json"


class SnapshotSink:
    """Replaces a file by what it is given: a sink for `writer`, whose thread may wait for a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, data: memoryview) -> int:
        new = self._path.with_suffix(f".{os.getpid()}.new")
        new.write_bytes(data)
        new.replace(self._path)
        return len(data)

    def close(self) -> None:
        """Nothing is held open."""


def _parent() -> str:
    """The parent process: its id, and when it started, since ids are used again."""
    parent = os.getppid()
    try:
        # After the name, which may hold anything, in parentheses: proc(5) counts the start time as field 22.
        fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
        return f"{parent} {fields[19]}"
    except (OSError, IndexError):
        return str(parent)


def _decoded(path: Path) -> Snapshot | None:
    try:
        value = orjson.loads(path.read_bytes())
        return Snapshot(
            str(value["run"]),
            float(value["moment"]),
            Counter({tuple(series): int(count) for *series, count in value["counters"]}),
            {tuple(series): Histogram(counts, total) for *series, counts, total in value["histograms"]},
            {str(name): float(figure) for name, figure in value["gauges"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
