"""The whole door with delegated identity and decisions: an API behind TLS is asked, and clients on sockets wait."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web as aweb

from portway.client.api import ApiClient, ClusterConfig
from portway.client.credentials import Credential, StaticCredentials
from portway.client.tls import TlsSettings
from portway.gateway.authentication import Authenticators, TokenReviews
from portway.gateway.authentication.oidcconfig import Anonymous
from portway.gateway.authorization import AccessReviews
from portway.kube.errors import StatusError
from portway.kube.identity import User
from portway.testing.authorizer import grant, roles
from portway.testing.cluster import wait_until
from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get
from portway.testing.reviewapi import ReviewApi
from portway.testing.tls import Authority

AUTHORITY = Authority()


class ApiServer:
    """A ReviewApi behind https, and a door that delegates everything to it."""

    def __init__(self, door: RunningDoor, **more: float) -> None:
        self.door = door
        self.answers = ReviewApi(roles())
        self.answers.tokens |= {"ann": User("ann", "u1", ("named",)), "reader": User("reader")}
        self._runner: aweb.AppRunner | None = None
        self.port = 0
        self.run(self._start())
        config = ClusterConfig(
            f"https://127.0.0.1:{self.port}",
            credentials=StaticCredentials(Credential(tls=TlsSettings(authority_data=AUTHORITY.pem.encode()).context())),
        )
        self.client = ApiClient(config)
        door.on_loop(lambda: self._delegate(**more))

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.door.loop).result(5)

    async def _start(self) -> None:
        app = aweb.Application()
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = aweb.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = aweb.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=AUTHORITY.server(), reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def start(self) -> None:
        self.run(self._start())

    def stop(self) -> None:
        if self._runner is not None:
            self.run(self._runner.cleanup())
            self._runner = None

    def close(self) -> None:
        self.door.on_loop(self.reviews.close)
        self.door.on_loop(self.authorizer.close)
        self.run(self.client.close())
        self.stop()

    async def _answer(self, request: aweb.Request) -> aweb.Response:
        try:
            return aweb.json_response(await self.answers.create(request.path, await request.json()), status=201)
        except StatusError as error:
            return aweb.json_response(error.status(), status=error.code)

    def _delegate(self, ttl: float = 10.0, grace: float = 60.0) -> None:
        door = self.door.door
        self.reviews = TokenReviews(self.client, ttl=ttl, grace=grace)
        self.authorizer = AccessReviews(self.client, allow_ttl=ttl, deny_ttl=ttl, grace=grace)
        self.rule: Anonymous | None = None
        authentication = self.door.settings.authentication
        door.authenticators = Authenticators(authentication, self.door.view, (self.reviews,), lambda: self.rule)
        door.cluster.authorizer = self.authorizer

    @property
    def asked(self) -> list[str]:
        return [question["kind"] for question in self.answers.asked]


@pytest.fixture
def delegate(door: RunningDoor) -> Iterator[Callable[..., ApiServer]]:
    servers: list[ApiServer] = []

    def make(**more: float) -> ApiServer:
        servers.append(ApiServer(door, **more))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def busy(door: RunningDoor) -> Iterator[Backend]:
    """Service `web` with a port `http`, which answers 200 to whatever comes."""
    web = door.backend()
    door.service("web", web, ports=[{"name": "http", "port": 80}])
    wires: list[Wire] = []
    threads: list[threading.Thread] = []

    def run(work: Callable[..., None], *arguments: Any) -> None:
        threads.append(threading.Thread(target=work, args=arguments))
        threads[-1].start()

    def answer(wire: Wire) -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError, ValueError):
            while True:
                wire.head()
                wire.send(OK)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                wires.append(web.accept())
                run(answer, wires[-1])

    run(accept)
    yield web
    for sock in (web.listener, *(wire.sock for wire in wires)):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def answered(client: Wire, raw: bytes) -> tuple[int, dict[str, Any]]:
    """Code, and the Status of a refusal."""
    client.send(raw)
    code, _, body = client.response()
    return code, json.loads(body) if code >= 400 else {}


def test_a_request_waits_for_both_answers_once(
    delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend
) -> None:
    api = delegate()
    client = door.client()
    for _ in range(5):
        assert answered(client, get("/", token="reader"))[0] == 200
    assert api.asked == ["TokenReview", "SubjectAccessReview"]
    assert answered(door.client(), get("/", token="reader"))[0] == 200
    assert api.asked == ["TokenReview", "SubjectAccessReview"]


def test_an_answer_counts_for_its_time_and_no_longer(
    delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend
) -> None:
    api = delegate(ttl=1.0)
    client = door.client()
    assert answered(client, get("/", token="reader"))[0] == 200
    api.answers.rbac.set("RoleBinding", "demo", "reader", None)
    assert answered(client, get("/", token="reader"))[0] == 200
    wait_until(lambda: answered(client, get("/", token="reader"))[0] == 403, "the right outlived its time", 3.0)
    api.answers.tokens.clear()
    wait_until(lambda: answered(client, get("/", token="reader"))[0] == 401, "the token outlived its time", 3.0)


def test_refusals_are_kubernetes_own(delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend) -> None:
    delegate()
    client = door.client()
    code, status = answered(client, get("/", token="wrong"))
    assert (code, status["message"]) == (401, "Unauthorized")
    code, status = answered(client, get("/", token="nobody-token"))
    assert code == 403
    assert status["message"].startswith('services "web" is forbidden: User "nobody" cannot get resource')


def test_another_spelling_is_asked_for_by_itself(
    delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend
) -> None:
    api = delegate()
    assert answered(door.client(), get("/", token="ann"))[0] == 200
    names = [q["spec"]["resourceAttributes"]["name"] for q in api.answers.asked if q["kind"] != "TokenReview"]
    assert names[0] == "web"
    assert names[-1] == "web:http"


def test_an_outage_is_503_for_strangers_and_goes_on_for_the_known(
    delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend
) -> None:
    api = delegate(ttl=1.0, grace=30.0)
    client = door.client()
    assert answered(client, get("/", token="reader"))[0] == 200
    api.stop()
    codes: list[int] = []

    def noticed() -> bool:
        codes.append(answered(client, get("/", token="reader"))[0])
        return bool(api.reviews.health())

    wait_until(noticed, "nothing was asked", 3.0)
    assert set(codes) == {200}
    code, status = answered(door.client(), get("/", token="ann"))
    assert (code, status["reason"]) == (503, "ServiceUnavailable")
    assert status["details"]["retryAfterSeconds"] >= 1
    assert "TokenReviews are not answered for" in api.reviews.health()
    api.start()
    wait_until(lambda: answered(door.client(), get("/", token="ann"))[0] == 200, "the API was not asked again", 10.0)
    assert api.reviews.health() == ""


def test_a_tunnel_ends_when_the_right_to_it_goes(
    delegate: Callable[..., ApiServer], door: RunningDoor, web: Backend
) -> None:
    api = delegate(ttl=1.0)
    client = upgraded(door, web, "reader")
    api.answers.rbac.set("RoleBinding", "demo", "reader", None)
    assert ends(door, client)
    assert api.asked.count("SubjectAccessReview") >= 2


def test_a_tunnel_ends_when_its_token_goes_and_lives_while_it_does_not(
    delegate: Callable[..., ApiServer], door: RunningDoor, web: Backend
) -> None:
    api = delegate(ttl=1.0)
    client = upgraded(door, web, "reader")

    def asked_again() -> bool:
        door.on_loop(door.door.sweep)
        return api.asked.count("TokenReview") >= 4

    wait_until(asked_again, "an open tunnel's token is not asked about", 5.0)
    client.send(b"still here")
    api.answers.tokens.clear()
    assert ends(door, client)


def upgraded(door: RunningDoor, web: Backend, token: str) -> Wire:
    client = door.client()
    client.send(
        get(
            "/ws",
            token=token,
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
            Sec_WebSocket_Version="13",
        )
    )
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.head()[0] == "HTTP/1.1 101 Switching Protocols"
    return client


def ends(door: RunningDoor, client: Wire, seconds: float = 6.0) -> bool:
    """Whether the door closes a connection while it sweeps."""
    deadline = time.monotonic() + seconds
    client.sock.settimeout(0.05)
    while time.monotonic() < deadline:
        door.on_loop(door.door.sweep)
        try:
            if client.sock.recv(100) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_impersonation_asks_too(delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend) -> None:
    api = delegate()
    rbac = api.answers.rbac
    rbac.set("ClusterRole", "", "imp", {"rules": [{"apiGroups": [""], "resources": ["users"], "verbs": ["*"]}]})
    binding = {"roleRef": {"kind": "ClusterRole", "name": "imp"}, "subjects": [{"kind": "User", "name": "ann"}]}
    rbac.set("ClusterRoleBinding", "", "imp", binding)
    client = door.client()
    assert answered(client, get("/", token="ann", Impersonate_User="reader"))[0] == 200
    assert answered(client, get("/", token="ann", Impersonate_User="nobody"))[0] == 403
    assert answered(client, get("/", token="reader", Impersonate_User="ann"))[0] == 403


def test_anonymous_only_where_the_configuration_says(
    delegate: Callable[..., ApiServer], door: RunningDoor, busy: Backend
) -> None:
    api = delegate()
    grant(api.answers.rbac, "anyone", {"kind": "User", "name": "system:anonymous"}, verbs=["*"])
    client = door.client()
    assert answered(client, get("/", token=""))[0] == 200

    def change() -> None:
        api.rule = Anonymous(True, ("/livez",))
        door.door.authenticators.reload()

    door.on_loop(change)
    assert answered(client, get("/", token=""))[0] == 401
    client = door.client()
    assert answered(client, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200
    assert answered(client, get("/", token=""))[0] == 401
    assert answered(client, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 401
    assert answered(client, get("/", token="reader"))[0] == 200
