"""Metrics: what is counted, how workers add up, what a dead one leaves, and that OpenMetrics parsers read it."""

import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics

from portway.gateway.authentication import Identity
from portway.gateway.record import Metrics
from portway.gateway.record.metrics import BUCKETS, FAMILIES, Histogram, render
from portway.gateway.record.snapshots import FRESH, Snapshots, SnapshotSink
from portway.kube.attributes import Attributes, parse
from portway.kube.identity import User
from portway.testing.records import record

parser: Any = openmetrics  # which has no types
READER = Identity(User("reader"), "token")
PROXY = parse("GET", "/api/v1/namespaces/demo/services/web:http/proxy/a")
Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(text: bytes) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def shown(*workers: Metrics) -> dict[Sample, float]:
    (metrics,) = workers
    return samples(render(metrics.counters, metrics.histograms, metrics.gauges()))


def requests(code: str, method: str, resource: str) -> Sample:
    return "portway_requests_total", (("code", code), ("method", method), ("resource", resource))


def test_every_family_is_there_from_the_start_and_parses() -> None:
    families = {family.name for family in parser.text_string_to_metric_families(render({}, {}, {}).decode())}
    assert families == set(FAMILIES)


def test_requests_are_counted_once_by_code_method_and_resource() -> None:
    metrics = Metrics()
    metrics.observe(
        [
            record(sent=10, received=1),
            record(sent=20),
            record(status=101, stage="ResponseStarted"),
            record(status=101),
            record(status=500, method="DELETE", stage="Panic"),
            record(attributes=parse("GET", "/api/v1/namespaces/demo/services/web")),
            record(attributes=parse("GET", "/api/v1/whatever/a/proxy/x")),
            record(attributes=parse("GET", "/healthz")),
            record(method="PROPFIND"),
        ]
    )
    found = shown(metrics)
    assert found[requests("200", "GET", "services")] == 2
    assert found[requests("101", "GET", "services")] == 1
    assert found[requests("500", "DELETE", "services")] == 1
    assert found[requests("200", "GET", "api")] == 2
    assert found[requests("200", "GET", "other")] == 1
    assert found[requests("200", "other", "services")] == 1
    services = (("resource", "services"),)
    assert found["portway_response_body_bytes_total", services] == 30
    assert found["portway_request_body_bytes_total", services] == 1
    assert found["portway_request_duration_seconds_count", services] == 4


def test_the_histogram_is_cumulative_and_exact_at_its_bounds() -> None:
    metrics = Metrics()
    metrics.observe([record(duration=d) for d in (0.0005, 0.0006, 0.05, 60.0, 3600.0)])
    found = shown(metrics)

    def bucket(bound: str) -> float:
        return found["portway_request_duration_seconds_bucket", (("le", bound), ("resource", "services"))]

    assert [bucket(b) for b in ("0.0005", "0.001", "0.025", "0.05", "60.0", "+Inf")] == [1, 2, 2, 3, 4, 5]
    assert found["portway_request_duration_seconds_sum", (("resource", "services"),)] == pytest.approx(3660.0511)


def test_hooks_of_the_relay() -> None:
    metrics = Metrics()
    metrics.upstream_error()
    metrics.upstream_error("timeout")
    metrics.api_error()
    metrics.upgrades(1)
    metrics.upgrades(1)
    metrics.upgrades(-1)
    metrics.gauge("portway_connections", lambda: 12345678)
    found = shown(metrics)
    for reason in ("connect", "timeout", "api"):
        assert found["portway_upstream_errors_total", (("reason", reason),)] == 1
    assert found["portway_upgraded_connections", ()] == 1
    assert found["portway_connections", ()] == 12345678


def test_a_wrong_name_or_label_is_an_error_at_once() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.inc("portway_unknown")
    with pytest.raises(ValueError, match="has the labels"):
        metrics.inc("portway_upstream_errors")
    with pytest.raises(ValueError, match="not a gauge"):
        metrics.gauge("portway_requests", lambda: 0)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**60)),
    st.lists(st.floats(0, 1e6)),
)
def test_what_is_rendered_is_what_parses(errors: dict[str, int], durations: list[float]) -> None:
    metrics = Metrics()
    for reason, count in errors.items():
        metrics.inc("portway_upstream_errors", reason, value=count)
    metrics.observe([record(duration=duration) for duration in durations])
    found = shown(metrics)
    for reason, count in errors.items():
        assert found["portway_upstream_errors_total", (("reason", reason),)] == count
    if durations:
        assert found["portway_request_duration_seconds_count", (("resource", "services"),)] == len(durations)


