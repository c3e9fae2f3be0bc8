"""Watches: from now, from a revision, through selectors, as Tables, with bookmarks, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.http import SEND_TIMEOUT, Message, Stream, send
from portway.storage import MemoryStore
from portway.testing.api import InProcessApi
from portway.testing.asgi import Caller, Lines
from portway.testing.virtualtime import START, play

MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


async def make(caller: Caller, name: str, **labels: str) -> Any:
    answer = await caller.request("POST", MAPS, {"metadata": {"name": name, "labels": labels}})
    assert answer.status == 201, answer.body
    return answer.json()


async def label(caller: Caller, name: str, **labels: str | None) -> Any:
    change = {"metadata": {"labels": labels}}
    return (await caller.request("PATCH", f"{MAPS}/{name}", change, content_type=MERGE)).json()


async def seen(lines: Lines) -> tuple[str, str]:
    """The next event, as (type, name)."""
    event = await lines.next()
    return event["type"], event["object"]["metadata"].get("name", "")


def test_a_watch_from_now_begins_with_what_there_is() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        async with api.admin.stream(f"{MAPS}?watch=1") as lines:
            assert lines.status == 200
            assert await seen(lines) == ("ADDED", "a")
            made = await make(api.admin, "b")
            assert await lines.next() == {"type": "ADDED", "object": made}
            changed = await label(api.admin, "b", x="y")
            assert await lines.next() == {"type": "MODIFIED", "object": changed}
            await api.admin.request("DELETE", f"{MAPS}/b")
            deleted = await lines.next()
            assert (deleted["type"], deleted["object"]["metadata"]["name"]) == ("DELETED", "b")
            assert int(deleted["object"]["metadata"]["resourceVersion"]) == api.store.current_revision()

    serve(test)


def test_a_watch_from_a_revision_repeats_nothing_and_leaves_nothing_out() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        then = api.store.current_revision()
        await make(api.admin, "b")
        await make(api.admin, "c")
        async with api.admin.stream(f"{MAPS}?watch=1&resourceVersion={then}") as lines:
            assert [await seen(lines) for _ in range(2)] == [("ADDED", "b"), ("ADDED", "c")]
            await make(api.admin, "d")
            assert await seen(lines) == ("ADDED", "d")

    serve(test)


def test_a_watch_sees_its_namespace_and_its_name_only() -> None:
    async def test(api: InProcessApi) -> None:
        other = {"metadata": {"name": "other"}}
        async with (
            api.admin.stream(f"{MAPS}?watch=1&resourceVersion={api.store.current_revision()}") as lines,
            api.admin.stream("/api/v1/watch/namespaces/default/configmaps/b") as legacy,
            api.admin.stream(f"{MAPS}?watch=1&fieldSelector=metadata.name%3Db") as selected,
        ):
            await api.admin.request("POST", "/api/v1/namespaces/kube-system/configmaps", other)
            await make(api.admin, "a")
            await make(api.admin, "b")
            assert [await seen(lines) for _ in range(2)] == [("ADDED", "a"), ("ADDED", "b")]
            assert await seen(legacy) == ("ADDED", "b")
            assert await seen(selected) == ("ADDED", "b")

    serve(test)


def test_entering_a_selection_is_added_and_leaving_it_is_deleted() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a", tier="back")
        async with api.admin.stream(f"{MAPS}?watch=1&labelSelector=tier%3Dfront") as lines:
            entered = await label(api.admin, "a", tier="front")
            assert await lines.next() == {"type": "ADDED", "object": entered}
            await label(api.admin, "a", x="y")
            assert await seen(lines) == ("MODIFIED", "a")
            left = await label(api.admin, "a", tier="back")
            last = await lines.next()
            assert last["type"] == "DELETED"
            assert last["object"]["metadata"]["labels"]["tier"] == "front"
            assert last["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
            await api.admin.request("DELETE", f"{MAPS}/a")
            await make(api.admin, "b", tier="front")
            assert await seen(lines) == ("ADDED", "b")

    serve(test)


def test_tables_bring_their_columns_with_the_first_event_only() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        async with api.admin.stream(f"{MAPS}?watch=1", accept=TABLE) as lines:
            first = await lines.next()
            await make(api.admin, "b")
            second = await lines.next()
        assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert first["object"]["rows"][0]["cells"][0] == "a"
        assert second["object"]["columnDefinitions"] == []
        assert second["object"]["rows"][0]["object"]["kind"] == "PartialObjectMetadata"

    serve(test)


def test_initial_events_end_with_a_bookmark() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, "a")
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.admin.stream(f"{MAPS}?{query}") as lines:
            assert await seen(lines) == ("ADDED", "a")
            mark = await lines.next()
            assert mark["type"] == "BOOKMARK"
            assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert mark["object"]["metadata"]["resourceVersion"] == str(api.store.current_revision())

    serve(test)


def test_bookmarks_tell_of_revisions_that_other_kinds_made() -> None:
    async def test(api: InProcessApi) -> None:
        query = f"watch=1&allowWatchBookmarks=true&resourceVersion={api.store.current_revision()}"
        async with api.admin.stream(f"{MAPS}?{query}") as lines:
            await api.admin.request("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
            now = str(api.store.current_revision())
            while (mark := await lines.next())["object"]["metadata"]["resourceVersion"] != now:
                assert mark["type"] == "BOOKMARK"

    serve(test, bookmark_seconds=0.02)


def test_a_watch_ends_in_time_with_a_last_bookmark() -> None:
    async def test(api: InProcessApi) -> None:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={api.store.current_revision()}"
        async with api.admin.stream(f"{MAPS}?{query}") as lines:
            assert (await lines.next())["type"] == "BOOKMARK"
            assert await lines.next() is None

    serve(test)


def test_a_revision_older_than_the_history_is_told_so_in_the_stream() -> None:
    async def test(api: InProcessApi) -> None:
        then = api.store.current_revision()
        for i in range(9):
            await make(api.admin, f"m{i}")
        async with api.admin.stream(f"{MAPS}?watch=1&resourceVersion={then}") as lines:
            event = await lines.next()
            assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
            assert event["object"]["message"].startswith(f"too old resource version: {then} (")
            assert await lines.next() is None

    serve(test, watch_history=4)


def test_the_history_begins_with_the_server_for_every_kind() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as first:
            await make(first.admin, "a")
        loaded = store.current_revision()
        async with InProcessApi(store) as second:
            await second.admin.request("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
            for target in (MAPS, "/api/v1/secrets"):
                async with second.admin.stream(f"{target}?watch=1&resourceVersion={loaded - 1}") as lines:
                    assert (await lines.next())["type"] == "ERROR"
            async with second.admin.stream(f"{MAPS}?watch=1&resourceVersion={loaded}") as lines:
                await make(second.admin, "b")
                assert await seen(lines) == ("ADDED", "b")

    asyncio.run(run())


def test_a_watcher_that_lags_behind_the_history_is_cut() -> None:
    async def test(api: InProcessApi) -> None:
        shelf = api.app.server.cache.shelf("/registry/core/configmaps/")
        cursor = shelf.log.cursor(api.app.server.cache.revision)
        assert cursor is not None
        for i in range(9):
            await make(api.admin, f"m{i}")
        assert shelf.log.read(cursor) is None

    serve(test, watch_history=4)


def test_a_watch_of_the_future_is_refused_before_it_begins() -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("GET", f"{MAPS}?watch=1&resourceVersion={api.store.current_revision() + 9}")
        assert (answer.status, answer.json()["reason"]) == (504, "Timeout")

    serve(test)


def test_draining_ends_every_watch() -> None:
    async def test(api: InProcessApi) -> None:
        async with api.admin.stream(f"{MAPS}?watch=1") as lines:
            api.app.drain()
            assert await lines.next() is None
        assert (await api.admin.request("GET", "/readyz")).status == 500
        assert (await api.admin.request("GET", "/livez")).status == 200

    serve(test)


def test_a_watcher_that_left_leaves_nothing_behind() -> None:
    async def test(api: InProcessApi) -> None:
        async with api.admin.stream(f"{MAPS}?watch=1"):
            pass
        await make(api.admin, "a")
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any("watch:" in name for name in names)

    serve(test)


def test_many_watchers_share_what_is_rendered() -> None:
    async def test(api: InProcessApi) -> None:
        shelf = api.app.server.cache.shelf("/registry/core/configmaps/")
        async with (
            api.admin.stream(f"{MAPS}?watch=1") as one,
            api.admin.stream(f"{MAPS}?watch=1") as two,
            api.admin.stream(f"{MAPS}?watch=1&labelSelector=x%3Dy") as three,
        ):
            await make(api.admin, "a", x="y")
            assert await one.next() == await two.next() == await three.next()
        changes = shelf.log.read(0)
        assert changes is not None
        assert len(changes[-1].rendered) <= 2

    serve(test)


def test_a_peer_that_takes_nothing_for_a_minute_is_cut_off_and_a_quiet_stream_is_not() -> None:
    sent: list[float] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        for pause in (0.0, 600.0, 59.0, 0.0, 0.0):
            await asyncio.sleep(pause)
            yield b"line\n"

    async def send_to_peer(message: Message) -> None:
        if message.get("body"):
            sent.append(asyncio.get_running_loop().time() - START)
            await asyncio.sleep((0.0, 59.0, 59.0, 61.0)[len(sent) - 1])

    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            await send(Stream(chunks()), "GET", send_to_peer)
        return asyncio.get_running_loop().time() - START

    assert play(scenario()) == pytest.approx(777 + SEND_TIMEOUT)
    assert sent == pytest.approx([0, 600, 718, 777])
