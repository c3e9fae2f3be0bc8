"""What a delete's propagation policy leaves on the object: upstream's table, pure and through the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.kinds.data import CONFIG_MAP
from portway.apiserver.kinds.events import EVENT
from portway.apiserver.propagation import finalizers
from portway.testing.api import InProcessApi
from portway.testing.asgi import Caller

MAPS = "/api/v1/namespaces/default/configmaps"
OWN = "example.com/own"


@pytest.mark.parametrize(
    ("held", "policy", "left"),
    [
        ([], "", []),
        ([], "Background", []),
        ([], "Foreground", ["foregroundDeletion"]),
        ([], "Orphan", ["orphan"]),
        ([OWN], "Foreground", [OWN, "foregroundDeletion"]),
        (["orphan"], "", ["orphan"]),
        (["orphan"], "Background", []),
        (["orphan", OWN], "Foreground", [OWN, "foregroundDeletion"]),
        (["foregroundDeletion"], "Orphan", ["orphan"]),
        (["foregroundDeletion", OWN], "Foreground", ["foregroundDeletion", OWN]),
        (["foregroundDeletion"], "", ["foregroundDeletion"]),
    ],
)
def test_the_policy_says_which_finalizers_are_left(held: list[str], policy: str, left: list[str]) -> None:
    assert finalizers(CONFIG_MAP, {"metadata": {"finalizers": held}}, policy) == left


@pytest.mark.parametrize("policy", ["", "Background", "Foreground", "Orphan"])
def test_events_have_no_dependents(policy: str) -> None:
    assert finalizers(EVENT, {"metadata": {"finalizers": ["orphan", OWN]}}, policy) == [OWN]


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


async def make(caller: Caller, name: str, **metadata: Any) -> None:
    answer = await caller.request("POST", MAPS, {"metadata": {"name": name, **metadata}})
    assert answer.status == 201, answer.body


@pytest.mark.parametrize(
    ("query", "options", "finalizer"),
    [
        ("?propagationPolicy=Foreground", None, "foregroundDeletion"),
        ("?propagationPolicy=Orphan", None, "orphan"),
        ("?orphanDependents=true", None, "orphan"),
        ("", {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}, "foregroundDeletion"),
        ("", {"kind": "DeleteOptions", "apiVersion": "v1", "orphanDependents": True}, "orphan"),
    ],
)
def test_what_the_collector_is_to_do_first_holds_the_object(query: str, options: Any, finalizer: str) -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        await make(api.admin, "b", labels={"l": "x"})
        answer = await api.admin.request("DELETE", f"{MAPS}/a{query}", options)
        assert answer.status == 200
        metadata = answer.json()["metadata"]
        assert (metadata["finalizers"], metadata["deletionGracePeriodSeconds"]) == ([finalizer], 0)
        selected = f"{query}{'&' if query else '?'}labelSelector=l%3Dx"
        assert (await api.admin.request("DELETE", f"{MAPS}{selected}", options)).status == 200
        held = (await api.admin.request("GET", f"{MAPS}/b")).json()["metadata"]
        assert held["finalizers"] == [finalizer]
        assert held["deletionTimestamp"]

    serve(test)


def test_a_later_delete_changes_the_policy_and_not_the_time() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", finalizers=[OWN])
        first = (await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Foreground")).json()["metadata"]
        second = (await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Orphan")).json()["metadata"]
        assert second["finalizers"] == [OWN, "orphan"]
        assert second["deletionTimestamp"] == first["deletionTimestamp"]
        third = (await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Background")).json()["metadata"]
        assert third["finalizers"] == [OWN]

    serve(test)


def test_background_after_foreground_deletes_at_once() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Foreground")
        answer = await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Background")
        assert answer.json()["status"] == "Success"
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404

    serve(test)


def test_a_dry_run_leaves_no_finalizer() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Foreground&dryRun=All")
        assert "finalizers" not in (await api.admin.request("GET", f"{MAPS}/a")).json()["metadata"]

    serve(test)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_who_empties_the_finalizers_of_a_deleted_object_deletes_it(method: str) -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        marked = (await api.admin.request("DELETE", f"{MAPS}/a?propagationPolicy=Foreground")).json()
        del marked["metadata"]["finalizers"]
        body = marked if method == "PUT" else {"metadata": {"finalizers": None}}
        kind = "application/json" if method == "PUT" else "application/merge-patch+json"
        assert (await api.admin.request(method, f"{MAPS}/a", body, content_type=kind)).status == 200
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404

    serve(test)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            "finalizer orphan and foregroundDeletion cannot be both set",
        ),
        ({"finalizers": ["mine"]}, "name is neither a standard finalizer name nor is it fully qualified"),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]},
            "/v1, Kind=Event is disallowed from being an owner",
        ),
    ],
)
def test_what_the_collector_could_not_follow_is_refused(metadata: dict[str, Any], message: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", MAPS, {"metadata": {"name": "a", **metadata}})
        assert answer.status == 422
        assert message in answer.json()["message"]

    serve(test)
