"""The work queue and the cache that controllers share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from portway.client.api import ApiClient, ClusterConfig
from portway.controllers.cache import Cache
from portway.controllers.collections import Caches, Writer
from portway.controllers.queue import Key, WorkQueue
from portway.kube.errors import NotFound

A, B = ("demo", "a"), ("demo", "b")


def work(scenario: Callable[[WorkQueue, list[Key], asyncio.Event], Awaitable[None]]) -> list[Key]:
    """Run a scenario beside two workers that wait at a gate; the keys in the order in which they were taken."""

    async def run() -> list[Key]:
        queue, taken, gate = WorkQueue(), [], asyncio.Event()
        gate.set()

        async def one(key: Key) -> None:
            taken.append(key)
            await gate.wait()

        workers = [asyncio.create_task(queue.run(one), name=f"worker {number}") for number in range(2)]
        await scenario(queue, taken, gate)
        for worker in workers:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker
        return taken

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_key_waits_once() -> None:
    async def scenario(queue: WorkQueue, taken: list[Key], gate: asyncio.Event) -> None:
        for key in (A, B, A, A):
            queue.add(key)
        await until(queue.idle)

    assert work(scenario) == [A, B]


def test_a_key_is_never_worked_on_twice_at_once_but_again_afterwards() -> None:
    async def scenario(queue: WorkQueue, taken: list[Key], gate: asyncio.Event) -> None:
        gate.clear()
        queue.add(A)
        await until(lambda: taken == [A])
        queue.add(A)
        queue.add(A)
        queue.add(B)
        await until(lambda: taken == [A, B])
        assert not queue.idle()
        gate.set()
        await until(queue.idle)

    assert work(scenario) == [A, B, A]


def test_a_retry_comes_later_and_news_overtake_it() -> None:
    async def scenario(queue: WorkQueue, taken: list[Key], gate: asyncio.Event) -> None:
        queue.retry(A)
        assert not queue.idle()
        await until(lambda: taken == [A])
        queue.retry(A, at_least=60.0)
        queue.retry(A)
        queue.add(A)
        await until(queue.idle)

    assert work(scenario) == [A, A]


class StandingStill(asyncio.SelectorEventLoop):
    """A loop whose clock does not run: a timer's time is exactly what was asked for."""

    def time(self) -> float:
        return 0.0


def test_failures_are_waited_out_for_longer_until_success() -> None:
    async def run() -> list[float]:
        queue = WorkQueue()
        delays = []
        for _ in range(6):
            queue.retry(A)
            delays.append(queue._timers[A].when())
            queue.add(A)
            queue._waiting.clear()
        queue.succeeded(A)
        queue.retry(A)
        delays.append(queue._timers[A].when())
        queue._timers[A].cancel()
        return delays

    with asyncio.Runner(loop_factory=StandingStill) as runner:
        *growing, last = runner.run(run())
    assert growing == sorted(growing)
    assert growing[-1] > 10 * growing[0]
    assert last < 0.02


def obj(name: str, version: int, **labels: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "demo", "name": name, "resourceVersion": str(version), "labels": labels}}


def test_nothing_older_is_taken_in() -> None:
    cache: Cache[dict[str, Any]] = Cache(lambda obj: obj)
    told: list[tuple[Key, Any, Any]] = []
    cache.listen(lambda key, before, after: told.append((key, before is not None, after is not None)))
    cache.put(obj("a", 10))  # the answer to an own write
    cache.on_event("MODIFIED", obj("a", 9))  # and what the watch has still to tell
    cache.on_event("MODIFIED", obj("a", 10))
    cache.on_event("DELETED", obj("a", 8))
    assert told == [(A, False, True)]
    cache.on_event("DELETED", obj("a", 11))
    cache.on_event("DELETED", obj("a", 11))
    assert told == [(A, False, True), (A, True, False)]
    assert cache.get(A) is None


def test_versions_need_not_be_numbers() -> None:
    cache: Cache[dict[str, Any]] = Cache(lambda obj: obj)
    one = obj("a", 1)
    one["metadata"]["resourceVersion"] = "x"
    cache.put(one)
    cache.drop(obj("a", 2))
    assert cache.keys() == []


def test_indexes_follow() -> None:
    cache: Cache[dict[str, Any]] = Cache(lambda obj: obj, lambda fact: fact["metadata"]["labels"].items())
    cache.put(obj("a", 1, app="web", tier="front"))
    cache.put(obj("b", 2, app="web"))
    assert cache.count(("app", "web")) == 2
    cache.put(obj("a", 3, app="api"))
    assert [fact["metadata"]["name"] for fact in cache.under(("app", "web"))] == ["b"]
    assert cache.count(("tier", "front")) == 0
    cache.drop({"metadata": {"namespace": "demo", "name": "b"}})
    assert cache.under(("app", "web")) == []
    assert [fact["metadata"]["name"] for fact in cache.values()] == ["a"]


class Echo(ApiClient):
    """An API that stores nothing and answers as if it had, one version after the other."""

    def __init__(self) -> None:
        super().__init__(ClusterConfig("http://nowhere"))
        self.paths: list[str] = []
        self.gone = False

    def _stored(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.paths.append(path)
        if self.gone:
            raise NotFound("gone")
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(len(self.paths)), "uid": "u"}}

    async def create(self, path: str, obj: dict[str, Any], headers: Any = ()) -> dict[str, Any]:
        return self._stored(path, obj)

    async def update(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        return self._stored(path, obj)

    async def delete(self, path: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        assert options == {"preconditions": {"uid": "u"}}
        return self._stored(path, obj("a", 0))


def test_own_writes_are_in_the_cache_before_the_watch_tells_of_them() -> None:
    async def run() -> None:
        client, caches = Echo(), Caches()
        writer = Writer(client, caches, "endpoints")
        await writer.create(obj("a", 0))
        made = caches.endpoints.get(A)
        assert made is not None
        await writer.update(made | {"subsets": [1]})
        changed = caches.endpoints.get(A)
        assert changed is not None
        assert changed["subsets"] == [1]
        await writer.delete(changed)
        assert caches.endpoints.get(A) is None
        one = "/api/v1/namespaces/demo/endpoints/a"
        assert client.paths == ["/api/v1/namespaces/demo/endpoints", one, one]

    asyncio.run(run())


def test_what_turns_out_to_be_gone_leaves_the_cache() -> None:
    async def run() -> None:
        client, caches = Echo(), Caches()
        writer = Writer(client, caches, "endpoints")
        await writer.create(obj("a", 0))
        made = caches.endpoints.get(A)
        assert made is not None
        client.gone = True
        with pytest.raises(NotFound):
            await writer.update(made)
        assert caches.endpoints.get(A) is None
        await writer.delete(made)

    asyncio.run(run())
