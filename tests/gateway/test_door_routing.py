"""Which target an id means: upstream's tables (storage_test.go of services, pods and nodes), and the default port."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client.records import Service, ServicePort
from portway.client.view import ClusterView
from portway.gateway.routing import Location, Router, service_port
from portway.gateway.upstream.addresses import AddressPolicy
from portway.kube.errors import BadRequest, NotFound, ServiceUnavailable, StatusError
from portway.kube.proxyurl import TargetId, parse_id


def pod(view: ClusterView, name: str, *ips: str, ports: list[list[dict[str, Any]]] | None = None) -> None:
    containers = [{"name": f"c{i}", "ports": p} for i, p in enumerate(ports or [])]
    status = {"podIPs": [{"ip": ip} for ip in ips]}
    meta = {"name": name, "namespace": "ns", "uid": name}
    view.apply("pods", "ADDED", {"metadata": meta, "spec": {"containers": containers}, "status": status})


def service(view: ClusterView, name: str, ports: list[dict[str, Any]], **spec: Any) -> None:
    meta = {"name": name, "namespace": "ns", "uid": name}
    view.apply("services", "ADDED", {"metadata": meta, "spec": {"ports": ports, **spec}})


def endpoints(
    view: ClusterView, name: str, ports: dict[str, int], *addresses: tuple[str, str], **conditions: bool
) -> None:
    """A slice of the service: (address, pod) each."""
    meta = {"name": f"{name}-{len(conditions)}", "namespace": "ns", "uid": "u"}
    meta["labels"] = {"kubernetes.io/service-name": name}  # type: ignore[assignment]
    listed = [
        {"addresses": [a], "conditions": conditions, "targetRef": {"kind": "Pod", "name": p, "namespace": "ns"}}
        for a, p in addresses
    ]
    shown = [{"name": n, "port": number, "protocol": "TCP"} for n, number in ports.items()]
    view.apply(
        "endpointslices", "ADDED", {"metadata": meta, "addressType": "IPv4", "ports": shown, "endpoints": listed}
    )


@pytest.fixture
def view() -> ClusterView:
    """Upstream's fixture."""
    view = ClusterView()
    for name in ("unnamed", "unnamed2", "no-endpoints"):
        service(view, name, [{"port": 93, "targetPort": 80}])
    service(view, "named", [{"name": "p", "port": 93, "targetPort": 80}, {"name": "q", "port": 76, "targetPort": 81}])
    pod(view, "unnamed", "1.2.3.4", "1.2.3.5")
    pod(view, "named", "1.2.3.6")
    endpoints(view, "unnamed", {"": 80}, ("1.2.3.4", "unnamed"))
    endpoints(view, "unnamed2", {"": 80}, ("1.2.3.5", "unnamed"))
    endpoints(view, "named", {"p": 80, "q": 81}, ("1.2.3.6", "named"))
    return view


def located(view: ClusterView, resource: str, id_: str, **settings: bool) -> Location:
    return Router(view, AddressPolicy(), **settings).locate(resource, "ns", parse_id(resource, id_))


@pytest.mark.parametrize(
    ("id_", "address", "tls"),
    [
        ("unnamed", ("1.2.3.4", 80), False),
        ("unnamed:", ("1.2.3.4", 80), False),
        ("unnamed:93", ("1.2.3.4", 80), False),
        ("http:unnamed:", ("1.2.3.4", 80), False),
        ("http:unnamed:93", ("1.2.3.4", 80), False),
        ("https:unnamed:", ("1.2.3.4", 80), True),
        ("unnamed2", ("1.2.3.5", 80), False),
        ("named:p", ("1.2.3.6", 80), False),
        ("named:93", ("1.2.3.6", 80), False),
        ("named:+93", ("1.2.3.6", 80), False),
        ("named:093", ("1.2.3.6", 80), False),
        ("named:q", ("1.2.3.6", 81), False),
        ("named:76", ("1.2.3.6", 81), False),
        ("http:named:p", ("1.2.3.6", 80), False),
        ("http:named:q", ("1.2.3.6", 81), False),
        ("https:named:q", ("1.2.3.6", 81), True),
    ],
)
def test_services(view: ClusterView, id_: str, address: tuple[str, int], tls: bool) -> None:
    found = located(view, "services", id_)
    assert (found.addresses, found.tls) == ((address,), tls)


