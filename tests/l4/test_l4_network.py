"""The real thing, in network namespaces of the test's own: `portway up` as root, and a client on another machine."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.gateway.l4.addresses import Addresses
from portway.testing.cluster import Cluster, accepts, started, wait_until
from portway.testing.demo import admin_token, child
from portway.testing.namespaces import SERVER4, SERVER6, Network, addresses, api_version, entered, ip, network, possible
from portway.testing.services import Server, fetch, saying

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not possible(), reason="needs root and network namespaces"),
    pytest.mark.timeout(180),
]

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
RANGES = "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112"
BALANCED = "192.0.2.50", "2001:db8:5::50"
EXTERNAL = "198.51.100.7", "2001:db8:7::7"
POD4, POD6 = "127.64.9.9", "2001:db8:1::9"
TCP, UDP, NODE = 80, 53, 31080


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(wires: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in the server's namespace, which is this test's while it runs, with one service on two pods."""
    directory = tmp_path_factory.mktemp("network")
    with entered(wires.server):
        subprocess.run(["ip", "address", "add", f"{POD6}/128", "dev", "lo", "nodad"], check=True)
        before = addresses(wires.server)
        with started(directory, RANGES, "--service-interface=services0", workers=1, reach=()) as made, pods():
            create(made)
            yield made
        assert addresses(wires.server) == before


@contextlib.contextmanager
def pods() -> Iterator[None]:
    """TCP servers and UDP echoes on both pods' addresses."""
    with contextlib.ExitStack() as stack:
        for address, word in ((POD4, b"four"), (POD6, b"six")):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, 8080), family=family)
            stack.callback(Server(saying(word), listener).close)
            echo = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            echo.bind((address, 8053))
            threading.Thread(target=give_back, args=(echo, word), daemon=True).start()
        yield


def give_back(echo: socket.socket, word: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, client = echo.recvfrom(65536)
            echo.sendto(word, client)


def write(cluster: Cluster, method: str, path: str, body: Any, **headers: str) -> Any:
    status, answer = cluster.request(method, path, admin_token(cluster), body, **headers)
    assert status in (200, 201), answer
    return json.loads(answer)


def create(cluster: Cluster) -> None:
    ports = [
        {"name": "web", "port": TCP, "targetPort": 8080, "nodePort": NODE},
        {"name": "dns", "port": UDP, "targetPort": 8053, "nodePort": NODE + 1, "protocol": "UDP"},
    ]
    spec = {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "externalIPs": EXTERNAL, "ports": ports}
    write(cluster, "POST", SERVICES, {"metadata": {"name": "web"}, "spec": spec})
    for family, address in (("IPv4", POD4), ("IPv6", POD6)):
        labels = {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "test"}
        listed = [{"name": "web", "port": 8080}, {"name": "dns", "port": 8053, "protocol": "UDP"}]
        made = {
            "metadata": {"name": f"web-{family.lower()}", "labels": labels},
            "addressType": family,
            "ports": listed,
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        }
        write(cluster, "POST", SLICES, made)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address} for address in BALANCED]}}}
    headers = {"Content-Type": "application/merge-patch+json"}
    write(cluster, "PATCH", f"{SERVICES}/web/status", status, **headers)


def fetched(wires: Network, address: str, port: int) -> bytes:
    """What a client on the other machine is told over TCP, once somebody listens."""
    found: list[bytes] = []

    def asked() -> bool:
        with contextlib.suppress(OSError), entered(wires.client), socket.create_connection((address, port), 5) as sock:
            sock.sendall(b"x")
            found.append(sock.recv(100))
        return bool(found)

    wait_until(asked, f"no connection to {address} port {port}", 20)
    return found[0]


def answered(wires: Network, address: str, port: int) -> bytes:
    """The same over UDP. The socket is connected, so that an answer from another address is none."""
    found: list[bytes] = []

    def asked() -> bool:
        with entered(wires.client):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        with sock, contextlib.suppress(OSError):
            sock.settimeout(0.3)
            sock.connect((address, port))
            sock.send(b"x")
            found.append(sock.recv(100))
        return bool(found)

    wait_until(asked, f"no answer from {address} port {port}", 20)
    return found[0]


def reaches(wires: Network, address: str, port: int) -> bool:
    with entered(wires.client):
        return accepts(address, port)


