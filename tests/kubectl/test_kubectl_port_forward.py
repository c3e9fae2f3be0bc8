"""kubectl port-forward against the embedded cluster: old kubectls by SPDY, new ones by SPDY in a WebSocket."""

import hashlib
import json
import os
import re
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any

import pytest

from portway.testing.cluster import Cluster, wait_until
from portway.testing.kubectl import Kubectl

pytestmark = pytest.mark.kubectl
LARGE = 32 << 20
PODS = "/api/v1/namespaces/default/pods"


def admin_token(cluster: Cluster) -> str:
    return (cluster.data_dir / "admin-token.csv").read_text().partition(",")[0]


def pod(cluster: Cluster, name: str) -> dict[str, Any]:
    code, body = cluster.request("GET", f"{PODS}/{name}", admin_token(cluster))
    found: dict[str, Any] = json.loads(body)
    return found if code == 200 else {}


def runs(cluster: Cluster, name: str) -> None:
    """Waits until a pod is ready, and not about to be replaced."""

    def ready() -> bool:
        found = pod(cluster, name)
        states = found.get("status", {}).get("containerStatuses") or [{}]
        return bool(states[0].get("ready")) and not found["metadata"].get("deletionTimestamp")

    wait_until(ready, f"{name} does not run")


@contextmanager
def forwarding(kubectl: Kubectl, *argv: str) -> Iterator[tuple[int, IO[str]]]:
    """kubectl port-forward with a port of its own choice: that port, and what else it prints."""
    with kubectl.running("port-forward", "--address=127.0.0.1", *argv) as printed:
        first = printed.readline()
        found = re.fullmatch(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+\n", first)
        assert found, first
        yield int(found[1]), printed


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def fetch(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        body: bytes = answer.read()
        return body.decode()


@pytest.mark.parametrize("target", ["pod/hello-0", "svc/hello"])
def test_requests_through_a_pod_and_a_service(admin: Kubectl, target: str) -> None:
    remote = ":8080" if target.startswith("pod") else ":80"
    with forwarding(admin, target, remote) as (port, printed):
        assert fetch(port).startswith("hello from hello-")
        assert printed.readline() == f"Handling connection for {port}\n"
        assert fetch(port).startswith("hello from hello-")


def test_a_named_port(admin: Kubectl) -> None:
    with forwarding(admin, "pod/hello-0", ":web") as (port, _):
        assert fetch(port) == "hello from hello-0\n"


def test_twenty_connections_at_once(admin: Kubectl) -> None:
    with forwarding(admin, "pod/hello-0", ":8080") as (port, _), ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: fetch(port), range(100))) == {"hello from hello-0\n"}


def test_large_transfers_both_ways_at_once(admin: Kubectl, echo_pod: tuple[str, int]) -> None:
    name, remote = echo_pod
    with forwarding(admin, f"pod/{name}", f":{remote}") as (port, _):
        sent, received = hashlib.sha256(), hashlib.sha256()
        with connected(port) as sock:

            def send() -> None:
                for number in range(LARGE >> 16):
                    block = number.to_bytes(4, "big") * (1 << 14)
                    sent.update(block)
                    sock.sendall(block)
                sock.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            total = 0
            while total < LARGE and (data := sock.recv(1 << 16)):
                received.update(data)
                total += len(data)
            sender.join()
        assert (total, received.digest()) == (LARGE, sent.digest())


@pytest.fixture
def echo_pod(cluster: Cluster) -> Iterator[tuple[str, int]]:
    """A port of hello-0's address on which a program of the test's sends back what it gets."""
    with socket.create_server((pod(cluster, "hello-0")["status"]["podIP"], 0)) as server:
        port: int = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(1 << 16):
                        connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "hello-0", port
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_port_that_nobody_listens_on(admin: Kubectl) -> None:
    with forwarding(admin, "pod/hello-0", ":81") as (port, printed):
        with pytest.raises(OSError, match=r"closed|reset|refused"):
            fetch(port)
        assert printed.readline() == f"Handling connection for {port}\n"
        said = "".join(line for line in iter(printed.readline, "") if "error forwarding" in line or "lost" in line)
    assert "n error occurred forwarding" in said
    assert re.search(
        r"error forwarding port 81 to pod hello-0, uid : dial tcp4 [\d.]+:81: connect: connection refused", said
    )
    assert "error: lost connection to pod" in said


def test_a_pod_that_is_deleted_ends_it(admin: Kubectl, cluster: Cluster) -> None:
    runs(cluster, "secure-0")
    with forwarding(admin, "pod/secure-0", ":8443") as (port, printed), connected(port) as sock:
        assert printed.readline() == f"Handling connection for {port}\n"
        assert cluster.request("DELETE", f"{PODS}/secure-0", admin_token(cluster))[0] == 200
        assert sock.recv(1) == b""
        assert any("lost connection to pod" in line for line in iter(printed.readline, ""))
    runs(cluster, "secure-0")


def test_a_process_that_dies_takes_its_connections_with_it(admin: Kubectl, cluster: Cluster) -> None:
    runs(cluster, "echo-ws-0")
    with forwarding(admin, "pod/echo-ws-0", ":8080") as (port, _), connected(port) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 ")
        before = pod(cluster, "echo-ws-0")["status"]["containerStatuses"][0]
        os.kill(int(before["containerID"].removeprefix("process://")), signal.SIGKILL)
        while sock.recv(1000):
            pass
    cluster.request("DELETE", f"{PODS}/echo-ws-0", admin_token(cluster))  # forgives the crash
    runs(cluster, "echo-ws-0")


def test_what_cannot_be_forwarded(admin: Kubectl) -> None:
    assert 'pods "nobody" not found' in admin.refused("port-forward", "pod/nobody", ":80")
    assert 'services "nobody" not found' in admin.refused("port-forward", "svc/nobody", ":80")
