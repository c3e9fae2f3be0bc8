"""Start-up with very many objects: until the API server answers its first list, and until the door does.

The objects are written into the store's file, as copies of a few that the API server has stored; what controllers make
of them (endpoints, slices, addresses) they make in a first run, which isn't measured.
"""

import asyncio
import copy
import ipaddress
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import portway
from bench.apilists import pod
from bench.apiwrites import value
from bench.figures import Check
from bench.portway import Portway
from bench.process import BenchError, memory
from bench.stage import Stage
from bench.ways import Way, api_server, ask_all, cpu_seconds, get, ways

NAMESPACES = 100
_NAME = "Portway, filled"
_FIRST_POD = int(ipaddress.IPv4Address("10.64.0.1"))
_FIRST_SERVICE = int(ipaddress.IPv4Address("10.96.1.0"))
_MADE_WITHIN = 600.0
_AT_ONCE = 256

Object = dict[str, Any]


def measure(stage: Stage, objects: int) -> list[Check]:
    """A tenth of `objects` are services; as many endpoints and slices belong to them, half of all are pods."""
    filled = portway.start(stage, _NAME, {}, "--service-cluster-ip-range=10.96.0.0/12")
    samples = _samples(stage, filled)
    portway.stop(stage, filled)
    asyncio.run(_fill(filled.data(stage) / "cluster.db", samples, objects))
    filled = portway.restart(stage, filled)
    _wait_for_controllers(ways(stage, filled)[0], objects // 10)
    portway.stop(stage, filled)
    started = time.monotonic()
    filled = portway.restart(stage, filled, wait=False)
    socket_way, door_way = ways(stage, filled)
    api = _first_list(socket_way, started)
    door = _first_list(door_way, started)
    _rest(filled)
    held = memory([api_server(filled)]).rss, max(memory([pid]).rss for pid in filled.workers())
    portway.stop(stage, filled)
    what = f"start with {objects:,} objects"
    return [
        Check(f"{what}, to the API server's first list", "< 5 s", f"{api:.1f} s", api < 5),
        Check(f"{what}, to the door's first list", "", f"{door:.1f} s", None),
        Check(
            f"RSS with {objects:,} objects", "", f"control process {held[0]:.0f} MiB, a worker {held[1]:.0f} MiB", None
        ),
    ]


def _samples(stage: Stage, filled: Portway) -> dict[str, Object]:
    """One stored object of each kind, by plural."""
    way = ways(stage, filled)[0]
    path = "/api/v1/namespaces/sample"
    service = {"metadata": {"name": "sample"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    event = {
        "metadata": {"name": "sample", "namespace": "sample"},
        "involvedObject": {"kind": "Pod", "namespace": "sample", "name": "sample"},
        "reason": "Started",
        "message": "Started container web",
    }
    requests = [("/api/v1/namespaces", b'{"metadata":{"name":"sample"}}'), (f"{path}/pods", pod(0))]
    requests += [(f"{path}/services", json.dumps(service).encode()), (f"{path}/configmaps", value(0))]
    requests += [(f"{path}/events", json.dumps(event).encode())]
    asyncio.run(ask_all(way, [way.request("POST", target, body) for target, body in requests], 1))
    found = {"namespaces": get(way, path)}
    for target, _ in requests[1:]:
        plural = target.rpartition("/")[2]
        one = get(way, target)
        found[plural] = {"kind": one["kind"].removesuffix("List"), "apiVersion": one["apiVersion"], **one["items"][0]}
    return found


async def _fill(database: Path, samples: dict[str, Object], objects: int) -> None:
    import orjson  # as the API server writes it

    from portway.storage import SqliteStore

    store = SqliteStore.open(database)
    waiting = _objects(samples, objects)

    async def write() -> None:
        for plural, obj in waiting:
            metadata = obj["metadata"]
            where = f"{metadata['namespace']}/" if "namespace" in metadata else ""
            await store.create(f"/registry/core/{plural}/{where}{metadata['name']}", orjson.dumps(obj))

    await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
    await store.compact(store.current_revision())
    await store.close()


def _objects(samples: dict[str, Object], objects: int) -> Iterator[tuple[str, Object]]:
    services = objects // 10
    makers: dict[str, tuple[int, Callable[[Object, int], None]]] = {
        "namespaces": (NAMESPACES, lambda *_: None),
        "services": (services, _as_service),
        "pods": (objects // 2, lambda obj, number: _as_pod(obj, number, services)),
        "configmaps": (objects // 10, lambda *_: None),
        "events": (objects // 10, lambda *_: None),
    }
    for plural, (count, change) in makers.items():
        for number in range(count):
            obj = copy.deepcopy(samples[plural])
            metadata = obj["metadata"]
            del metadata["resourceVersion"]
            metadata |= {"name": f"filled-{number}", "uid": str(uuid.uuid4())}
            if "namespace" in metadata:
                metadata["namespace"] = f"filled-{number % NAMESPACES}"
            change(obj, number)
            yield plural, obj


def _as_service(obj: Object, number: int) -> None:
    address = str(ipaddress.IPv4Address(_FIRST_SERVICE + number))
    obj["spec"] |= {"clusterIP": address, "clusterIPs": [address], "selector": {"app": f"app-{number}"}}


def _as_pod(obj: Object, number: int, services: int) -> None:
    address = str(ipaddress.IPv4Address(_FIRST_POD + number))
    obj["metadata"]["labels"] = {"app": f"app-{number % services}", "pod-template-hash": "7d4b9c6f5d"}
    ready = [{"type": kind, "status": "True"} for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")]
    obj["status"] |= {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}


def _wait_for_controllers(way: Way, services: int) -> None:
    """Until each service has its endpoints and slices."""
    deadline = time.monotonic() + _MADE_WITHIN
    paths = ("/api/v1/endpoints", "/apis/discovery.k8s.io/v1/endpointslices")
    while any(get(way, f"{path}?limit=1")["metadata"].get("remainingItemCount", 0) < services - 1 for path in paths):
        if time.monotonic() > deadline:
            raise BenchError("the controllers did not make the endpoints in time")
        time.sleep(0.5)


def _first_list(way: Way, started: float) -> float:
    """Seconds until the first page of pods is answered."""
    while time.monotonic() < started + 120:
        try:
            get(way, "/api/v1/pods?limit=500")
        except (BenchError, OSError):
            time.sleep(0.01)
        else:
            return time.monotonic() - started
    raise BenchError("no list was answered within two minutes")


def _rest(filled: Portway) -> None:
    """Until the controllers have looked at everything."""
    pid = api_server(filled)
    used = -1.0
    while cpu_seconds(pid) - used > 0.1:
        used = cpu_seconds(pid)
        time.sleep(2)
