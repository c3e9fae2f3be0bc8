"""What a server does of itself: namespaces that are emptied, its start on an old store, discovery, probes, OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from portway.apiserver import openapiv2protobuf
from portway.apiserver.cache import Cache
from portway.apiserver.entries import Entry
from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Kind
from portway.apiserver.namespaces import Left, Reaper
from portway.storage import MemoryStore, StoreUnavailable, Watch, WatchLagged
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Caller

NAMESPACES = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def serve(test: Callable[[InProcessApi], Awaitable[None]], store: MemoryStore | None = None) -> None:
    async def run() -> None:
        async with InProcessApi(store) as api:
            await test(api)

    asyncio.run(run())


async def post(caller: Caller, target: str, obj: dict[str, Any]) -> Answer:
    answer = await caller.request("POST", target, obj)
    assert answer.status == 201, answer.body
    return answer


async def until_gone(caller: Caller, name: str) -> None:
    async with caller.stream(f"{NAMESPACES}?watch=1&fieldSelector=metadata.name%3D{name}") as lines:
        # The watch is open: what is there now will be seen to go.
        if (await caller.request("GET", f"{NAMESPACES}/{name}")).status == 404:
            return
        while (await lines.next())["type"] != "DELETED":
            pass


def test_a_deleted_namespace_is_emptied_and_then_gone() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        await post(api.admin, f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "a"}})
        service = {"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.99", "ports": [{"port": 80}]}}
        await post(api.admin, f"{NAMESPACES}/n/services", service)
        marked = (await api.admin.request("DELETE", f"{NAMESPACES}/n")).json()
        assert (marked["kind"], marked["status"]["phase"]) == ("Namespace", "Terminating")
        await until_gone(api.admin, "n")
        for plural in ("configmaps", "services"):
            assert (await api.admin.request("GET", f"{NAMESPACES}/n/{plural}")).json()["items"] == []
        await post(api.admin, f"{NAMESPACES}/default/services", service)

    serve(test)


def test_nothing_is_created_in_a_namespace_that_is_being_deleted() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        held = {"metadata": {"name": "held", "finalizers": ["example.com/x"]}}
        await post(api.admin, f"{NAMESPACES}/n/configmaps", held)
        await api.admin.request("DELETE", f"{NAMESPACES}/n")
        answer = await api.admin.request("POST", f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "late"}})
        status = answer.json()
        assert (answer.status, status["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
        assert status["message"] == (
            'configmaps "late" is forbidden: unable to create new content in namespace n because it is being terminated'
        )
        assert (await api.admin.request("GET", f"{NAMESPACES}/n")).json()["status"]["phase"] == "Terminating"
        release = {"metadata": {"finalizers": None}}
        await api.admin.request("PATCH", f"{NAMESPACES}/n/configmaps/held", release, content_type=MERGE)
        await until_gone(api.admin, "n")

    serve(test)


def test_a_namespace_made_anew_is_not_emptied_for_the_one_before_it() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        held = {"metadata": {"name": "held", "finalizers": ["example.com/x"]}}
        await post(api.admin, f"{NAMESPACES}/n/configmaps", held)
        await api.admin.request("DELETE", f"{NAMESPACES}/n")
        await api.admin.request("PUT", f"{NAMESPACES}/n/finalize", {"metadata": {"name": "n"}})
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        await post(api.admin, f"{NAMESPACES}/n/configmaps", {"metadata": {"name": "fresh"}})
        # Another one goes: its turn comes after that of the first.
        await post(api.admin, NAMESPACES, {"metadata": {"name": "z"}})
        await api.admin.request("DELETE", f"{NAMESPACES}/z")
        await until_gone(api.admin, "z")
        assert (await api.admin.request("GET", f"{NAMESPACES}/n/configmaps/fresh")).status == 200
        made_anew = (await api.admin.request("GET", f"{NAMESPACES}/n")).json()
        assert made_anew["spec"] == {"finalizers": ["kubernetes"]}

    serve(test)


@pytest.mark.parametrize("when", ["while it is emptied", "when it is let go"])
def test_a_namespace_that_is_replaced_while_it_is_emptied_keeps_what_the_new_one_holds(when: str) -> None:
    async def run() -> None:
        store = MemoryStore()
        cache = Cache(store, 100, lambda _: None)
        await cache.load()
        following = asyncio.create_task(cache.run(), name="cache")
        maps, pods = "/registry/core/configmaps/n/", "/registry/core/pods/n/"
        deleted: list[str] = []

        async def put(key: str, uid: str, **more: str) -> None:
            name = key.rpartition("/")[2]
            await store.create(key, orjson.dumps({"metadata": {"name": name, "uid": uid, "namespace": "n", **more}}))

        async def replaced() -> None:
            if await store.get("/registry/core/namespaces/n"):
                await store.delete("/registry/core/namespaces/n")
            await put("/registry/core/namespaces/n", "2")
            await put(f"{pods}fresh", "fresh")
            await cache.current()

        class Acts:
            async def delete(self, kind: Kind, entry: Entry) -> None:
                deleted.append(entry.name)
                await store.delete(entry.key)
                if when == "while it is emptied":
                    await replaced()

            async def release(self, namespace: str, uid: str) -> None:
                assert (when, namespace, uid) == ("when it is let go", "n", "1")
                await store.delete(f"/registry/core/namespaces/{namespace}")
                await replaced()

            async def report(self, namespace: str, uid: str, left: Left, failures: list[str]) -> None:
                raise AssertionError("nothing keeps it")

        await put("/registry/core/namespaces/n", "1", deletionTimestamp="2026-01-01T00:00:00Z")
        await put(f"{maps}old", "old")
        await cache.current()
        reaper = Reaper(cache, KINDS, Acts())
        found = cache.shelf("/registry/core/namespaces/").get("/registry/core/namespaces/n")
        assert found is not None
        reaper.schedule(found.obj)
        reaping = asyncio.create_task(reaper.run(), name="reaper")
        async with asyncio.timeout(10):
            while not reaper.idle:
                await asyncio.sleep(0)
        assert deleted == ["old"]
        assert await store.get(f"{pods}fresh") is not None
        for task in (reaping, following):
            task.cancel()
        await asyncio.gather(reaping, following, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_the_cluster_s_own_namespaces_stay(name: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("DELETE", f"{NAMESPACES}/{name}")
        assert answer.status == 403
        assert answer.json()["message"] == f'namespaces "{name}" is forbidden: this namespace may not be deleted'

    serve(test)


def test_finalize_changes_a_namespace_s_finalizers_and_nothing_else() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, NAMESPACES, {"metadata": {"name": "n"}})
        body = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes", "example.com/x"]}}
        answer = await api.admin.request("PUT", f"{NAMESPACES}/n/finalize", body)
        assert answer.json()["spec"]["finalizers"] == ["kubernetes", "example.com/x"]
        assert answer.json()["status"] == {"phase": "Active"}

    serve(test)


def test_a_restarted_server_goes_on_emptying_and_keeps_addresses_taken() -> None:
    async def run() -> None:
        store = MemoryStore()
        service = {"spec": {"clusterIP": "10.96.0.99", "ports": [{"port": 80}]}}
        async with InProcessApi(store) as first:
            await post(first.admin, f"{NAMESPACES}/default/services", {"metadata": {"name": "s"}, **service})
            await post(first.admin, NAMESPACES, {"metadata": {"name": "n"}})
            held = {"metadata": {"name": "held", "finalizers": ["example.com/x"]}}
            await post(first.admin, f"{NAMESPACES}/n/configmaps", held)
            await first.admin.request("DELETE", f"{NAMESPACES}/n")
        revision = store.current_revision()
        async with InProcessApi(store) as second:
            assert store.current_revision() == revision
            taken = await second.admin.request(
                "POST", f"{NAMESPACES}/default/services", {"metadata": {"name": "t"}, **service}
            )
            assert "provided IP is already allocated" in taken.json()["message"]
            release = {"metadata": {"finalizers": None}}
            await second.admin.request("PATCH", f"{NAMESPACES}/n/configmaps/held", release, content_type=MERGE)
            await until_gone(second.admin, "n")

    asyncio.run(run())


def test_both_forms_of_discovery_tell_the_same() -> None:
    async def test(api: InProcessApi) -> None:
        plain: dict[str, set[tuple[str, str]]] = {}
        core = (await api.admin.request("GET", "/api/v1")).json()
        plain["v1"] = {(entry["name"], entry["kind"]) for entry in core["resources"]}
        for group in (await api.admin.request("GET", "/apis")).json()["groups"]:
            for version in group["versions"]:
                path = f"/apis/{version['groupVersion']}"
                listed = (await api.admin.request("GET", path)).json()
                assert listed["groupVersion"] == version["groupVersion"]
                plain[version["groupVersion"]] = {(entry["name"], entry["kind"]) for entry in listed["resources"]}
        aggregated: dict[str, set[tuple[str, str]]] = {}
        for top in ("/api", "/apis"):
            answer = await api.admin.request("GET", top, accept=f"{AGGREGATED},application/json")
            assert answer.header("content-type") == AGGREGATED
            for item in answer.json()["items"]:
                for version in item["versions"]:
                    name = f"{item['metadata']['name']}/{version['version']}" if item["metadata"] else "v1"
                    found = aggregated.setdefault(name, set())
                    for resource in version["resources"]:
                        found.add((resource["resource"], resource["responseKind"]["kind"]))
                        for sub in resource.get("subresources", ()):
                            found.add((f"{resource['resource']}/{sub['subresource']}", sub["responseKind"]["kind"]))
        assert aggregated == plain
        assert ("services/proxy", "ServiceProxyOptions") in plain["v1"]
        assert ("serviceaccounts/token", "TokenRequest") in plain["v1"]

    serve(test)


def test_discovery_is_answered_with_304_when_it_is_known() -> None:
    async def test(api: InProcessApi) -> None:
        first = await api.admin.request("GET", "/apis", accept=AGGREGATED)
        again = await api.admin.request("GET", "/apis", accept=AGGREGATED, if_none_match=first.header("etag"))
        assert (again.status, again.body) == (304, b"")
        older = await api.admin.request(
            "GET", "/apis", accept=AGGREGATED.replace("v=v2", "v=v2beta1") + ",application/json"
        )
        assert older.json()["kind"] == "APIGroupList"

    serve(test)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2",
        "/apis/apps",
        "/apis/apps/v1",
        "/apis//v1",
        "/openapi/v3/apis/apps/v1",
        "/openapi",
        "*",
        "//api/v1/secrets",
        "//api/v1/namespaces/default/secrets/a",
        "//api",
        "//version",
        "//readyz",
    ],
)
def test_what_is_not_offered_is_not_found(path: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("GET", path)
        assert (answer.status, answer.json()["message"]) == (404, "the server could not find the requested resource")

    serve(test)


def test_probes_version_and_paths() -> None:
    async def test(api: InProcessApi) -> None:
        ready = await api.admin.request("GET", "/readyz?verbose")
        assert ready.body.endswith(b"[+]shutdown ok\nreadyz check passed\n")
        assert (await api.admin.request("GET", "/livez/ping")).body == b"ok"
        assert (await api.admin.request("GET", "/version")).json()["gitVersion"] == "v1.36.2+portway"
        assert (await api.admin.request("POST", "/version")).status == 405
        assert "/api/v1" in (await api.admin.request("GET", "/")).json()["paths"]
        nothing = await api.admin.request("GET", "/nothing/here")
        assert (nothing.status, "/apis" in nothing.json()["paths"]) == (404, True)
        api.app.drain()
        failing = await api.admin.request("GET", "/readyz")
        assert (failing.status, b"[-]shutdown failed: reason withheld\n" in failing.body) == (500, True)
        excused = await api.admin.request("GET", "/readyz?exclude=shutdown")
        assert (excused.status, excused.body) == (200, b"ok")

    serve(test)


class BrokenStore(MemoryStore):
    """A store that can be told to fail."""

    broken: StoreUnavailable | None = None

    def failure(self) -> StoreUnavailable | None:
        return self.broken


def test_a_server_whose_store_takes_no_more_writes_is_neither_ready_nor_alive() -> None:
    store = BrokenStore()

    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("GET", "/livez/store")).status == 200
        store.broken = StoreUnavailable("the disk refused")
        for probe in ("livez", "readyz", "healthz"):
            answer = await api.admin.request("GET", f"/{probe}")
            assert (answer.status, b"[-]store failed: reason withheld\n" in answer.body) == (500, True)

    serve(test, store)


def test_every_kind_is_described_and_its_patch_validates_fields() -> None:
    async def test(api: InProcessApi) -> None:
        index = (await api.admin.request("GET", "/openapi/v3")).json()["paths"]
        described = {}
        for entry in index.values():
            document = (await api.admin.request("GET", entry["serverRelativeURL"])).json()
            schemas = document["components"]["schemas"]
            for path in document["paths"].values():
                operation = path.get("patch")
                if operation is not None:
                    kind = operation["x-kubernetes-group-version-kind"]["kind"]
                    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}
                    assert "application/strategic-merge-patch+json" in operation["requestBody"]["content"]
                    described[kind] = any(
                        {"group": "", **operation["x-kubernetes-group-version-kind"]}
                        in schema.get("x-kubernetes-group-version-kind", ())
                        for schema in schemas.values()
                    )
            for schema in schemas.values():
                for reference in references(schema):
                    assert reference.removeprefix("#/components/schemas/") in schemas
        assert described == {kind.kind: True for kind in KINDS}
        ports = (await api.admin.request("GET", "/openapi/v3/api/v1")).json()["components"]["schemas"][
            "io.k8s.api.core.v1.ServiceSpec"
        ]["properties"]["ports"]
        assert (ports["x-kubernetes-patch-strategy"], ports["x-kubernetes-patch-merge-key"]) == ("merge", "port")

    serve(test)


def references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for inner in schema for found in references(inner)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [found for inner in schema.values() for found in references(inner)]


def test_the_older_document_is_protobuf_for_those_who_ask_so() -> None:
    async def test(api: InProcessApi) -> None:
        accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        answer = await api.admin.request("GET", "/openapi/v2", accept=accept)
        assert answer.header("content-type") == openapiv2protobuf.MEDIA_TYPE
        assert answer.body.startswith(b"\x0a\x032.0")
        assert answer.body.count(b"fieldValidation") == len(KINDS)
        assert b"io.k8s.api.core.v1.ServicePort" in answer.body
        plain = (await api.admin.request("GET", "/openapi/v2")).json()
        for reference in references(plain):
            assert reference.removeprefix("#/definitions/") in plain["definitions"]
        target_port = plain["definitions"]["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"]
        assert (target_port.pop("format"), target_port.pop("type")) == ("int-or-string", "string")
        assert list(target_port) == ["description"]
        created = plain["paths"]["/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"]["post"]
        assert created["operationId"] == "createCoreV1NamespacedServiceAccountToken"
        assert created["parameters"][0]["schema"] == {"$ref": "#/definitions/io.k8s.api.authentication.v1.TokenRequest"}
        assert plain["paths"]["/api/v1/nodes/{name}"]["patch"]["x-kubernetes-group-version-kind"]["kind"] == "Node"

    serve(test)


class ForgetfulStore(MemoryStore):
    """A store whose first watch is said to lag, and whose history is compacted by then."""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[Watch] = []

    def watch(self, prefix: str, after_revision: int) -> Watch:
        watch = super().watch(prefix, after_revision)
        self.watches.append(watch)
        return Lagging(watch) if len(self.watches) == 1 else watch


class Lagging:
    """A watch that gives up at its second event."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._events = 0

    def __aiter__(self) -> Lagging:
        return self

    async def __anext__(self) -> Any:
        event = await self._watch.__anext__()
        self._events += 1
        if self._events > 1:
            raise WatchLagged(self.synced_revision())
        return event

    def synced_revision(self) -> int:
        return 2

    def close(self) -> None:
        self._watch.close()


@pytest.mark.parametrize("compacted", [False, True])
def test_a_cache_that_fell_behind_catches_up_or_loads_afresh(compacted: bool) -> None:
    async def run() -> None:
        store = ForgetfulStore()
        told: list[tuple[str, str]] = []
        cache = Cache(store, 100, lambda change: told.append((change.type, change.entry.name)))

        async def put(name: str) -> None:
            await store.create(f"/registry/core/things/{name}", b'{"metadata":{"name":"%b"}}' % name.encode())

        await cache.load()
        shelf = cache.shelf("/registry/core/things/")
        await put("a")
        await put("b")
        await store.delete("/registry/core/things/a")
        if compacted:
            await store.compact(store.current_revision())
        task = asyncio.create_task(cache.run(), name="cache")
        await cache.current()
        assert [entry.name for entry in cache.shelf("/registry/core/things/").scan()] == ["b"]
        assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
        assert (shelf.log.read(0) is None) is compacted
        cache.close()
        await task
        await store.close()

    asyncio.run(run())
