"""Addresses for load balancers: pools and choices as values, and the controller on a real API."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client.api import ApiClient
from portway.controllers.addresspool import AddressPool, parse
from portway.controllers.loadbalancers import FINALIZER, NoAddressError, addresses_of, choose
from portway.controllers.manager import ControllerManager
from portway.controllers.settings import ControllerSettings
from portway.storage import MemoryStore
from portway.testing.controlled import Controlled, controlled

Object = dict[str, Any]
DEMO = "/api/v1/namespaces/default"
MERGE = "application/merge-patch+json"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("192.0.2.64/30", "192.0.2.64", "192.0.2.67"),
        ("192.0.2.10-192.0.2.12", "192.0.2.10", "192.0.2.12"),
        ("192.0.2.10 - 192.0.2.10", "192.0.2.10", "192.0.2.10"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("fd00::10-fd00::1f", "fd00::10", "fd00::1f"),
        ("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
    ],
)
def test_what_can_be_said(text: str, first: str, last: str) -> None:
    block = parse(text)
    assert (str(block.first), str(block.last)) == (first, last)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither a CIDR nor a range"),
        ("a-b", "neither a CIDR nor a range"),
        ("192.0.2.1/24", "neither a CIDR nor a range"),
        ("192.0.2.2-192.0.2.1", "not a range of one family in ascending order"),
        ("192.0.2.2-fd00::1", "not a range of one family in ascending order"),
    ],
)
def test_what_can_not(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


@given(st.sets(st.integers(0, 15)))
def test_the_first_free_address_is_the_first_that_is_free(taken: set[int]) -> None:
    pool = AddressPool(["192.0.2.0/29", "fd00::/64", "192.0.2.8/29"])
    used = {str(ipaddress.ip_address("192.0.2.0") + i) for i in taken}
    free = [f"192.0.2.{i}" for i in range(16) if i not in taken]
    assert pool.first_free("IPv4", used.__contains__) == (free[0] if free else None)
    assert pool.first_free("IPv6", used.__contains__) == "fd00::"


def test_an_address_is_one_however_it_is_spelled() -> None:
    pool, taken = AddressPool(["2001:db8::/64"]), {"2001:db8::5"}
    spelled = service(ipFamilies=["IPv6"], loadBalancerIP="2001:DB8:0::5")
    with pytest.raises(NoAddressError, match="in use by another service"):
        choose(spelled, pool, taken.__contains__)
    assert choose(spelled, pool, set().__contains__) == ["2001:db8::5"]
    assert addresses_of(service(status=["2001:DB8:0::5"])) == ["2001:db8::5"]


def service(name: str = "web", *, status: list[str] | None = None, **spec: Any) -> Object:
    made = {"type": "LoadBalancer", "ports": [{"port": 80}], "ipFamilies": ["IPv4"]} | spec
    points = [{"ip": address} for address in status or ()]
    return {"metadata": {"name": name}, "spec": made, "status": {"loadBalancer": {"ingress": points}}}


BOTH: dict[str, Any] = {"ipFamilies": ["IPv6", "IPv4"]}


@pytest.mark.parametrize(
    ("one", "taken", "expected"),
    [
        (service(), [], ["192.0.2.1"]),
        (service(), ["192.0.2.1"], ["192.0.2.2"]),
        (service(status=["192.0.2.2"]), [], ["192.0.2.2"]),
        (service(status=["192.0.2.2"]), ["192.0.2.2"], ["192.0.2.1"]),
        (service(status=["203.0.113.9"]), [], ["192.0.2.1"]),
        (service(loadBalancerIP="192.0.2.2", status=["192.0.2.1"]), [], ["192.0.2.2"]),
        (service(**BOTH), [], ["fd00::1", "192.0.2.1"]),
        (service(**BOTH, loadBalancerIP="fd00::2"), [], ["fd00::2", "192.0.2.1"]),
        (service(status=["192.0.2.2", "fd00::1"]), [], ["192.0.2.2"]),
        (service(), ["192.0.2.1", "192.0.2.2"], "all IPv4 addresses for load balancers are in use"),
        (service(loadBalancerIP="192.0.2.2"), ["192.0.2.2"], "loadBalancerIP 192.0.2.2 is in use by another service"),
        (service(loadBalancerIP="192.0.2.9"), [], "loadBalancerIP 192.0.2.9 is not among the addresses"),
        (service(loadBalancerIP="fd00::1"), [], "loadBalancerIP fd00::1 is of none of the service's families"),
    ],
)
def test_choices(one: Object, taken: list[str], expected: list[str] | str) -> None:
    pool = AddressPool(["192.0.2.1-192.0.2.2", "fd00::1-fd00::2"])
    if isinstance(expected, list):
        assert choose(one, pool, taken.__contains__) == expected
    else:
        with pytest.raises(NoAddressError, match=expected):
            choose(one, pool, taken.__contains__)


@pytest.mark.parametrize(
    ("policy", "expected"), [("PreferDualStack", ["192.0.2.1"]), ("RequireDualStack", None), ("SingleStack", None)]
)
def test_a_family_that_the_pool_has_not(policy: str, expected: list[str] | None) -> None:
    families = ["IPv6"] if policy == "SingleStack" else ["IPv4", "IPv6"]
    one = service(ipFamilies=families, ipFamilyPolicy=policy)
    pool = AddressPool(["192.0.2.1"])
    if expected:
        assert choose(one, pool, lambda _: False) == expected
    else:
        with pytest.raises(NoAddressError, match="there are no IPv6 addresses for load balancers"):
            choose(one, pool, lambda _: False)


Test = Callable[["Balanced"], Awaitable[None]]


class Balanced(Controlled):
    """A cluster whose services get addresses."""

    async def service(self, name: str, **spec: Any) -> Object:
        body = {"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}}
        return await self.client.create(f"{DEMO}/services", body)

    async def get(self, name: str) -> Object:
        return await self.client.get(f"{DEMO}/services/{name}")

    async def change(self, name: str, **spec: Any) -> None:
        await self.client.patch(f"{DEMO}/services/{name}", {"spec": spec}, MERGE)

    def known(self) -> dict[str, list[str]]:
        """What the controllers have been told."""
        found = {one["metadata"]["name"]: addresses_of(one) for one in self.manager.caches.services.values()}
        return {name: addresses for name, addresses in found.items() if name != "kubernetes"}

    async def worked_on(self, name: str) -> None:
        """Waits until the controllers know a service and have nothing left to do."""
        await self.until(lambda: name in self.known() and self.manager.idle(), name)

    async def expect(self, expected: dict[str, list[str]]) -> None:
        """Waits until the services have these addresses, and nothing is left to do."""
        await self.until(lambda: self.known() == expected and self.manager.idle(), f"{expected}")

    async def said(self, name: str, reason: str, message: str) -> None:
        """Waits until an Event says it."""
        while (reason, message) not in await self.events(name):
            await asyncio.sleep(0.002)

    async def events(self, name: str) -> list[tuple[str, str]]:
        found = (await self.client.list(f"{DEMO}/events")).items
        return [(one["reason"], one["message"]) for one in found if one["involvedObject"]["name"] == name]


async def running(directory: Path, store: MemoryStore, test: Test, *pool: str) -> None:
    """Runs a test against an API server with the controllers on a store."""

    def manager(client: ApiClient) -> ControllerManager:
        return ControllerManager(client, settings=ControllerSettings(balancers=AddressPool(pool)))

    async with controlled(directory, store, manager) as cluster:
        await test(Balanced(cluster.client, cluster.manager))


def run(directory: Path, test: Test, *pool: str) -> None:
    asyncio.run(running(directory, MemoryStore(), test, *pool))


def test_an_address_a_service_held_by_a_finalizer_and_given_back(tmp_path: Path) -> None:
    async def test(cluster: Balanced) -> None:
        for name in ("a", "b", "c"):
            await cluster.service(name)
            await cluster.worked_on(name)
        await cluster.expect({"a": ["192.0.2.1"], "b": ["192.0.2.2"], "c": []})
        found = await cluster.get("a")
        assert found["metadata"]["finalizers"] == [FINALIZER]
        assert found["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
        assert await cluster.events("a") == [
            ("EnsuringLoadBalancer", "Ensuring load balancer"),
            ("EnsuredLoadBalancer", "Ensured load balancer"),
        ]
        why = "failed to ensure load balancer: all IPv4 addresses for load balancers are in use"
        await cluster.said("c", "SyncLoadBalancerFailed", f"Error syncing load balancer: {why}")
        # What one gives up, the one that waits gets.
        await cluster.client.delete(f"{DEMO}/services/a")
        await cluster.expect({"b": ["192.0.2.2"], "c": ["192.0.2.1"]})
        await cluster.service("d")
        await cluster.change("b", type="ClusterIP")
        await cluster.expect({"b": [], "c": ["192.0.2.1"], "d": ["192.0.2.2"]})
        assert "finalizers" not in (await cluster.get("b"))["metadata"]
        await cluster.said("b", "DeletedLoadBalancer", "Deleted load balancer")

    run(tmp_path, test, "192.0.2.1-192.0.2.2")


def test_many_at_once_get_different_ones(tmp_path: Path) -> None:
    async def test(cluster: Balanced) -> None:
        await asyncio.gather(*(cluster.service(f"s{i}") for i in range(30)))
        await cluster.until(lambda: len(cluster.known()) == 30 and all(cluster.known().values()), "addresses for all")
        found = [address for one in cluster.known().values() for address in one]
        assert sorted(found) == sorted(f"192.0.2.{i}" for i in range(32, 62))

    run(tmp_path, test, "192.0.2.32/27")


def test_the_wished_address_and_another_s_class(tmp_path: Path) -> None:
    async def test(cluster: Balanced) -> None:
        await cluster.service("a", loadBalancerIP="192.0.2.5")
        await cluster.service("b", loadBalancerClass="example.com/other")
        await cluster.service("c", loadBalancerIP="203.0.113.1")
        await cluster.expect({"a": ["192.0.2.5"], "b": [], "c": []})
        assert "finalizers" not in (await cluster.get("b"))["metadata"]
        assert await cluster.events("b") == []
        await cluster.change("c", loadBalancerIP="192.0.2.6")
        await cluster.expect({"a": ["192.0.2.5"], "b": [], "c": ["192.0.2.6"]})

    run(tmp_path, test, "192.0.2.0/29")


def test_without_a_pool_they_are_pending_and_can_be_deleted(tmp_path: Path) -> None:
    async def test(cluster: Balanced) -> None:
        await cluster.service("a")
        await cluster.expect({"a": []})
        found = await cluster.get("a")
        assert "finalizers" not in found["metadata"]
        # One that got its address when there was a pool.
        await cluster.client.update(
            f"{DEMO}/services/a", found | {"metadata": found["metadata"] | {"finalizers": [FINALIZER]}}
        )
        await cluster.client.delete(f"{DEMO}/services/a")
        await cluster.expect({})

    run(tmp_path, test)


def test_a_restart_changes_nothing_and_the_older_of_two_keeps_what_both_have(tmp_path: Path) -> None:
    store = MemoryStore()

    async def before(cluster: Balanced) -> None:
        for name in ("b", "a"):
            await cluster.service(name)
            await cluster.worked_on(name)
        await cluster.expect({"b": ["192.0.2.0"], "a": ["192.0.2.1"]})

    async def meddle(cluster: Balanced) -> None:
        await cluster.expect({"b": ["192.0.2.0"], "a": ["192.0.2.1"]})
        both = [await cluster.get(name) for name in ("a", "b")]
        older = min(both, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["uid"]))
        ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.0"}]}}
        await cluster.client.patch(f"{DEMO}/services/a/status", {"status": ingress}, MERGE)
        other = {"a": "b", "b": "a"}[older["metadata"]["name"]]
        await cluster.expect({older["metadata"]["name"]: ["192.0.2.0"], other: ["192.0.2.1"]})

    async def everything() -> None:
        await running(tmp_path, store, before, "192.0.2.0/29")
        await running(tmp_path, store, meddle, "192.0.2.0/29")

    asyncio.run(everything())
