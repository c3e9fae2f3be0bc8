"""Counters, gauges and a duration histogram of one worker, and their OpenMetrics text over all workers.

Requests are counted from the batches that the recorder flushes, so the hot path pays nothing for them. Labels come
from small fixed sets, never from what a client may choose. How workers share figures is `snapshots`'s.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from portway.gateway.record.fields import Record

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the duration histogram in seconds; one more bucket is without bound."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Family(NamedTuple):
    """A metric: OpenMetrics type (counter, gauge, histogram), its labels, and what it says."""

    type: str
    labels: tuple[str, ...]
    help: str
    unit: str = ""


FAMILIES: Mapping[str, Family] = {
    "portway_requests": Family("counter", ("code", "method", "resource"), "Requests answered."),
    "portway_request_duration_seconds": Family(
        "histogram", ("resource",), "From a request's headers to the end of its response; upgrades excluded.", "seconds"
    ),
    "portway_request_body_bytes": Family("counter", ("resource",), "Bytes of request bodies received.", "bytes"),
    "portway_response_body_bytes": Family("counter", ("resource",), "Bytes of response bodies sent.", "bytes"),
    "portway_upstream_errors": Family("counter", ("reason",), "Failures on the way to a backend."),
    "portway_connections": Family("gauge", (), "Open client connections."),
    "portway_upgraded_connections": Family("gauge", (), "Open upgraded connections (WebSocket and others)."),
    "portway_record_dropped": Family("counter", ("log",), "Log lines that were lost because their file took nothing."),
    "portway_worker_restarts": Family("counter", (), "Workers that took over from a dead one."),
}

Series = tuple[str, ...]
"""A family's name and then the values of its labels."""


class Histogram:
    """Counts by bucket, not cumulated, and the sum of what was observed."""

    __slots__ = ("counts", "sum")

    def __init__(self, counts: Iterable[int] = (0,) * (len(BUCKETS) + 1), total: float = 0.0) -> None:
        self.counts = list(counts)
        self.sum = total

    def observe(self, values: Sequence[float]) -> None:
        counts = self.counts
        for value in values:
            counts[bisect_left(BUCKETS, value)] += 1
        self.sum += sum(values)

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Metrics:
    """One worker's figures. `inc` for events, `gauge` for a figure that is asked for when somebody looks."""

    def __init__(self) -> None:
        self.counters: Counter[Series] = Counter()
        self.histograms: dict[Series, Histogram] = {}
        self._upgraded = 0
        self._gauges: dict[str, Callable[[], float]] = {"portway_upgraded_connections": lambda: self._upgraded}

    def inc(self, name: str, *labels: str, value: int = 1) -> None:
        """Count. `name` is a counter's in FAMILIES, `labels` in its order (else KeyError or ValueError)."""
        if len(labels) != len(FAMILIES[name].labels):
            raise ValueError(f"{name} has the labels {FAMILIES[name].labels}")
        self.counters[name, *labels] += value

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Say how a gauge of FAMILIES is read."""
        if FAMILIES[name].type != "gauge":
            raise ValueError(f"{name} is not a gauge")
        self._gauges[name] = read

    def upstream_error(self, reason: str = "connect") -> None:
        """A backend that could not be reached, or failed before it answered."""
        self.counters["portway_upstream_errors", reason] += 1

    def api_error(self) -> None:
        """The API server did not answer."""
        self.counters["portway_upstream_errors", "api"] += 1

    def upgrades(self, change: int) -> None:
        """An upgraded connection began (1) or ended (-1)."""
        self._upgraded += change

    def gauges(self) -> dict[str, float]:
        return {name: read() for name, read in self._gauges.items()}

    def observe(self, batch: Iterable[Record]) -> None:
        """Count finished requests."""
        seen: Counter[tuple[int, str, str]] = Counter()
        totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        durations: defaultdict[str, list[float]] = defaultdict(list)
        for who, _started, duration, _audit_id, stage, _uri, status, received, sent, _upstream, _message in batch:
            if stage == "ResponseStarted":
                continue
            label = who.label
            seen[status, who.method, label] += 1
            total = totals[label]
            total[0] += received
            total[1] += sent
            if status != 101:
                durations[label].append(duration)
        for label, (received, sent) in totals.items():
            for name, amount in (("portway_request_body_bytes", received), ("portway_response_body_bytes", sent)):
                if amount:
                    self.counters[name, label] += amount
        for label, values in durations.items():
            self._histogram(label).observe(values)
        for (status, method, resource), count in seen.items():
            series = ("portway_requests", str(status), method if method in METHODS else "other", resource)
            self.counters[series] += count

    def _histogram(self, resource: str) -> Histogram:
        series = ("portway_request_duration_seconds", resource)
        histogram = self.histograms.get(series)
        if histogram is None:
            histogram = self.histograms[series] = Histogram()
        return histogram


def render(
    counters: Mapping[Series, int], histograms: Mapping[Series, Histogram], gauges: Mapping[str, float]
) -> bytes:
    """OpenMetrics 1.0 text: families in the order of FAMILIES, even those without a series; series sorted."""
    lines = []
    for name, family in FAMILIES.items():
        lines.append(f"# TYPE {name} {family.type}")
        if family.unit:
            lines.append(f"# UNIT {name} {family.unit}")
        lines.append(f"# HELP {name} {family.help}")
        if family.type == "gauge":
            lines.append(f"{name} {float(gauges.get(name, 0))!r}")
        elif family.type == "histogram":
            for series in sorted(key for key in histograms if key[0] == name):
                lines.extend(_histogram_lines(name, _labels(family, series), histograms[series]))
        else:
            for series in sorted(key for key in counters if key[0] == name):
                labels = _labels(family, series)
                lines.append(f"{name}_total{'{' + labels + '}' if labels else ''} {counters[series]}")
    return ("\n".join(lines) + "\n# EOF\n").encode()


def _histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterable[str]:
    cumulated = 0
    bounds = (*map(str, BUCKETS), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        cumulated += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {cumulated}'
    yield f"{name}_count{{{labels}}} {cumulated}"
    yield f"{name}_sum{{{labels}}} {histogram.sum!r}"


def _labels(family: Family, series: Series) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(family.labels, series[1:], strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
