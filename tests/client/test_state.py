"""The door's picture of the cluster: what of each object is kept, how slices merge, who is told what."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client import decode
from portway.client.records import Endpoint, Exposure, Node, Pod, Service, ServicePort
from portway.client.state import ClusterState
from portway.kube.attributes import parse
from portway.kube.identity import User

Object = dict[str, Any]


def endpoint_slice(
    name: str, *addresses: str, service: str = "web", port: int = 80, port_name: str = "http", ready: bool = True
) -> Object:
    return {
        "metadata": {"namespace": "demo", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
    }


def addresses(state: ClusterState, port: str = "http", service: str = "web") -> set[str]:
    endpoints = state.endpoints("demo", service)
    assert endpoints is not None
    return {endpoint.address for endpoint in endpoints.get(port, ())}


def test_a_service_with_everything() -> None:
    record = decode.service(
        {
            "metadata": {
                "namespace": "demo",
                "name": "web",
                "uid": "u1",
                "labels": {"a": "b"},
                "annotations": {"portway.dev/tls-ca": "bundle", "other/key": "x"},
            },
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.0.0.9",
                "externalName": "",
                "sessionAffinity": "ClientIP",
                "publishNotReadyAddresses": True,
                "selector": {"app": "web"},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP", "appProtocol": "http"},
                    {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
                ],
            },
        }
    )
    ports = (ServicePort("http", 80, "TCP", "web", "http", 0), ServicePort("dns", 53, "UDP", 53, "", 30053))
    expected = Service(
        "demo",
        "web",
        "u1",
        "NodePort",
        ports,
        "10.0.0.9",
        "",
        {"portway.dev/tls-ca": "bundle"},
        True,
        "ClientIP",
        Exposure(cluster_ips=("10.0.0.9",), affinity_seconds=10800),
    )
    assert record == expected


def test_a_service_with_nothing_has_the_api_s_defaults() -> None:
    record = decode.service({"metadata": {"namespace": "demo", "name": "web"}})
    assert record == Service("demo", "web", "", "ClusterIP", (), "", "", {}, False, "None")


def test_a_pod() -> None:
    record = decode.pod(
        {
            "metadata": {"namespace": "demo", "name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "serviceAccountName": "default",
                "containers": [
                    {"name": "a", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]},
                    {"name": "b"},
                    {"name": "c", "ports": [{"containerPort": 53, "protocol": "UDP"}]},
                ],
                "initContainers": [{"name": "i", "ports": [{"containerPort": 1}]}],
            },
            "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]},
        }
    )
    ports = (("http", 80), ("", 81), ("", 53))
    deletion = 1767225600.0
    assert record == Pod("demo", "p", "u", ("10.1.0.1", "fd00::1"), ports, "Running", True, "default", deletion)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, ()),
        ({}, ()),
        ({"podIP": "10.0.0.1"}, ("10.0.0.1",)),
        ({"podIP": "10.0.0.1", "podIPs": None}, ("10.0.0.1",)),
        ({"podIPs": [{"ip": "10.0.0.2"}, {}]}, ("10.0.0.2",)),
    ],
)
def test_a_pod_s_addresses(status: Object | None, expected: tuple[str, ...]) -> None:
    assert decode.pod({"metadata": {"name": "p"}, "spec": None, "status": status}).ips == expected


def test_a_node() -> None:
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 9443}}}
    record = decode.node({"metadata": {"name": "n1", "uid": "u"}, "status": status})
    assert record == Node("n1", "u", (("InternalIP", "10.0.0.1"), ("Hostname", "n1")), 9443)
    assert decode.node({"metadata": {"name": "n2"}}) == Node("n2", "", (), 10250)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": True, "serving": False}, (True, False, False)),
    ],
)
def test_unknown_conditions_read_as_the_api_says(conditions: Object | None, expected: tuple[bool, bool, bool]) -> None:
    obj = endpoint_slice("s", "10.0.0.1")
    obj["endpoints"][0]["conditions"] = conditions
    (endpoint,) = decode.slice_endpoints(obj, lambda *_: None)["http"]
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, ("", "")),
        ({"kind": "Pod", "name": "p", "namespace": "demo"}, ("p", "demo")),
        ({"name": "p"}, ("p", "")),
        ({"kind": "Node", "name": "n"}, ("", "")),
    ],
)
def test_whose_address_it_is(reference: Object | None, expected: tuple[str, str]) -> None:
    obj = endpoint_slice("s", "10.0.0.1")
    obj["endpoints"][0] |= {"targetRef": reference, "nodeName": "n1"}
    (endpoint,) = decode.slice_endpoints(obj, lambda *_: None)["http"]
    assert (endpoint.pod, endpoint.pod_namespace, endpoint.node) == (*expected, "n1")


def test_slices_without_usable_ports_or_addresses_give_no_endpoints_but_exist() -> None:
    state = ClusterState()
    assert state.endpoints("demo", "web") is None
    names = endpoint_slice("names", "example.org") | {"addressType": "FQDN"}
    for obj in (
        names,
        endpoint_slice("all-ports", "10.0.0.1") | {"ports": None},
        endpoint_slice("nobody") | {"endpoints": None},
    ):
        state.apply("endpointslices", "ADDED", obj)
    assert addresses(state) == set()


def test_slices_of_a_service_merge_and_part() -> None:
    state = ClusterState()
    state.apply("endpointslices", "ADDED", endpoint_slice("a", "10.0.0.1", "10.0.0.2"))
    state.apply("endpointslices", "ADDED", endpoint_slice("b", "10.0.0.3", port_name="admin", port=81))
    state.apply("endpointslices", "ADDED", endpoint_slice("c", "10.0.0.9", service="other"))
    assert addresses(state) == {"10.0.0.1", "10.0.0.2"}
    assert addresses(state, "admin") == {"10.0.0.3"}

    state.apply("endpointslices", "MODIFIED", endpoint_slice("a", "10.0.0.2"))
    assert addresses(state) == {"10.0.0.2"}
    state.apply("endpointslices", "DELETED", {"metadata": {"namespace": "demo", "name": "a"}})
    assert addresses(state) == set()
    assert addresses(state, "admin") == {"10.0.0.3"}
    state.apply("endpointslices", "DELETED", {"metadata": {"namespace": "demo", "name": "b"}})
    assert state.endpoints("demo", "web") is None
    assert addresses(state, service="other") == {"10.0.0.9"}


def test_an_address_in_two_slices_counts_once_and_ready_wins() -> None:
    state = ClusterState()
    state.apply("endpointslices", "ADDED", endpoint_slice("a", "10.0.0.1", ready=False))
    state.apply("endpointslices", "ADDED", endpoint_slice("b", "10.0.0.1", "10.0.0.2"))
    state.apply("endpointslices", "ADDED", endpoint_slice("c", "10.0.0.1", ready=False))
    endpoints = state.endpoints("demo", "web")
    assert endpoints is not None
    assert [(e.address, e.ready) for e in endpoints["http"]] == [("10.0.0.1", True), ("10.0.0.2", True)]


def test_a_slice_can_move_to_another_service_or_to_none() -> None:
    state, told = ClusterState(), []
    state.apply("endpointslices", "ADDED", endpoint_slice("a", "10.0.0.1"))
    state.subscribe(lambda *change: told.append(change))
    state.apply("endpointslices", "MODIFIED", endpoint_slice("a", "10.0.0.1", service="other"))
    assert state.endpoints("demo", "web") is None
    assert addresses(state, service="other") == {"10.0.0.1"}
    assert told == [("endpointslices", "demo", "web"), ("endpointslices", "demo", "other")]
    unlabelled = endpoint_slice("a", "10.0.0.1")
    del unlabelled["metadata"]["labels"]
    state.apply("endpointslices", "MODIFIED", unlabelled)
    assert state.endpoints("demo", "other") is None
    assert state.keys("endpointslices") == []


def test_the_same_mapping_is_given_until_a_slice_changes() -> None:
    state = ClusterState()
    state.apply("endpointslices", "ADDED", endpoint_slice("a", "10.0.0.1"))
    state.apply("endpointslices", "ADDED", endpoint_slice("b", "10.0.0.2"))
    first = state.endpoints("demo", "web")
    assert state.endpoints("demo", "web") is first
    state.apply("endpointslices", "MODIFIED", endpoint_slice("b", "10.0.0.2"))
    assert state.endpoints("demo", "web") is first
    state.apply("endpointslices", "MODIFIED", endpoint_slice("b", "10.0.0.3"))
    assert state.endpoints("demo", "web") is not first


def test_endpoints_share_the_strings_of_their_pods() -> None:
    state = ClusterState()
    pod = {"metadata": {"namespace": "demo", "name": "pod-1"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}
    state.apply("pods", "ADDED", pod)
    obj = endpoint_slice("a", "10.0.0.1")
    obj["endpoints"][0]["targetRef"] = {"kind": "Pod", "namespace": "demo", "name": "pod-1"}
    state.apply("endpointslices", "ADDED", orjson.loads(orjson.dumps(obj)))  # with strings of its own
    endpoints, record = state.endpoints("demo", "web"), state.pod("demo", "pod-1")
    assert endpoints is not None
    assert record is not None
    assert endpoints["http"][0].pod is record.name
    assert endpoints["http"][0].address is record.ips[0]


def test_only_changes_are_told_and_a_failing_listener_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    state, told = ClusterState(), []

    def broken(*_: str) -> None:
        raise RuntimeError("listener")

    state.subscribe(broken)
    unsubscribe = state.subscribe(lambda *change: told.append(change))
    service: Object = {"metadata": {"namespace": "demo", "name": "web", "resourceVersion": "1"}}
    state.apply("services", "ADDED", service)
    service["metadata"]["resourceVersion"] = "2"
    state.apply("services", "MODIFIED", service)
    service["spec"] = {"clusterIP": "10.0.0.1"}
    state.apply("services", "MODIFIED", service)
    state.apply("services", "DELETED", service)
    state.apply("services", "DELETED", service)
    assert told == [("services", "demo", "web")] * 3
    assert "listener" in caplog.text
    unsubscribe()
    state.apply("services", "ADDED", service)
    assert len(told) == 3


@pytest.mark.parametrize(
    ("plural", "namespace"),
    [
        ("services", "demo"),
        ("pods", "demo"),
        ("serviceaccounts", "demo"),
        ("nodes", ""),
        ("namespaces", ""),
        ("roles", "demo"),
        ("rolebindings", "demo"),
        ("clusterroles", ""),
        ("clusterrolebindings", ""),
    ],
)
def test_every_kind_comes_is_listed_and_goes(plural: str, namespace: str) -> None:
    state = ClusterState()
    metadata = {"name": "one", "uid": "u"} | ({"namespace": namespace} if namespace else {})
    state.apply(plural, "ADDED", {"metadata": metadata})
    assert state.keys(plural) == [(namespace, "one")]
    state.apply(plural, "DELETED", {"metadata": {"namespace": namespace, "name": "one"}})
    assert state.keys(plural) == []


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="configmaps"):
        ClusterState().apply("configmaps", "ADDED", {"metadata": {"name": "x"}})


def test_accounts_and_namespaces_by_name() -> None:
    state = ClusterState()
    state.apply("serviceaccounts", "ADDED", {"metadata": {"namespace": "demo", "name": "bot", "uid": "u7"}})
    state.apply("namespaces", "ADDED", {"metadata": {"name": "demo", "uid": "u8"}})
    assert state.service_account_uid("demo", "bot") == "u7"
    assert state.service_account_uid("demo", "nobody") is None
    assert dict(state.namespaces) == {"demo": "u8"}


def test_rbac_follows_and_tells_only_what_matters() -> None:
    state, told = ClusterState(), []
    state.subscribe(lambda *change: told.append(change))
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    role = {"metadata": {"name": "reader"}, "rules": rules}
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "apiGroup": group, "name": "ann"}]
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
        "subjects": subjects,
    }
    state.apply("clusterroles", "ADDED", role)
    state.apply("clusterrolebindings", "ADDED", binding)
    asked = parse("GET", "/api/v1/namespaces/demo/pods/p", "")
    assert state.rbac.decide(User("ann"), asked).allowed
    told.clear()
    state.apply("clusterroles", "MODIFIED", role | {"metadata": {"name": "reader", "labels": {"a": "b"}}})
    assert told == []
    state.apply("clusterrolebindings", "DELETED", binding)
    assert told == [("clusterrolebindings", "", "reader")]
    assert not state.rbac.decide(User("ann"), asked).allowed


slice_names = st.sampled_from("abc")
events = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete"]),
        slice_names,
        st.sampled_from(["web", "api"]),
        st.sets(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])),
        st.booleans(),
    ),
    max_size=12,
)


@given(events)
def test_however_slices_come_and_go_the_view_is_their_union(
    history: list[tuple[str, str, str, set[str], bool]],
) -> None:
    state = ClusterState()
    slices: dict[str, tuple[str, set[str]]] = {}
    for verb, name, service, ips, read in history:
        if verb == "put":
            slices[name] = service, ips
            state.apply("endpointslices", "MODIFIED", endpoint_slice(name, *ips, service=service))
        else:
            slices.pop(name, None)
            state.apply("endpointslices", "DELETED", {"metadata": {"namespace": "demo", "name": name}})
        if read:
            state.endpoints("demo", "web")
    for service in ("web", "api"):
        parts = [ips for owner, ips in slices.values() if owner == service]
        if parts:
            assert addresses(state, service=service) == set().union(*parts)
        else:
            assert state.endpoints("demo", service) is None


def test_records_are_values() -> None:
    endpoint = Endpoint("10.0.0.1", 80, True, True, False, "p", "demo", "n")
    with pytest.raises(AttributeError):
        endpoint.port = 81  # type: ignore[misc]
