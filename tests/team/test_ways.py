"""The three ways to a service's pods, each with what backends do: TLS, WebSockets, events, large bodies, endings."""

import asyncio
import contextlib
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.gateway.assembly import Followed
from portway.gateway.settings import ClusterSettings
from portway.gateway.upstream.reach import DIRECT, THROUGH, TUNNEL
from portway.kube.proxyurl import parse_id
from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.conversation import Wire
from portway.testing.demo import admin_token
from portway.testing.recording import BLOCK, Backend, backend, quiet
from portway.testing.teamdoor import (
    FORWARDS,
    account,
    ask,
    bind,
    connect,
    door_account,
    gateway,
    make,
    pod_addresses,
    request_bytes,
    token,
    upgrade_lines,
)
from portway.testing.tls import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
WAYS = (DIRECT, TUNNEL, THROUGH)
SIZE = 10 << 20
SERVICES = "/api/v1/namespaces/default/services"
PROXIED = {"plain": f"{SERVICES}/plain/proxy", "tls": f"{SERVICES}/https:sealed:https/proxy"}
HOSTS = {"plain": "plain.default.localhost", "tls": "sealed.default.localhost"}


@dataclass(frozen=True)
class Team:
    cluster: Cluster
    kubeconfig: Path
    bearer: str
    backends: dict[str, Backend]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    directory = tmp_path_factory.mktemp("ways")
    with started(directory, "--demo", "--insecure-port=0", workers=1) as cluster, contextlib.ExitStack() as stack:
        addresses = pod_addresses(cluster, "hello-0", "hello-1")
        plain = stack.enter_context(backend(addresses))
        secure = stack.enter_context(backend(addresses, Authority().server(*addresses)))
        selector = {"app.kubernetes.io/name": "hello"}
        for name, port, of in (("plain", {"port": 80}, plain), ("sealed", {"port": 443, "name": "https"}, secure)):
            make(cluster, SERVICES, name, spec={"selector": selector, "ports": [{**port, "targetPort": of.port}]})
        bearer = token(cluster, "ann")
        bind(cluster, "ann", [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["*"]}], account("ann"))
        yield Team(cluster, door_account(cluster, directory, FORWARDS), bearer, {"plain": plain, "tls": secure})


@dataclass(frozen=True)
class Way:
    """A door that goes one way, and one of the backends behind it, by path or by host."""

    name: str
    door: Cluster
    bearer: str
    web: Backend
    prefix: str
    host: str

    def ask(self, method: str, path: str, **more: Any) -> tuple[dict[str, str], bytes]:
        return ask(self.door, method, self.prefix + path, self.bearer, host=self.host, **more)

    def send(self, method: str, path: str, **more: Any) -> Wire:
        wire = connect(self.door)
        wire.send(request_bytes(self.door, method, self.prefix + path, self.bearer, host=self.host, **more))
        return wire


