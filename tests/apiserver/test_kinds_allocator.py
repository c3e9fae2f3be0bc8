"""Ranges of addresses and ports: unique, within bounds, given back, and the same after a restart."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.allocator import AddressRange, AllocationError, Allocator, NumberRange, PortRange

OPERATIONS = st.lists(st.tuples(st.sampled_from(["next", "take", "give"]), st.integers(0, 20)), max_size=80)


@given(OPERATIONS, st.integers(0, 25))
def test_numbers_are_unique_and_come_back(operations: list[tuple[str, int]], reserved: int) -> None:
    numbers, model = NumberRange(0, 20, reserved), set[int]()
    for operation, number in operations:
        if operation == "take":
            assert numbers.take(number) == (number not in model)
            model.add(number)
        elif operation == "give":
            numbers.give_back(number)
            model.discard(number)
        elif len(model) == 21:
            with pytest.raises(AllocationError, match=r"^range is full$"):
                numbers.next()
        else:
            found = numbers.next()
            assert found not in model
            assert 0 <= found <= 20
            # The reserved ones are only picked when the others are gone.
            assert found >= reserved or all(upper in model for upper in range(min(reserved, 21), 21))
            model.add(found)


@pytest.mark.parametrize(
    ("cidr", "first", "last", "count"),
    [
        ("10.0.0.0/29", "10.0.0.1", "10.0.0.6", 6),
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254),
        ("fd00::/125", "fd00::1", "fd00::7", 7),
    ],
)
def test_every_usable_address_of_a_range_is_handed_out_once(cidr: str, first: str, last: str, count: int) -> None:
    pool = AddressRange(cidr)
    found = {pool.next() for _ in range(count)}
    assert len(found) == count
    assert min(found, key=ipaddress.ip_address) == first
    assert max(found, key=ipaddress.ip_address) == last
    with pytest.raises(AllocationError, match="range is full"):
        pool.next()
    pool.give_back(last)
    assert pool.next() == last


def test_a_range_beyond_64_bits_is_used_in_its_first_part() -> None:
    pool = AddressRange("fd00::/16")
    assert ipaddress.IPv6Address(pool.next()) < ipaddress.IPv6Address("fd00::1:0:0:0:0")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("10.0.0.0", r"the provided IP \(10.0.0.0\) is not in the valid range. The range of valid IPs is 10.0.0.0/24"),
        ("10.0.0.255", "not in the valid range"),
        ("10.0.1.1", "not in the valid range"),
        ("fd00::1", "not in the valid range"),
        ("10.0.0.7", "^provided IP is already allocated$"),
    ],
)
def test_an_address_that_cannot_be_had(wanted: str, why: str) -> None:
    pool = AddressRange("10.0.0.0/24")
    pool.take("10.0.0.7")
    with pytest.raises(AllocationError, match=why):
        pool.take(wanted)


def test_ports_that_cannot_be_had() -> None:
    pool = PortRange(30000, 32767)
    pool.take(30001)
    with pytest.raises(AllocationError, match=r"^provided port is already allocated$"):
        pool.take(30001)
    for port in (29999, 32768):
        with pytest.raises(AllocationError, match=r"The range of valid ports is 30000-32767$"):
            pool.take(port)
    assert pool.next() >= 30086


def service(name: str, kind: str = "ClusterIP", **spec: object) -> dict[str, object]:
    return {"metadata": {"namespace": "demo", "name": name}, "spec": {"type": kind, **spec}}


def test_what_stored_services_hold_is_taken_after_a_restart() -> None:
    allocator = Allocator("10.0.0.0/24", (30000, 30100))
    problems = allocator.restore(
        [
            service("a", clusterIP="10.0.0.9", clusterIPs=["10.0.0.9"]),
            service("b", "NodePort", clusterIPs=["10.0.0.10"], ports=[{"nodePort": 30005}, {"nodePort": 30005}]),
            service("headless", clusterIP="None", clusterIPs=["None"]),
            service("name", "ExternalName", externalName="example.com"),
            service("twice", clusterIPs=["10.0.0.9"]),
            service("outside", "LoadBalancer", clusterIPs=["10.9.0.1"], healthCheckNodePort=1),
            service("six", clusterIPs=["fd00::1"]),
            service("broken", clusterIPs=["?"]),
        ]
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "service demo/twice",
        "service demo/outside",
        "service demo/outside",
        "service demo/six",
        "service demo/broken",
    ]
    with pytest.raises(AllocationError, match="already allocated"):
        allocator.addresses["IPv4"].take("10.0.0.10")
    with pytest.raises(AllocationError, match="already allocated"):
        allocator.ports.take(30005)
    # What can't be given back is ignored: a restart with another range must not break deletes.
    allocator.give_back(["10.0.0.10", "fd00::1", "?"], [30005, 1])
    allocator.addresses["IPv4"].take("10.0.0.10")
    allocator.ports.take(30005)
