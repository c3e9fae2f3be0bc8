"""default/kubernetes leads to the door, on loopback too; no other service does, and it leads nowhere else there."""

import contextlib
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.l4.addresses import Addresses
from portway.gateway.l4.dialled import EndpointPolicy
from portway.gateway.l4.listeners import KUBERNETES, Listeners
from portway.gateway.l4.wants import Where
from portway.testing.cluster import free_port, wait_until
from portway.testing.services import Server, Wire, endpoint, fetch, saying, service_address, serving

PODS = ("127.64.0.0/10",)
OTHER = "default", "web"
LOCAL = {"192.0.2.1", "2001:db8::1", "127.0.0.1", "::1", "10.96.0.1"}
BOUND: dict[str, tuple[str, tuple[str, ...]]] = {
    "loopback": ("127.0.0.1", ("127.0.0.1", "::ffff:127.0.0.1")),
    "loopback, IPv6": ("::1", ("::1", "0:0:0:0:0:0:0:1")),
    "one address": ("192.0.2.1", ("192.0.2.1", "::ffff:192.0.2.1")),
    "all of IPv4": ("0.0.0.0", ("127.0.0.1", "127.0.0.9", "192.0.2.1", "::ffff:192.0.2.1")),
    "all": ("::", ("::1", "2001:db8::1", "127.0.0.1", "192.0.2.1")),
}
"""What the door is bound to, and the addresses by which an endpoint would be it."""


def policy(bound: str, cidrs: tuple[str, ...] = PODS, owners: Any = ()) -> EndpointPolicy:
    """The door's TLS listener on 6443, its plain one on 127.0.0.1:8080."""
    addresses = Addresses("", own=False)
    addresses.local = set(LOCAL)
    listeners = Listeners.__new__(Listeners)
    listeners.owners, listeners._addresses = dict(owners), addresses
    doors = ((bound, 6443), ("127.0.0.1", 8080))
    return EndpointPolicy(cidrs, doors, doors[0], addresses, listeners)


@pytest.mark.parametrize("name", BOUND)
def test_only_default_kubernetes_may_lead_to_the_door_and_only_by_tcp(name: str) -> None:
    bound, spelled = BOUND[name]
    decides = policy(bound)
    for address in spelled:
        assert decides.allows(KUBERNETES, "TCP", address, 6443)
        assert not decides.allows(KUBERNETES, "UDP", address, 6443)
        for key in (OTHER, ("kube-system", "kubernetes"), ("default", "kubernetes-4-6443")):
            assert not decides.allows(key, "TCP", address, 6443)


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"])
@pytest.mark.parametrize("port", [22, 8080, 10250])
def test_it_leads_nowhere_else_on_this_machine_s_loopback(name: str, address: str, port: int) -> None:
    assert not policy(BOUND[name][0]).allows(KUBERNETES, "TCP", address, port)


def test_a_range_of_pods_over_the_door_s_address_makes_it_nobody_s_endpoint() -> None:
    decides = policy("127.0.0.1", ("127.0.0.0/8",))
    assert not decides.allows(OTHER, "TCP", "127.0.0.1", 6443)
    assert not decides.allows(OTHER, "TCP", "127.0.0.1", 8080)
    assert not decides.allows(KUBERNETES, "TCP", "127.0.0.1", 8080)
    assert decides.allows(OTHER, "TCP", "127.0.0.1", 8081)


def test_doors_of_other_machines_are_endpoints_like_any() -> None:
    decides = policy("0.0.0.0")
    assert decides.allows(KUBERNETES, "TCP", "192.0.2.9", 6443)
    assert not policy("127.0.0.1").allows(KUBERNETES, "TCP", "127.0.0.2", 6443)


def test_a_node_port_over_udp_of_the_door_s_number_takes_nothing_from_it() -> None:
    decides = policy("127.0.0.1", owners={Where("UDP", "0.0.0.0", 6443): OTHER})
    assert decides.allows(KUBERNETES, "TCP", "127.0.0.1", 6443)


@given(st.text(max_size=40) | st.ip_addresses().map(str), st.sampled_from([6443, 8080, 1]))
def test_whatever_an_endpoint_says_it_is_decided(address: str, port: int) -> None:
    for bound in ("0.0.0.0", "::", "127.0.0.1"):
        assert policy(bound).allows(OTHER, "TCP", address, port) in (True, False)


def described(wire: Wire, name: str, namespace: str, door: Server) -> str:
    """A service of one port whose only endpoint is the door; its address."""
    ports = [{"name": "https", "port": 443, "protocol": "TCP"}]
    address = wire.service(name, "", *ports, namespace=namespace)
    listed = [{"name": "https", "port": door.port, "protocol": "TCP"}]
    wire.endpoints(name, endpoint(door.address), port=door.port, ports=listed, namespace=namespace)
    return address


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_cluster_address_of_default_kubernetes_is_answered_by_the_door_and_no_other(host: str) -> None:
    with contextlib.closing(Server(saying(b"door"), socket.create_server(("127.0.0.1", free_port())))) as door:
        place = (host, door.port)
        with serving(door=(place,), api_door=place) as wire:
            kubernetes = described(wire, "kubernetes", "default", door)
            others = [described(wire, "kubernetes", "web", door), described(wire, "web", "default", door)]
            assert fetch(kubernetes, 443) == b"door"
            assert [fetch(address, 443) for address in others] == [b"", b""]
            assert len(door.peers) == 1


def test_a_door_on_all_addresses_and_the_service_s_port_answers_there_itself() -> None:
    address, number = service_address(), free_port()
    port = {"name": "https", "port": number, "protocol": "TCP"}
    with (
        contextlib.closing(Server(saying(b"door"), socket.create_server((address, number)))),
        serving(door=(("0.0.0.0", number),), api_door=("0.0.0.0", number)) as wire,
    ):
        wire.service("kubernetes", address, port, namespace="default")
        other = wire.service("web", "", port, namespace="default")
        wait_until(lambda: wire.written.events, "no Event")
        assert fetch(address, number) == b"door"
        (told,) = wire.written.events
        assert told["message"] == f"cluster address {other}:{number}/TCP cannot be served: the door listens there"
        wire.service("kubernetes", address, port, namespace="default", internalTrafficPolicy="Local")
        wire.apply("services", {"metadata": {"namespace": "default", "name": "kubernetes"}}, "DELETED")
        assert fetch(address, number) == b"door"
        assert wire.call(listened(wire)) == []


async def listened(wire: Wire) -> list[Where]:
    return [*wire.proxy._listeners.owners]
