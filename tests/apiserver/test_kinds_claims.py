"""Cluster addresses and node ports as the store judges them: several servers, crashes in between, hands that meddle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from portway.apiserver.claims import PORTS
from portway.apiserver.repair import GRACE, Repair
from portway.storage import Store, StoreUnavailable
from portway.storage.memory import MemoryStore
from portway.testing.api import InProcessApi

SERVICES = "/api/v1/namespaces/default/services"
GROUP = "/apis/networking.k8s.io/v1"
ADDRESSES = "/registry/networking.k8s.io/ipaddresses/"
SMALL = {"service_cluster_ip_range": "10.0.0.0/25", "service_node_port_range": (30000, 30019)}


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def two_servers(test: Callable[[InProcessApi, InProcessApi], Awaitable[None]], **changes: Any) -> None:
    """Runs a test against two servers on one store."""

    async def run() -> None:
        store = MemoryStore()
        async with InProcessApi(store, **changes) as one, InProcessApi(store, **changes) as other:
            await test(one, other)

    asyncio.run(run())


async def claims_of(store: Store) -> set[str]:
    """The addresses and ports that the store has claims on, but that of default/kubernetes."""
    found = [*(await store.list(ADDRESSES)).items, *(await store.list(PORTS)).items]
    owners = {kv.key.rpartition("/")[2]: orjson.loads(kv.value)["spec"]["parentRef"]["name"] for kv in found}
    return {what for what, owner in owners.items() if owner != "kubernetes"}


async def held(api: InProcessApi) -> list[str]:
    """What services hold, as often as they hold it."""
    items = (await api.admin.request("GET", SERVICES)).json()["items"]
    own = [one["spec"] for one in items if one["metadata"]["name"] != "kubernetes"]
    return [what for spec in own for what in (*spec.get("clusterIPs", ()), *ports(spec))]


def ports(spec: dict[str, Any]) -> set[str]:
    return {str(port["nodePort"]) for port in spec["ports"] if port.get("nodePort")}


def test_two_servers_never_give_the_same_twice_and_use_all_there_is() -> None:
    async def test(one: InProcessApi, other: InProcessApi) -> None:
        wanted = [
            (one, other)[i % 2].admin.request("POST", SERVICES, service(f"s{i}", type="NodePort")) for i in range(40)
        ]
        answers = Counter([answer.status for answer in await asyncio.gather(*wanted)])
        assert answers == {201: 20, 500: 20}
        found = await held(one)
        assert len(found) == len(set(found)) == 40
        # The twenty that were refused keep nothing.
        assert await claims_of(one.store) == set(found)

    two_servers(test, **SMALL)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"clusterIP": "10.0.0.9"}, "failed to allocate IP 10.0.0.9: provided IP is already allocated"),
        ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30009}]}, "provided port is already allocated"),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30009},
            "failed to allocate requested HealthCheck NodePort 30009: provided port is already allocated",
        ),
    ],
)
def test_who_asks_for_the_same_at_the_same_time(spec: dict[str, Any], text: str) -> None:
    async def test(one: InProcessApi, other: InProcessApi) -> None:
        answers = await asyncio.gather(
            one.admin.request("POST", SERVICES, service("a", **spec)),
            other.admin.request("POST", SERVICES, service("b", **spec)),
        )
        first, second = sorted(answers, key=lambda answer: answer.status)
        assert (first.status, second.status) == (201, 500 if "healthCheckNodePort" in spec else 422)
        assert text in second.json()["message"]
        assert await claims_of(one.store) == {*await held(one), *_health(first.json())}

    two_servers(test, **SMALL)


def _health(obj: dict[str, Any]) -> set[str]:
    return {str(obj["spec"]["healthCheckNodePort"])} if "healthCheckNodePort" in obj["spec"] else set()


def test_what_one_server_gives_back_the_other_can_give() -> None:
    async def test(one: InProcessApi, other: InProcessApi) -> None:
        spec: dict[str, Any] = {"type": "NodePort", "clusterIP": "10.0.0.9"}
        spec["ports"] = [{"port": 80, "nodePort": 30009}]
        assert (await one.admin.request("POST", SERVICES, service("a", **spec))).status == 201
        assert (await one.admin.request("DELETE", f"{SERVICES}/a")).status == 200
        assert await claims_of(one.store) == set()
        assert (await other.admin.request("POST", SERVICES, service("b", **spec))).status == 201

    two_servers(test, **SMALL)


def test_a_namespace_that_goes_gives_back_what_its_services_held() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            await api.admin.request("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
            services = SERVICES.replace("default", "demo")
            made = await asyncio.gather(
                *(api.admin.request("POST", services, service(f"s{i}", type="NodePort")) for i in range(5))
            )
            assert {answer.status for answer in made} == {201}
            assert len(await claims_of(api.store)) == 10
            watch = api.store.watch("/registry/core/namespaces/demo", api.store.current_revision())
            assert (await api.admin.request("DELETE", "/api/v1/namespaces/demo")).status == 200
            while (await anext(watch)).type != "DELETE":
                pass
            assert await claims_of(api.store) == set()

    asyncio.run(test())


def test_the_claim_on_an_address_is_an_object_that_says_whose_it_is() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            assert (await api.admin.request("POST", SERVICES, service(clusterIP="10.96.0.9"))).status == 201
            found = (await api.admin.request("GET", f"{GROUP}/ipaddresses/10.96.0.9")).json()
            assert found["metadata"]["labels"] == {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            }
            parent = {"resource": "services", "namespace": "default", "name": "web"}
            assert found["spec"]["parentRef"] == parent

    asyncio.run(test())


def test_what_somebody_else_took_as_an_object_is_taken() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            parent = {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default", "name": "g"}
            obj = {"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": parent}}
            assert (await api.admin.request("POST", f"{GROUP}/ipaddresses", obj)).status == 201
            assert (await api.admin.request("POST", SERVICES, service(clusterIP="10.96.0.9"))).status == 422
            await later(api).once()
            assert (await api.admin.request("GET", f"{GROUP}/ipaddresses/10.96.0.9")).status == 200

    asyncio.run(test())


def later(api: InProcessApi, seconds: float = 10 * GRACE) -> Repair:
    """The server's repair at a time when no write of now can still be under way."""
    server = api.app.server
    return Repair(server.claims, server.allocator, server, now=lambda: time.time() + seconds)


