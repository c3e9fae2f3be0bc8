"""The end of namespaces: what keeps one, who may let it go, and two servers on one store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Kind
from portway.apiserver.namespaceconditions import conditions
from portway.storage import MemoryStore
from portway.testing.api import InProcessApi
from portway.testing.asgi import Caller

NAMESPACES = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"
KIND = {kind.plural: kind for kind in KINDS if kind.store_plural is None}
FINE = {
    "NamespaceDeletionDiscoveryFailure": ("False", "ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "False",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "False",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("False", "ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "False",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


def held(*finalizers: str) -> dict[str, Any]:
    return {"metadata": {"finalizers": list(finalizers)}}


def words(found: list[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found}


@pytest.mark.parametrize(
    ("left", "failures", "differ"),
    [
        ([], [], {}),
        (
            [
                (KIND["configmaps"], held("b/x")),
                (KIND["configmaps"], held("b/x", "a/y")),
                (KIND["leases"], held("b/x")),
            ],
            [],
            {
                "NamespaceContentRemaining": (
                    "True",
                    "SomeResourcesRemain",
                    (
                        "Some resources are remaining: configmaps. has 2 resource instances, "
                        "leases.coordination.k8s.io has 1 resource instances"
                    ),
                ),
                "NamespaceFinalizersRemaining": (
                    "True",
                    "SomeFinalizersRemain",
                    (
                        "Some content in the namespace has finalizers remaining: "
                        "a/y in 1 resource instances, b/x in 3 resource instances"
                    ),
                ),
            },
        ),
        (
            [],
            ["pods b: no", "pods a: no"],
            {
                "NamespaceDeletionContentFailure": (
                    "True",
                    "ContentDeletionFailed",
                    "Failed to delete all resource types, 2 remaining: pods a: no, pods b: no",
                )
            },
        ),
    ],
)
def test_conditions_say_what_keeps_a_namespace(
    left: list[tuple[Kind, dict[str, Any]]], failures: list[str], differ: dict[str, Any]
) -> None:
    found = conditions(left, failures, (), "now")
    assert words(found) == FINE | differ
    assert {one["lastTransitionTime"] for one in found} == {"now"}


def test_a_condition_keeps_its_time_until_its_status_changes_and_strangers_stay() -> None:
    strange = {"type": "Strange", "status": "True"}
    first = conditions([(KIND["pods"], held("a/x"))], (), [strange], "t1")
    assert first[-1] == strange
    second = {one["type"]: one for one in conditions([(KIND["pods"], held())], (), first, "t2")}
    assert second["NamespaceContentRemaining"]["lastTransitionTime"] == "t1"
    assert second["NamespaceFinalizersRemaining"]["lastTransitionTime"] == "t2"


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


async def post(caller: Caller, path: str, obj: dict[str, Any]) -> Any:
    answer = await caller.request("POST", path, obj)
    assert answer.status == 201, answer.body
    return answer.json()


async def until(caller: Caller, name: str, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Watches a namespace until it is so; a namespace that is gone is {}."""
    async with caller.stream(f"{NAMESPACES}?watch=1&fieldSelector=metadata.name%3D{name}") as lines:
        answer = await caller.request("GET", f"{NAMESPACES}/{name}")
        state = answer.json() if answer.status == 200 else {}
        while not condition(state):
            event = await lines.next()
            state = {} if event["type"] == "DELETED" else event["object"]


async def until_gone(caller: Caller, name: str) -> None:
    await until(caller, name, lambda state: not state)


def test_a_namespace_says_what_it_waits_for_and_goes_when_that_is_done() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        await post(
            api.admin, f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "h", "finalizers": ["example.com/x"]}}
        )
        await api.admin.request("DELETE", f"{NAMESPACES}/n")
        await until(api.admin, "n", lambda state: bool(state["status"].get("conditions")))
        status = (await api.admin.request("GET", f"{NAMESPACES}/n")).json()["status"]
        assert status["phase"] == "Terminating"
        told = words(status["conditions"])
        assert told["NamespaceContentRemaining"][2] == (
            "Some resources are remaining: configmaps. has 1 resource instances"
        )
        assert told["NamespaceDeletionContentFailure"] == FINE["NamespaceDeletionContentFailure"]
        release = {"metadata": {"finalizers": None}}
        await api.admin.request("PATCH", f"{NAMESPACES}/n/configmaps/h", release, content_type=MERGE)
        await until_gone(api.admin, "n")

    serve(test)


def test_only_the_server_s_own_finalizer_is_taken_away() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}, "spec": {"finalizers": ["example.com/mine"]}})
        await api.admin.request("DELETE", f"{NAMESPACES}/n")
        await until(api.admin, "n", lambda state: state["spec"].get("finalizers") == ["example.com/mine"])
        kept = (await api.admin.request("GET", f"{NAMESPACES}/n")).json()
        assert kept["status"]["phase"] == "Terminating"
        answer = await api.admin.request("PUT", f"{NAMESPACES}/n/finalize", {**kept, "spec": {}})
        assert answer.status == 200
        await until_gone(api.admin, "n")

    serve(test)


def test_two_servers_empty_one_namespace_together() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as one, InProcessApi(store) as other:
            await post(one.admin, NAMESPACES, {"metadata": {"name": "n"}})
            for number in range(50):
                await post(other.admin, f"{NAMESPACES}/n/configmaps", {"metadata": {"name": f"c-{number}"}})
            first, second = await asyncio.gather(
                one.admin.request("DELETE", f"{NAMESPACES}/n"), other.admin.request("DELETE", f"{NAMESPACES}/n")
            )
            assert {first.status, second.status} <= {200, 404, 409}
            await until_gone(one.admin, "n")
            await until_gone(other.admin, "n")
            for api in (one, other):
                assert (await api.admin.request("GET", f"{NAMESPACES}/n/configmaps")).json()["items"] == []

    asyncio.run(run())


def test_what_another_server_let_in_too_late_goes_too() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as api:
            await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
            await api.admin.request("DELETE", f"{NAMESPACES}/n")
            await until_gone(api.admin, "n")
            maps = f"{NAMESPACES}/n/configmaps"
            async with api.admin.stream(f"{maps}?watch=1") as lines:
                late = {
                    "kind": "ConfigMap",
                    "apiVersion": "v1",
                    "metadata": {"name": "late", "namespace": "n", "uid": "1"},
                }
                await store.create("/registry/core/configmaps/n/late", orjson.dumps(late))
                assert [(await lines.next())["type"] for _ in range(2)] == ["ADDED", "DELETED"]
            # A namespace that never was, or is there again, is nobody's to sweep.
            await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
            await post(api.admin, maps, {"metadata": {"name": "kept"}})
            assert (await api.admin.request("GET", f"{maps}/kept")).status == 200
            assert api.app.server.reaper.idle

    asyncio.run(run())
