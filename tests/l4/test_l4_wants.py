"""What a service is listened for: a table, and what holds for every service."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client import decode
from portway.client.records import Service
from portway.gateway.l4.wants import (
    CLUSTER,
    EVERYWHERE,
    EXTERNAL,
    HEALTH,
    LOAD_BALANCER,
    NODE_PORT,
    Want,
    Where,
    wants,
)

ALL4, ALL6 = EVERYWHERE
HTTP = {"port": 80, "protocol": "TCP"}
NODE = {"port": 80, "protocol": "TCP", "nodePort": 30080}
OUT = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


def service(status: Any = None, **spec: Any) -> Service:
    spec = {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [HTTP]} | spec
    return decode.service({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec, "status": status or {}})


def want(address: str, port: int, kind: str, *, local: bool = False, sources: Any = (), protocol: str = "TCP") -> Want:
    return Want(Where(protocol, address, port), kind, "", local, tuple(sources))


def ingress(**entry: str) -> Any:
    return {"loadBalancer": {"ingress": [entry]}}


CLUSTER_80 = want("10.96.0.9", 80, CLUSTER)
TABLE: dict[str, tuple[Service, list[Want]]] = {
    "a cluster address": (service(), [CLUSTER_80]),
    "headless": (service(clusterIP="None"), []),
    "external name": (service(type="ExternalName", clusterIP="", externalName="example.com"), []),
    "node port": (service(type="NodePort", ports=[NODE]), [CLUSTER_80, want(ALL4, 30080, NODE_PORT)]),
    "no number for a node port": (service(type="LoadBalancer"), [CLUSTER_80]),
    "external address": (service(externalIPs=["192.0.2.1"]), [CLUSTER_80, want("192.0.2.1", 80, EXTERNAL)]),
    "load balancer": (
        service(ingress(ip="192.0.2.1", ipMode="VIP"), type="LoadBalancer"),
        [CLUSTER_80, want("192.0.2.1", 80, LOAD_BALANCER)],
    ),
    "load balancer of another kind": (
        service(ingress(ip="192.0.2.1", ipMode="Proxy"), type="LoadBalancer"),
        [CLUSTER_80],
    ),
    "load balancer with a name": (service(ingress(hostname="lb.example"), type="LoadBalancer"), [CLUSTER_80]),
    "an address that remained in the status": (service(ingress(ip="192.0.2.1")), [CLUSTER_80]),
    "source ranges": (
        service(ingress(ip="192.0.2.1"), type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.0/24"], ports=[NODE]),
        [
            CLUSTER_80,
            want("192.0.2.1", 80, LOAD_BALANCER, sources=["192.0.2.0/24"]),
            want(ALL4, 30080, NODE_PORT),
        ],
    ),
    "policies": (
        service(ingress(ip="192.0.2.1"), **OUT, ports=[NODE], healthCheckNodePort=30099),
        [
            CLUSTER_80,
            want("192.0.2.1", 80, LOAD_BALANCER, local=True),
            want(ALL4, 30080, NODE_PORT, local=True),
            want(ALL4, 30099, HEALTH, local=True),
        ],
    ),
    "internal policy": (service(internalTrafficPolicy="Local"), [want("10.96.0.9", 80, CLUSTER, local=True)]),
    "two families": (
        service(type="NodePort", clusterIPs=["10.96.0.9", "fd00::9"], ports=[NODE]),
        [CLUSTER_80, want("fd00::9", 80, CLUSTER), want(ALL4, 30080, NODE_PORT), want(ALL6, 30080, NODE_PORT)],
    ),
    "an external address of a family that the service has not": (service(externalIPs=["fd00::1"]), [CLUSTER_80]),
    "one address twice, spelled in two ways": (
        service(
            ingress(ip="2001:db8::1"), type="LoadBalancer", clusterIP="fd00::9", externalIPs=["2001:0db8:0:0::0001"]
        ),
        [want("fd00::9", 80, CLUSTER), want("2001:db8::1", 80, LOAD_BALANCER)],
    ),
    "udp beside tcp": (
        service(ports=[HTTP, {"port": 80, "protocol": "UDP"}]),
        [CLUSTER_80, want("10.96.0.9", 80, CLUSTER, protocol="UDP")],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    given_service, expected = TABLE[name]
    assert list(wants(given_service, EVERYWHERE)) == expected


def test_node_ports_go_to_the_chosen_addresses() -> None:
    found = wants(service(type="NodePort", ports=[NODE]), ("127.0.0.1", "192.0.2.7", "::1"))
    assert [w.where.address for w in found if w.kind == NODE_PORT] == ["127.0.0.1", "192.0.2.7"]


def test_the_older_annotation_has_source_ranges_too() -> None:
    annotations = {decode.SOURCE_RANGES: "192.0.2.0/24, 198.51.100.0/24"}
    spec = {"type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [HTTP]}
    metadata = {"namespace": "ns", "name": "web", "annotations": annotations}
    made = decode.service({"metadata": metadata, "spec": spec})
    assert made.exposure.source_ranges == ("192.0.2.0/24", "198.51.100.0/24")


addresses = st.sampled_from(["10.96.0.9", "fd00::9", "192.0.2.1", "2001:db8::1"])
numbers = st.integers(1, 65535)
ports = st.builds(
    lambda port, protocol, node: {"port": port, "protocol": protocol, "nodePort": node},
    numbers,
    st.sampled_from(["TCP", "UDP", "SCTP"]),
    st.just(0) | numbers,
)
services = st.builds(
    lambda **spec: service(ingress(ip=spec.pop("balanced")), **spec),
    balanced=addresses,
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    clusterIPs=st.lists(addresses, min_size=1, max_size=2, unique=True),
    externalIPs=st.lists(addresses, max_size=3),
    ports=st.lists(ports, max_size=4),
    healthCheckNodePort=st.just(0) | numbers,
)


@given(services)
def test_no_place_is_named_twice_and_families_are_not_mixed(made: Service) -> None:
    found = wants(made, EVERYWHERE)
    assert len({w.where for w in found}) == len(found)
    families = {":" in address for address in made.exposure.cluster_ips}
    assert {":" in w.where.address for w in found} <= families