@pytest.mark.parametrize(
    ("id_", "kind", "message"),
    [
        ("unnamed:80", ServiceUnavailable, 'no service port 80 found for service "unnamed"'),
        ("named:bad", ServiceUnavailable, 'no endpoints available for service "named:bad"'),
        ("http:named:bad", ServiceUnavailable, 'no endpoints available for service "http:named:bad"'),
        ("named:-93", ServiceUnavailable, 'no service port -93 found for service "named"'),
        ("no-endpoints", NotFound, 'services "no-endpoints" not found'),
        ("non-existent", NotFound, 'services "non-existent" not found'),
        ("non-existent:93", NotFound, 'services "non-existent" not found'),
    ],
)
def test_services_that_cannot_be_had(view: ClusterView, id_: str, kind: type[StatusError], message: str) -> None:
    with pytest.raises(kind) as caught:
        located(view, "services", id_)
    assert caught.value.message == message


def test_only_ready_endpoints_serve_unless_all_are_leaving(view: ClusterView) -> None:
    endpoints(view, "unnamed", {"": 80}, ("1.2.3.5", "unnamed"), ready=False)
    assert located(view, "services", "unnamed").addresses == (("1.2.3.4", 80),)
    service(view, "leaving", [{"port": 1}])
    endpoints(view, "leaving", {"": 80}, ("1.2.3.4", "unnamed"), ready=False, serving=True, terminating=True)
    assert located(view, "services", "leaving").addresses == (("1.2.3.4", 80),)
    service(view, "down", [{"port": 1}])
    endpoints(view, "down", {"": 80}, ("1.2.3.4", "unnamed"), ready=False, serving=False, terminating=True)
    with pytest.raises(ServiceUnavailable):
        located(view, "services", "down")


def test_an_external_name_is_the_operators_decision(view: ClusterView) -> None:
    service(view, "outside", [{"port": 443}], type="ExternalName", externalName="db.example")
    with pytest.raises(NotFound):
        located(view, "services", "outside")
    found = located(view, "services", "https:outside:", external_names=True)
    assert (found.addresses, found.host, found.port, found.tls) == ((), "db.example", 443, True)


# pods

V6 = "fd00:10:244:0:2::6b"
PORT: list[list[dict[str, Any]]] = [[{"containerPort": 9376}]]


@pytest.mark.parametrize(
    ("ips", "ports", "id_", "address"),
    [
        (["1.2.3.4"], None, "foo", ("1.2.3.4", 80)),
        (["1.2.3.4"], [[]], "foo", ("1.2.3.4", 80)),
        (["1.2.3.4"], None, "https:foo:", ("1.2.3.4", 443)),
        (["1.2.3.4"], None, "foo:12345", ("1.2.3.4", 12345)),
        ([V6], None, "foo", (V6, 80)),
        (["1.2.3.4"], PORT, "foo", ("1.2.3.4", 9376)),
        (["1.2.3.4"], PORT, "foo:12345", ("1.2.3.4", 12345)),
        (["1.2.3.4"], [[], *PORT], "foo", ("1.2.3.4", 9376)),
        (["1.2.3.4"], [*PORT, [{"containerPort": 1234}]], "foo", ("1.2.3.4", 9376)),
        (["1.2.3.4", V6], PORT, "foo", ("1.2.3.4", 9376)),
        ([V6, "1.2.3.4"], PORT, "foo", (V6, 9376)),
        (["1.2.3.4"], [*PORT, [{"name": "web", "containerPort": 1234}]], "foo:web", ("1.2.3.4", 1234)),
    ],
)
def test_pods(ips: list[str], ports: Any, id_: str, address: tuple[str, int]) -> None:
    view = ClusterView()
    pod(view, "foo", *ips, ports=ports)
    assert located(view, "pods", id_).addresses == (address,)


