"""A run: the doors are started once, measured in turns (A B C, A B C), and everything is ended."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import apirows, changes, cluster, forwarding, portway, proxies, websockets, wire
from bench.figures import DIRECT, PORTWAY, Check, DoorFigures, Figures, compare, ratio
from bench.load import download, paced, saturate
from bench.peers import PEERS, Door
from bench.portway import Portway
from bench.process import BenchError, memory
from bench.stage import FILE_SIZE, Stage, make_stage

_DOOR = ("throughput", "body", "latency", "memory", "websockets", "proxies", "forward", "wire", "scale")
MEASURES = (*_DOOR, *apirows.MEASURES)
GROUPS = {"door": _DOOR, "api": tuple(apirows.MEASURES)}
"""Names for several measures."""


@dataclass(frozen=True)
class Options:
    """What to measure, and for how long: `rounds` of `seconds` each."""

    measures: tuple[str, ...] = MEASURES
    rounds: int = 9
    seconds: float = 2.0
    websockets: int = 10_000
    services: int = 10_000
    changes: int = 200
    api: apirows.Sizes = field(default_factory=apirows.Sizes)


QUICK = Options(rounds=1, seconds=2.0, websockets=1_000, services=500, changes=30, api=apirows.QUICK)


def run(options: Options) -> Figures:
    """All of it, in a few minutes (a few tens of them when not quick)."""
    websockets.raise_file_limit()
    figures = Figures(load=os.getloadavg()[0])
    stage = make_stage()
    try:
        _measure(stage, options, figures)
    finally:
        stage.close()
    figures.checks[:0] = compare(figures)
    return figures


def _measure(stage: Stage, options: Options, figures: Figures) -> None:
    holder = websockets.start_holder(stage)
    with _noted(figures, PORTWAY):
        small = portway.start(stage, PORTWAY, {"web": stage.port, "sockets": holder})
        if "memory" in options.measures:
            _rest(small, figures)
        if _BY_DOOR.keys() & set(options.measures):
            _in_turns(_doors(stage, small, figures), options, figures)
        if "websockets" in options.measures:
            _websockets(small, options, figures)
        if "proxies" in options.measures:
            _tell("portway proxy beside kubectl proxy")
            with _noted(figures, "portway proxy"):
                figures.checks += proxies.measure(stage, small, options.rounds, options.seconds)
        if "forward" in options.measures:
            _tell("portway forward beside kubectl port-forward")
            with _noted(figures, forwarding.OURS):
                figures.checks += forwarding.checks()
        if "wire" in options.measures:
            _tell("a node port beside HAProxy in TCP mode")
            with _noted(figures, "node port"):
                figures.checks += wire.measure(stage, small, options.rounds, options.seconds)
        for name in (name for name in apirows.MEASURES if name in options.measures):
            _tell(name)
            with _noted(figures, name):
                figures.checks += apirows.MEASURES[name](stage, small, options.api)
        if "scale" in options.measures:
            _scale(stage, small, options, figures)


@contextmanager
def _noted(figures: Figures, name: str) -> Iterator[None]:
    """What can't be measured is noted beside its name, and the run goes on."""
    try:
        yield
    except BenchError as error:
        _tell(f"{name}: {error}")
        figures.doors.setdefault(name, DoorFigures()).note = str(error)


def _doors(stage: Stage, small: Portway, figures: Figures) -> list[Door]:
    """Every door that can be had, in the order of the table."""
    doors = [Door(DIRECT, stage.tls, stage.port, address=stage.address), small.web]
    starts: list[tuple[str, Callable[[], Door]]] = [
        *((peer.name, lambda peer=peer: peer.start(stage)) for peer in PEERS),
        ("kubectl proxy → Portway", lambda: portway.kubectl_proxy(stage, small)),
    ]
    for door in doors:
        figures.doors.setdefault(door.name, DoorFigures())
    for name, start in starts:
        figures.doors.setdefault(name, DoorFigures())
        with _noted(figures, name):
            doors.append(start())
    return doors


def _in_turns(doors: list[Door], options: Options, figures: Figures) -> None:
    for door in doors:
        with _noted(figures, door.name):
            saturate(door, 1, tls=bool(door.tls_port))  # warm
    for turn in range(options.rounds):
        for measure in (m for m in _BY_DOOR if m in options.measures):
            _tell(f"round {turn + 1} of {options.rounds}: {measure}")
            for door in doors:
                with _noted(figures, door.name):
                    _BY_DOOR[measure](door, options, figures.doors[door.name])


