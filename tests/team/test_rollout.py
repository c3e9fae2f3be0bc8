"""A service's pods are replaced as a Deployment does it, under 500 requests a second: not one is lost. With figures."""

import asyncio
import contextlib
import itertools
import json
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster, accepts, free_port, started, wait_until
from portway.testing.demo import admin_token
from portway.testing.teamdoor import FORWARDS, account, ask, bind, door_account, gateway, make, token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
RATE, CONNECTIONS = 500, 25
PODS = "/api/v1/namespaces/default/pods"
_ADDRESSES = (f"127.93.0.{i}" for i in itertools.count(1))


@dataclass
class Load:
    """Requests at a fixed rate, whatever becomes of them: each is due at its time, and its latency counts from then."""

    door: Cluster
    target: str
    bearer: str
    answers: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    over: bool = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._client(number), name=f"client {number}")

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pause, due = CONNECTIONS / RATE, loop.time() + number / RATE
        reader, writer = await self._connected()
        while not self.over:
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                async with asyncio.timeout(20):
                    status = await self._one(reader, writer)
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
                await _closed(writer)
                reader, writer = await self._connected()
            self.answers[status] += 1
            self.latencies.append(loop.time() - due)
            due += pause
        await _closed(writer)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", int(self.door.server.rpartition(":")[2]), ssl=context)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(
            f"GET {self.target} HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer {self.bearer}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        status = head.split(b" ", 2)[1].decode()
        return status if status == "200" else f"{status} {body.decode()[:200]}"

    @property
    def lost(self) -> int:
        return sum(self.answers.values()) - self.answers["200"]

    def figures(self, name: str, **more: object) -> None:
        ordered = sorted(self.latencies)
        p50, p99 = (ordered[int(len(ordered) * part)] * 1000 for part in (0.5, 0.99))
        rest = "".join(f", {key.replace('_', ' ')} {value}" for key, value in more.items())
        print(
            f"\n{name}: {len(ordered)} requests, {self.lost} lost, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"longest {ordered[-1] * 1000:.0f} ms{rest}"
        )
        for answer, count in self.answers.items():
            if answer != "200":
                print(f"  {count} x {answer}")


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Pod:
    """A process on an address of the pod range, and its Pod, bound to another node: we are its kubelet."""

    def __init__(self, cluster: Cluster, app: str, port: int, number: int) -> None:
        self.cluster, self.name, self.address = cluster, f"{app}-{number}", next(_ADDRESSES)
        self.answered = 0
        self.path = f"{PODS}/{self.name}"
        spec = {
            "nodeName": "elsewhere",
            "containers": [{"name": "c", "image": "c", "ports": [{"containerPort": port}]}],
        }
        # The embedded API server deletes at once what no finalizer holds; a real one leaves that to the kubelet.
        meta = {"name": self.name, "labels": {"app": app}, "finalizers": ["portway.dev/kubelet"]}
        made = {"metadata": meta, "spec": spec}
        assert cluster.request("POST", PODS, admin_token(cluster), made)[0] == 201
        argv = [sys.executable, "-m", "portway.testing.webpod", self.address, str(port)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        wait_until(lambda: accepts(self.address, port), "the pod's program does not start")
        status = {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        kind = {"Content-Type": "application/merge-patch+json"}
        assert (
            cluster.request("PATCH", f"{self.path}/status", admin_token(cluster), {"status": status}, **kind)[0] == 200
        )

    def end(self, number: int = signal.SIGTERM) -> None:
        """What the API server and a kubelet do, at the same moment: nobody waits for the door to have noticed."""
        assert self.cluster.request("DELETE", self.path, admin_token(self.cluster))[0] in (200, 202)
        found = json.loads(self.cluster.request("GET", self.path, admin_token(self.cluster))[1])
        assert found["metadata"]["deletionTimestamp"]
        self.stop(number)
        kind = {"Content-Type": "application/merge-patch+json"}
        gone = {"metadata": {"finalizers": None}}
        assert self.cluster.request("PATCH", self.path, admin_token(self.cluster), gone, **kind)[0] == 200

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=30)
        self.answered += int(printed or 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("rollout"), "--demo", "--insecure-port=0", workers=1) as found:
        yield found


@pytest.fixture
def bearer(cluster: Cluster) -> str:
    made = token(cluster, "load")
    bind(cluster, "load", [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}], account("load"))
    return made


