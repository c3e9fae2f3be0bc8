"""The garbage collector on a real API server: background, foreground, orphans, and what it must leave alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from portway.client.api import ApiClient
from portway.controllers.discovered import Resource, discover
from portway.controllers.ownership import Graph, node_of
from portway.kube import objects
from portway.testing.managed import find, managed_api, more_controllers, until

Object = dict[str, Any]
COLLECTOR = "garbage-collector-controller"
MAPS = "/api/v1/namespaces/demo/configmaps"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps", True)


def on(directory: Path, test: Callable[[ApiClient], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with managed_api(directory, **{"enabled": COLLECTOR} | options) as client:
            await client.create("/api/v1/namespaces", {"metadata": {"name": "demo"}})
            await test(client)

    asyncio.run(run())


async def make(client: ApiClient, name: str, *owners: Object, path: str = MAPS, **metadata: Any) -> Object:
    references = [own(one) if "metadata" in one else one for one in owners]
    return await client.create(path, {"metadata": {"name": name, "ownerReferences": references, **metadata}})


def own(owner: Object, **changes: Any) -> Object:
    """A reference to a ConfigMap, or to what `changes` say."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": objects.name(owner), "uid": objects.uid(owner)}
    return reference | {"blockOwnerDeletion": True} | changes


async def gone(client: ApiClient, *names: str, path: str = MAPS) -> None:
    for name in names:

        async def absent(name: str = name) -> bool:
            return await find(client, f"{path}/{name}") is None

        await until(absent, f"the end of {name}")


async def delete(client: ApiClient, name: str, policy: str) -> None:
    await client.delete(f"{MAPS}/{name}", {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})


async def collected(client: ApiClient) -> None:
    """Returns when the collector has worked off what it was told before: a marker of its own is gone."""
    owner = await make(client, f"marker-{time.monotonic_ns()}")
    marker = await make(client, f"marked-{time.monotonic_ns()}", owner)
    await client.delete(f"{MAPS}/{objects.name(owner)}")
    await gone(client, objects.name(marker))


