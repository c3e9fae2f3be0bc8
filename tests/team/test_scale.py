"""A gateway in front of 10,000 services with 100,000 endpoints, over TLS: start-up, memory, first byte. Figures."""

import functools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from portway.testing.demo import descendants
from portway.testing.recording import Backend, backend
from portway.testing.scripted import OVER
from portway.testing.teamdoor import ask, gateway, served, write_kubeconfig
from portway.testing.tls import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SERVICES, PER = 10_000, 10
CHOSEN = 7_777
"""The service that is asked for."""
# What the door doesn't need, and most of what a real API server sends of a pod.
MANAGED = json.dumps(
    [
        {
            "manager": "kubelet",
            "operation": "Update",
            "fieldsV1": {f"f:field-{n}": {"f:x": {}, "f:y": {}} for n in range(30)},
        }
    ]
)
POD = (
    '{"metadata":{"name":"web-@s-@i","namespace":"team-@t","uid":"u-@i","resourceVersion":"@i","labels":{"app":"web-@s"},'
    f'"managedFields":{MANAGED}}},"spec":{{"nodeName":"n@t","serviceAccountName":"default","containers":[{{"name":"c",'
    '"image":"registry.example/web:1","ports":[{"name":"http","containerPort":@port}]}]},"status":{"phase":"Running",'
    '"podIP":"@ip","podIPs":[{"ip":"@ip"}],"conditions":[{"type":"Ready","status":"True"}]}}'
)


def ip(number: int) -> str:
    return f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def pod(number: int, port: int) -> str:
    service = number // PER
    values = (("@ip", ip(number)), ("@port", port), ("@s", service), ("@i", number), ("@t", service % 100))
    return functools.reduce(lambda text, pair: text.replace(pair[0], str(pair[1])), values, POD)


def service(number: int, _port: int) -> str:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    metadata = {
        "name": f"web-{number}",
        "namespace": f"team-{number % 100}",
        "uid": f"s-{number}",
        "resourceVersion": "1",
    }
    return json.dumps({"metadata": metadata, "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports}})


def piece(number: int, port: int) -> str:
    namespace = f"team-{number % 100}"
    endpoints = [
        {
            "addresses": [ip(i)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"n{number % 100}",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"web-{number}-{i}", "uid": f"u-{i}"},
        }
        for i in range(number * PER, number * PER + PER)
    ]
    labels = {"kubernetes.io/service-name": f"web-{number}"}
    metadata = {"name": f"web-{number}-x", "namespace": namespace, "uid": f"e-{number}", "resourceVersion": "1"}
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    content = {
        "metadata": {**metadata, "labels": labels},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }
    return json.dumps(content)


class Large:
    """An API that has all of it ready as bytes, in pages, so that what is measured is the door."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        kinds = {
            "/api/v1/pods": (pod, SERVICES * PER),
            "/api/v1/services": (service, SERVICES),
            "/apis/discovery.k8s.io/v1/endpointslices": (piece, SERVICES),
        }
        self.items = {path: [make(i, port) for i in range(count)] for path, (make, count) in kinds.items()}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.asked.append(request.path_qs)
        if request.method == "POST":
            review = await request.json()
            user = {"username": "ann", "groups": ["devs"]}
            status = {"authenticated": True, "user": user} if review["kind"] == "TokenReview" else {"allowed": True}
            return web.json_response({**review, "status": status}, status=201)
        if "watch" in request.query:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await request.app[OVER].wait()
            return response
        items = self.items.get(path, [])
        limit = int(request.query.get("limit") or len(items) or 1)
        start = int(request.query.get("continue") or 0)
        after = str(start + limit) if start + limit < len(items) else ""
        metadata = json.dumps({"resourceVersion": "999999", "continue": after})
        body = f'{{"kind":"List","metadata":{metadata},"items":[{",".join(items[start : start + limit])}]}}'
        return web.Response(text=body, content_type="application/json")


def resident(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def cpu(pid: int) -> float:
    """Seconds of CPU time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.fixture
def web_backend() -> Iterator[Backend]:
    first = CHOSEN * PER
    with backend(tuple(ip(i) for i in range(first, first + PER))) as found:
        yield found


def test_ten_thousand_services(web_backend: Backend, tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.crt").write_text(authority.pem)
    api = Large(web_backend.port)
    size = sum(len(item) for items in api.items.values() for item in items) / (1 << 20)
    with served(api, authority.server()) as url:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", url, "door", tmp_path / "ca.crt")
        began = time.monotonic()
        with gateway(tmp_path / "door", kubeconfig, "--via=direct") as door:
            ready = time.monotonic() - began
            (worker,) = descendants(door.process.pid)
            used, memory = cpu(worker), resident(worker)
            target = f"/api/v1/namespaces/team-{CHOSEN % 100}/services/web-{CHOSEN}/proxy/x"
            times = []
            for _ in range(20):
                started = time.monotonic()
                fields, body = ask(door, "GET", target, "token")
                times.append((time.monotonic() - started) * 1000)
                assert (fields[":status"], json.loads(body)["target"]) == ("200", "/x")
            print(
                f"\n{SERVICES} services, {SERVICES * PER} endpoints and pods ({size:.0f} MiB of JSON) over TLS: ready "
                f"after {ready:.1f} s (worker's CPU {used:.1f} s), RSS {memory:.0f} MiB; first byte of the first "
                f"request {times[0]:.0f} ms, then {sorted(times[1:])[len(times) // 2]:.1f} ms with a new TLS connection"
            )
            pages = sum("limit=" in asked for asked in api.asked)
            print(f"  {pages} pages; one worker; the API is in the test's process, on the same cores")
            assert ready < 60
            assert memory < 400
            assert times[0] < 2000