def test_an_older_database_is_brought_into_step_at_start() -> None:
    async def test() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as api:
            for i in range(150):
                assert (await api.admin.request("POST", SERVICES, service(f"s{i}", type="NodePort"))).status == 201
            before = await claims_of(store)
        for prefix in (ADDRESSES, PORTS, "/registry/networking.k8s.io/servicecidrs/"):
            for kv in (await store.list(prefix)).items:
                await store.delete(kv.key)
        async with InProcessApi(store) as api:
            assert await claims_of(store) == before == set(await held(api))
            assert len(before) == 300
            address = (await api.admin.request("GET", f"{SERVICES}/s7")).json()["spec"]["clusterIP"]
            assert (await api.admin.request("POST", SERVICES, service("late", clusterIP=address))).status == 422

    asyncio.run(test())


def test_what_a_crash_left_behind_is_given_back_when_no_write_can_be_under_way() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            gone = {"namespace": "default", "name": "gone"}
            for what in ("10.96.0.9", 30009):
                assert await api.app.server.claims.claim(what, gone)
            await later(api, GRACE / 2).once()
            assert await claims_of(api.store) == {"10.96.0.9", "30009"}
            await later(api).once()
            assert await claims_of(api.store) == set()

    asyncio.run(test())


@pytest.mark.parametrize("key", [f"{ADDRESSES}10.96.0.9", f"{PORTS}30009"])
def test_a_claim_that_goes_while_it_is_held_comes_back(key: str) -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            spec: dict[str, Any] = {"type": "NodePort", "clusterIP": "10.96.0.9"}
            spec["ports"] = [{"port": 80, "nodePort": 30009}]
            assert (await api.admin.request("POST", SERVICES, service(**spec))).status == 201
            watch = api.store.watch(key, api.store.current_revision())
            await api.store.delete(key)
            assert [(await anext(watch)).type for _ in range(2)] == ["DELETE", "PUT"]
            assert await claims_of(api.store) == {"10.96.0.9", "30009"}

    asyncio.run(test())


def test_a_claim_in_a_wrong_name_is_put_right() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            assert (await api.admin.request("POST", SERVICES, service(clusterIP="10.96.0.9"))).status == 201
            await api.store.delete(f"{ADDRESSES}10.96.0.9")
            parent = {"resource": "gateways", "namespace": "default", "name": "g"}
            obj = {"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": parent}}
            await api.admin.request("POST", f"{GROUP}/ipaddresses", obj)
            await later(api).once()
            found = (await api.admin.request("GET", f"{GROUP}/ipaddresses/10.96.0.9")).json()
            assert found["spec"]["parentRef"]["name"] == "web"

    asyncio.run(test())