class Worker:
    """A worker's metrics and its place in the run directory."""

    def __init__(self, directory: Path, number: int, run: str = "") -> None:
        self.metrics = Metrics()
        self.snapshots = Snapshots(str(directory), number, self.metrics, run)

    def save(self) -> None:
        path = self.snapshots.path
        assert path is not None
        SnapshotSink(path).write(memoryview(self.snapshots.encoded()))

    def shown(self) -> dict[Sample, float]:
        return samples(self.snapshots.render())


def test_any_worker_answers_for_all(tmp_path: Path) -> None:
    workers = [Worker(tmp_path, number) for number in range(3)]
    for number, worker in enumerate(workers):
        worker.metrics.observe([record(duration=0.003, sent=1)] * (number + 1))
        worker.metrics.gauge("portway_connections", [1, 2, 3].__len__)
        worker.save()
    workers[0].metrics.observe([record()])
    for worker, expected in zip(workers, (7, 6, 6), strict=True):
        assert worker.shown()[requests("200", "GET", "services")] == expected
        assert worker.shown()["portway_connections", ()] == 9
    assert workers[0].shown()["portway_request_duration_seconds_count", (("resource", "services"),)] == 7


def test_a_dead_workers_counters_stay_and_its_gauges_go(tmp_path: Path) -> None:
    dead, other = Worker(tmp_path, 0), Worker(tmp_path, 1)
    dead.metrics.observe([record()] * 5)
    dead.metrics.gauge("portway_connections", lambda: 7)
    dead.save()
    path = tmp_path / "metrics-0.json"
    old = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**old, "moment": time.time() - FRESH - 1}))
    assert other.shown()[requests("200", "GET", "services")] == 5
    assert other.shown()["portway_connections", ()] == 0
    successor = Worker(tmp_path, 0)
    successor.metrics.observe([record()])
    successor.save()
    found = other.shown()
    assert found[requests("200", "GET", "services")] == 6
    assert found["portway_request_duration_seconds_count", (("resource", "services"),)] == 6
    assert found["portway_worker_restarts_total", ()] == 1
    assert found == successor.shown()


def test_another_run_counts_for_itself(tmp_path: Path) -> None:
    for number in range(2):
        before = Worker(tmp_path, number, run="before")
        before.metrics.observe([record()])
        before.save()
    found = Worker(tmp_path, 0, run="now").shown()
    assert requests("200", "GET", "services") not in found
    assert ("portway_worker_restarts_total", ()) not in found


def test_a_worker_alone_needs_no_directory() -> None:
    metrics = Metrics()
    snapshots = Snapshots("", 0, metrics)
    metrics.observe([record()])
    assert snapshots.path is None
    assert samples(snapshots.render())[requests("200", "GET", "services")] == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"moment":1,"counters":[[]],"histograms":[],"gauges":{}}']
)
def test_a_file_that_is_no_snapshot_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics-0.json").write_bytes(content)
    (tmp_path / "metrics-9.json").write_bytes(content)
    worker = Worker(tmp_path, 0)
    worker.metrics.observe([record()])
    assert worker.shown()[requests("200", "GET", "services")] == 1


def test_a_snapshot_is_replaced_whole(tmp_path: Path) -> None:
    worker = Worker(tmp_path, 0)
    worker.save()
    worker.save()
    assert os.listdir(tmp_path) == ["metrics-0.json"]


def test_histograms_of_other_bounds_are_not_added() -> None:
    with pytest.raises(ValueError, match="zip"):
        Histogram().add(Histogram([0] * len(BUCKETS)))


def test_no_secret_and_nothing_a_client_chose_is_in_the_text() -> None:
    metrics = Metrics()
    attributes = Attributes("get", resource="chosen", name="chosen", namespace="chosen", subresource="chosen")
    metrics.observe([record(attributes=attributes, method="CHOSEN")])
    text = render(metrics.counters, metrics.histograms, metrics.gauges())
    assert b"secret" not in text
    assert b"chosen" not in text.lower()
