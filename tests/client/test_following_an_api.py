"""ApiClient, Informer and ClusterView against a server that follows a script: everything an API may do to a client."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from portway.client.api import MERGE_PATCH, ApiClient, ClusterConfig
from portway.client.backoff import Backoff
from portway.client.credentials import FileCredentials
from portway.client.informer import Informer
from portway.client.protocol import ApiUnreachable
from portway.client.view import ClusterView
from portway.kube.errors import Expired, NotFound, StatusError
from portway.testing.scripted import (
    Handler,
    ScriptedApi,
    Step,
    event,
    failure,
    listing,
    named,
    serving,
    stream,
    text,
    until,
)

Object = dict[str, Any]


@asynccontextmanager
async def listening(api: Handler, path: Path) -> AsyncIterator[ApiClient]:
    """A server on a unix socket, and a client of it."""
    async with serving(api, path=path):
        client = ApiClient(ClusterConfig.local(str(path), "system:test"))
        try:
            yield client
        finally:
            await client.close()


class Noted(Backoff):
    """Notes its delays."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self._waits = waits

    def delay(self, at_least: float | None = None) -> float:
        self._waits.append(super().delay(at_least))
        return self._waits[-1]


class Consumer:
    """Holds what an informer tells, as the view does."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.objects: dict[tuple[str, str], Object] = {}

    def on_event(self, kind: str, obj: Object) -> None:
        metadata = obj["metadata"]
        self.told.append((kind, metadata["name"]))
        key = metadata["namespace"], metadata["name"]
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = obj


def follow(
    path: Path, *steps: Step, done: Callable[[Consumer, Informer, ScriptedApi], bool], held: tuple[str, ...] = ()
) -> tuple[Consumer, Informer, ScriptedApi]:
    """Run an informer over a script until `done`."""

    async def run() -> tuple[Consumer, Informer, ScriptedApi]:
        api, consumer = ScriptedApi(*steps), Consumer()
        consumer.objects.update({("demo", name): named(name) for name in held})
        async with listening(api, path / "api.sock") as client:
            informer = Informer(
                client, "/api/v1/services", consumer.on_event, lambda: consumer.objects, backoff=Noted(api.waits)
            )
            task = asyncio.create_task(informer.run(), name="informer")
            try:
                await until(lambda: done(consumer, informer, api))
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return consumer, informer, api

    return asyncio.run(run())


def has(*names: str) -> Callable[[Consumer, Informer, ScriptedApi], bool]:
    return lambda consumer, *_: {name for _, name in consumer.objects} == set(names)


# Informers


def test_lists_in_pages_then_watches_from_there(tmp_path: Path) -> None:
    consumer, informer, api = follow(
        tmp_path,
        listing(named("a"), version=7, after="next"),
        listing(named("b"), version=7),
        stream(event("ADDED", named("c", 8)), event("MODIFIED", named("a", 9)), event("DELETED", named("b", 10))),
        done=has("a", "c"),
    )
    assert consumer.told == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"), ("MODIFIED", "a"), ("DELETED", "b")]
    assert [query.get("continue") for _, _, query in api.requests] == [None, "next", None]
    watch = api.requests[2][2]
    assert (watch["watch"], watch["resourceVersion"], watch["allowWatchBookmarks"]) == ("true", "7", "true")
    assert informer.resource_version == "10"
    assert informer.synced.is_set()
    assert informer.connected
    assert informer.last_contact == pytest.approx(time.time(), abs=30)


def test_says_who_it_is_on_a_socket(tmp_path: Path) -> None:
    _, _, api = follow(tmp_path, listing(), done=lambda _, informer, __: informer.synced.is_set())
    assert api.headers[0]["X-Remote-User"] == "system:test"
    assert api.headers[0]["X-Remote-Group"] == "system:masters"


def test_what_a_list_no_longer_has_is_told_as_deleted(tmp_path: Path) -> None:
    consumer, _, _ = follow(tmp_path, listing(named("a"), version=5), done=has("a"), held=("old",))
    assert consumer.told == [("ADDED", "a"), ("DELETED", "old")]


def test_a_bookmark_moves_the_place_to_resume_from(tmp_path: Path) -> None:
    bookmark = {"kind": "Service", "metadata": {"resourceVersion": "50"}}
    consumer, _, api = follow(
        tmp_path,
        listing(version=1),
        stream(event("ADDED", named("a", 2)), event("BOOKMARK", bookmark), end="close"),
        stream(),
        done=lambda _, __, api: len(api.requests) == 3,
    )
    assert api.requests[2][2]["resourceVersion"] == "50"
    assert consumer.told == [("ADDED", "a")]


@pytest.mark.parametrize(
    "gone",
    [
        stream(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})),
        failure(410, "Expired"),
    ],
    ids=["event", "response"],
)
def test_410_makes_it_list_again_and_tell_the_difference(tmp_path: Path, gone: Step) -> None:
    consumer, _, api = follow(
        tmp_path,
        listing(named("a"), named("b"), version=1),
        gone,
        listing(named("b"), named("c"), version=90),
        stream(),
        done=has("b", "c"),
    )
    assert consumer.told[-3:] == [("ADDED", "b"), ("ADDED", "c"), ("DELETED", "a")]
    assert [query.get("watch") for _, _, query in api.requests[:3]] == [None, "true", None]


def test_a_list_whose_continuation_expired_is_asked_for_in_one_piece(tmp_path: Path) -> None:
    _, _, api = follow(
        tmp_path, listing(named("a"), version=1, after="x"), failure(410, "Expired"), listing(named("b")), done=has("b")
    )
    assert "limit" in api.requests[0][2]
    assert "limit" not in api.requests[2][2]


def test_half_an_event_is_never_taken_for_one(tmp_path: Path) -> None:
    whole = event("ADDED", named("a", 2))
    consumer, _, api = follow(
        tmp_path,
        listing(version=1),
        stream(whole + event("ADDED", named("b", 3))[:-1], end="close"),
        stream(event("ADDED", named("b", 3))),
        done=has("a", "b"),
    )
    assert consumer.told == [("ADDED", "a"), ("ADDED", "b")]
    assert api.requests[2][2]["resourceVersion"] == "2"


def test_an_event_may_come_in_any_pieces(tmp_path: Path) -> None:
    sent = event("ADDED", named("a", 2)) + b"\n" + event("ADDED", named("b", 3))
    pieces = [sent[i : i + 7] for i in range(0, len(sent), 7)]
    consumer, _, _ = follow(tmp_path, listing(version=1), stream(*pieces), done=has("a", "b"))
    assert consumer.told == [("ADDED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b'{"type": "ADDED"}\n', b'{"type": "ADDED", "object": {}}\n', b'{"object": 1}\n'],
)
def test_nonsense_in_a_watch_is_a_broken_connection(tmp_path: Path, line: bytes) -> None:
    consumer, _, _ = follow(
        tmp_path,
        listing(version=1),
        stream(line),
        stream(event("ADDED", named("a", 2))),
        done=has("a"),
    )
    assert consumer.told == [("ADDED", "a")]


def test_a_cut_connection_is_taken_up_where_it_was(tmp_path: Path) -> None:
    _, _, api = follow(
        tmp_path,
        listing(version=1),
        stream(event("ADDED", named("a", 2)), end="cut"),
        stream(event("ADDED", named("b", 3))),
        done=has("a", "b"),
    )
    assert [query.get("resourceVersion") for _, _, query in api.requests] == [None, "1", "2"]
    assert api.waits[0] < 0.1


def test_429_is_waited_out_as_long_as_the_server_asks(tmp_path: Path) -> None:
    _, _, api = follow(
        tmp_path, failure(429, "TooManyRequests", **{"Retry-After": "1"}), listing(named("a")), done=has("a")
    )
    assert api.times[1] - api.times[0] >= 1.0


def test_errors_are_waited_out_for_longer_and_longer(tmp_path: Path) -> None:
    wrong = [failure(500, "InternalError"), text(502, "bad gateway"), text(200, "not json"), failure(403, "Forbidden")]
    consumer, informer, api = follow(tmp_path, *wrong, listing(named("a")), stream(), done=has("a"))
    gaps = [later - earlier for earlier, later in zip(api.times, api.times[1:], strict=False)][:4]
    assert api.waits[0] < 0.1
    assert api.waits[:4] == sorted(api.waits[:4])
    assert all(gap > 0.9 * wait for gap, wait in zip(gaps, api.waits, strict=False))
    assert consumer.told == [("ADDED", "a")]
    assert informer.connected


def test_a_server_that_accepts_watches_and_drops_them_is_not_hammered(tmp_path: Path) -> None:
    drops = [stream(end="close") for _ in range(4)]
    _, _, api = follow(tmp_path, listing(version=1), *drops, stream(), done=lambda _, __, api: len(api.requests) == 6)
    assert api.times[5] - api.times[1] > 4 * 0.05 * 0.75


def test_an_absent_api_is_waited_for(tmp_path: Path) -> None:
    """The worker starts first, the API server comes later, goes and comes back."""

    async def run() -> None:
        socket_path, consumer = tmp_path / "api.sock", Consumer()
        client = ApiClient(ClusterConfig.local(str(socket_path), "system:test"))
        informer = Informer(client, "/api/v1/services", consumer.on_event, lambda: consumer.objects)
        task = asyncio.create_task(informer.run(), name="informer")
        with pytest.raises(ApiUnreachable):
            await client.get("/version")
        assert not informer.connected
        async with listening(ScriptedApi(listing(named("a"), version=1)), socket_path):
            await until(lambda: informer.connected and has("a")(consumer, informer, ScriptedApi()))
        await until(lambda: not informer.connected)
        assert has("a")(consumer, informer, ScriptedApi())
        async with listening(ScriptedApi(stream(event("ADDED", named("b", 2)))), socket_path):
            await until(lambda: informer.connected and has("a", "b")(consumer, informer, ScriptedApi()))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()

    asyncio.run(run())


def test_a_consumer_s_bug_is_raised(tmp_path: Path) -> None:
    async def run() -> None:
        def broken(kind: str, obj: Object) -> None:
            raise RuntimeError(kind)

        async with listening(ScriptedApi(listing(named("a"))), tmp_path / "api.sock") as client:
            with pytest.raises(RuntimeError, match="ADDED"):
                await Informer(client, "/api/v1/services", broken, list).run()

    asyncio.run(run())


# The client


def ask(path: Path, step: Step, question: Callable[[ApiClient], Awaitable[Any]]) -> tuple[Any, ScriptedApi]:
    async def run() -> tuple[Any, ScriptedApi]:
        api = ScriptedApi(step)
        async with listening(api, path / "api.sock") as client:
            return await question(client), api

    return asyncio.run(run())


def test_verbs(tmp_path: Path) -> None:
    one = "/api/v1/namespaces/demo/services/web"

    async def everything() -> list[tuple[str, str, dict[str, str]]]:
        api = ScriptedApi(*(listing() for _ in range(6)))
        async with listening(api, tmp_path / "api.sock") as client:
            await client.get(one, {"a b": "c&d"})
            await client.create("/api/v1/namespaces/demo/services", named("web"))
            await client.update(one, named("web"))
            await client.patch(one, {"metadata": None}, MERGE_PATCH)
            await client.delete(one, {"preconditions": {"uid": "u"}})
            await client.text("/readyz")
        types = [headers.get("Content-Type") for headers in api.headers]
        assert types == [None, "application/json", "application/json", MERGE_PATCH, "application/json", None]
        assert orjson.loads(api.bodies[4]) == {"preconditions": {"uid": "u"}}
        assert api.requests[0][2] == {"a b": "c&d"}
        return api.requests

    assert [f"{method} {path}" for method, path, _ in asyncio.run(everything())] == [
        f"GET {one}",
        "POST /api/v1/namespaces/demo/services",
        f"PUT {one}",
        f"PATCH {one}",
        f"DELETE {one}",
        "GET /readyz",
    ]


def test_a_path_is_sent_as_it_is(tmp_path: Path) -> None:
    path = "/api/v1/namespaces/demo/services/https:web:80/proxy/a%2Fb//c"
    _, api = ask(tmp_path, listing(), lambda client: client.get(path))
    assert api.requests[0][1] == path


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (failure(404, "NotFound", 'services "web" not found'), NotFound, 'services "web" not found'),
        (failure(410, "Expired", "too old"), Expired, "too old"),
        (text(404, "404 page\nnot found"), NotFound, "the server answered 404: 404 page not found"),
        (text(302, "", Location="http://evil.example/"), StatusError, "the server answered 302"),
        (text(418, '"a string"'), StatusError, 'the server answered 418: "a string"'),
    ],
)
def test_errors_come_in_the_server_s_words(tmp_path: Path, step: Step, error: type[StatusError], message: str) -> None:
    with pytest.raises(error) as caught:
        ask(tmp_path, step, lambda client: client.get("/x"))
    assert caught.value.message == message


@pytest.mark.parametrize("body", ["", "[]", "{"])
def test_an_answer_that_is_no_object_is_no_answer(tmp_path: Path, body: str) -> None:
    with pytest.raises(ApiUnreachable):
        ask(tmp_path, text(200, body), lambda client: client.get("/x"))


def test_a_watch_that_ends_in_the_middle_of_an_event_was_cut(tmp_path: Path) -> None:
    async def watch(client: ApiClient) -> list[str]:
        return [kind async for kind, _ in client.watch("/api/v1/services", "1")]

    assert ask(tmp_path, stream(event("ADDED", named("a")), end="close"), watch)[0] == ["BOOKMARK", "ADDED"]
    with pytest.raises(ApiUnreachable, match="cut in the middle"):
        ask(tmp_path, stream(event("ADDED", named("a"))[:-1], end="close"), watch)


def test_a_refused_connection_names_the_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def run() -> None:
            client = ApiClient(ClusterConfig(server))
            try:
                await client.get("/version")
            finally:
                await client.close()

        with pytest.raises(ApiUnreachable, match=r"^http://127\.0\.0\.1:"):
            asyncio.run(run())


def test_a_token_file_is_read_and_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")

    async def run() -> ScriptedApi:
        api = ScriptedApi(listing())
        async with listening(api, tmp_path / "api.sock"):
            credentials = FileCredentials(token_file=str(token), token="no")
            config = ClusterConfig("http://x", unix_socket=str(tmp_path / "api.sock"), credentials=credentials)
            client = ApiClient(config)
            await client.get("/x")
            await client.close()
            assert "no" not in repr(config).replace("None", "")
        return api

    assert asyncio.run(run()).headers[0]["Authorization"] == "Bearer s3cret"


# The view


class SmallCluster:
    """An API that holds a few services, and counts what it is asked. Watches are silent: only lists tell the news."""

    def __init__(self) -> None:
        self.version = 1
        self.services: dict[str, Object] = {}
        self.questions: list[str] = []
        self.slow: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await stream()(request)
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        plural = request.path.rpartition("/")[2]
        if name:
            self.questions.append(f"{plural}/{name}")
        items = [obj for key, obj in self.services.items() if name in ("", key)] if plural == "services" else []
        body = {"metadata": {"resourceVersion": str(self.version)}, "items": list(items)}
        if self.slow is not None and name:
            await self.slow.wait()
        return web.json_response(body)

    def put(self, name: str) -> None:
        self.version += 1
        self.services[name] = named(name, self.version)

    def drop(self, name: str) -> None:
        self.version += 1
        del self.services[name]


def with_view(path: Path, test: Callable[[ClusterView, SmallCluster], Awaitable[None]]) -> None:
    async def run() -> None:
        cluster, view = SmallCluster(), ClusterView()
        assert not view.synced
        async with asyncio.timeout(10), listening(cluster, path / "api.sock") as client:
            await view.start(client, retry_cap=0.2)
            try:
                await view.wait_synced()
                await test(view, cluster)
            finally:
                await view.stop()

    asyncio.run(run())


def test_the_view_says_how_it_is(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        assert view.synced
        assert view.connected
        assert view.last_contact > 0

    with_view(tmp_path, test)


def test_a_miss_is_confirmed(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        assert await view.confirm_service("demo", "web") is None
        cluster.put("web")
        assert view.service("demo", "web") is None
        found = await view.confirm_service("demo", "web")
        assert found is not None
        assert view.service("demo", "web") is found
        cluster.drop("web")
        assert await view.confirm_service("demo", "web") is None

    with_view(tmp_path, test)


def test_who_asks_at_once_shares_one_question(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        await asyncio.gather(*(view.confirm_service("demo", "web") for _ in range(50)))
        assert cluster.questions == ["services/web"]
        await asyncio.gather(view.confirm_pod("demo", "p"), view.confirm_node("n"), view.confirm_node("n"))
        assert sorted(cluster.questions[1:]) == ["nodes/n", "pods/p"]

    with_view(tmp_path, test)


def test_who_asks_later_is_not_given_an_answer_from_before(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        cluster.slow = asyncio.Event()
        early = asyncio.create_task(view.confirm_service("demo", "web"), name="early")
        await until(lambda: len(cluster.questions) == 1)
        cluster.put("web")
        late = [asyncio.create_task(view.confirm_service("demo", "web"), name="late") for _ in range(9)]
        await asyncio.sleep(0)
        cluster.slow.set()
        await early
        assert None not in await asyncio.gather(*late)
        assert len(cluster.questions) == 2

    with_view(tmp_path, test)


def test_a_flood_of_misses_does_not_flood_the_api(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        for _ in range(100):
            assert await view.confirm_service("demo", "nothing") is None
        assert len(cluster.questions) < 40

    with_view(tmp_path, test)


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("demo", "web?x=y"), ("demo?watch=1", "web"), ("demo", "a,b"), ("demo", "x" * 254), ("demo", "")],
)
def test_names_that_cannot_exist_are_not_asked_about(tmp_path: Path, namespace: str, name: str) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        assert await view.confirm_service(namespace, name) is None
        assert await view.confirm_secret(namespace, name) is None
        assert cluster.questions == []

    with_view(tmp_path, test)


def test_a_caller_who_gives_up_does_not_spoil_it_for_the_others(tmp_path: Path) -> None:
    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        cluster.slow = asyncio.Event()
        cluster.put("web")
        first = asyncio.create_task(view.confirm_service("demo", "web"), name="first")
        second = asyncio.create_task(view.confirm_service("demo", "web"), name="second")
        await until(lambda: len(cluster.questions) == 1)
        first.cancel()
        cluster.slow.set()
        assert await second is not None

    with_view(tmp_path, test)


def test_an_old_answer_does_not_undo_newer_news(tmp_path: Path) -> None:
    """The answer is on its way while the watch already tells that the service is gone."""

    async def test(view: ClusterView, cluster: SmallCluster) -> None:
        cluster.slow = asyncio.Event()
        cluster.put("web")
        asked = asyncio.create_task(view.confirm_service("demo", "web"), name="asked")
        await until(lambda: len(cluster.questions) == 1)
        informer = view._informers["services", ""]
        informer.resource_version = str(cluster.version + 5)
        cluster.slow.set()
        assert await asked is None

    with_view(tmp_path, test)


def test_confirming_without_an_answer_says_what_is_known(tmp_path: Path) -> None:
    async def run() -> None:
        view = ClusterView()
        view.apply("services", "ADDED", named("web"))
        client = ApiClient(ClusterConfig.local(str(tmp_path / "nobody.sock"), "system:test"))
        assert await view.confirm_service("demo", "web") is not None
        await view.start(client)
        assert await view.confirm_service("demo", "web") is not None
        assert await view.confirm_service("demo", "other") is None
        assert await view.confirm_secret("demo", "s") is None
        assert not view.synced
        assert not view.connected
        await view.stop()
        await client.close()

    asyncio.run(run())
