"""ServiceCIDRs: made ready, and held while an address of theirs is in use."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from portway.client.api import ApiClient
from portway.controllers.manager import ControllerManager
from portway.controllers.servicecidrs import FINALIZER, ServiceCidrController, is_needed
from portway.kube.errors import NotFound
from portway.storage import MemoryStore
from portway.testing.controlled import Controlled, controlled

RANGES = "/apis/networking.k8s.io/v1/servicecidrs"
SERVICES = "/api/v1/namespaces/default/services"


def one(*cidrs: str) -> dict[str, Any]:
    return {"spec": {"cidrs": list(cidrs)}}


@pytest.mark.parametrize(
    ("deleted", "others", "addresses", "expected"),
    [
        (one("10.0.0.0/24"), [], [], False),
        (one("10.0.0.0/24"), [], ["10.0.0.9"], True),
        (one("10.0.0.0/24"), [], ["10.0.1.9", "fd00::1"], False),
        (one("10.0.0.0/24"), [one("10.0.0.0/16")], ["10.0.0.9"], False),
        (one("10.0.0.0/16"), [one("10.0.0.0/24")], ["10.0.0.9"], False),
        (one("10.0.0.0/16"), [one("10.0.0.0/24")], ["10.0.0.9", "10.0.1.9"], True),
        (one("10.0.0.0/24", "fd00::/112"), [one("10.0.0.0/16")], ["fd00::9"], True),
    ],
)
def test_what_is_needed(
    deleted: dict[str, Any], others: list[dict[str, Any]], addresses: list[str], expected: bool
) -> None:
    assert is_needed(deleted, others, addresses) is expected


def test_a_range_is_ready_when_made_and_goes_with_its_last_address(tmp_path: Path) -> None:
    def manager(client: ApiClient) -> ControllerManager:
        made = ControllerManager(client, "service-cidr-controller")
        for controller in made.controllers:
            assert isinstance(controller, ServiceCidrController)
            controller.grace = 0.0
        return made

    async def run() -> None:
        async with controlled(tmp_path, MemoryStore(), manager) as cluster:
            await cluster.client.create(RANGES, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.1.0.0/24"]}})
            await cluster.until(lambda: condition(cluster, "more") == ("True", ""), "more is ready")
            await cluster.until(lambda: condition(cluster, "kubernetes") == ("True", ""), "kubernetes is ready")
            assert (await cluster.client.get(f"{RANGES}/more"))["metadata"]["finalizers"] == [FINALIZER]
            spec = {"clusterIP": "10.1.0.9", "ports": [{"port": 80}]}
            await cluster.client.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec})
            await cluster.client.delete(f"{RANGES}/more")
            await cluster.until(lambda: condition(cluster, "more") == ("False", "Terminating"), "more is in use")
            await cluster.client.delete(f"{SERVICES}/web")
            await cluster.until(lambda: cluster.manager.caches.servicecidrs.get(("", "more")) is None, "more is gone")
            with pytest.raises(NotFound):
                await cluster.client.get(f"{RANGES}/more")

    asyncio.run(run())


def condition(cluster: Controlled, name: str) -> tuple[str, str] | None:
    """(status, reason) of Ready, as the controllers know it."""
    found = cluster.manager.caches.servicecidrs.get(("", name)) or {}
    conditions = (found.get("status") or {}).get("conditions") or [{}]
    return (conditions[0]["status"], conditions[0]["reason"]) if conditions[0] else None
