"""The embedded cluster as processes: what dies comes back, what is under way ends well, what is new is found at
once.
"""

import http.client
import http.server
import itertools
import json
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.storage import MediumFailed
from portway.testing.cluster import Cluster, self_signed, started, wait_until
from portway.up.control import HopelessError, _open_store

TOKEN = "admin-token"
_ADDRESSES = (f"127.91.0.{i}" for i in itertools.count(1))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with its address; /slow waits for the test."""

    protocol_version = "HTTP/1.1"
    asked = threading.Event()
    release = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            Handler.asked.set()
            Handler.release.wait(20)
        body = str(self.connection.getsockname()[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


class Pod:
    """A web server on an address of the pod range."""

    def __init__(self) -> None:
        self.server = http.server.ThreadingHTTPServer((next(_ADDRESSES), 0), Handler)
        self.server.daemon_threads = True
        self.address, self.port = self.server.socket.getsockname()
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("resilience")
    (directory / "tokens.csv").write_text(f"{TOKEN},admin,u1,system:masters\n")
    with started(directory, f"--token-auth-file={directory / 'tokens.csv'}") as found:
        yield found


@pytest.fixture
def pod() -> Iterator[Pod]:
    found = Pod()
    yield found
    found.close()


def publish(cluster: Cluster, name: str, pod: Pod, suffix: str = "0") -> None:
    """A ready pod and, the first time, a service that selects it."""
    meta = {"name": f"{name}-{suffix}", "labels": {"app": name}}
    spec = {"containers": [{"name": "c", "image": "c", "ports": [{"containerPort": pod.port}]}]}
    assert cluster.request("POST", "/api/v1/namespaces/default/pods", TOKEN, {"metadata": meta, "spec": spec})[0] == 201
    status = {
        "phase": "Running",
        "podIP": pod.address,
        "podIPs": [{"ip": pod.address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    path = f"/api/v1/namespaces/default/pods/{name}-{suffix}/status"
    kind = {"Content-Type": "application/merge-patch+json"}
    assert cluster.request("PATCH", path, TOKEN, {"status": status}, **kind)[0] == 200
    service = {
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": pod.port}]},
    }
    assert cluster.request("POST", "/api/v1/namespaces/default/services", TOKEN, service)[0] in (201, 409)


def url(name: str, path: str = "/") -> str:
    return f"/api/v1/namespaces/default/services/{name}/proxy{path}"


def pids(cluster: Cluster, word: str) -> list[int]:
    """Process ids of the cluster's children whose command line has a word."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and f"\nPPid:\t{cluster.process.pid}\n" in (entry / "status").read_text()
            if ours and word in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(found)


def connection(cluster: Cluster) -> http.client.HTTPSConnection:
    context = ssl._create_unverified_context()
    return http.client.HTTPSConnection("127.0.0.1", int(cluster.server.rpartition(":")[2]), timeout=10, context=context)


def test_a_service_is_found_the_moment_it_exists(cluster: Cluster, pod: Pod) -> None:
    for turn in range(5):
        publish(cluster, f"fresh{turn}", pod)
        wait_for_slices(cluster, f"fresh{turn}")
        assert cluster.request("GET", url(f"fresh{turn}"), TOKEN) == (200, pod.address.encode())


def wait_for_slices(cluster: Cluster, name: str) -> None:
    """Until the controller has written them: from then on the door may not say otherwise."""
    path = (
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3D" + name
    )
    wait_until(lambda: b'"ready":true' in cluster.request("GET", path, TOKEN)[1], "no slice")


def test_killed_workers_come_back_and_the_others_serve(cluster: Cluster, pod: Pod) -> None:
    publish(cluster, "killed", pod)
    cluster.settle(url("killed"), TOKEN)
    before = pids(cluster, "gateway.worker")
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: answers(cluster, "killed"), "nobody serves")
    wait_until(
        lambda: len(pids(cluster, "gateway.worker")) == 2 and before[0] not in pids(cluster, "gateway.worker"),
        "not restarted",
    )
    assert before[1] in pids(cluster, "gateway.worker")


def answers(cluster: Cluster, name: str) -> bool:
    try:
        return cluster.request("GET", url(name), TOKEN)[0] == 200
    except OSError:
        return False


def test_proxying_outlives_the_control_process(cluster: Cluster, pod: Pod) -> None:
    publish(cluster, "outlives", pod)
    cluster.settle(url("outlives"), TOKEN)
    (control,) = pids(cluster, "up.control")
    os.kill(control, signal.SIGSTOP)
    os.kill(control, signal.SIGKILL)
    for _ in range(20):
        assert cluster.request("GET", url("outlives"), TOKEN) == (200, pod.address.encode())
    wait_until(
        lambda: cluster.request("GET", "/api/v1/namespaces/default/services/outlives", TOKEN)[0] == 200, "no API again"
    )
    assert cluster.request("GET", url("outlives"), TOKEN)[0] == 200
    wait_until(lambda: cluster.request("GET", "/readyz", TOKEN)[0] == 200, "not ready again")