@pytest.mark.parametrize(
    ("ips", "id_", "kind", "message"),
    [
        ([], "foo", BadRequest, "address not allowed"),
        (["127.0.0.1"], "foo", BadRequest, "address not allowed"),
        (["169.254.1.1"], "foo", BadRequest, "address not allowed"),
        (["1.2.3.4"], "foo:http", BadRequest, 'pod "foo" has no port named "http"'),
        (["1.2.3.4"], "foo:-1", BadRequest, 'pod "foo" has no port named "-1"'),
        (["1.2.3.4"], "foo:0", ServiceUnavailable, "error trying to reach service: invalid port 0"),
        (["1.2.3.4"], "foo:65536", ServiceUnavailable, "error trying to reach service: invalid port 65536"),
        (["1.2.3.4"], "foo:" + "9" * 40, ServiceUnavailable, "error trying to reach service: invalid port " + "9" * 40),
        (["1.2.3.4"], "bar", NotFound, 'pods "bar" not found'),
    ],
)
def test_pods_that_cannot_be_had(ips: list[str], id_: str, kind: type[StatusError], message: str) -> None:
    view = ClusterView()
    pod(view, "foo", *ips)
    with pytest.raises(kind) as caught:
        located(view, "pods", id_)
    assert caught.value.message == message


def test_a_port_name_that_two_containers_declare_is_the_firsts() -> None:
    view = ClusterView()
    pod(view, "foo", "1.2.3.4", ports=[[{"name": "web", "containerPort": 1}], [{"name": "web", "containerPort": 2}]])
    assert located(view, "pods", "foo:web").addresses == (("1.2.3.4", 1),)
    assert "foo:web" in located(view, "pods", "foo:1").spellings
    assert "foo:web" not in located(view, "pods", "foo:2").spellings


# nodes


def node(*addresses: tuple[str, str], kubelet: int = 0) -> ClusterView:
    view = ClusterView()
    status: dict[str, Any] = {"addresses": [{"type": t, "address": a} for t, a in addresses]}
    if kubelet:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": kubelet}}
    view.apply("nodes", "ADDED", {"metadata": {"name": "node0", "uid": "n"}, "status": status})
    return view


@pytest.mark.parametrize(
    ("kubelet", "id_", "address", "tls"),
    [
        (0, "node0", ("10.0.0.1", 10250), True),
        (0, "node0:10250", ("10.0.0.1", 10250), True),
        (0, "http:node0:10250", ("10.0.0.1", 10250), True),
        (0, "node0:5000", ("10.0.0.1", 5000), False),
        (0, "https:node0:5000", ("10.0.0.1", 5000), True),
        (5000, "node0", ("10.0.0.1", 5000), True),
        (5000, "node0:10250", ("10.0.0.1", 10250), False),
    ],
)
def test_nodes(kubelet: int, id_: str, address: tuple[str, int], tls: bool) -> None:
    found = located(node(("InternalIP", "10.0.0.1"), kubelet=kubelet), "nodes", id_)
    assert (found.addresses, found.tls) == ((address,), tls)


@pytest.mark.parametrize(
    ("addresses", "host"),
    [
        ([("InternalIP", "10.0.0.1"), ("Hostname", "node0.example")], "node0.example"),
        ([("ExternalIP", "1.2.3.4"), ("InternalDNS", "node0.internal")], "node0.internal"),
        ([("ExternalIP", "1.2.3.4"), ("ExternalDNS", "node0.example")], "node0.example"),
    ],
)
def test_the_preferred_address_of_a_node(addresses: list[tuple[str, str]], host: str) -> None:
    found = located(node(*addresses), "nodes", "node0")
    assert (found.addresses, found.host, found.port) == ((), host, 10250)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "127.1", "2130706433", "::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"])  # fmt: skip
@pytest.mark.parametrize(("id_", "kubelet"), [("node0", 0), ("node0:5000", 0), ("node0", 443)])
def test_nodes_with_special_addresses(address: str, id_: str, kubelet: int) -> None:
    with pytest.raises(BadRequest, match=r"^address not allowed$"):
        located(node(("InternalIP", address), kubelet=kubelet), "nodes", id_)