def test_background_dependents_follow_their_owner(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        top = await make(client, "top")
        middle = await make(client, "middle", top)
        await make(client, "bottom", middle)
        await make(client, "bystander")
        await delete(client, "top", "Background")
        await gone(client, "top", "middle", "bottom")
        assert await find(client, f"{MAPS}/bystander") is not None

    on(tmp_path, test)


def test_foreground_the_owner_goes_last(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        top = await make(client, "top")
        held = await make(client, "held", top, finalizers=["example.com/hold"])
        await make(client, "leaf", top)
        await make(client, "loose", own(top, blockOwnerDeletion=False))
        await delete(client, "top", "Foreground")
        await gone(client, "leaf", "loose")

        async def deleting() -> bool:
            return objects.deleting(await find(client, f"{MAPS}/held") or {})

        await until(deleting, "the deletion of what blocks")
        await collected(client)
        assert await find(client, f"{MAPS}/top") is not None, "the owner must wait for what blocks it"
        await client.patch(held_path(held), {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        await gone(client, "held", "top")

    on(tmp_path, test)


def held_path(obj: Object) -> str:
    return f"{MAPS}/{objects.name(obj)}"


def test_foreground_reaches_through_the_generations(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        top = await make(client, "top")
        middle = await make(client, "middle", top)
        await make(client, "bottom", middle, finalizers=["example.com/hold"])
        await delete(client, "top", "Foreground")

        async def deleting() -> bool:
            return objects.deleting(await find(client, f"{MAPS}/bottom") or {})

        await until(deleting, "the deletion of the last generation")
        assert "foregroundDeletion" in (await client.get(f"{MAPS}/middle"))["metadata"]["finalizers"]
        await client.patch(f"{MAPS}/bottom", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        await gone(client, "bottom", "middle", "top")

    on(tmp_path, test)


def test_a_circle_is_broken(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        one = await make(client, "one")
        two = await make(client, "two", one)
        change = {"metadata": {"ownerReferences": [own(two)]}}
        await client.patch(f"{MAPS}/one", change, "application/merge-patch+json")
        await delete(client, "one", "Foreground")
        await gone(client, "one", "two")

    on(tmp_path, test)


def test_orphans_stay_and_forget_their_owner(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        top, other = await make(client, "top"), await make(client, "other")
        await make(client, "orphan", top)
        await make(client, "shared", top, other)
        await delete(client, "top", "Orphan")
        await gone(client, "top")
        await collected(client)
        assert objects.owner_references(await client.get(f"{MAPS}/orphan")) == []
        (left,) = objects.owner_references(await client.get(f"{MAPS}/shared"))
        assert left["uid"] == objects.uid(other)

    on(tmp_path, test)


def test_one_owner_of_two_is_enough(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        first, second = await make(client, "first"), await make(client, "second")
        await make(client, "shared", first, second)
        await delete(client, "first", "Background")

        async def dropped() -> bool:
            found = objects.owner_references(await find(client, f"{MAPS}/shared") or {})
            return [one["name"] for one in found] == ["second"]

        await until(dropped, "the end of the dangling reference")
        await delete(client, "second", "Background")
        await gone(client, "shared")

    on(tmp_path, test)


def test_another_object_by_the_owner_s_name_is_no_owner(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        owner = await make(client, "owner")
        await make(client, "stale", own(owner, uid="00000000-0000-0000-0000-000000000000"))
        await gone(client, "stale")
        assert await find(client, f"{MAPS}/owner") is not None

    on(tmp_path, test)


def test_what_was_orphaned_by_a_stopped_collector_is_found_at_the_next_start(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        owner = await make(client, "owner")
        await make(client, "left", owner)
        await client.delete(f"{MAPS}/owner")
        assert await find(client, f"{MAPS}/left") is not None
        async with more_controllers(client, COLLECTOR):
            await gone(client, "left")

    on(tmp_path, test, enabled="-garbage-collector-controller")


def test_two_collectors_do_no_more_than_one(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        async with more_controllers(client, COLLECTOR):
            top, keeper = await make(client, "top"), await make(client, "keeper")
            for number in range(20):
                await make(client, f"leaf-{number}", top)
                await make(client, f"kept-{number}", top, keeper)
            await delete(client, "top", "Foreground")
            await gone(client, *(f"leaf-{number}" for number in range(20)), "top")
            await collected(client)
            kept = [one for one in (await client.list(MAPS)).items if objects.name(one).startswith("kept-")]
            assert len(kept) == 20
            assert {ref["name"] for one in kept for ref in objects.owner_references(one)} == {"keeper"}

    on(tmp_path, test)


def event_reasons(events: list[Object], name: str) -> set[str]:
    return {one["reason"] for one in events if one["involvedObject"]["name"] == name}


def test_owners_that_cannot_be_are_left_alone_and_told_of(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        owner = await make(client, "owner")
        await make(client, "misled", own(owner), path=ROLES)
        strange = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u-1"}
        await make(client, "strange", strange)

        async def told() -> bool:
            events = (await client.list("/api/v1/namespaces/default/events")).items
            return event_reasons(events, "misled") == {"OwnerRefInvalidNamespace"}

        await until(told, "the event about the impossible owner")
        await collected(client)
        assert await find(client, f"{ROLES}/misled") is not None
        assert await find(client, f"{MAPS}/strange") is not None

    on(tmp_path, test)


def test_an_owner_in_another_namespace_is_no_owner(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        far = await make(client, "far", path="/api/v1/namespaces/default/configmaps")
        await make(client, "crossed", own(far))
        await gone(client, "crossed")
        events = (await client.list("/api/v1/namespaces/demo/events")).items
        assert event_reasons(events, "crossed") == {"OwnerRefInvalidNamespace"}

    on(tmp_path, test)


def test_a_cluster_scoped_owner_of_namespaced_objects(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        role = await client.create(ROLES, {"metadata": {"name": "owner"}})
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
        await make(client, "owned", own(role, **kind))
        await collected(client)
        assert await find(client, f"{MAPS}/owned") is not None
        await client.delete(f"{ROLES}/owner")
        await gone(client, "owned")

    on(tmp_path, test)


def test_a_service_deleted_in_the_foreground_takes_its_slices_first(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        services = "/api/v1/namespaces/demo/services"
        slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices"
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        await client.create(services, {"metadata": {"name": "web"}, "spec": spec})

        async def sliced() -> bool:
            return len((await client.list(slices)).items) == 1

        await until(sliced, "the slice")
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        await client.delete(f"{services}/web", options)
        await gone(client, "web", path=services)

        async def cleared() -> bool:
            return not (await client.list(slices)).items

        await until(cleared, "the end of the slices")

    on(tmp_path, test, enabled="*")


def test_discovery_says_what_is_followed(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        found = await discover(client)
        assert CONFIG_MAPS in found.deletable
        assert found.readable["rbac.authorization.k8s.io/v1", "ClusterRole"].path("x", "y") == f"{ROLES}/y"
        assert all("/" not in one.plural for one in found.readable.values())
        assert ("authorization.k8s.io/v1", "SubjectAccessReview") not in found.readable

    on(tmp_path, test)


@pytest.mark.parametrize("late", [False, True])
def test_the_graph_finds_dependents_whichever_comes_first(late: bool) -> None:
    owner = node_of(CONFIG_MAPS, {"metadata": {"namespace": "n", "name": "o", "uid": "1"}})
    references = [own({"metadata": {"name": "o", "uid": "1"}})]
    metadata = {"namespace": "n", "name": "d", "uid": "2", "ownerReferences": references}
    dependent, graph = node_of(CONFIG_MAPS, {"metadata": metadata}), Graph()
    for node in (dependent, owner) if late else (owner, dependent):
        graph.put(node)
    assert graph.dependents("1") == graph.blocking("1") == [dependent]
    assert graph.all_solid(dependent)
    graph.drop("1")
    assert graph.dependents("1") == [dependent]
    assert not graph.all_solid(dependent)
    graph.drop("2")
    assert graph.dependents("1") == []


@pytest.mark.parametrize("name", ["web/proxy/secret", "../../secrets/token", "we%2fb", ".."])
def test_what_is_no_name_leads_the_collector_nowhere(tmp_path: Path, name: str) -> None:
    async def test(client: ApiClient) -> None:
        asked = noted(client)
        await make(client, "left-alone", stranger(name))
        await collected(client)
        assert await find(client, f"{MAPS}/left-alone") is not None
        assert not [path for path in asked if "/services/" in path]

    on(tmp_path, test)


@pytest.mark.parametrize(("name", "path"), [("web?watch=true", "web%3Fwatch%3Dtrue"), ("a b#ü", "a%20b%23%C3%BC")])
def test_names_with_what_means_something_in_a_url_are_escaped(tmp_path: Path, name: str, path: str) -> None:
    async def test(client: ApiClient) -> None:
        asked = noted(client)
        await make(client, "orphaned", stranger(name))
        await gone(client, "orphaned")
        assert f"/api/v1/namespaces/demo/services/{path}" in asked

    on(tmp_path, test)


def stranger(name: str) -> Object:
    """A reference to a service that nobody has seen."""
    return {"apiVersion": "v1", "kind": "Service", "name": name, "uid": "6d4a3b1c"}


def noted(client: ApiClient) -> list[str]:
    """The paths of the objects that are read from now on."""
    asked: list[str] = []
    get = client.get

    async def noting(path: str, query: Mapping[str, str] | None = None) -> Object:
        asked.append(path)
        return await get(path, query)

    client.get = noting  # type: ignore[method-assign]
    return asked
