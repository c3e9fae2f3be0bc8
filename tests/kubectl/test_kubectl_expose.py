"""`kubectl expose`, and what a client outside gets at once: node ports of a running cluster, on loopback."""

import contextlib
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, wait_until
from portway.testing.demo import portway
from portway.testing.kubectl import Kubectl

pytestmark = pytest.mark.kubectl


def node_port(kubectl: Kubectl, service: str) -> int:
    return int(kubectl.ok("get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}"))


def fetched(port: int) -> str:
    """What a client without credentials gets from a node port, as soon as it is there."""
    found: list[str] = []

    def asked() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            found.append(answer.read().decode())
        return bool(found)

    wait_until(asked, f"nobody answers on port {port}")
    return found[0]


def pod_address(admin: Kubectl, name: str) -> str:
    return admin.ok("get", "pod", name, "-n", "default", "-o", "jsonpath={.status.podIP}")


def imitation(name: str, address: str, labels: dict[str, str]) -> dict[str, Any]:
    """A hand-registered pod at the address of one that runs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "hello", "image": "hello"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


@pytest.fixture
def pods(kubectl: Kubectl, admin: Kubectl) -> list[str]:
    """Two pods in the test's namespace, with the label app=web."""
    names = ["web-0", "web-1"]
    for name, running in zip(names, ("hello-0", "hello-1"), strict=True):
        pod = imitation(name, pod_address(admin, running), {"app": "web"})
        kubectl.ok("apply", "-f", "-", stdin=pod)
        kubectl.ok("replace", "--subresource=status", "-f", "-", stdin=pod)
    return names


def test_an_exposed_pod_is_reached_from_outside_at_once(kubectl: Kubectl, pods: list[str]) -> None:
    kubectl.ok("label", "pod", "web-0", "only=first")
    kubectl.ok("expose", "pod", "web-0", "--name=first", "--type=NodePort", "--port=80", "--target-port=8080")
    kubectl.ok("set", "selector", "service/first", "only=first")
    assert len({fetched(node_port(kubectl, "first")) for _ in range(4)}) == 1


def test_an_exposed_service_is_reached_under_another_name_and_port(kubectl: Kubectl, pods: list[str]) -> None:
    kubectl.ok("create", "service", "clusterip", "web", "--tcp=80:8080")
    kubectl.ok("set", "selector", "service/web", "app=web")
    kubectl.ok("expose", "service", "web", "--name=outside", "--type=NodePort", "--port=8000", "--target-port=8080")
    assert len({fetched(node_port(kubectl, "outside")) for _ in range(8)}) == 2


def test_a_second_service_selects_one_relabelled_replica(kubectl: Kubectl, pods: list[str]) -> None:
    kubectl.ok("create", "service", "nodeport", "all", "--tcp=80:8080")
    kubectl.ok("set", "selector", "service/all", "app=web")
    kubectl.ok("label", "pod", "web-1", "debug=yes")
    kubectl.ok("create", "service", "nodeport", "one", "--tcp=80:8080")
    kubectl.ok("set", "selector", "service/one", "debug=yes")
    assert len({fetched(node_port(kubectl, "all")) for _ in range(8)}) == 2
    (only,) = {fetched(node_port(kubectl, "one")) for _ in range(8)}
    kubectl.ok("label", "pod", "web-1", "debug-")
    kubectl.ok("label", "pod", "web-0", "debug=yes")
    wait_until(lambda: fetched_or_not(node_port(kubectl, "one")) not in ("", only), "it still leads to the old one")


def fetched_or_not(port: int) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return str(answer.read().decode())
    return ""


def test_a_taken_port_is_described_until_it_is_free(kubectl: Kubectl, pods: list[str]) -> None:
    kubectl.ok("create", "service", "nodeport", "web", "--tcp=80:8080")
    kubectl.ok("set", "selector", "service/web", "app=web")
    taken = node_port(kubectl, "web")
    fetched(taken)
    kubectl.ok("delete", "service", "web")
    wait_until(lambda: fetched_or_not(taken) == "", "it is still served")
    with socket.create_server(("127.0.0.1", taken)):
        kubectl.ok("create", "service", "nodeport", "web", "--tcp=80:8080", f"--node-port={taken}")
        kubectl.ok("set", "selector", "service/web", "app=web")
        kubectl.ok("wait", "service/web", "--for=condition=portway.dev/PortsError", "--timeout=20s")
        assert f"node port 127.0.0.1:{taken}/TCP cannot be served: another program listens there" in kubectl.ok(
            "describe", "service", "web"
        )
    assert fetched(taken)
    wait_until(
        lambda: kubectl.ok("get", "service", "web", "-o", "jsonpath={.status.conditions}") in ("", "[]"),
        "the condition stays",
    )


def test_portway_services_says_what_is_open_and_that_nobody_is_asked(
    kubectl: Kubectl, cluster: Cluster, pods: list[str], tmp_path: Path
) -> None:
    kubectl.ok("create", "service", "nodeport", "web", "--tcp=80:8080")
    shown = portway(cluster, "services", "-n", kubectl.namespace).stdout
    head, row, *_, last = shown.splitlines()
    assert "EXPOSED" in head
    assert f"*:{node_port(kubectl, 'web')}" in row
    assert "nobody is authenticated there" in last
    assert "EXPOSED" not in portway(cluster, "services", "-n", "default").stdout
