"""What is measured of the API server: lists, watchers, writes, start-up. `run` picks; each makes rows of its own."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench import apilists, apistart, apiwrites, watchers
from bench.figures import Check
from bench.portway import Portway
from bench.stage import Stage
from bench.watchers import Scene
from bench.ways import DOOR, api_server, ask_all, ways


@dataclass(frozen=True)
class Sizes:
    """How much of everything, and for how long: `seconds` of changes; `rounds` of lists and writes."""

    pods: int = 10_000
    watchers: int = 1_000
    changes: int = 500
    writes: int = 5_000
    objects: int = 100_000
    seconds: float = 10.0
    rounds: int = 3


QUICK = Sizes(pods=500, watchers=50, changes=50, writes=300, objects=2_000, seconds=2.0, rounds=1)


def _lists(stage: Stage, small: Portway, sizes: Sizes) -> list[Check]:
    both = ways(stage, small)
    asyncio.run(ask_all(both[0], apilists.creations(both[0], sizes.pods), apiwrites.AT_ONCE))
    return [apilists.measure(way, sizes.pods, max(3, sizes.rounds)) for way in both]


def _watchers(stage: Stage, small: Portway, sizes: Sizes) -> list[Check]:
    checks = []
    together, apart = Scene(sizes.watchers, sizes.changes), Scene(sizes.watchers, sizes.changes, apart=True)
    for way in ways(stage, small):
        for scene in (together, apart):
            found = watchers.measure(way, api_server(small), scene, sizes.seconds)
            of = "each of a namespace of its own" if scene.apart else "all of the same objects"
            target = "" if way.name == DOOR else "p99 < 1 s"
            said = f"p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms; {found.events:,.0f} events/s; "
            said += f"API server {found.cores:.2f} cores, {found.rss:.0f} MiB"
            what = f"{scene.watchers:,} watchers, {of}, {scene.changes} changes/s, {way.name}"
            checks.append(Check(what, target, said, found.p99 < 1000 if target else None))
    return checks


def _writes(stage: Stage, small: Portway, sizes: Sizes) -> list[Check]:
    return apiwrites.measure(stage, small, sizes.rounds, sizes.writes)


def _start(stage: Stage, _: Portway, sizes: Sizes) -> list[Check]:
    return apistart.measure(stage, sizes.objects)


MEASURES: Mapping[str, Callable[[Stage, Portway, Sizes], list[Check]]] = {
    "api-lists": _lists,
    "api-watchers": _watchers,
    "api-writes": _writes,
    "api-start": _start,
}
