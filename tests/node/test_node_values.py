"""The node's pure parts: addresses, environment, pod and node objects, statuses."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.node import addresses, heartbeat, status
from portway.node.addresses import NoAddressesError
from portway.node.demo import catalogue
from portway.node.environment import Reachable, service_variables
from portway.node.pod import RestartPolicy
from portway.node.workload import Workload, place, pod_object

WORKLOAD = Workload(namespace="default", name="hello", module="m", port=8080, port_name="web", replicas=2)
PLACED = place((WORKLOAD,), ("127.70.1.2", "127.70.1.3"))[0]


@given(st.text(), st.integers(0, 63))
def test_a_subnet_lies_in_the_range_and_is_always_the_same(seed: str, attempt: int) -> None:
    subnet = addresses.node_subnet("127.64.0.0/10", seed, attempt)
    assert subnet.prefixlen == 24
    assert subnet.subnet_of(ipaddress.IPv4Network("127.64.0.0/10"))
    assert subnet == addresses.node_subnet("127.64.0.0/10", seed, attempt)


def test_clusters_of_one_machine_get_subnets_of_their_own() -> None:
    assert len({addresses.node_subnet("127.64.0.0/10", f"/data/{n}") for n in range(50)}) == 50


def test_where_an_address_is_in_use_the_next_subnet_is_taken() -> None:
    first = addresses.node_subnet("127.64.0.0/10", "x")
    subnet, chosen = addresses.choose("127.64.0.0/10", "x", [80, 81], lambda address, _: address not in map(str, first))
    assert subnet == addresses.node_subnet("127.64.0.0/10", "x", 1) != first
    assert chosen == (str(subnet[2]), str(subnet[3]))


@pytest.mark.parametrize(
    ("cidr", "count", "says"),
    [("fd00::/64", 1, "IPv4"), ("127.64.0.0/30", 3, "no room"), ("127.64.0.0/24", 1, "no free addresses")],
)
def test_ranges_that_cannot_serve_say_so(cidr: str, count: int, says: str) -> None:
    with pytest.raises(NoAddressesError, match=says):
        addresses.choose(cidr, "x", [80] * count, lambda *_: False)


def test_an_address_of_another_machine_is_no_pod_address() -> None:
    with pytest.raises(NoAddressesError, match="not an address of this machine"):
        addresses.is_free("192.0.2.1", 80)


def test_service_variables_are_kubernetes_own() -> None:
    found = service_variables(Reachable("elasticsearch-logging", "127.70.0.2", 9200, "db"))
    assert found == {
        "ELASTICSEARCH_LOGGING_SERVICE_HOST": "127.70.0.2",
        "ELASTICSEARCH_LOGGING_SERVICE_PORT": "9200",
        "ELASTICSEARCH_LOGGING_SERVICE_PORT_DB": "9200",
        "ELASTICSEARCH_LOGGING_PORT": "tcp://127.70.0.2:9200",
        "ELASTICSEARCH_LOGGING_PORT_9200_TCP": "tcp://127.70.0.2:9200",
        "ELASTICSEARCH_LOGGING_PORT_9200_TCP_PROTO": "tcp",
        "ELASTICSEARCH_LOGGING_PORT_9200_TCP_PORT": "9200",
        "ELASTICSEARCH_LOGGING_PORT_9200_TCP_ADDR": "127.70.0.2",
    }


def conditions(state: status.State) -> dict[str, str]:
    found = status.pod_status(PLACED, state, "127.70.1.1")["conditions"]
    return {condition["type"]: condition["status"] for condition in found}


def test_a_pods_status_follows_its_process() -> None:
    state = status.initial()
    assert status.pod_status(PLACED, state, "127.70.1.1")["phase"] == "Pending"
    state = state.running(42)
    shown = status.pod_status(PLACED, state, "127.70.1.1")
    assert (shown["phase"], shown["podIPs"], shown["hostIP"]) == ("Running", [{"ip": "127.70.1.2"}], "127.70.1.1")
    assert conditions(state)["Ready"] == "False"
    state = state.probed(True)
    assert conditions(state)["Ready"] == conditions(state)["ContainersReady"] == "True"
    assert state.probed(True) is state
    state = state.ended(137, "killed")
    shown = status.pod_status(PLACED, state, "127.70.1.1")
    (container,) = shown["containerStatuses"]
    assert conditions(state)["Ready"] == "False"
    assert container["restartCount"] == 1
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert container["lastState"]["terminated"]["reason"] == "Error"
    assert "containerID" not in container


def test_pods_are_bound_probed_and_named_like_a_set() -> None:
    pods = [pod_object(placement) for placement in place((WORKLOAD,), ("127.70.1.2", "127.70.1.3"))]
    assert [pod["metadata"]["name"] for pod in pods] == ["hello-0", "hello-1"]
    (container,) = pods[0]["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP", "name": "web"}]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    asked = pod_object(replace(PLACED, workload=replace(WORKLOAD, ready_path="/ok", ready_scheme="https")))
    assert asked["spec"]["containers"][0]["readinessProbe"]["httpGet"] == {
        "path": "/ok",
        "port": 8080,
        "scheme": "HTTPS",
    }


def test_the_demo_places_every_replica_behind_a_service_that_selects_it() -> None:
    services = [one.object for one in catalogue.MANIFESTS if one.object["kind"] == "Service"]
    for workload in catalogue.WORKLOADS:
        placements = place((workload,), tuple(f"127.70.0.{n}" for n in range(workload.replicas)))
        selected = [
            service
            for service in services
            if service["metadata"]["namespace"] == workload.namespace
            and service["spec"]["selector"].items() <= pod_object(placements[0])["metadata"]["labels"].items()
        ]
        assert [service["metadata"]["name"] for service in selected] == [workload.name]
        targets = {port["targetPort"] for port in selected[0]["spec"]["ports"]}
        assert targets <= {workload.port, workload.port_name}


def test_restarts_back_off_up_to_a_limit() -> None:
    policy = RestartPolicy(first=1, longest=300)
    assert [policy.delay(n) for n in (1, 2, 3)] == [1, 2, 4]
    assert policy.delay(10_000) == 300


def test_a_node_is_ready_since_it_started() -> None:
    shown = heartbeat.node_status([], "2026-01-01T00:00:00Z")
    by_type = {condition["type"]: condition for condition in shown["conditions"]}
    assert by_type["Ready"]["status"] == "True"
    assert by_type["Ready"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert by_type["MemoryPressure"]["status"] == "False"
    assert shown["capacity"]["pods"] == "110"
