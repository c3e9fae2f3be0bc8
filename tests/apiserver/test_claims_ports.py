"""The node ports of one service, which are taken at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from portway.apiserver.claims import PORTS
from portway.storage.memory import MemoryStore
from portway.testing.api import InProcessApi

SERVICES = "/api/v1/namespaces/default/services"


def service(ports: Sequence[Any], name: str = "web") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": ports}}


class Counting(MemoryStore):
    """A store that counts who asks for a port."""

    asked = 0

    async def create(self, key: str, value: bytes) -> int:
        self.asked += key.startswith(PORTS)
        await asyncio.sleep(0)  # as a store with a medium: others come in between
        return await super().create(key, value)


def test_a_service_of_more_ports_than_there_are_asks_for_each_once() -> None:
    async def test() -> None:
        store = Counting()
        async with InProcessApi(store, service_node_port_range=(30000, 30019)) as api:
            ports = [{"name": f"p{i}", "port": 1 + i} for i in range(5000)]
            made = await api.admin.request("POST", SERVICES, service(ports))
            assert (made.status, made.json()["message"]) == (
                500,
                "Internal error occurred: failed to allocate a nodePort: range is full",
            )
            assert store.asked == 20
            assert (await store.list(PORTS)).items == []

    asyncio.run(test())


def test_a_port_of_any_number_leaves_alone_what_another_of_the_service_asks_for() -> None:
    async def test() -> None:
        async with InProcessApi(service_node_port_range=(30000, 30001)) as api:
            ports = [{"name": "any", "port": 80}, {"name": "one", "port": 81, "nodePort": 30000}]
            for i in range(10):
                name = f"s{i}"
                made = await api.admin.request("POST", SERVICES, service(ports, name))
                assert [port["nodePort"] for port in made.json()["spec"]["ports"]] == [30001, 30000]
                assert (await api.admin.request("DELETE", f"{SERVICES}/{name}")).status == 200

    asyncio.run(test())


def test_ports_of_any_number_get_different_ones_also_in_a_dry_run() -> None:
    async def test() -> None:
        async with InProcessApi(service_node_port_range=(30000, 30001)) as api:
            ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "c", "port": 80, "protocol": "UDP"}]
            for query in ("?dryRun=All", ""):
                made = await api.admin.request("POST", f"{SERVICES}{query}", service(ports))
                a, b, c = (port["nodePort"] for port in made.json()["spec"]["ports"])
                assert {a, b} == {30000, 30001}
                assert c == a

    asyncio.run(test())