def cluster_addresses(cluster: Cluster) -> list[str]:
    spec = json.loads(cluster.request("GET", f"{SERVICES}/web", admin_token(cluster))[1])["spec"]
    return list(spec["clusterIPs"])


@pytest.mark.parametrize("what", ["node port", "load balancer", "external", "cluster"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_client_outside_reaches_every_form_over_both_protocols(
    wires: Network, cluster: Cluster, what: str, family: int
) -> None:
    which = (4, 6).index(family)
    address = {
        "node port": (SERVER4, SERVER6),
        "load balancer": BALANCED,
        "external": EXTERNAL,
        "cluster": tuple(cluster_addresses(cluster)),
    }[what][which]
    word = (b"four", b"six")[which]
    tcp, udp = (NODE, NODE + 1) if what == "node port" else (TCP, UDP)
    assert fetched(wires, address, tcp) == word
    assert answered(wires, address, udp) == word


def test_node_ports_answer_on_every_address_of_the_machine_from_that_address(wires: Network, cluster: Cluster) -> None:
    for address in ("10.96.0.1", BALANCED[0], BALANCED[1]):
        word = b"six" if ":" in address else b"four"
        assert fetched(wires, address, NODE) == word
        assert answered(wires, address, NODE + 1) == word


@pytest.mark.parametrize("name", ["10.96.0.1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"])
def test_the_api_answers_at_its_cluster_address_with_a_certificate_for_it(
    wires: Network, cluster: Cluster, name: str
) -> None:
    wait_until(lambda: reaches(wires, "10.96.0.1", 443), "the API's cluster address is not served", 20)
    answer = api_version(wires, cluster, "10.96.0.1", 443, name)
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.partition("\r\n\r\n")[2])["major"] == "1"


def test_nobody_else_s_service_leads_to_the_door(wires: Network, cluster: Cluster) -> None:
    """The API refuses such an endpoint on loopback; the slice's name is the one exception, and gains nothing."""
    door, address = int(cluster.server.rpartition(":")[2]), "198.51.100.77"
    ports = [{"name": "web", "port": 80}, {"name": "door", "port": 443}]
    write(cluster, "POST", SERVICES, {"metadata": {"name": "sly"}, "spec": {"externalIPs": [address], "ports": ports}})
    labels = {"kubernetes.io/service-name": "sly"}
    listed = [{"name": "web", "port": 8080}, {"name": "door", "port": door}]
    endpoints = [{"addresses": ["127.0.0.1"]}, {"addresses": [POD4]}]
    made = {"addressType": "IPv4", "ports": listed, "endpoints": endpoints}
    refused = {"metadata": {"name": "sly", "labels": labels}, **made}
    assert cluster.request("POST", SLICES, admin_token(cluster), refused)[0] == 422
    write(cluster, "POST", SLICES, {"metadata": {"name": "kubernetes-sly", "labels": labels}, **made})
    wait_until(lambda: reaches(wires, address, 80), "nobody listens", 20)
    assert fetched(wires, address, 80) == b"four"
    with (
        pytest.raises(ConnectionResetError),
        entered(wires.client),
        socket.create_connection((address, 443), 5) as sock,
    ):
        sock.recv(1)


def test_a_killed_process_comes_back_and_takes_its_addresses_over(wires: Network, cluster: Cluster) -> None:
    held = addresses(wires.server)
    before = child(cluster, "portway.gateway.l4")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: (Path(f"/proc/{before}").exists()) is False, "it is not gone")
    assert fetched(wires, BALANCED[0], TCP) == b"four"
    assert child(cluster, "portway.gateway.l4") != before
    assert addresses(wires.server) == held


def test_what_a_killed_process_left_and_nobody_needs_is_removed_and_nothing_of_others(wires: Network) -> None:
    before = addresses(wires.client)
    with entered(wires.client):
        other, killed, again = (Addresses(name, own=True) for name in ("other0", "services0", "services0"))
        for one, held in ((other, ["10.97.0.1"]), (killed, ["10.96.0.1", "10.96.0.2"])):
            one.open()
            for address in held:
                one.hold(address)
        again.open()
        again.hold("10.96.0.2")
        assert all(map(again.here, ("10.96.0.1", "10.96.0.2", "10.97.0.1")))
        again.forget_leftover()
        assert addresses(wires.client) - before == {"lo 10.96.0.2/32", "lo 10.97.0.1/32"}
        again.close()
        other.close()
        killed.close()
    assert addresses(wires.client) == before