def test_a_control_process_whose_disk_refuses_comes_back_and_writes_again(cluster: Cluster) -> None:
    (control,) = pids(cluster, "up.control")
    path = "/api/v1/namespaces/default/configmaps"
    made: list[str] = []

    def write(name: str) -> int:
        obj = {"metadata": {"name": name}, "data": {"x": "y" * 10_000}}
        status = cluster.request("POST", path, TOKEN, obj)[0]
        made.extend([name] if status == 201 else [])
        return status

    def refused() -> bool:
        return write(f"refused{len(made)}") == 503

    assert write("before") == 201
    # The log may not grow any more; the file that standard error goes to is far smaller.
    resource.prlimit(control, resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
    wait_until(refused, "still written")
    wait_until(lambda: pids(cluster, "up.control") not in ([], [control]), "not restarted")
    wait_until(lambda: write("after") == 201, "not written again")
    assert cluster.request("GET", "/readyz", TOKEN)[0] == 200
    items = json.loads(cluster.request("GET", path, TOKEN)[1])["items"]
    assert set(made) <= {item["metadata"]["name"] for item in items}
    assert "the disk refused" in cluster.output.read_text()


def test_a_disk_that_refuses_while_the_database_is_opened_is_tried_again(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(MediumFailed):
            _open_store(str(tmp_path / "state.db"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (tmp_path / "state.db").write_text("no database" * 100)
    with pytest.raises(HopelessError):
        _open_store(str(tmp_path / "state.db"))


def test_while_the_api_is_away_health_says_so(cluster: Cluster) -> None:
    (control,) = pids(cluster, "up.control")
    os.kill(control, signal.SIGKILL)
    status, body = cluster.request("GET", "/readyz?verbose", TOKEN)
    assert cluster.request("GET", "/livez", TOKEN) == (200, b"ok")
    assert status in (200, 500)
    assert b"[+]ping ok" in body
    status, body = cluster.request("GET", "/api/v1/pods", TOKEN)
    assert status in (200, 503)
    wait_until(lambda: cluster.request("GET", "/api/v1/pods", TOKEN)[0] == 200, "no API again")


def test_a_rotated_certificate_is_served_without_a_restart(tmp_path: Path, pod: Pod) -> None:
    old = self_signed(tmp_path, "old")
    new = self_signed(tmp_path, "new")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(old[0].read_bytes())
    key.write_bytes(old[1].read_bytes())
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(f"{TOKEN},admin,u1,system:masters\n")
    flags = (f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--token-auth-file={tokens}")
    with started(tmp_path, *flags) as cluster:
        held = connection(cluster)
        held.request("GET", "/livez")
        assert held.getresponse().read() == b"ok"
        assert served_certificate(cluster) == old[0].read_text()
        certificate.write_bytes(new[0].read_bytes())
        key.write_bytes(new[1].read_bytes())
        tokens.unlink()  # which must not keep the certificate from being read
        cluster.process.send_signal(signal.SIGHUP)
        wait_until(lambda: served_certificate(cluster) == new[0].read_text(), "still the old one")
        held.request("GET", "/livez")
        assert held.getresponse().read() == b"ok"
        held.close()
        assert cluster.request("GET", "/api/v1/pods", TOKEN)[0] == 200
        assert "tokens.csv: No such file or directory; what was read before" in cluster.output.read_text()


def served_certificate(cluster: Cluster) -> str:
    return ssl.get_server_certificate(("127.0.0.1", int(cluster.server.rpartition(":")[2])))


def test_sigterm_lets_requests_end_and_refuses_new_connections(tmp_path: Path, pod: Pod) -> None:
    (tmp_path / "tokens.csv").write_text(f"{TOKEN},admin,u1,system:masters\n")
    with started(tmp_path, f"--token-auth-file={tmp_path / 'tokens.csv'}") as cluster:
        publish(cluster, "drained", pod)
        cluster.settle(url("drained"), TOKEN)
        Handler.asked.clear()
        Handler.release.clear()
        slow, idle = connection(cluster), connection(cluster)
        idle.request("GET", "/livez")
        idle.getresponse().read()
        slow.request("GET", url("drained", "/slow"), headers={"Authorization": f"Bearer {TOKEN}"})
        assert Handler.asked.wait(10)
        cluster.process.terminate()
        wait_until(lambda: refused(cluster), "still listening")
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        assert cluster.process.poll() is None
        Handler.release.set()
        answer = slow.getresponse()
        assert (answer.status, answer.read()) == (200, pod.address.encode())
        assert answer.getheader("Connection") == "close"
        assert cluster.process.wait(20) == 0
        slow.close()
        idle.close()


def refused(cluster: Cluster) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(cluster.server.rpartition(":")[2])), 1).close()
    except ConnectionRefusedError:
        return True
    return False