def test_a_node_without_addresses() -> None:
    with pytest.raises(StatusError) as caught:
        located(node(("Odd", "x"), ("Even", "y")), "nodes", "node0")
    assert (caught.value.code, caught.value.message) == (500, "no preferred addresses found; known addresses: [x y]")


# the default port


def made(*ports: tuple[str, int] | tuple[str, int, str] | tuple[str, int, str, str]) -> Service:
    """A service of (name, number, protocol = TCP, app protocol = "")."""
    found = []
    for name, number, *rest in ports:
        protocol, app = [*rest, "TCP", ""][0], [*rest, "", ""][1] if len(rest) > 1 else ""
        found.append(ServicePort(name, number, str(protocol), number, str(app), 0))
    return Service("ns", "web", "u", "ClusterIP", tuple(found), "", "", {}, False, "None")


@pytest.mark.parametrize(
    ("ports", "plain", "tls"),
    [
        ([("", 93)], 93, 93),
        ([("x", 93)], 93, 93),
        ([("", 1), ("x", 2)], 1, 1),
        ([("dns", 53, "UDP"), ("x", 93)], 93, 93),
        ([("dns", 53, "UDP")], 53, 53),
        ([("http", 80), ("https", 443)], 80, 443),
        ([("https", 443), ("http", 80)], 80, 443),
        ([("http", 1), ("metrics", 2)], 1, None),
        ([("http-web", 1), ("metrics", 2)], 1, None),
        ([("http-a", 1), ("http-b", 2)], None, None),
        ([("http", 1), ("http-b", 2)], 1, None),
        ([("a", 80), ("b", 9090)], 80, None),
        ([("a", 8080), ("b", 9090)], 8080, None),
        ([("a", 80), ("b", 8080)], None, None),
        ([("a", 443), ("b", 9090)], None, 443),
        ([("https-x", 80), ("b", 8080)], 8080, 80),
        ([("a", 1, "TCP", "http"), ("b", 2, "TCP", "https")], 1, 2),
        ([("http", 80, "TCP", "kubernetes.io/h2c"), ("b", 2, "TCP", "HTTP")], 2, None),
        ([("a", 1), ("b", 2)], None, None),
        ([], None, None),
    ],
    ids=str,
)
def test_the_port_that_is_evidently_meant(ports: Any, plain: int | None, tls: int | None) -> None:
    for schemes, expected in ((("", "http"), plain), (("https",), tls)):
        for scheme in schemes:
            target = TargetId(scheme, "web", "")
            if expected is None:
                with pytest.raises(ServiceUnavailable) as caught:
                    service_port(made(*ports), target)
                assert 'no port of service "web" is evidently meant' in caught.value.message
            else:
                assert service_port(made(*ports), target).number == expected


def test_what_may_be_named_is_said() -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        service_port(made(("a", 1), ("b", 2)), TargetId("https", "web", ""))
    assert caught.value.message.endswith('name one of: "https:web:a", "https:web:b"')


ports = st.lists(
    st.tuples(st.sampled_from(["a", "b", "http", "https", "http-x", "443"]), st.sampled_from([80, 443, 8080, 1])),
    max_size=4,
    unique_by=lambda p: p[0],
)


@given(
    ports, st.sampled_from(["", "http", "https"]), st.sampled_from(["", "80", "443", "a", "b", "http", "https", "x"])
)
def test_every_spelling_leads_to_the_same_port(declared: list[tuple[str, int]], scheme: str, port: str) -> None:
    """The heart of authorisation by name: what counts as equal to an id is equal to it."""
    view = ClusterView()
    service(view, "web", [{"name": n, "port": number} for n, number in declared])
    pod(view, "p", "10.0.0.1")
    endpoints(view, "web", {n: 1000 + i for i, (n, _) in enumerate(declared)}, ("10.0.0.1", "p"))
    router = Router(view, AddressPolicy())
    try:
        found = router.locate("services", "ns", TargetId(scheme, "web", port))
    except StatusError:
        return
    for spelling in found.spellings:
        same = router.locate("services", "ns", parse_id("services", spelling))
        assert (same.addresses, same.tls) == (found.addresses, found.tls)
        assert set(same.spellings) == set(found.spellings)