def test_an_address_goes_with_its_service(wires: Network, cluster: Cluster) -> None:
    spec = {"externalIPs": ["198.51.100.99"], "ports": [{"port": 81}]}
    made = write(cluster, "POST", SERVICES, {"metadata": {"name": "short"}, "spec": spec})
    own = {"198.51.100.99", made["spec"]["clusterIP"]}

    def held() -> set[str]:
        return {line.split()[1].partition("/")[0] for line in addresses(wires.server)}

    wait_until(lambda: own <= held(), "its addresses are not added")
    cluster.request("DELETE", f"{SERVICES}/short", admin_token(cluster))
    wait_until(lambda: not own & held(), "its addresses are not removed")


def test_without_descriptors_it_says_so_and_goes_on_when_there_are_some(wires: Network, cluster: Cluster) -> None:
    pid = child(cluster, "portway.gateway.l4")
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 5, hard))
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            with contextlib.suppress(OSError), entered(wires.client):
                stack.enter_context(socket.create_connection((SERVER4, NODE), 5))
        events = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.kind=Node"

        def told() -> bool:
            return b"Too many open files" in cluster.request("GET", events, admin_token(cluster))[1]

        wait_until(told, "no Event")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert fetched(wires, SERVER4, NODE) == b"four"
    assert child(cluster, "portway.gateway.l4") == pid


def test_an_endpoint_that_is_a_node_port_of_ours_is_not_dialled(wires: Network, cluster: Cluster) -> None:
    number = NODE + 7
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
    write(cluster, "POST", SERVICES, {"metadata": {"name": "round"}, "spec": spec})
    labels = {"kubernetes.io/service-name": "round", "endpointslice.kubernetes.io/managed-by": "test"}
    made = {
        "metadata": {"name": "round", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": number}],
        "endpoints": [{"addresses": [SERVER4]}],
    }
    write(cluster, "POST", SLICES, made)
    pid = child(cluster, "portway.gateway.l4")
    held = len(os.listdir(f"/proc/{pid}/fd"))

    def refused() -> bool:
        try:
            with entered(wires.client), socket.create_connection((SERVER4, number), 5) as sock:
                sock.recv(1)
        except ConnectionResetError:
            return True
        except ConnectionRefusedError:
            return False  # nobody listens yet
        raise AssertionError("it was connected to something")

    wait_until(refused, "nobody listens")
    assert len(os.listdir(f"/proc/{pid}/fd")) < held + 20


def test_without_the_right_to_add_addresses_those_on_loopback_are_served(wires: Network, tmp_path: Path) -> None:
    without = "setpriv", "--bounding-set", "-net_admin"
    flags = "--service-cluster-ip-range=127.200.0.0/24", "--nodeport-addresses=203.0.113.0/24"
    with (
        entered(wires.server),
        started(tmp_path, *flags, workers=1, reach=(), through=without) as cluster,
        contextlib.closing(Server(saying(b"one"), socket.create_server(("127.64.9.10", 8080)))),
    ):
        ports = [{"port": 80, "nodePort": NODE + 20}]
        spec = {"type": "NodePort", "externalIPs": ["198.51.100.9"], "ports": ports}
        made = write(cluster, "POST", SERVICES, {"metadata": {"name": "web"}, "spec": spec})
        labels = {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "test"}
        pods = {"addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": ["127.64.9.10"]}]}
        write(cluster, "POST", SLICES, {"metadata": {"name": "web", "labels": labels}, **pods})
        address = made["spec"]["clusterIP"]
        wait_until(lambda: fetch(address, 80) == b"one", "the cluster address is not served")

        def conditions() -> Any:
            status = json.loads(cluster.request("GET", f"{SERVICES}/web", admin_token(cluster))[1])["status"]
            return status.get("conditions") or []

        wait_until(conditions, "no condition")
        (told,) = conditions()
        assert told["type"] == "portway.dev/PortsError"
        assert "external address 198.51.100.9:80/TCP cannot be served: adding addresses" in told["message"]
        assert "needs root (CAP_NET_ADMIN)" in told["message"]
        assert "cluster addresses" not in cluster.output.read_text()

        assert not accepts(SERVER4, NODE + 20)
        ip("-n", wires.server, "address", "add", "203.0.113.5/32", "dev", "wire")
        assert fetched(wires, "203.0.113.5", NODE + 20) == b"one"
        ip("-n", wires.server, "address", "delete", "203.0.113.5/32", "dev", "wire")
