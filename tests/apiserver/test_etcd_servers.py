"""Two API servers on one etcd: one cluster, whichever of them is asked, and whatever becomes of the etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.storage.etcd import EtcdStore
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Caller
from portway.testing.etcd import Member, binaries, running

pytestmark = pytest.mark.skipif(not binaries(), reason="no etcd here (apt-get install etcd-server)")

SECRETS = "/api/v1/namespaces/default/secrets"
NAMESPACES = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"


@asynccontextmanager
async def servers(etcd: Member, count: int = 2) -> AsyncIterator[list[InProcessApi]]:
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            store = await EtcdStore.open(etcd.settings())
            stack.push_async_callback(store.close)
            found.append(await stack.enter_async_context(InProcessApi(store)))
        async with asyncio.timeout(60):
            yield found


def on_two(directory: Path, test: Callable[[Member, Caller, Caller], Awaitable[None]], *flags: str) -> None:
    async def run(etcd: Member) -> None:
        async with servers(etcd) as (one, other):
            await test(etcd, one.admin, other.admin)

    with running(next(iter(binaries().values())), directory / "etcd", *flags) as etcd:
        asyncio.run(run(etcd))


async def done(caller: Caller, method: str, target: str, obj: Any = None, **options: Any) -> dict[str, Any]:
    answer: Answer = await caller.request(method, target, obj, **options)
    assert answer.status in (200, 201), answer.body
    value: dict[str, Any] = answer.json()
    return value


def test_each_reads_at_once_what_the_other_acknowledged(tmp_path: Path) -> None:
    async def test(_: Member, one: Caller, other: Caller) -> None:
        for number in range(20):
            made = await done(one, "POST", SECRETS, {"metadata": {"name": f"m{number}"}})
            assert await done(other, "GET", f"{SECRETS}/m{number}") == made
            patched = await done(other, "PATCH", f"{SECRETS}/m{number}", {"data": {"n": "MTIz"}}, content_type=MERGE)
            listed = await done(one, "GET", SECRETS)
            (found,) = [item for item in listed["items"] if item["metadata"]["name"] == f"m{number}"]
            assert found["data"] == {"n": "MTIz"}
            assert found["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]
            await done(one, "DELETE", f"{SECRETS}/m{number}")
            assert (await other.request("GET", f"{SECRETS}/m{number}")).status == 404
            again = await other.request("POST", SECRETS, {"metadata": {"name": f"m{number}"}})
            assert again.status == 201
        # A namespace is there for the other the moment it is made, and not the moment it is marked.
        await done(one, "POST", NAMESPACES, {"metadata": {"name": "n"}})
        await done(other, "POST", f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "c", "finalizers": ["x.io/y"]}})
        await done(one, "DELETE", f"{NAMESPACES}/n")
        late = await other.request("POST", f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "late"}})
        assert late.status == 403

    on_two(tmp_path, test)


def test_a_version_that_one_told_is_understood_by_the_other(tmp_path: Path) -> None:
    """Also when it counts writes of others to the same etcd, of which neither server has heard."""

    async def test(etcd: Member, one: Caller, other: Caller) -> None:
        for number in range(5):
            await done(one, "POST", SECRETS, {"metadata": {"name": f"m{number}"}})
        etcd.ctl("put", "/elsewhere", "1")
        etcd.ctl("put", "/elsewhere", "2")
        page = await done(one, "GET", f"{SECRETS}?limit=2")
        version, token = page["metadata"]["resourceVersion"], page["metadata"]["continue"]
        for query in ("", "&resourceVersionMatch=NotOlderThan", "&resourceVersionMatch=Exact"):
            assert len((await done(other, "GET", f"{SECRETS}?resourceVersion={version}{query}"))["items"]) == 5
        await done(one, "DELETE", f"{SECRETS}/m4")
        rest = await done(other, "GET", f"{SECRETS}?limit=10&continue={token}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["m2", "m3", "m4"]
        async with other.stream(f"{SECRETS}?watch=1&resourceVersion={version}") as lines:
            assert (await lines.next())["type"] == "DELETED"

    on_two(tmp_path, test)


def test_an_etcd_that_is_gone_is_503_and_comes_back_without_a_restart(tmp_path: Path) -> None:
    async def test(etcd: Member, one: Caller, other: Caller) -> None:
        made = await done(one, "POST", SECRETS, {"metadata": {"name": "m"}})
        async with one.stream(f"{SECRETS}?watch=1&resourceVersion={made['metadata']['resourceVersion']}") as lines:
            await asyncio.to_thread(etcd.kill)
            for caller in (one, other):
                for method, target, body in [
                    ("GET", SECRETS, None),
                    ("GET", f"{SECRETS}/m", None),
                    ("POST", SECRETS, {"metadata": {"name": "x"}}),
                    ("DELETE", f"{SECRETS}/m", None),
                ]:
                    answer = await caller.request(method, target, body)
                    status = answer.json()
                    assert (answer.status, status["kind"], status["reason"]) == (503, "Status", "ServiceUnavailable")
                    assert f"etcd at {etcd.endpoint}: " in status["message"]
                # What memory may answer, it does.
                assert len((await done(caller, "GET", f"{SECRETS}?resourceVersion=0"))["items"]) == 1
                assert (await caller.request("GET", "/readyz")).status == 500
            await asyncio.to_thread(etcd.start)
            await done(other, "POST", SECRETS, {"metadata": {"name": "after"}})
            assert (await lines.next())["object"]["metadata"]["name"] == "after"
            assert (await one.request("GET", "/readyz")).status == 200

    on_two(tmp_path, test)


def test_a_full_etcd_and_a_too_large_object_are_told_apart(tmp_path: Path) -> None:
    async def test(etcd: Member, one: Caller, other: Caller) -> None:
        metadata = {"name": "large", "annotations": {"x": "y" * 220_000}}
        answer = await one.request("POST", SECRETS, {"metadata": metadata, "data": {"x": "A" * 1_390_000}})
        assert (answer.status, answer.json()["reason"]) == (413, "RequestEntityTooLarge")
        number = 0
        while True:
            body = {"metadata": {"name": f"m{number}"}, "data": {"x": "A" * 400_000}}
            answer = await one.request("POST", SECRETS, body)
            if answer.status != 201:
                break
            number += 1
        status = answer.json()
        assert (answer.status, status["reason"]) == (503, "ServiceUnavailable")
        assert "is full" in status["message"]
        assert len((await done(other, "GET", SECRETS))["items"]) == number

    on_two(tmp_path, test, "--quota-backend-bytes", str(8 * 1024 * 1024))
