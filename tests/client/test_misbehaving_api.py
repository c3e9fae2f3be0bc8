"""A view and its client at an API server that misbehaves: what it forbids, revokes, expires, cuts, or answers late."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from portway.client import confirm, informer
from portway.client.api import ApiClient, ClusterConfig
from portway.client.backoff import Backoff
from portway.client.credentials import Credential, FileCredentials, StaticCredentials
from portway.client.informer import Informer
from portway.client.tls import TlsContexts, TlsSettings
from portway.client.view import CLUSTER_SCOPED, PATHS, ClusterView, collection_path
from portway.testing.authority import Authority
from portway.testing.scripted import (
    Collections,
    Handler,
    ScriptedApi,
    Step,
    cut,
    event,
    expired,
    failure,
    listing,
    named,
    serving,
    slowly,
    stream,
    text,
    until,
)

SERVICES = "/api/v1/namespaces/demo/services"


def at(path: Path, api: Handler, test: Callable[[ApiClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), serving(api, path=path / "api.sock"):
            client = ApiClient(ClusterConfig.local(str(path / "api.sock"), "test"))
            try:
                await test(client)
            finally:
                await client.close()

    asyncio.run(run())


def followed(path: Path, *steps: Step, until_has: set[str]) -> tuple[Informer, ScriptedApi, list[tuple[str, str]]]:
    """Follow a script until the consumer holds exactly these; what it was told."""
    held: dict[tuple[str, str], Any] = {}
    told: list[tuple[str, str]] = []
    api = ScriptedApi(*steps)
    made: list[Informer] = []

    def on_event(kind: str, obj: dict[str, Any]) -> None:
        key = obj["metadata"]["namespace"], obj["metadata"]["name"]
        told.append((kind, key[1]))
        held[key] = obj
        if kind == "DELETED":
            del held[key]

    async def test(client: ApiClient) -> None:
        follower = Informer(client, "/api/v1/services", on_event, lambda: list(held), backoff=Backoff(0.001, 0.02))
        follower._denials = Backoff(0.001, 0.02)
        made.append(follower)
        task = asyncio.create_task(follower.run(), name="informer")
        try:
            await until(lambda: {name for _, name in held} == until_has)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    at(path, api, test)
    return made[0], api, told


A, B = event("ADDED", named("a", 2)), event("ADDED", named("b", 3))


@pytest.mark.parametrize(
    "wrong",
    [
        [failure(429, "TooManyRequests")],
        [failure(500, "InternalError"), failure(503, "ServiceUnavailable"), text(502, "<html>bad gateway")],
        [cut()],
        [text(200, "{")],
        [text(200, '{"items": 5, "metadata": {}}')],
        [text(200, '{"items": [{"metadata": {}}]}')],
        [text(200, '{"items": [1]}')],
        [text(200, '{"items": [], "metadata": []}')],
        [failure(401, "Unauthorized"), failure(401, "Unauthorized")],
        [failure(403, "Forbidden"), failure(403, "Forbidden")],
        [failure(404, "NotFound"), text(404, "404 page not found")],
        [listing(named("x"), version=1, after="c"), cut()],
        [listing(named("x"), version=1, after="c"), failure(410, "Expired")],
    ],
)
def test_lists_that_fail(tmp_path: Path, wrong: list[Step]) -> None:
    """Whatever goes wrong, the list is told in the end, and what an abandoned page told is taken back."""
    follower, _, _ = followed(tmp_path, *wrong, listing(named("a"), version=5), until_has={"a"})
    assert follower.connected
    assert not follower.forbidden


@pytest.mark.parametrize(
    "wrong",
    [
        stream(A, end="cut"),
        stream(A + B[:-1], end="close"),
        stream(A + B[:20], end="cut"),
        stream(A + b"\x00\xff\n"),
        stream(A + b'{"type": "ADDED", "object": {"metadata": {}}}\n'),
        stream(A, event("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError"})),
        stream(A, event("ERROR", {})),
        stream(A, end="close"),
    ],
)
def test_watches_that_break_are_taken_up_where_they_were(tmp_path: Path, wrong: Step) -> None:
    _, api, told = followed(tmp_path, listing(version=1), wrong, stream(B), until_has={"a", "b"})
    assert told == [("ADDED", "a"), ("ADDED", "b")]
    assert [query.get("resourceVersion") for _, _, query in api.requests] == [None, "1", "2"]


def test_a_watch_that_expires_again_and_again(tmp_path: Path) -> None:
    steps = [step for version in (1, 2, 3) for step in (listing(named("x"), version=version), stream(expired()))]
    _, api, told = followed(tmp_path, *steps, listing(named("a"), version=9), until_has={"a"})
    assert told[-2:] == [("ADDED", "a"), ("DELETED", "x")]
    assert len(api.requests) <= 8


def test_a_version_that_the_server_chokes_on_is_given_up(tmp_path: Path) -> None:
    chokes = [failure(500, "InternalError", "etcdserver: mvcc: required revision has been compacted")] * 5
    _, api, _ = followed(tmp_path, listing(version=1), *chokes, listing(named("a"), version=2), until_has={"a"})
    assert [query.get("watch") for _, _, query in api.requests[:7]] == [None, *["true"] * 5, None]


def test_a_wait_that_the_server_asks_for_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "MAX_WAIT_SECONDS", 0.05)
    refused = failure(503, "ServiceUnavailable", **{"Retry-After": "86400"})
    followed(tmp_path, refused, listing(named("a")), until_has={"a"})


def test_a_slow_list_is_waited_for(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        task = asyncio.create_task(client.list("/api/v1/services"), name="list")
        await until(lambda: bool(api.requests))
        assert not task.done()
        go.set()
        assert (await task).items == [named("a")]

    go = asyncio.Event()
    api = ScriptedApi(slowly(listing(named("a")), go))
    at(tmp_path, api, test)


# What may not be read


def viewing(path: Path, api: Collections, view: ClusterView, test: Callable[[], Awaitable[None]]) -> None:
    async def whole(client: ApiClient) -> None:
        await view.start(client, retry_cap=0.05)
        try:
            await view.wait_synced()
            await test()
        finally:
            await view.stop()

    at(path, api, whole)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forbidden is asked for again in milliseconds, what was looked up is forgotten as soon."""
    monkeypatch.setattr(informer, "FORBIDDEN_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(informer, "FORBIDDEN_CAP_SECONDS", 0.02)
    monkeypatch.setattr(confirm, "BORROWED_SECONDS", 0.05)


def test_what_is_forbidden_is_said_and_not_asked_for_hotly(tmp_path: Path) -> None:
    api, view = Collections(), ClusterView()
    api.forbidden = {PATHS["nodes"], PATHS["clusterroles"]}

    async def test() -> None:
        assert view.synced
        assert view.connected
        assert view.forbidden == (("clusterroles", ""), ("nodes", ""))
        assert api.asked.count(PATHS["nodes"]) == 1

    viewing(tmp_path, api, view, test)


def test_what_is_forbidden_waits_up_to_a_minute() -> None:
    follower = Informer(ApiClient(ClusterConfig("http://x")), "/x", lambda *_: None, list)
    delays = [follower._denials.delay() for _ in range(10)]
    assert delays[0] == pytest.approx(1.0, rel=0.25)
    assert delays[-1] == pytest.approx(60.0, rel=0.25)


@pytest.mark.usefixtures("impatient")
def test_what_becomes_allowed_is_followed(tmp_path: Path) -> None:
    api, view = Collections(), ClusterView()
    api.forbidden = {PATHS["services"]}
    api.put(SERVICES, "web")

    async def test() -> None:
        assert view.service("demo", "web") is None
        api.forbidden.clear()
        await until(lambda: view.service("demo", "web") is not None)
        assert view.forbidden == ()

    viewing(tmp_path, api, view, test)


@pytest.mark.usefixtures("impatient")
def test_what_is_taken_back_is_said(tmp_path: Path) -> None:
    """Access that was there and is revoked: what was known stays, and health says that it is not followed."""
    api, view = Collections(), ClusterView()
    api.put(SERVICES, "web")

    async def test() -> None:
        await until(lambda: api.watches() == len(PATHS))
        assert view.connected
        api.forbidden = {PATHS["services"]}
        api.end_watches()
        await until(lambda: view.forbidden == (("services", ""),))
        await until(lambda: not view.connected)
        assert view.service("demo", "web") is not None

    viewing(tmp_path, api, view, test)


def test_some_namespaces_are_followed(tmp_path: Path) -> None:
    api, view = Collections(), ClusterView(("demo", "team"))
    api.forbidden = set(PATHS.values())
    for namespace in ("demo", "team", "other"):
        api.put(collection_path("services", namespace), "web")

    async def test() -> None:
        assert view.synced
        assert view.connected
        assert view.forbidden == tuple(sorted((plural, "") for plural in CLUSTER_SCOPED))
        assert sorted(service.namespace for service in view.services()) == ["demo", "team"]
        api.put(SERVICES, "new")
        await until(lambda: view.service("demo", "new") is not None)
        api.drop(SERVICES, "web")
        await until(lambda: view.service("demo", "web") is None)
        assert view.service("team", "web") is not None

    viewing(tmp_path, api, view, test)
    lists = {path for path in api.asked if "?" not in path}
    namespaced = [plural for plural in PATHS if plural not in CLUSTER_SCOPED]
    assert lists == {collection_path(plural, ns) for plural in namespaced for ns in ("demo", "team")} | {
        PATHS[plural] for plural in CLUSTER_SCOPED
    }


def test_a_relist_of_one_namespace_says_nothing_of_another(tmp_path: Path) -> None:
    api, view = Collections(), ClusterView(("demo", "team"))
    for namespace in ("demo", "team"):
        api.put(collection_path("services", namespace), "web")

    async def test() -> None:
        await until(lambda: api.watches() == 2 * len(PATHS) - len(CLUSTER_SCOPED))
        api.forget(SERVICES, "web")
        api.end_watches(expired())
        await until(lambda: view.service("demo", "web") is None)
        assert view.service("team", "web") is not None

    viewing(tmp_path, api, view, test)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("listable", [True, False], ids=["list by name", "get"])
def test_what_is_not_followed_is_looked_up_and_forgotten(tmp_path: Path, listable: bool) -> None:
    api, view = Collections(), ClusterView(("team",))
    api.put(SERVICES, "web")
    api.forbidden = set() if listable else {SERVICES}

    async def test() -> None:
        assert view.service("demo", "web") is None
        assert await view.confirm_service("demo", "web") is not None
        await until(lambda: view.service("demo", "web") is None)
        assert await view.confirm_service("demo", "web") is not None
        api.drop(SERVICES, "web")
        assert await view.confirm_service("demo", "web") is None

    viewing(tmp_path, api, view, test)


@pytest.mark.usefixtures("impatient")
def test_what_is_looked_up_while_forbidden_stays_once_it_is_followed(tmp_path: Path) -> None:
    api, view = Collections(), ClusterView()
    api.put(SERVICES, "web")
    api.forbidden = {PATHS["services"]}

    async def test() -> None:
        assert await view.confirm_service("demo", "web") is not None
        api.forbidden.clear()
        await until(lambda: view.forbidden == () and view.resource_version("services", "demo") not in (None, ""))
        seen: list[tuple[str, str, str]] = []
        view.subscribe(lambda *news: seen.append(news))
        await until(lambda: not view._confirmer or not view._confirmer._borrowed)
        assert view.service("demo", "web") is not None
        assert seen == []

    viewing(tmp_path, api, view, test)


# Credentials that run out


class Gate(ScriptedApi):
    """Lets in one token at a time."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(*steps, accepts=self._accepts)
        self.token = "one"

    def _accepts(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"


def files(tmp_path: Path, clock: Callable[[], float] = lambda: 0.0) -> FileCredentials:
    return FileCredentials(token_file=str(tmp_path / "token"), clock=clock)


def test_a_watch_goes_on_with_a_renewed_token(tmp_path: Path) -> None:
    """The server ends the watch and takes only a new token from then on; nothing is told twice, nothing is missed."""
    (tmp_path / "token").write_text("one")
    told: list[str] = []
    api = Gate(listing(version=1), stream(A, end="close"), stream(B))

    def on_event(_: str, obj: dict[str, Any]) -> None:
        told.append(obj["metadata"]["name"])
        if told == ["a"]:
            (tmp_path / "token").write_text("two")
            api.token = "two"

    async def test(_: ApiClient) -> None:
        config = ClusterConfig("http://x", unix_socket=str(tmp_path / "api.sock"), credentials=files(tmp_path))
        client = ApiClient(config)
        task = asyncio.create_task(Informer(client, "/x", on_event, list).run(), name="informer")
        await until(lambda: len(told) == 2)
        task.cancel()
        await client.close()

    at(tmp_path, api, test)
    assert told == ["a", "b"]
    assert [query.get("resourceVersion") for _, _, query in api.requests] == [None, "1", "2"]
    assert api.refusals == 1


def test_a_token_file_is_read_again_after_ten_seconds_or_a_401(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "token").write_text(" one\n")
    credentials = files(tmp_path, lambda: now[0])
    first = credentials.cached()
    (tmp_path / "token").write_text("two")
    assert credentials.cached() is first
    now[0] = 10.0
    second = credentials.cached()
    assert second.headers == (("Authorization", "Bearer two"),)
    (tmp_path / "token").write_text("three")
    credentials.refused(first)
    assert credentials.cached() is second
    credentials.refused(second)
    assert credentials.cached().headers == (("Authorization", "Bearer three"),)


@pytest.mark.parametrize("content", [None, "", "  \n", "a\nb", b"\xff\xfe"])
def test_a_token_file_that_goes_bad_leaves_the_last_token(tmp_path: Path, content: str | bytes | None) -> None:
    (tmp_path / "token").write_text("one")
    credentials = files(tmp_path)
    first = credentials.cached()
    if content is None:
        (tmp_path / "token").unlink()
    else:
        (tmp_path / "token").write_bytes(content if isinstance(content, bytes) else content.encode())
    credentials.refused(first)
    assert credentials.cached() == first


def test_a_mounted_authority_that_is_exchanged_is_noticed(tmp_path: Path) -> None:
    """As kubelet does it: the file is a link through a link that is turned to another directory."""
    for version, authority in (("v1", Authority()), ("v2", Authority())):
        (tmp_path / version).mkdir()
        (tmp_path / version / "ca.crt").write_bytes(authority.pem)
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "ca.crt").symlink_to("data/ca.crt")
    contexts = TlsContexts(TlsSettings(authority_file=str(tmp_path / "ca.crt")), lambda: 0.0)
    first = contexts.current()
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "data")
    assert contexts.current() is first
    contexts.look_again()
    second = contexts.current()
    assert second is not first
    assert second.get_ca_certs() != first.get_ca_certs()


def test_static_credentials_are_always_there() -> None:
    credential = Credential((("Authorization", "Bearer t"),), ssl.create_default_context())
    credentials = StaticCredentials(credential)
    credentials.refused(credential)
    assert credentials.cached() is credential
    assert asyncio.run(credentials.current()) is credential
    assert "Bearer" not in repr(credential)