def _throughput(door: Door, options: Options, found: DoorFigures) -> None:
    found.saturation.append(saturate(door, options.seconds, tls=bool(door.tls_port)))


def _latency(door: Door, options: Options, found: DoorFigures) -> None:
    if door.tls_port:
        found.tls_paced.append(paced(door, options.seconds, tls=True))
    found.plain_paced.append(paced(door, options.seconds, tls=False))


def _body(door: Door, _options: Options, found: DoorFigures) -> None:
    if door.tls_port:
        found.tls_body.append(download(door, FILE_SIZE, tls=True))
    found.plain_body.append(download(door, FILE_SIZE, tls=False))


_BY_DOOR: Mapping[str, Callable[[Door, Options, DoorFigures], None]] = {
    "throughput": _throughput,
    "latency": _latency,
    "body": _body,
}
"""Measured door after door, so that no two that are compared are far apart in time."""


def _rest(small: Portway, figures: Figures) -> None:
    time.sleep(3)
    each = [memory([pid]).rss for pid in small.workers()]
    figures.checks.append(Check("RSS at rest, a worker", "< 60 MiB", f"{max(each):.0f} MiB", max(each) < 60))


def _websockets(small: Portway, options: Options, figures: Figures) -> None:
    for tls, limit in ((False, 250), (True, 600)):
        what = f"{options.websockets:,} idle WebSockets over {'TLS' if tls else 'plain HTTP'}, all workers together"
        _tell(what)
        try:
            before, during = websockets.measure(small, "sockets", options.websockets, tls=tls)
        except BenchError as error:
            figures.checks.append(Check(what, f"< {limit} MiB", str(error), False))
            continue
        each = (during.pss - before.pss) * 1024 / options.websockets
        found = f"{during.rss:.0f} MiB RSS, {during.pss:.0f} MiB PSS ({each:.1f} KiB each)"
        figures.checks.append(Check(what, f"< {limit} MiB", found, during.rss < limit))


def _scale(stage: Stage, small: Portway, options: Options, figures: Figures) -> None:
    """A second cluster beside the small one, filled; the two in turns."""
    endpoints = options.services * cluster.ENDPOINTS_PER_SERVICE
    size = f"with {options.services:,} services and {endpoints:,} endpoints"
    _tell(f"a cluster {size}: creating it")
    large = portway.start(stage, "Portway, large", {"web": stage.port, "move": stage.port})
    started = time.monotonic()
    large.apply(cluster.fillers(range(portway.SERVICES, options.services)), ordered=False)
    _tell(f"created in {time.monotonic() - started:.0f} s")
    time.sleep(3)
    each = max(memory([pid]).rss for pid in large.workers())
    rates: dict[str, list[float]] = {"small": [], "large": []}
    for turn in range(max(3, options.rounds)):
        _tell(f"round {turn + 1}: small and large cluster")
        rates["small"].append(saturate(small.web, options.seconds).rate)
        rates["large"].append(saturate(large.web, options.seconds).rate)
    share = ratio(rates["large"], rates["small"]) or 0.0
    figures.checks.append(Check(f"req/s {size}, of that with 10", "≥ 0.97", f"{share:.2f}", share >= 0.97))
    figures.checks.append(Check(f"RSS {size}, a worker", "", f"{each:.0f} MiB", None))
    _tell("start to first byte")
    with _noted(figures, "start to first byte"):
        took = proxies.first_byte(stage, large, max(3, options.rounds))
        said = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items())
        figures.checks.append(Check(f"start to first byte {size}", "", said, None))
    _tell(f"{options.changes} endpoint changes")
    times = changes.measure(large, "move", ((stage.address, stage.port), (stage.address, stage.other)), options.changes)
    p50, p99 = (times[len(times) * which // 100] * 1e3 for which in (50, 99))
    what = f"endpoint change routed by every worker, {size}, p99 of {len(times)}"
    figures.checks.append(Check(what, "< 50 ms", f"{p99:.1f} ms (p50 {p50:.1f})", p99 < 50))


def _tell(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
