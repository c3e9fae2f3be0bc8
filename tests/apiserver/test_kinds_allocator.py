"""Ranges of addresses and ports, and what is handed out of them: unique, within bounds, in upstream's order."""

from __future__ import annotations

import asyncio
import ipaddress
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.allocator import (
    AddressRange,
    AllocationError,
    Allocator,
    Claims,
    Held,
    NumberRange,
    held_by,
    port_range,
)
from portway.kube.objects import Object
from portway.testing.claims import MemoryClaims

SERVICE: Object = {"namespace": "demo", "name": "web"}


@given(st.sets(st.integers(0, 20)), st.integers(0, 25))
def test_candidates_are_all_that_are_free_the_reserved_ones_last(taken: set[int], reserved: int) -> None:
    numbers = NumberRange(0, 20, reserved)
    found = list(numbers.candidates(taken.__contains__))
    assert sorted(found) == sorted(set(range(21)) - taken)
    upper = [number >= reserved for number in found]
    assert upper == sorted(upper, reverse=True)


@pytest.mark.parametrize(
    ("cidr", "first", "last", "count"),
    [
        ("10.0.0.0/29", "10.0.0.1", "10.0.0.6", 6),
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254),
        ("fd00::/125", "fd00::1", "fd00::7", 7),
    ],
)
def test_every_usable_address_of_a_range_is_a_candidate_once(cidr: str, first: str, last: str, count: int) -> None:
    pool = AddressRange(cidr)
    found = list(pool.candidates(lambda _: False))
    assert len(found) == len(set(found)) == count
    assert min(found, key=ipaddress.ip_address) == first == pool.first
    assert max(found, key=ipaddress.ip_address) == last
    assert all(address in pool for address in found)


def test_a_range_beyond_64_bits_is_used_in_its_first_part() -> None:
    for address in islice(AddressRange("fd00::/16").candidates(lambda _: False), 3):
        assert ipaddress.IPv6Address(address) < ipaddress.IPv6Address("fd00::1:0:0:0:0")


def allocator(claims: Claims, *families: str) -> Allocator:
    return Allocator(families or ("IPv4",), (30000, 30200), claims)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("10.0.0.0", r"the provided IP \(10.0.0.0\) is not in the valid range. The range of valid IPs is 10.0.0.0/24"),
        ("10.0.0.255", "not in the valid range"),
        ("10.0.1.1", "not in the valid range"),
        ("fd00::1", "not in the valid range"),
        ("10.0.0.7", "^provided IP is already allocated$"),
        ("10.0.0.8", "^provided IP is already allocated$"),
    ],
)
def test_an_address_that_cannot_be_had(wanted: str, why: str) -> None:
    claims = MemoryClaims("10.0.0.0/24", held=["10.0.0.7"], unseen=["10.0.0.8"])
    with pytest.raises(AllocationError, match=why):
        asyncio.run(allocator(claims).this_address(wanted, SERVICE, dry_run=False))
    assert claims.held == {"10.0.0.7"}


def test_ports_that_cannot_be_had() -> None:
    claims = MemoryClaims(held=[30001], unseen=[30002])
    ports = allocator(claims)
    for port in (30001, 30002):
        with pytest.raises(AllocationError, match=r"^provided port is already allocated$"):
            asyncio.run(ports.this_port(port, SERVICE, dry_run=False))
    for port in (29999, 30201):
        with pytest.raises(AllocationError, match=r"The range of valid ports is 30000-30200$"):
            asyncio.run(ports.this_port(port, SERVICE, dry_run=False))
    assert asyncio.run(ports.port(SERVICE, dry_run=False)) >= 30016
    assert next(port_range(30000, 32767).candidates(lambda _: False)) >= 30086


def test_what_somebody_faster_took_is_passed_over() -> None:
    claims = MemoryClaims("10.0.0.0/30", unseen=["10.0.0.2", *range(30000, 30200)])
    assert asyncio.run(allocator(claims).address("IPv4", SERVICE, dry_run=False)) == "10.0.0.1"
    assert asyncio.run(allocator(claims).port(SERVICE, dry_run=False)) == 30200
    for attempt in (
        allocator(claims).address("IPv4", SERVICE, dry_run=False),
        allocator(claims).port(SERVICE, dry_run=False),
    ):
        with pytest.raises(AllocationError, match=r"^range is full$"):
            asyncio.run(attempt)


def test_a_full_range_is_followed_by_the_next_of_its_family() -> None:
    claims = MemoryClaims("10.0.0.0/30", "fd00::/126", "10.1.0.0/30", held=["10.0.0.1", "10.0.0.2"])
    addresses = {asyncio.run(allocator(claims).address("IPv4", SERVICE, dry_run=False)) for _ in range(2)}
    assert addresses == {"10.1.0.1", "10.1.0.2"}
    assert asyncio.run(allocator(claims).address("IPv6", SERVICE, dry_run=False)).startswith("fd00::")


def test_a_dry_run_takes_nothing_and_still_gives_different_ones() -> None:
    claims = MemoryClaims("10.0.0.0/24")
    found = allocator(claims)
    asyncio.run(found.address("IPv4", SERVICE, dry_run=True))
    asyncio.run(found.this_address("10.0.0.9", SERVICE, dry_run=True))
    given = {asyncio.run(found.port(SERVICE, dry_run=True))}
    tried = {*range(30000, 30200)}
    assert asyncio.run(found.port(SERVICE, dry_run=True, tried=tried)) == 30200
    assert 30200 in tried
    assert given
    assert claims.held == set()


@pytest.mark.parametrize(
    ("spec", "held"),
    [
        (
            {"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "FD00::1"]},
            {"10.0.0.9", "fd00::1"},
        ),
        ({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}, set()),
        ({"type": "ExternalName", "externalName": "example.com"}, set()),
        ({"type": "NodePort", "ports": [{"nodePort": 30005}, {"nodePort": 30005}, {}]}, {30005}),
        ({"type": "LoadBalancer", "healthCheckNodePort": 30006}, {30006}),
        ({}, set()),
    ],
)
def test_what_a_service_holds(spec: Object, held: set[Held]) -> None:
    assert held_by({"spec": spec}) == held
