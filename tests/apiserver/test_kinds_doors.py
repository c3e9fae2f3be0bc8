"""The endpoints of default/kubernetes: one server's own door, and those of several that share a store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portway.apiserver import background, bootstrap
from portway.apiserver.background import Background
from portway.apiserver.kinds.services import SERVICE
from portway.apiserver.masterendpoints import EXPIRE, LEASES, MasterEndpoints, endpoints, own_door, slices
from portway.storage import StoreFull
from portway.storage.memory import MemoryStore
from portway.testing.api import InProcessApi, settings

DEFAULT = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


@pytest.mark.parametrize(
    ("advertised", "expected"),
    [
        ("192.0.2.7:6443", ("192.0.2.7", 6443)),
        ("127.0.0.1:6443", ("127.0.0.1", 6443)),
        ("[::1]:1", ("::1", 1)),
        ("0.0.0.0:6443", None),
        ("localhost:6443", None),
        ("169.254.1.1:6443", None),
    ],
)
def test_where_a_door_is(advertised: str, expected: tuple[str, int] | None) -> None:
    assert own_door(settings(advertise_address=advertised)) == expected


def test_doors_of_different_ports_and_families() -> None:
    doors = [("fd00::1", 6443), ("192.0.2.2", 6443), ("192.0.2.1", 6443), ("192.0.2.1", 7443), ("192.0.2.1", 6443)]
    assert [(subset["addresses"], subset["ports"][0]["port"]) for subset in endpoints(doors)["subsets"]] == [
        ([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}, {"ip": "fd00::1"}], 6443),
        ([{"ip": "192.0.2.1"}], 7443),
    ]
    made = [(one["metadata"]["name"], one["addressType"], len(one["endpoints"])) for one in slices(doors)]
    assert made == [("kubernetes", "IPv4", 2), ("kubernetes-4-7443", "IPv4", 1), ("kubernetes-6-6443", "IPv6", 1)]


async def known(api: InProcessApi) -> list[str]:
    """The addresses in the Endpoints, having seen that the slices say the same."""
    found = (await api.admin.request("GET", f"{DEFAULT}/endpoints/kubernetes")).json()
    in_endpoints = [one["ip"] for subset in found["subsets"] for one in subset["addresses"]]
    listed = (await api.admin.request("GET", SLICES)).json()["items"]
    in_slices = [address for one in listed for endpoint in one["endpoints"] for address in endpoint["addresses"]]
    assert in_slices == in_endpoints
    return in_endpoints


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7", "[::1]"])
def test_one_server_s_own_door_even_on_loopback(address: str) -> None:
    async def test() -> None:
        store = MemoryStore()
        async with InProcessApi(store, advertise_address=f"{address}:6443") as api:
            assert await known(api) == [address.strip("[]")]
            found = (await api.admin.request("GET", f"{SLICES}/kubernetes")).json()
            assert found["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
            assert found["ports"] == [{"name": "https", "port": 6443, "protocol": "TCP"}]
            assert all("targetRef" not in endpoint for endpoint in found["endpoints"])
        before = store.current_revision()
        async with InProcessApi(store, advertise_address=f"{address}:6443"):
            assert store.current_revision() == before
        async with InProcessApi(store, advertise_address="192.0.2.9:7443") as api:
            assert await known(api) == ["192.0.2.9"]

    asyncio.run(test())


def test_the_service_comes_back_when_somebody_deletes_all_services() -> None:
    async def test() -> None:
        async with InProcessApi(advertise_address="127.0.0.1:6443") as api:
            before = (await api.admin.request("GET", f"{DEFAULT}/services/kubernetes")).json()["spec"]
            assert (await api.admin.request("DELETE", f"{DEFAULT}/services")).status == 200
            assert (await api.admin.request("DELETE", SLICES)).status == 200
            assert (await api.admin.request("GET", f"{DEFAULT}/endpoints/kubernetes")).status == 404
            await Background(api.app.server, bootstrap).keep()
            assert (await api.admin.request("GET", f"{DEFAULT}/services/kubernetes")).json()["spec"] == before
            assert await known(api) == ["127.0.0.1"]
            revision = api.store.current_revision()
            await Background(api.app.server, bootstrap).keep()
            assert api.store.current_revision() == revision

    asyncio.run(test())


@pytest.mark.parametrize(
    ("name", "address", "status"),
    [("kubernetes", "127.0.0.1", 200), ("kubernetes", "127.0.0.2", 422), ("web", "127.0.0.1", 422)],
)
def test_nobody_makes_another_loopback_address_an_endpoint(name: str, address: str, status: int) -> None:
    async def test() -> None:
        async with InProcessApi(advertise_address="127.0.0.1:6443") as api:
            body: dict[str, Any] = {"metadata": {"name": name, "labels": {"a": "b"}}}
            body["subsets"] = [{"addresses": [{"ip": address}], "ports": [{"port": 22}]}]
            answer = await api.admin.request("PUT", f"{DEFAULT}/endpoints/{name}", body)
            assert answer.status == status, answer.body

    asyncio.run(test())


def test_servers_that_share_a_store_each_add_their_door() -> None:
    async def test() -> None:
        store = MemoryStore()
        one = InProcessApi(store, advertise_address="127.0.0.1:6443", shared_store=True)
        other = InProcessApi(store, advertise_address="127.0.0.2:6443", shared_store=True)
        async with one:
            assert await known(one) == ["127.0.0.1"]
            async with other:
                assert await known(other) == ["127.0.0.1", "127.0.0.2"]
            await one.app.server.cache.current()
            assert await known(one) == ["127.0.0.1"]  # the other has said goodbye

    asyncio.run(test())


def test_a_door_that_says_nothing_any_more_is_dropped() -> None:
    async def test() -> None:
        clock = 100.0
        async with InProcessApi(advertise_address="127.0.0.1:6443", shared_store=True) as api:
            server = api.app.server
            dead = settings(advertise_address="127.0.0.2:6443", shared_store=True)
            parts = (server.store, server.cache, server.registry)
            await MasterEndpoints(*parts, dead, server.own_context).once()
            doors = MasterEndpoints(*parts, server.config, server.own_context, now=lambda: clock)
            await doors.once()
            clock += EXPIRE
            await doors.once()
            assert await known(api) == ["127.0.0.1", "127.0.0.2"]
            clock += 0.1
            await doors.once()
            assert await known(api) == ["127.0.0.1"]
            assert [kv.key for kv in (await api.store.list(LEASES)).items] == [f"{LEASES}127.0.0.1:6443"]

    asyncio.run(test())


def test_the_slice_of_a_door_on_another_port_goes_with_it() -> None:
    async def test() -> None:
        store = MemoryStore()
        one = InProcessApi(store, advertise_address="127.0.0.1:6443", shared_store=True)
        other = InProcessApi(store, advertise_address="127.0.0.1:7443", shared_store=True)
        async with one:
            mine = {"metadata": {"name": "kubernetes-mine"}, "addressType": "IPv4", "endpoints": []}
            assert (await one.admin.request("POST", SLICES, mine)).status == 201
            async with other:
                assert await named(other) == ["kubernetes", "kubernetes-4-7443", "kubernetes-mine"]
            await one.app.server.cache.current()
            assert await named(one) == ["kubernetes", "kubernetes-mine"]

    async def named(api: InProcessApi) -> list[str]:
        listed = (await api.admin.request("GET", SLICES)).json()["items"]
        return [one["metadata"]["name"] for one in listed]

    asyncio.run(test())


class Moody(MemoryStore):
    """Refuses to create the service default/kubernetes once it is told to, and tells when it did either."""

    def __init__(self) -> None:
        super().__init__()
        self.moody = False
        self.refused, self.created = asyncio.Event(), asyncio.Event()

    async def create(self, key: str, value: bytes) -> int:
        if key != SERVICE.key("default", "kubernetes"):
            return await super().create(key, value)
        if self.moody:
            self.refused.set()
            raise StoreFull("no room")
        revision = await super().create(key, value)
        self.created.set()
        return revision


def test_a_store_that_refuses_for_a_while_ends_no_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(background, "RENEW", 0.01)
        store = Moody()
        async with InProcessApi(store) as api, asyncio.timeout(30):
            store.moody = True
            store.created.clear()
            assert (await api.admin.request("DELETE", f"{DEFAULT}/services/kubernetes")).status == 200
            await store.refused.wait()
            store.moody = False
            await store.created.wait()

    asyncio.run(test())
