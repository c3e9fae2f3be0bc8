"""Objects → pods and port numbers: kubectl's table of services and ports, and what can never work."""

from typing import Any

import pytest

from portway.client.forwards import ports
from portway.client.forwards.ports import Backend, Hopeless

Object = dict[str, Any]


def service(*listed: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "db"}, "spec": {"clusterIP": "10.0.0.1", "ports": list(listed), **spec}}


def pod(*listed: Object, name: str = "db-0", **status: Any) -> Object:
    return {"metadata": {"name": name, "uid": "u"}, "spec": {"containers": [{"ports": list(listed)}]}, "status": status}


def piece(number: int | None, *endpoints: Object, name: str = "") -> Object:
    return {"ports": [{"name": name, "port": number, "protocol": "TCP"}], "endpoints": list(endpoints)}


def endpoint(name: str, kind: str = "Pod", **conditions: bool) -> Object:
    return {"targetRef": {"kind": kind, "name": name, "uid": f"u-{name}"}, "conditions": conditions}


HTTP = {"name": "http", "port": 80, "targetPort": 8080}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
DNS_TCP = {"name": "dns-tcp", "port": 53, "protocol": "TCP"}


@pytest.mark.parametrize("remote", ["80", "http"])
def test_a_service_port_by_number_and_name(remote: str) -> None:
    assert ports.service_port(service(DNS, HTTP), remote) == HTTP


def test_the_same_number_for_both_protocols_is_the_tcp_one() -> None:
    assert ports.service_port(service(DNS, DNS_TCP), "53") == DNS_TCP


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("53", "port 53 of service db is UDP, which cannot be forwarded"),
        ("dns", "is UDP"),
        ("81", r"does not have a service port 81; it has 53/UDP \(dns\), 80 \(http\)"),
        ("web", "does not have a port named web"),
    ],
)
def test_service_ports_that_can_never_work(remote: str, words: str) -> None:
    with pytest.raises(Hopeless, match=words):
        ports.service_port(service(DNS, HTTP), remote)


def test_an_external_name_has_no_pods() -> None:
    with pytest.raises(Hopeless, match=r"another name for db\.example"):
        ports.service_port(service(HTTP, type="ExternalName", externalName="db.example"), "80")


def test_the_ready_pods_of_all_slices() -> None:
    slices = [
        piece(8080, endpoint("a"), endpoint("b", ready=False), name="http"),
        piece(8081, endpoint("c", ready=True), endpoint("n", kind="Node"), {"addresses": ["10.0.0.9"]}, name="http"),
        piece(9, endpoint("d"), name="other"),
        piece(None, endpoint("e"), name="http"),
    ]
    found = ports.of_slices(slices, service(HTTP), HTTP)
    assert found == {"a": Backend("a", "u-a", 8080), "c": Backend("c", "u-c", 8081)}


def test_a_headless_service_is_not_translated() -> None:
    headless = service(HTTP, clusterIP="None")
    assert ports.of_slices([piece(8080, endpoint("a"), name="http")], headless, HTTP)["a"].port == 80
    assert ports.target_port(pod(), headless, HTTP) == 80


def test_a_service_port_in_a_pod() -> None:
    assert ports.target_port(pod(), service(HTTP), HTTP) == 8080
    assert ports.target_port(pod(), service(DNS_TCP), DNS_TCP) == 53
    named = {"port": 80, "targetPort": "web"}
    assert ports.target_port(pod({"name": "web", "containerPort": 9090}), service(named), named) == 9090


def test_a_pod_port() -> None:
    listening = pod({"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"})
    assert ports.pod_port(listening, "web") == 8080
    assert ports.pod_port(listening, "9999") == 9999
    with pytest.raises(Hopeless, match='Pod "db-0" does not have a named port "nix"'):
        ports.pod_port(listening, "nix")
    for remote in ("dns", "53"):
        with pytest.raises(Hopeless, match="is UDP, which"):
            ports.pod_port(listening, remote)


def test_which_pods_run_and_are_ready() -> None:
    ready = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert ports.is_running(ready)
    assert ports.is_ready(ready)
    assert not ports.is_ready(pod(phase="Running"))
    assert not ports.is_running(pod(phase="Pending"))
    assert not ports.is_running(pod())
    ready["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not ports.is_ready(ready)