def under_load(load: Load, roll: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        running = asyncio.create_task(load.run(), name="load")
        await roll()
        load.over = True
        await running

    asyncio.run(run())


@pytest.mark.parametrize("how", ["gracefully", "at once"])
def test_a_deployments_rollout_directly(cluster: Cluster, bearer: str, tmp_path: Path, how: str) -> None:
    port, app = free_port(), f"web-{how.split()[-1]}"
    number = signal.SIGTERM if how == "gracefully" else signal.SIGKILL
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": port}]}
    make(cluster, "/api/v1/namespaces/default/services", app, spec=spec)
    target = f"/api/v1/namespaces/default/services/{app}/proxy/x"
    with contextlib.ExitStack() as stack:
        pods: list[Pod] = []
        counter, ended = itertools.count(), []

        def another() -> Pod:
            pod = Pod(cluster, app, port, next(counter))
            stack.callback(pod.stop, signal.SIGKILL)
            return pod

        pods = [another() for _ in range(3)]
        with gateway(tmp_path, door_account(cluster, tmp_path), "--via=direct", workers=2) as door:
            wait_until(lambda: ask(door, "GET", target, bearer)[0][":status"] == "200", "not reachable")

            async def roll() -> None:
                await asyncio.sleep(1)
                for _ in range(2):
                    for old in list(pods):
                        pods.append(await asyncio.to_thread(another))
                        pods.remove(old)
                        await asyncio.to_thread(old.end, number)
                        ended.append(old)

            load = Load(door, target, bearer)
            began = time.monotonic()
            under_load(load, roll)
            rate = len(load.latencies) / (time.monotonic() - began)
            for pod in pods:
                pod.stop()
            asked = sum(pod.answered for pod in (*pods, *ended)) - 1  # one was `wait_until`'s
            more = {"answered_twice": asked - load.answers["200"]} if how == "gracefully" else {}
            load.figures(f"direct, pods end {how}", rate=f"{rate:.0f}/s", pods_replaced=len(ended), **more)
            assert load.lost == 0
            assert rate > RATE / 4, "the machine is too busy for this to say anything"


@pytest.mark.parametrize("via", ["tunnel", "direct", "through"])
def test_the_demos_pods_one_after_the_other(cluster: Cluster, bearer: str, tmp_path: Path, via: str) -> None:
    """Two replicas and no third: each is deleted, ends at SIGTERM at once, and the other serves until it is back."""
    target = "/api/v1/namespaces/default/services/hello/proxy/"
    kubeconfig = door_account(cluster, tmp_path, FORWARDS, name=f"door-{via}")

    def ready(name: str, but: str) -> bool:
        status, body = cluster.request("GET", f"{PODS}/{name}", admin_token(cluster))
        found = json.loads(body)
        conditions = found.get("status", {}).get("conditions") or [] if status == 200 else []
        if status != 200 or found["metadata"]["uid"] == but or found["metadata"].get("deletionTimestamp"):
            return False
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def replace(name: str) -> None:
        uid = json.loads(cluster.request("GET", f"{PODS}/{name}", admin_token(cluster))[1])["metadata"]["uid"]
        assert cluster.request("DELETE", f"{PODS}/{name}", admin_token(cluster))[0] in (200, 202)
        wait_until(lambda: ready(name, uid), f"{name} does not come back")
        wait_until(in_the_slice, "not in the slice again")

    def in_the_slice() -> bool:
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        selected = f"{path}?labelSelector=kubernetes.io/service-name%3Dhello"
        items = json.loads(cluster.request("GET", selected, admin_token(cluster))[1])["items"]
        return sum(bool(e["conditions"]["ready"]) for item in items for e in item["endpoints"]) == 2

    wait_until(lambda: ready("hello-0", "") and ready("hello-1", ""), "the demo is not ready")
    with gateway(tmp_path / "door", kubeconfig, f"--via={via}", workers=2) as door:
        wait_until(lambda: ask(door, "GET", target, bearer)[0][":status"] == "200", "not reachable")

        async def roll() -> None:
            await asyncio.sleep(1)
            for name in ("hello-0", "hello-1", "hello-0", "hello-1"):
                await asyncio.to_thread(replace, name)

        load = Load(door, target, bearer)
        began = time.monotonic()
        under_load(load, roll)
        rate = len(load.latencies) / (time.monotonic() - began)
        load.figures(f"{via}, two replicas restarted twice", rate=f"{rate:.0f}/s")
        if via != "through":  # there it is the API server's own proxy that loses them, or doesn't
            assert load.lost == 0