def test_services_that_share_an_address_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as api:
            for name in ("a", "b"):
                assert (await api.admin.request("POST", SERVICES, service(name))).status == 201
            found = await store.get("/registry/core/services/default/b")
            address = (await api.admin.request("GET", f"{SERVICES}/a")).json()["spec"]["clusterIP"]
            assert found is not None
            obj = orjson.loads(found.value)
            obj["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
            await store.update(found.key, orjson.dumps(obj), found.mod_revision)
            await api.app.server.cache.current()
            repair = later(api)
            with caplog.at_level(logging.WARNING):
                await repair.once()
                await repair.once()
            lines = [record.message for record in caplog.records]
            assert lines == [f"service default/b: {address} is another's too; create the service anew"]
            assert await claims_of(store) == {address}

    asyncio.run(test())


class Unsure(MemoryStore):
    """A store that loses its tongue after a write of a Service: it is done, and nobody is told."""

    silent = False

    async def create(self, key: str, value: bytes) -> int:
        revision = await super().create(key, value)
        if self.silent and key.startswith("/registry/core/services/"):
            raise StoreUnavailable("the connection broke")
        return revision


def test_a_write_that_nobody_knows_the_end_of_keeps_what_it_took() -> None:
    async def test() -> None:
        store = Unsure()
        async with InProcessApi(store) as api:
            store.silent = True
            answer = await api.admin.request("POST", SERVICES, service("web", type="NodePort"))
            assert answer.status == 503
            await later(api).once()
            assert await claims_of(store) == set(await held(api))
            assert len(await held(api)) == 2

    asyncio.run(test())


def test_further_ranges_add_addresses_once_they_are_ready() -> None:
    async def test() -> None:
        async with InProcessApi(service_cluster_ip_range="10.0.0.0/29") as api:
            for i in range(5):
                assert (await api.admin.request("POST", SERVICES, service(f"s{i}"))).status == 201
            assert (await api.admin.request("POST", SERVICES, service("more"))).status == 500
            made = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.1.0.0/29"]}}
            assert (await api.admin.request("POST", f"{GROUP}/servicecidrs", made)).status == 201
            await _ready(api, "False")
            assert (await api.admin.request("POST", SERVICES, service("more"))).status == 500
            refused = await api.admin.request("POST", SERVICES, service("more", clusterIP="10.1.0.2"))
            assert "The range of valid IPs is 10.0.0.0/29" in refused.json()["message"]
            await _ready(api, "True")
            spec = (await api.admin.request("POST", SERVICES, service("more"))).json()["spec"]
            assert spec["clusterIP"].startswith("10.1.0.")

    asyncio.run(test())


async def _ready(api: InProcessApi, status: str) -> None:
    condition = {
        "type": "Ready",
        "status": status,
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = f"{GROUP}/servicecidrs/more/status"
    answer = await api.admin.request(
        "PATCH", path, {"status": {"conditions": [condition]}}, content_type="application/merge-patch+json"
    )
    assert answer.status == 200


def test_the_default_range_gains_a_second_family_and_else_stays(caplog: pytest.LogCaptureFixture) -> None:
    async def ranges(store: Store, cidrs: str) -> list[str]:
        async with InProcessApi(store, service_cluster_ip_range=cidrs) as api:
            return list((await api.admin.request("GET", f"{GROUP}/servicecidrs/kubernetes")).json()["spec"]["cidrs"])

    async def test() -> None:
        store = MemoryStore()
        assert await ranges(store, "10.0.0.0/24") == ["10.0.0.0/24"]
        assert await ranges(store, "10.0.0.0/24,fd00::/112") == ["10.0.0.0/24", "fd00::/112"]
        assert not caplog.records
        assert await ranges(store, "10.5.0.0/24") == ["10.0.0.0/24", "fd00::/112"]
        assert "10.5.0.0/24 is asked for" in caplog.text

    asyncio.run(test())


class Together(MemoryStore):
    """A store that makes no claim before `barrier` are asked for at the same time."""

    barrier: asyncio.Barrier | None = None

    async def create(self, key: str, value: bytes) -> int:
        if self.barrier is not None and key.startswith((ADDRESSES, PORTS)):
            await self.barrier.wait()
        return await super().create(key, value)


def test_all_that_a_service_takes_is_asked_for_at_once() -> None:
    """So it costs two commits one after another, the claims' and its own, however many ports it has."""

    async def test() -> None:
        store = Together()
        async with InProcessApi(store, service_cluster_ip_range="10.0.0.0/24,fd00::/112") as api:
            store.barrier = asyncio.Barrier(6)
            spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack"}
            spec["ports"] = [{"name": f"p{i}", "port": 80 + i} for i in range(3)]  # type: ignore[assignment]
            async with asyncio.timeout(20):
                made = await api.admin.request("POST", SERVICES, service(**spec))
            assert made.status == 201
            assert await claims_of(store) == {*await held(api), *_health(made.json())}
            assert len(await claims_of(store)) == 6

    asyncio.run(test())


def test_the_claim_on_an_address_is_stored_as_if_it_had_come_through_the_api() -> None:
    async def test() -> None:
        async with InProcessApi() as api:
            assert (await api.admin.request("POST", SERVICES, service(clusterIP="10.96.0.9"))).status == 201
            claim = (await api.admin.request("GET", f"{GROUP}/ipaddresses/10.96.0.9")).json()
            sent = {"metadata": {"name": "10.96.0.8", "labels": claim["metadata"]["labels"]}, "spec": claim["spec"]}
            path = f"{GROUP}/ipaddresses?fieldManager=kube-apiserver"
            assert (await api.admin.request("POST", path, sent)).status == 201
            stored = [await api.store.get(f"{ADDRESSES}10.96.0.{i}") for i in (8, 9)]
            shapes = [orjson.loads(kv.value) for kv in stored if kv is not None]
            for shape in shapes:
                assert shape["metadata"].pop("uid")
                assert shape["metadata"].pop("name")
                assert shape["metadata"].pop("creationTimestamp") == shape["metadata"]["managedFields"][0].pop("time")
            assert orjson.dumps(shapes[0]) == orjson.dumps(shapes[1])

    asyncio.run(test())
