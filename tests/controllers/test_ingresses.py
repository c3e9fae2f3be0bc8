"""What Ingresses are told about how they are served: addresses and Events, on a real API."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from portway.client.api import ApiClient
from portway.controllers.ingresses import points, points_of
from portway.controllers.manager import ControllerManager
from portway.controllers.settings import ControllerSettings
from portway.kube.ingresshosts import IngressHosts
from portway.storage import MemoryStore
from portway.testing.controlled import Controlled, controlled

Object = dict[str, Any]
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
MERGE = "application/merge-patch+json"
DOOR = [{"ip": "127.0.0.1", "ports": [{"port": 6443, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("subsets", "expected"),
    [
        (None, []),
        ([{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": 6443}]}], DOOR),
        (
            [
                {"addresses": [{"ip": "192.0.2.1"}, {"ip": "fd00::1"}], "ports": [{"port": 6443}]},
                {"notReadyAddresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 1}]},
                {"addresses": [{"ip": "192.0.2.2"}]},
            ],
            [
                {"ip": "192.0.2.1", "ports": [{"port": 6443, "protocol": "TCP"}]},
                {"ip": "fd00::1", "ports": [{"port": 6443, "protocol": "TCP"}]},
                {"ip": "192.0.2.2", "ports": []},
            ],
        ),
    ],
)
def test_where_the_doors_are(subsets: list[Object] | None, expected: list[Object]) -> None:
    assert points(None if subsets is None else {"subsets": subsets}) == expected


class Told(Controlled):
    """A cluster whose Ingresses are told."""

    async def ingress(self, name: str, host: str, **spec: Any) -> None:
        backend = {"service": {"name": "web", "port": {"number": 80}}}
        rule: Object = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        rules = [rule | ({"host": host} if host else {})]
        await self.client.create(INGRESSES, {"metadata": {"name": name}, "spec": {"rules": rules} | spec})

    async def change(self, name: str, **spec: Any) -> None:
        await self.client.patch(f"{INGRESSES}/{name}", {"spec": spec}, MERGE)

    async def says(self, name: str, expected: list[Object]) -> None:
        def told() -> bool:
            one = self.manager.caches.ingresses.get(("default", name))
            return one is not None and points_of(one) == expected and self.manager.idle()

        await self.until(told, f"{name} says {expected}")

    async def warnings(self, name: str) -> list[str]:
        events = (await self.client.get("/api/v1/namespaces/default/events"))["items"]
        return [
            one["message"]
            for one in events
            if one["involvedObject"]["name"] == name and (one["type"], one["reason"]) == ("Warning", "NotServed")
        ]


def run(tmp_path: Path, test: Callable[[Told], Awaitable[None]], *domains: str) -> None:
    settings = ControllerSettings(ingress=IngressHosts(own=("door.example",), domains=domains))

    async def main() -> None:
        def manager(client: ApiClient) -> ControllerManager:
            return ControllerManager(client, "ingress-controller", settings=settings)

        async with controlled(tmp_path, MemoryStore(), manager) as cluster:
            await test(Told(cluster.client, cluster.manager))

    asyncio.run(main())


def test_an_ingress_has_the_doors_address_while_it_is_of_our_class(tmp_path: Path) -> None:
    async def test(cluster: Told) -> None:
        await cluster.ingress("web", "shop.test")
        await cluster.says("web", DOOR)
        await cluster.change("web", ingressClassName="nginx")
        await cluster.says("web", [])
        await cluster.change("web", ingressClassName="portway")
        await cluster.says("web", DOOR)
        await cluster.client.delete(f"{CLASSES}/portway")
        await cluster.says("web", [])
        assert await cluster.warnings("web") == []

    run(tmp_path, test)


def test_what_another_controller_said_stays(tmp_path: Path) -> None:
    async def test(cluster: Told) -> None:
        await cluster.ingress("theirs", "shop.test", ingressClassName="nginx")
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}
        await cluster.client.patch(f"{INGRESSES}/theirs/status", status, MERGE)
        await cluster.ingress("web", "other.test")
        await cluster.says("web", DOOR)
        await cluster.says("theirs", [{"ip": "192.0.2.9"}])

    run(tmp_path, test)


@pytest.mark.parametrize("domains", [(), ("shop.test",)])
def test_a_default_backend_alone_is_served_where_domains_are_given(tmp_path: Path, domains: tuple[str, ...]) -> None:
    async def test(cluster: Told) -> None:
        spec = {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}
        await cluster.client.create(INGRESSES, {"metadata": {"name": "all"}, "spec": spec})
        await cluster.says("all", DOOR if domains else [])
        told = await cluster.warnings("all")
        assert [text.rpartition(": ")[2] for text in told] == ([] if domains else ["its default backend is not served"])

    run(tmp_path, test, *domains)


def test_addresses_follow_the_doors(tmp_path: Path) -> None:
    async def test(cluster: Told) -> None:
        await cluster.ingress("web", "shop.test")
        await cluster.says("web", DOOR)
        path = "/api/v1/namespaces/default/endpoints/kubernetes"
        subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "https", "port": 443}]}]
        await cluster.client.patch(path, {"subsets": subsets}, MERGE)
        await cluster.says("web", [{"ip": "192.0.2.1", "ports": [{"port": 443, "protocol": "TCP"}]}])

    run(tmp_path, test)


def test_who_would_take_over_the_door_is_told_that_it_is_not_served(tmp_path: Path) -> None:
    async def test(cluster: Told) -> None:
        for name, host in (("one", "door.example"), ("two", "localhost"), ("three", "")):
            await cluster.ingress(name, host)
            await cluster.says(name, [])
            (text,) = await cluster.warnings(name)
            assert text.endswith(": its paths are not served")
        await cluster.change("one", rules=[{"host": "shop.test", **PATHS}])
        await cluster.says("one", DOOR)
        assert len(await cluster.warnings("one")) == 1

    run(tmp_path, test)


PATHS = {
    "http": {
        "paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
        ]
    }
}


def test_a_host_that_is_given_up_goes_to_who_waits_for_it(tmp_path: Path) -> None:
    async def test(cluster: Told) -> None:
        other = INGRESSES.replace("default", "kube-public")
        older = {"metadata": {"name": "older"}, "spec": {"rules": [{"host": "shop.test", **PATHS}]}}
        await cluster.client.create(other, older)
        made = (await cluster.client.get(f"{other}/older"))["metadata"]["creationTimestamp"]
        await cluster.ingress("web", "shop.test", tls=[{"hosts": ["shop.test"], "secretName": "x"}])
        # Of two made in the same second the namespace that comes first in the alphabet is the older one.
        same = (await cluster.client.get(f"{INGRESSES}/web"))["metadata"]["creationTimestamp"] == made
        await cluster.says("web", DOOR if same else [])
        await cluster.client.delete(f"{other}/older")
        await cluster.says("web", DOOR)
        assert "spec.tls is not used: the door shows its own certificate" in await cluster.warnings("web")

    run(tmp_path, test)
