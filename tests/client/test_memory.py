"""What a view of a large cluster costs, memory and time for one event: measured in a process of its own."""

import subprocess
import sys

import orjson
import pytest

SERVICES, PODS = 10_000, 50_000
MEGABYTES = 60
MILLISECONDS = 5.0

PROGRAM = """
import gc, random, statistics, sys, time
import orjson
from portway.client.view import ClusterView

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

def ip(i):
    return f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"

def uid(i):
    return f"{i:08x}-1111-2222-3333-444455556666"

def pod_name(i, per):
    return f"web-{i // per}-7f9c9d9b8-{i:05x}"

def meta(name, i, **more):
    return {"namespace": "demo", "name": name, "uid": uid(i), **more}

def pod(i, per):
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
    spec = {"nodeName": f"n{i % 100}", "serviceAccountName": "default", "containers": [container]}
    status = {"phase": "Running", "podIPs": [{"ip": ip(i)}]}
    return {"metadata": meta(pod_name(i, per), i), "spec": spec, "status": status}

def service(i):
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {"metadata": meta(f"web-{i}", i), "spec": {"clusterIP": ip(i), "type": "ClusterIP", "ports": ports}}

def piece(s, per, ready=True):
    endpoints = [
        {"addresses": [ip(i)], "conditions": {"ready": ready}, "nodeName": f"n{i % 100}",
         "targetRef": {"kind": "Pod", "namespace": "demo", "name": pod_name(i, per), "uid": uid(i)}}
        for i in range(s * per, s * per + per)
    ]
    labels = {"kubernetes.io/service-name": f"web-{s}"}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    metadata = meta(f"web-{s}-abcde", s, labels=labels)
    return {"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}

services, pods, per = map(int, sys.argv[1:])
gc.collect()
view, before = ClusterView(), resident()
for plural, objects in (
    ("pods", (pod(i, per) for i in range(pods))),
    ("services", (service(i) for i in range(services))),
    ("endpointslices", (piece(s, per) for s in range(pods // per))),
):
    for obj in objects:
        view.apply(plural, "ADDED", orjson.loads(orjson.dumps(obj)))
assert all(view.endpoints("demo", f"web-{s}") for s in range(pods // per))
gc.collect()
grown = resident() - before

told = []
view.subscribe(lambda _, namespace, name: told.append(view.endpoints(namespace, name)))
took = []
for n in range(300):
    line = orjson.dumps(piece(random.randrange(pods // per), per, ready=False if n % 2 else True))
    started = time.perf_counter()
    view.apply("endpointslices", "MODIFIED", orjson.loads(line))
    took.append(time.perf_counter() - started)
assert told
print(orjson.dumps({"megabytes": grown, "milliseconds": statistics.median(took) * 1000}).decode())
"""


@pytest.mark.slow
@pytest.mark.parametrize("endpoints_a_slice", [5, 100])
def test_a_view_of_a_large_cluster_is_small_and_quick(endpoints_a_slice: int) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(SERVICES), str(PODS), str(endpoints_a_slice)]
    done = subprocess.run(arguments, capture_output=True, check=True, timeout=50)
    measured = orjson.loads(done.stdout)
    assert measured["megabytes"] < MEGABYTES
    assert measured["milliseconds"] < MILLISECONDS
