"""Forwards on a cluster in memory: which pod a connection gets, what is tried again, what is an error, what is said."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from portway.client.api import ApiClient
from portway.client.forwards.events import Event
from portway.client.forwards.forwards import Forwards
from portway.client.forwards.ports import Hopeless
from portway.client.forwards.words import parse
from portway.client.protocol import Page
from portway.kube.errors import Forbidden, no_route, not_found
from portway.testing.streams import Node, echo, until

Object = dict[str, Any]
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"


def selected(obj: Object, field_selector: str) -> bool:
    return field_selector in ("", f"metadata.name={obj['metadata']['name']}")


class Api(ApiClient):
    """Collections that tests change; the pods' addresses are 127.0.0.1 to the node, told apart by their ports."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.config)
        self.objects: dict[str, dict[str, Object]] = {PODS: {}, SERVICES: {}, SLICES: {}}
        self.forbidden: set[str] = set()
        self._watches: set[tuple[str, asyncio.Queue[tuple[str, Object]]]] = set()

    def put(self, path: str, obj: Object) -> None:
        obj["metadata"].setdefault("namespace", "default")
        self.objects.setdefault(path, {})[obj["metadata"]["name"]] = obj
        self._tell(path, "MODIFIED", obj)

    def remove(self, path: str, name: str) -> None:
        self._tell(path, "DELETED", self.objects[path].pop(name))

    def _tell(self, path: str, event: str, obj: Object) -> None:
        for watched, queue in self._watches:
            if watched == path:
                queue.put_nowait((event, obj))

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        collection, _, name = path.rpartition("/")
        if collection not in self.objects:
            raise no_route()
        found = self.objects[collection].get(name)
        if found is None:
            raise not_found(collection.rpartition("/")[2], name)
        return found

    async def pages(
        self,
        path: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        if path in self.forbidden:
            raise Forbidden(f"{path} is forbidden")
        yield Page([one for one in self.objects[path].values() if selected(one, field_selector)], "1")

    async def watch(
        self,
        path: str,
        resource_version: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        entry = (path, queue)
        self._watches.add(entry)
        try:
            yield "BOOKMARK", {"metadata": {"resourceVersion": "1"}}
            while True:
                event, obj = await queue.get()
                if selected(obj, field_selector):
                    yield event, obj
        finally:
            self._watches.discard(entry)

    # A service `db` whose pods each listen on a port of their own

    def service(self, **pods: int) -> None:
        spec = {"clusterIP": "10.0.0.1", "ports": [{"name": "sql", "port": 80}], "selector": {"app": "db"}}
        self.put(SERVICES, {"metadata": {"name": "db"}, "spec": spec})
        self.endpoints(**pods)

    def endpoints(self, **pods: int) -> None:
        for name in set(self.objects[SLICES]) - set(pods):
            self.remove(SLICES, name)
        for name, port in pods.items():
            target = {"kind": "Pod", "name": name, "uid": f"u-{name}-{port}"}
            ports = [{"name": "sql", "port": port, "protocol": "TCP"}]
            self.put(SLICES, {"metadata": {"name": name}, "ports": ports, "endpoints": [{"targetRef": target}]})

    def pod(self, name: str, port: int, phase: str = "Running", ready: bool = True) -> None:
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
        spec = {"containers": [{"ports": [{"name": "sql", "containerPort": port}]}]}
        self.put(PODS, {"metadata": {"name": name, "uid": f"u-{name}"}, "spec": spec, "status": status})


class Case:
    """A node, an API, and what was said."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.api = Api(node)
        self.events: list[Event] = []
        self.forwards = Forwards(
            self.api, "default", self.events.append, addresses=(("127.0.0.1", True),), running_timeout=0.5
        )

    async def open(self, line: str) -> int:
        """Forward, and the first local port."""
        await self.forwards.open(parse(line.split()))
        return self.forwards.all[0].local

    def said(self, event: str) -> list[Event]:
        return [one for one in self.events if one.event == event]

    async def named(self, name: str) -> int:
        """A program that says who it is, and then sends back what it gets."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(100)
            writer.write(name.encode() + b" " + first)
            await echo(reader, writer)

        return await self.node.listen(run)


def run(directory: Path, test: Callable[[Case], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), Node(directory) as node:
            case = Case(node)
            try:
                await test(case)
            finally:
                await case.forwards.close()
                await case.api.close()
            await until(lambda: not node.server.connections, "the server keeps connections")

    uvloop.run(main())


async def unused_port() -> int:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def ask(port: int) -> str:
    """Who answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello")
        writer.write_eof()
        answer = await reader.read()
    finally:
        writer.close()
    return answer.decode().partition(" ")[0]


def test_connections_go_to_the_ready_pod_with_the_fewest(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service(a=await case.named("a"), b=await case.named("b"))
        port = await case.open("svc/db 0:80")
        assert {await ask(port) for _ in range(4)} == {"a", "b"}
        held = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            held.append(((await reader.read(10))[:1], writer))
        names = sorted(name for name, _ in held)
        assert names in ([b"a", b"a", b"b"], [b"a", b"b", b"b"])
        (forward,) = case.forwards.all
        assert (len(forward.active), forward.pods, forward.port) == (3, 2, "80")
        for _, writer in held:
            writer.close()
        await until(lambda: not forward.active, "a connection stays")
        assert forward.traffic == (4 * 5 + 3, 4 * 7 + 3 * 3)

    run(tmp_path, test)


def test_a_pod_that_refuses_costs_no_connection(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service(dead=await unused_port(), alive=await case.named("alive"))
        port = await case.open("svc/db 0:80")
        assert [await ask(port) for _ in range(4)] == ["alive"] * 4
        assert any("connection refused" in one.message for one in case.said("trouble"))

    run(tmp_path, test)


def test_a_connection_waits_for_the_next_pod_of_a_rollout(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service(old=await case.named("old"))
        port = await case.open("svc/db 0:80")
        assert await ask(port) == "old"
        case.api.endpoints()
        await until(lambda: bool(case.said("waiting")), "nobody says that there is no pod")
        waiting = asyncio.create_task(ask(port))
        await until(lambda: len(case.forwards.all[0].active) == 1, "not accepted")
        case.api.endpoints(new=await case.named("new"))
        assert await waiting == "new"
        assert "no pod behind svc/db is ready" in case.said("waiting")[0].message
        assert case.said("ready")

    run(tmp_path, test)


def test_the_first_connection_after_a_pods_death_is_served_within_a_second(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        port_of_pod = await unused_port()
        case.api.pod("db-0", port_of_pod)
        port = await case.open("pod/db-0 0:sql")
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.create_task(ask(port))
        await until(lambda: bool(case.said("trouble")), "nobody tries")
        # The pod's process comes back, which nobody is told.
        await case.node.listen(echo, port_of_pod)
        assert await waiting == "hello"
        assert loop.time() - began < 1.0

    run(tmp_path, test)


def test_a_connection_that_breaks_under_way_is_broken_for_its_client_too(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service(a=await case.named("a"))
        port = await case.open("svc/db 0:80")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await reader.read(10) == b"a x"
        case.node.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(10)
        writer.close()
        (failed,) = case.said("failed")
        assert "the way to the pod broke off" in failed.message
        assert await ask(port) == "a"

    run(tmp_path, test)


def test_an_api_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service(a=await case.named("a"))
        port = await case.open("svc/db 0:80")
        away = True
        case.node.refuse = lambda _: b"" if away else None
        waiting = asyncio.create_task(ask(port))
        await until(lambda: bool(case.said("trouble")), "nobody says so")
        away = False
        assert await waiting == "a"

    run(tmp_path, test)


def test_who_may_not_forward_is_told_at_once(tmp_path: Path) -> None:
    from portway.testing.streams import refusal

    async def test(case: Case) -> None:
        case.api.service(a=await case.named("a"))
        port = await case.open("svc/db 0:80")
        case.node.refuse = lambda _: refusal(Forbidden("pods is forbidden"))
        with pytest.raises(ConnectionResetError):
            await ask(port)
        assert case.said("failed")[0].message == "pods is forbidden"

    run(tmp_path, test)


def test_without_endpointslices_a_services_pods_are_followed(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.service()
        case.api.forbidden.add(SLICES)
        case.api.pod("db-0", 80)
        spec = case.api.objects[SERVICES]["db"]["spec"]
        spec["ports"][0]["targetPort"] = "sql"
        case.api.pod("db-0", await case.named("db-0"))
        assert await ask(await case.open("svc/db 0:sql")) == "db-0"

    run(tmp_path, test)


def test_a_workloads_pods_and_those_of_a_selector(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        web = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}
        case.api.put("/apis/apps/v1/namespaces/default/deployments", web)
        case.api.pod("web-1", await case.named("web-1"))
        case.api.pod("web-2", 1, ready=False)
        await case.open("deploy/web :sql selector/app=web :sql")
        assert [await ask(forward.local) for forward in case.forwards.all] == ["web-1", "web-1"]

    run(tmp_path, test)


def test_who_may_only_get_a_pod(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.forbidden.add(PODS)
        case.api.pod("db-0", await case.named("db-0"))
        assert await ask(await case.open("db-0 :sql")) == "db-0"

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("svc/nope 80", 'services "nope" not found'),
        ("svc/db 81", "does not have a service port 81"),
        ("pod/nope 80", 'pods "nope" not found'),
        ("pod/db-0 nix", 'does not have a named port "nix"'),
        ("deploy/web 80", "deploy/web: this cluster's API has no deployments"),
        ("svc/db 0:80", "no pod behind svc/db is ready"),
        ("pod/slow 80", r"no pod of pod/slow runs \(status: Pending\), after 0.5 s"),
    ],
)
def test_what_can_never_work_is_an_error(tmp_path: Path, line: str, words: str) -> None:
    async def test(case: Case) -> None:
        case.api.service()
        case.api.pod("db-0", 80)
        case.api.pod("slow", 80, phase="Pending")
        with pytest.raises(Hopeless, match=words):
            await case.open(line)

    run(tmp_path, test)


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        case.api.pod("db-0", 80)
        taken = await case.named("x")
        with pytest.raises(Hopeless, match=f"unable to listen on 127.0.0.1:{taken}: address already in use"):
            await case.open(f"pod/db-0 {taken}:80")

    run(tmp_path, test)


def test_a_pod_of_the_same_name_gets_a_session_of_its_own(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        first = await case.named("first")
        case.api.service(a=first)
        port = await case.open("svc/db 0:80")
        assert await ask(port) == "first"
        case.api.endpoints(a=await case.named("second"))
        await until(lambda: any(b.port != first for b in case.forwards.all[0].backends().values()), "no news")
        assert await ask(port) == "second"
        assert len(case.node.heads) == 2

    run(tmp_path, test)


def test_events_as_json_say_what_matters() -> None:
    event = Event("closed", "svc/db", "80", connection=3, pod="db-0", received=9)
    said = event.to_json()
    assert said.pop("time").endswith("Z")
    assert said == {
        "event": "closed", "target": "svc/db", "remote": "80", "connection": 3, "pod": "db-0", "sent": 0, "received": 9
    }  # fmt: skip
