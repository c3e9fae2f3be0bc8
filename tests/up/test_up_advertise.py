"""Where a door that is bound to all addresses is for others: the interface with the default route."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token
from portway.testing.namespaces import (
    CLIENT4,
    CLIENT6,
    SERVER4,
    SERVER6,
    Network,
    api_version,
    entered,
    ip,
    network,
    possible,
)
from portway.up.hostaddress import default_interfaces4, default_interfaces6, fitting, of_door

ALONE = pytest.mark.skipif(not possible(), reason="needs root and network namespaces")
HEAD4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NONE6 = "0" * 32


def route4(name: str, destination: str, flags: str, metric: int, mask: str) -> str:
    return f"{name}\t{destination}\t010200C0\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def route6(name: str, destination: str, length: str, flags: str, metric: str) -> str:
    return f"{destination} {length} {NONE6} 00 {NONE6} {metric} 00000001 00000000 {flags} {name:>8}\n"


@pytest.mark.parametrize(
    ("table", "interfaces"),
    [
        ("", []),
        (HEAD4, []),
        (HEAD4 + route4("eth0", "000200C0", "0001", 0, "00FFFFFF"), []),
        (HEAD4 + route4("eth0", "00000000", "0003", 0, "00000000"), ["eth0"]),
        (HEAD4 + route4("tun0", "00000000", "0003", 0, "00000080"), []),
        (HEAD4 + route4("eth0", "00000000", "0002", 0, "00000000"), []),
        (HEAD4 + route4("*", "00000000", "0201", 0, "00000000"), []),
        (
            HEAD4
            + route4("wlan0", "00000000", "0003", 600, "00000000")
            + route4("eth0", "00000000", "0003", 100, "00000000"),
            ["eth0", "wlan0"],
        ),
    ],
)
def test_default_routes_of_ipv4(table: str, interfaces: list[str]) -> None:
    assert default_interfaces4(table) == interfaces


@pytest.mark.parametrize(
    ("table", "interfaces"),
    [
        ("", []),
        (route6("lo", NONE6, "00", "00200200", "ffffffff"), []),
        (route6("eth0", "fe8" + "0" * 29, "40", "00000001", "00000100"), []),
        (
            route6("eth1", NONE6, "00", "00000003", "00000400") + route6("eth0", NONE6, "00", "00000003", "00000064"),
            ["eth0", "eth1"],
        ),
    ],
)
def test_default_routes_of_ipv6(table: str, interfaces: list[str]) -> None:
    assert default_interfaces6(table) == interfaces


def test_addresses_that_say_nothing_elsewhere_are_passed_over() -> None:
    told = ["127.0.0.1", "169.254.0.1", "192.0.2.1", "fe80::1", "::1", "2001:db8::1", "192.0.2.2"]
    assert fitting(told, 4) == ["192.0.2.1", "192.0.2.2"]
    assert fitting(told, 6) == ["2001:db8::1"]


@given(st.ip_addresses().filter(lambda address: not address.is_unspecified).map(str), st.sampled_from([4, 6]))
def test_a_door_on_one_address_is_there(address: str, family: int) -> None:
    assert of_door(address, family) == address


@pytest.fixture
def wires() -> Iterator[Network]:
    with network() as made:
        yield made


@ALONE
@pytest.mark.slow
def test_the_kernel_s_default_route_decides(wires: Network) -> None:
    def told() -> list[str]:
        with entered(wires.server):
            return [of_door(bound, family) for bound in ("0.0.0.0", "::") for family in (4, 6)]

    assert told() == ["127.0.0.1", "127.0.0.1", "127.0.0.1", "::1"]
    ip("-n", wires.server, "route", "add", "default", "via", CLIENT6)
    assert told() == ["127.0.0.1", "127.0.0.1", SERVER6, SERVER6]
    ip("-n", wires.server, "route", "add", "default", "via", CLIENT4)
    assert told() == [SERVER4, SERVER4, SERVER4, SERVER6]


@ALONE
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("port", [6443, 443])
def test_a_door_on_all_addresses_is_reached_by_what_default_kubernetes_says(
    wires: Network, tmp_path: Path, port: int
) -> None:
    ip("-n", wires.server, "route", "add", "default", "via", CLIENT4)
    with (
        entered(wires.server),
        started(
            tmp_path, "--service-interface=services0", workers=1, reach=(), address="0.0.0.0", port=port
        ) as cluster,
    ):
        assert doors(cluster) == [(SERVER4, port)]
        assert "200 OK" in api_version(wires, cluster, SERVER4, port)
        wait_until(
            lambda: "200 OK" in api_version(wires, cluster, "10.96.0.1", 443), "its cluster address is not served"
        )
        service = cluster.request("GET", "/api/v1/namespaces/default/services/kubernetes", admin_token(cluster))[1]
        assert "conditions" not in json.loads(service)["status"]


def doors(cluster: Cluster) -> list[tuple[str, int]]:
    found = json.loads(
        cluster.request("GET", "/api/v1/namespaces/default/endpoints/kubernetes", admin_token(cluster))[1]
    )
    return [(one["ip"], part["ports"][0]["port"]) for part in found["subsets"] for one in part["addresses"]]
