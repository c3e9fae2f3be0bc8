"""Lists: selectors, pages, earlier revisions, Tables and metadata only; and that a long one lets others through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import yaml

from portway.storage import MemoryStore
from portway.testing.api import InProcessApi
from portway.testing.asgi import Caller

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def serve(test: Callable[[InProcessApi], Awaitable[None]], store: MemoryStore | None = None) -> None:
    async def run() -> None:
        async with InProcessApi(store) as api:
            await test(api)

    asyncio.run(run())


async def make(caller: Caller, *names: str, namespace: str = "default", **labels: str) -> None:
    for name in names:
        obj = {"metadata": {"name": name, "labels": labels}, "data": {"x": "1"}}
        answer = await caller.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", obj)
        assert answer.status == 201, answer.body


async def listed(caller: Caller, target: str, **headers: str) -> Any:
    answer = await caller.request("GET", target, **headers)
    assert answer.status == 200, answer.body
    return answer.json()


def names(value: Any) -> list[str]:
    return [item["metadata"]["name"] for item in value["items"]]


def test_a_list_is_ordered_by_key_and_says_its_revision() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "b", "a", namespace="kube-system")
        await make(api.admin, "z")
        everywhere = await listed(api.admin, "/api/v1/configmaps")
        assert (everywhere["kind"], everywhere["apiVersion"], names(everywhere)) == (
            "ConfigMapList",
            "v1",
            ["z", "a", "b"],
        )
        assert "kind" not in everywhere["items"][0]
        assert everywhere["metadata"] == {"resourceVersion": str(api.store.current_revision())}
        assert names(await listed(api.admin, "/api/v1/namespaces/kube-system/configmaps")) == ["a", "b"]
        assert names(await listed(api.admin, "/api/v1/namespaces/none/configmaps")) == []

    serve(test)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("labelSelector=tier%3Dfront", ["a", "b"]),
        ("labelSelector=tier+in+(front,back),!x", ["a", "b", "c"]),
        ("labelSelector=tier%21%3Dfront", ["c", "d"]),
        ("fieldSelector=metadata.name%3Dc", ["c"]),
        ("fieldSelector=metadata.name%21%3Dc,metadata.namespace%3Ddefault", ["a", "b", "d"]),
        ("fieldSelector=metadata.namespace%3Dother", []),
        ("labelSelector=tier%3Dfront&fieldSelector=metadata.name%3Db", ["b"]),
    ],
)
def test_selectors(query: str, found: list[str]) -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", "b", tier="front")
        await make(api.admin, "c", tier="back")
        await make(api.admin, "d")
        assert names(await listed(api.admin, f"{MAPS}?{query}")) == found

    serve(test)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            f"{MAPS}?fieldSelector=data%3Dx",
            '"data" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("/api/v1/pods?fieldSelector=spec.x%3Dy", "field label not supported: spec.x"),
        (f"{MAPS}?labelSelector=%21%21", "unable to parse requirement: found '!', expected: identifier"),
    ],
)
def test_selectors_that_cannot_be_are_refused(target: str, message: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("GET", target)
        assert (answer.status, answer.json()["message"]) == (400, message)

    serve(test)


def test_pages_show_the_state_of_the_first_page() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", "b", "c", "d", "e")
        first = await listed(api.admin, f"{MAPS}?limit=2")
        assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
        await make(api.admin, "aa", "bb", "f")
        await api.admin.request("DELETE", f"{MAPS}/d")
        second = await listed(api.admin, f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
        assert names(second) == ["c", "d"]
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        third = await listed(api.admin, f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
        assert (names(third), "continue" in third["metadata"]) == (["e"], False)

    serve(test)


def test_pages_of_a_selection_are_full_and_do_not_count_the_rest() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", "c", "e", tier="front")
        await make(api.admin, "b", "d", tier="back")
        first = await listed(api.admin, f"{MAPS}?limit=2&labelSelector=tier%3Dfront")
        assert (names(first), "remainingItemCount" in first["metadata"]) == (["a", "c"], False)
        token = first["metadata"]["continue"]
        last = await listed(api.admin, f"{MAPS}?limit=2&labelSelector=tier%3Dfront&continue={token}")
        assert (names(last), "continue" in last["metadata"]) == (["e"], False)

    serve(test)


def test_a_page_whose_revision_was_compacted_expires_and_can_go_on_inconsistently() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", "b", "c")
        token = (await listed(api.admin, f"{MAPS}?limit=1"))["metadata"]["continue"]
        await make(api.admin, "d")
        await api.store.compact(api.store.current_revision())
        answer = await api.admin.request("GET", f"{MAPS}?continue={token}")
        assert (answer.status, answer.json()["reason"]) == (410, "Expired")
        again = answer.json()["metadata"]["continue"]
        assert names(await listed(api.admin, f"{MAPS}?continue={again}")) == ["b", "c", "d"]

    serve(test)


def test_lists_at_and_not_before_a_revision() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        then = api.store.current_revision()
        await make(api.admin, "b")
        exact = await listed(api.admin, f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
        assert (names(exact), exact["metadata"]["resourceVersion"]) == (["a"], str(then))
        assert names(await listed(api.admin, f"{MAPS}?resourceVersion={then}")) == ["a", "b"]
        assert names(await listed(api.admin, f"{MAPS}?resourceVersion=0")) == ["a", "b"]

    serve(test)


def test_a_list_of_the_future_times_out_and_says_when_to_come_back() -> None:
    async def test(api: InProcessApi) -> None:
        now = api.store.current_revision()
        answer = await api.admin.request("GET", f"{MAPS}?resourceVersion={now + 5}")
        assert answer.status == 504
        assert answer.json()["message"] == f"Too large resource version: {now + 5}, current: {now}"
        assert answer.header("retry-after") == "1"

    serve(test)


def test_a_table_has_a_row_an_object_and_its_columns_once() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", "b")
        table = await listed(api.admin, MAPS, accept=f"{TABLE},application/json")
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert [row["cells"][:2] for row in table["rows"]] == [["a", 1], ["b", 1]]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        whole = await listed(api.admin, f"{MAPS}?includeObject=Object", accept=TABLE)
        assert whole["rows"][0]["object"]["data"] == {"x": "1"}
        bare = await listed(api.admin, f"{MAPS}?includeObject=None", accept=TABLE)
        assert bare["rows"][0]["object"] is None
        one = await listed(api.admin, f"{MAPS}/b", accept=TABLE)
        assert [row["cells"][0] for row in one["rows"]] == ["b"]

    serve(test)


def test_metadata_only_and_yaml() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        partial = await listed(api.admin, MAPS, accept=PARTIALS)
        assert partial["kind"] == "PartialObjectMetadataList"
        assert partial["items"][0].keys() == {"kind", "apiVersion", "metadata"}
        answer = await api.admin.request("GET", f"{MAPS}/a", accept="application/yaml")
        assert answer.header("content-type") == "application/yaml"
        assert yaml.safe_load(answer.body) == await listed(api.admin, f"{MAPS}/a")
        pretty = await api.admin.request("GET", MAPS, user_agent="curl/8")
        assert b'\n  "kind": "ConfigMapList"' in pretty.body
        assert (await api.admin.request("GET", MAPS, accept="text/html")).status == 406
        wrong = await api.admin.request("GET", f"{MAPS}?includeObject=Some", accept=TABLE)
        assert wrong.status == 422

    serve(test)


def yardstick() -> float:
    """CPU seconds of a fixed piece of work, about 0.1 where the bound was chosen: it scales with the core."""
    begun = time.thread_time()
    for _ in range(300_000):
        str(begun)[:1]
    return time.thread_time() - begun


async def longest_pause(work: Awaitable[Any]) -> float:
    """Returns the longest time, in seconds of this thread, for which `work` kept another task from running."""
    longest, last = 0.0, time.thread_time()

    async def pulse() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    beat = asyncio.create_task(pulse(), name="pulse")
    await asyncio.sleep(0)
    last = time.thread_time()
    await work
    beat.cancel()
    return longest


@pytest.mark.slow
def test_ten_thousand_pods_are_listed_without_stopping_the_server() -> None:
    async def test(api: InProcessApi) -> None:
        spec = {"nodeName": "n", "containers": [{"name": f"c{i}", "image": "registry/image:1"} for i in range(3)]}
        for i in range(10_000):
            pod = {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "name": f"p{i:05}",
                    "namespace": "default",
                    "uid": f"u{i}",
                    "labels": {"app": f"a{i % 7}"},
                },
                "spec": spec,
                "status": {"phase": "Running", "podIP": "10.1.1.1"},
            }
            await api.store.create(f"/registry/core/pods/default/p{i:05}", orjson.dumps(pod))
        for target, accept in (
            ("/api/v1/pods", "application/json"),
            ("/api/v1/pods?labelSelector=app%3Da1", "application/json"),
            ("/api/v1/pods", TABLE),
            ("/api/v1/pods", PROTOBUF),
            ("/api/v1/pods", f"{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
        ):
            pause = await longest_pause(api.admin.request("GET", target, accept=accept))
            assert pause < 4 * yardstick(), (target, accept, pause)

    serve(test)