@pytest.fixture(scope="module", params=WAYS)
def door(request: pytest.FixtureRequest, team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp(request.param)
    log = directory / "access.log"
    flags = (f"--via={request.param}", "--domain=localhost", "--access-log=json", f"--access-log-path={log}")
    with gateway(directory / "door", team.kubeconfig, *flags) as found:
        for prefix in PROXIED.values():
            wait_until(lambda at=prefix: ask(found, "GET", f"{at}/", team.bearer)[0][":status"] == "200", "unreachable")
        yield found


@pytest.fixture(params=[("plain", "path"), ("plain", "host"), ("tls", "path"), ("tls", "host")], ids="-".join)
def way(request: pytest.FixtureRequest, door: Cluster, team: Team) -> Way:
    kind, form = request.param
    prefix, host = (PROXIED[kind], "") if form == "path" else ("", HOSTS[kind])
    return Way(door.data_dir.parent.name.rstrip("0123456789"), door, team.bearer, team.backends[kind], prefix, host)


def test_where_it_went(way: Way) -> None:
    """The access log names the last hop: a pod's address, a pod, or the API server."""
    fields, body = way.ask("GET", "/where")
    assert (fields[":status"], json.loads(body)["target"]) == ("200", "/where")
    log = way.door.data_dir.parent / "access.log"
    wait_until(lambda: log.exists() and fields["audit-id"] in log.read_text(), "not logged")
    (line,) = [json.loads(line) for line in log.read_text().splitlines() if fields["audit-id"] in line]
    api = json.loads(way.door.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].partition("://")[2]
    if way.name == DIRECT:
        assert line["upstream"] == f"{json.loads(body)['address']}:{way.web.port}"
    elif way.name == TUNNEL:
        assert line["upstream"] in {f"pod/default/hello-{i}:{way.web.port}" for i in (0, 1)}
    else:
        assert line["upstream"] == api


@pytest.mark.parametrize("query", ["", "?", "?a=b&a=c&d", "?x=%2F%20+%C3%BC&y=[]", "?path=/api/v1/../x"])
def test_a_target_is_not_touched(way: Way, query: str) -> None:
    for path in ("/a/b", "/a%2Fb/%20c", "/a//b/;p=1", "/%C3%BC"):
        fields, body = way.ask("GET", path + query)
        assert fields[":status"] == "200"
        assert json.loads(body)["target"] == path + query


def test_a_websocket_with_a_query(way: Way) -> None:
    wire = way.send("GET", "/ws?token=a%20b&room=1", lines=(*upgrade_lines("chat"), "X-Kept: yes"))
    status, fields, _ = wire.response()
    assert (status, fields["upgrade"].lower(), fields["sec-websocket-protocol"]) == (101, "websocket", "chat")
    assert json.loads(frame(wire)) == {"target": "/ws?token=a%20b&room=1"}
    for text in (b"one", b"two" * 30, BLOCK[:125]):
        wire.send(bytes((0x82, 0x80 | len(text), 0, 0, 0, 0)) + text)
        assert frame(wire) == text
    wire.send(bytes((0x88, 0x80, 0, 0, 0, 0)))
    assert wire.rest()[:1] in (b"", b"\x88")
    wire.sock.close()
    seen = way.web.seen[-1].fields
    assert seen["x-kept"] == "yes"
    assert "authorization" not in seen


def frame(wire: Wire) -> bytes:
    _, length = wire.exactly(2)
    assert length < 126
    return wire.exactly(length)


def test_events_come_one_by_one(way: Way) -> None:
    wire = way.send("GET", "/events")
    start, fields = wire.head()
    assert (start.split()[1], fields["content-type"]) == ("200", "text/event-stream")
    assert b"data: one\n\n" in wire.until(b"one\n\n")
    way.web.go()
    assert b"data: two\n\n" in wire.until(b"two\n\n")
    wire.sock.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
def test_ten_megabytes_up(way: Way, chunked: bool) -> None:
    body = BLOCK * (SIZE // len(BLOCK))
    lines = ("Transfer-Encoding: chunked",) if chunked else (f"Content-Length: {SIZE}",)
    wire = connect(way.door)
    fields = request_bytes(way.door, "GET", way.prefix + "/upload", way.bearer, host=way.host, lines=lines)
    wire.send(fields.replace(b"GET", b"POST", 1))
    for at in range(0, SIZE, len(BLOCK)):
        piece = body[at : at + len(BLOCK)]
        wire.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        wire.send(b"0\r\n\r\n")
    status, _, answer = wire.response()
    wire.sock.close()
    assert status == 200
    assert json.loads(answer) == {"size": SIZE, "sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("chunked", ["", "&chunked"], ids=["of known length", "chunked"])
def test_ten_megabytes_down(way: Way, chunked: str) -> None:
    fields, body = way.ask("GET", f"/download?size={SIZE}{chunked}")
    assert fields[":status"] == "200"
    assert (len(body), hashlib.sha256(body).digest()) == (
        SIZE,
        hashlib.sha256(BLOCK * (SIZE // len(BLOCK))).digest(),
    )
    assert (fields.get("content-length") is None) == bool(chunked)


def test_ten_megabytes_both_ways_at_once_on_one_connection_each(way: Way) -> None:
    began = time.monotonic()
    down = way.send("GET", f"/download?size={SIZE}")
    body = BLOCK * (SIZE // len(BLOCK))
    _, answer = way.ask("POST", "/upload", body=body)
    assert json.loads(answer)["size"] == SIZE
    assert len(down.response()[2]) == SIZE
    down.sock.close()
    print(f"\n{way.name} {way.prefix or way.host}: 10 MiB up and down in {time.monotonic() - began:.2f} s")


def test_an_answer_that_breaks_off_is_seen_to(way: Way) -> None:
    wire = way.send("GET", "/abort")
    try:
        start, fields = wire.head()
    except (EOFError, OSError):
        pass  # nothing at all is plain enough
    else:
        if start.split()[1] == "200":
            assert len(wire.rest()) < int(fields.get("content-length", 1 << 30))
        else:
            assert start.split()[1] in ("500", "502", "503")
    wire.sock.close()


def test_an_upload_that_breaks_off_reaches_the_backend_as_such(way: Way) -> None:
    before, asked = way.web.aborted, len(way.web.seen)
    wire = connect(way.door)
    head = request_bytes(
        way.door, "GET", way.prefix + "/upload", way.bearer, host=way.host, lines=(f"Content-Length: {SIZE}",)
    )
    wire.send(head.replace(b"GET", b"POST", 1) + BLOCK)
    wait_until(lambda: len(way.web.seen) > asked, "not under way")
    wire.sock.close()
    wait_until(lambda: way.web.aborted > before, "the backend still waits for the rest")


def test_a_client_that_hangs_up_ends_the_backends_work(way: Way) -> None:
    wire = way.send("GET", "/ws", lines=upgrade_lines())
    assert wire.response()[0] == 101
    wire.sock.close()
    fields, _ = way.ask("GET", "/after")
    assert fields[":status"] == "200"


def test_what_backends_see_of_the_caller(way: Way) -> None:
    fields, _ = way.ask("GET", "/seen", lines=("Cookie: a=b", "X-Request-Id: 7"))
    assert fields[":status"] == "200"
    seen = way.web.seen[-1].fields
    assert (seen["cookie"], seen["x-request-id"]) == ("a=b", "7")
    assert "127.0.0.1" in seen["x-forwarded-for"]
    assert not [name for name in seen if name.startswith(("impersonate-", "x-remote-", "authorization"))]
    if way.name == THROUGH:
        # The API server's proxy: what a host name would say of itself is lost there, and it adds its own prefix.
        assert "x-forwarded-host" not in seen or not way.host
    elif way.host:
        assert (seen["x-forwarded-host"], seen["x-forwarded-proto"]) == (way.host, "https")
        assert "x-forwarded-uri" not in seen
    else:
        assert seen["x-forwarded-uri"] == f"{way.prefix}/seen"


# auto


def auto(kubeconfig: Path, namespace: str = "default", ranges: tuple[str, ...] = ("127.64.0.0/10",)) -> Followed:
    """What a worker makes of --via=auto, without its looks in between."""
    settings = ClusterSettings(
        kubeconfig=str(kubeconfig),
        authorization_mode="AlwaysAllow",
        via="auto",
        cluster_cidrs=ranges,
        namespaces=(namespace,),
    )
    return Followed(settings)


@asynccontextmanager
async def looking(found: Followed) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Looks when it is told to, and says what it found."""
    paths = found.paths
    assert paths is not None
    await found.cluster.view.start(found.client)
    await found.cluster.view.wait_synced()

    async def look() -> str:
        await paths.look()
        return paths.explain()

    try:
        yield look
    finally:
        await found.stop()
        await quiet()


def test_auto_takes_the_best_way_that_works(team: Team, tmp_path: Path) -> None:
    poor = door_account(team.cluster, tmp_path, name="poor")

    async def said(found: Followed) -> str:
        async with looking(found) as look:
            return await look()

    best = asyncio.run(said(auto(team.kubeconfig)))
    assert re.fullmatch(r"direct \(direct: [\d.]+ ms; tunnel: [\d.]+ ms; through: what remains\)", best), best
    hidden = asyncio.run(said(auto(team.kubeconfig, ranges=())))
    assert re.fullmatch(
        r"tunnel \(direct: 127[\d.]+ is no address of a pod's \(--cluster-cidr says which are\); tunnel: .* ms; .*",
        hidden,
    ), hidden
    last = asyncio.run(said(auto(poor, ranges=())))
    assert last.startswith("through (direct: 127."), last
    assert 'cannot create resource "pods/portforward"' in last or 'cannot get resource "pods/portforward"' in last


def test_auto_changes_when_the_network_does(team: Team, tmp_path: Path) -> None:
    """Pods that accept, that accept no more, and again: what is in use follows, and nothing is asked of old places."""
    admin, namespace, address, port = admin_token(team.cluster), "moving", "127.95.0.1", free_port()
    make(team.cluster, "/api/v1/namespaces", namespace)
    at = f"/api/v1/namespaces/{namespace}"
    make(team.cluster, f"{at}/serviceaccounts", "default")
    labels = {"app": "away"}
    made = {"metadata": {"name": "away", "labels": labels}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
    assert team.cluster.request("POST", f"{at}/pods", admin, made)[0] == 201
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    status |= {"conditions": [{"type": "Ready", "status": "True"}]}
    kind = {"Content-Type": "application/merge-patch+json"}
    assert team.cluster.request("PATCH", f"{at}/pods/away/status", admin, {"status": status}, **kind)[0] == 200
    make(team.cluster, f"{at}/services", "away", spec={"selector": labels, "ports": [{"port": 80, "targetPort": port}]})

    async def run() -> list[tuple[str, bool]]:
        found, said = auto(team.kubeconfig, namespace), []
        locations, target = found.cluster.locations, parse_id("services", "away")

        async def where() -> bool:
            """Whether the API server is asked, for want of a place to dial."""
            return (await locations.ask("services", namespace, target, 0.0)).through

        async with looking(found) as look, asyncio.timeout(30):
            while not found.cluster.view.endpoints(namespace, "away"):
                await asyncio.sleep(0.02)
            for there in (True, False, True):
                async with AsyncExitStack() as stack:
                    if there:
                        server = await asyncio.start_server(lambda _, writer: writer.close(), address, port)
                        stack.callback(server.close)
                    said.append(((await look()), await where()))
        return said

    said = asyncio.run(run())
    assert [(line.split(" ")[0], through) for line, through in said] == [
        (DIRECT, False),
        (THROUGH, True),
        (DIRECT, False),
    ]
    assert "pods do not accept from here" in said[1][0]


def test_auto_as_a_process(team: Team, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with gateway(tmp_path / "door", team.kubeconfig, "--access-log=json", f"--access-log-path={log}") as door:

        def direct() -> bool:
            fields, _ = ask(door, "GET", f"{PROXIED['plain']}/x", team.bearer)
            assert fields[":status"] in ("200", "403")
            return log.exists() and f":{team.backends['plain'].port}" in log.read_text()

        wait_until(direct, "auto does not find that pods are reached directly")
