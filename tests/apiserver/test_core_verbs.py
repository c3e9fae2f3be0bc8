"""Create, get, update, patch, delete and their refusals, through the whole server in-process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.handlers.common import warnings
from portway.apiserver.handlers.patch import _Change
from portway.apiserver.options import WriteOptions
from portway.apiserver.routing import Route
from portway.storage import KeyValue, MemoryStore, RevisionMismatch, StoreFull
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Caller

MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Test = Callable[[InProcessApi], Awaitable[None]]


def serve(test: Test, store: MemoryStore | None = None) -> None:
    """Runs a test against a server."""

    async def run() -> None:
        async with InProcessApi(store) as api:
            await test(api)

    asyncio.run(run())


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def refusal(answer: Answer) -> tuple[int, str, str]:
    status = answer.json()
    assert status["kind"] == "Status"
    assert status["code"] == answer.status
    return answer.status, status["reason"], status["message"]


async def created(caller: Caller, path: str, obj: dict[str, Any]) -> Any:
    answer = await caller.request("POST", path, obj)
    assert answer.status == 201, answer.body
    return answer.json()


def test_what_is_created_can_be_read_at_once() -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, MAPS, config_map(x="y"))
        assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"x": "y"})
        assert made["metadata"].keys() >= {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}
        read = await api.admin.request("GET", f"{MAPS}/a")
        assert read.json() == made
        assert read.header("content-type") == "application/json"
        assert read.header("cache-control") == "no-cache, private"
        head = await api.admin.request("HEAD", f"{MAPS}/a")
        assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(read.body)))

    serve(test)


def test_a_name_is_generated_and_collisions_are_tried_again() -> None:
    async def test(api: InProcessApi) -> None:
        names = set()
        for _ in range(20):
            made = await created(api.admin, MAPS, {"metadata": {"generateName": "gen-"}})
            names.add(made["metadata"]["name"])
        assert len(names) == 20
        assert all(name.startswith("gen-") and len(name) == 9 for name in names)

    serve(test)


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        (MAPS, config_map("A"), 422, 'ConfigMap "A" is invalid: metadata.name: Invalid value: "A": '),
        (MAPS, {"data": {}}, 422, "metadata.name: Required value: name or generateName is required"),
        (MAPS, {"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace sent"),
        (MAPS, {"metadata": {"name": "a", "resourceVersion": "1"}}, 400, "resourceVersion should not be set"),
        ("/api/v1/namespaces/none/configmaps", config_map(), 404, 'namespaces "none" not found'),
        ("/api/v1/nodes", {"metadata": {"name": "n", "namespace": "x"}}, 400, "does not match the namespace"),
        (f"{MAPS}?dryRun=Some", config_map(), 422, 'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported'),
        (
            f"{MAPS}?fieldValidation=Strict",
            {**config_map(), "foo": 1},
            400,
            'strict decoding error: unknown field "foo"',
        ),
    ],
)
def test_a_create_that_is_wrong_is_refused(path: str, body: Any, code: int, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", path, body)
        assert answer.status == code
        assert words in refusal(answer)[2]

    serve(test)


def test_unknown_fields_are_dropped_and_warned_about() -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", MAPS, {**config_map(), "foo": 1})
        assert answer.status == 201
        assert answer.header("warning") == '299 - "unknown field \\"foo\\""'
        assert "foo" not in answer.json()
        quiet = await api.admin.request("POST", f"{MAPS}?fieldValidation=Ignore", {**config_map("b"), "foo": 1})
        assert (quiet.status, quiet.header("warning")) == (201, "")

    serve(test)


@pytest.mark.parametrize(
    ("method", "target", "content_type"),
    [
        ("POST", MAPS, "application/json"),
        ("PUT", f"{MAPS}/a", "application/json"),
        ("PATCH", f"{MAPS}/a", MERGE),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "application/json"),
    ],
)
def test_many_unknown_fields_are_no_flood_of_warnings(method: str, target: str, content_type: str) -> None:
    async def test(api: InProcessApi) -> None:
        if method != "POST":
            await created(api.admin, MAPS, config_map())
        long = {f"{i}{'x' * 1000}": 1 for i in range(40)}
        obj = {**({} if "selfsubject" in target else config_map()), **long, **{f"f{i}": 1 for i in range(40_000)}}
        answer = await api.admin.request(method, target, obj, content_type=content_type)
        assert answer.status < 300
        sent = [value for name, value in answer.headers if name == "warning"]
        assert sent[0] == f'299 - "unknown field \\"0{"x" * 240}"'
        assert len(sent) <= 50
        assert len(set(sent)) == len(sent)
        assert sum(map(len, sent)) < 6000

    serve(test)


@pytest.mark.parametrize(
    ("texts", "lengths"),
    [
        (["a", "b", "a"], [1, 1]),
        (["a" * 4096], [4096]),
        (["a" * 4097], [256]),
        (["a" * 3000, "b" * 3000, "c"], [256, 256, 1]),
        ([f"{i:0300}" for i in range(40)], [256] * 16),
        ([str(i) for i in range(10, 99)], [2] * 50),
    ],
)
def test_warnings_are_cut_when_they_are_too_much(texts: list[str], lengths: list[int]) -> None:
    assert [len(value) - len('299 - ""') for _, value in warnings(texts)] == lengths


def test_a_name_that_is_taken_conflicts_and_a_dry_run_says_so_too() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map())
        for query in ("", "?dryRun=All"):
            answer = await api.admin.request("POST", MAPS + query, config_map())
            assert refusal(answer) == (409, "AlreadyExists", 'configmaps "a" already exists')

    serve(test)


def test_a_dry_run_answers_as_the_real_thing_and_changes_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        before = api.store.current_revision()
        dry = await api.admin.request("POST", f"{MAPS}?dryRun=All", config_map(x="y"))
        assert (dry.status, dry.json()["data"]) == (201, {"x": "y"})
        assert "resourceVersion" not in dry.json()["metadata"]
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404
        assert api.store.current_revision() == before
        await created(api.admin, MAPS, config_map(x="y"))
        for method, body, more in (
            ("PUT", config_map(x="z"), ""),
            ("PATCH", {"data": {"x": "z"}}, MERGE),
            ("DELETE", None, ""),
        ):
            kwargs = {"content_type": more} if more else {}
            answer = await api.admin.request(method, f"{MAPS}/a?dryRun=All", body, **kwargs)
            assert answer.status == 200
        assert (await api.admin.request("GET", f"{MAPS}/a")).json()["data"] == {"x": "y"}

    serve(test)


def test_a_put_with_an_old_resource_version_conflicts_and_without_one_wins() -> None:
    async def test(api: InProcessApi) -> None:
        first = await created(api.admin, MAPS, config_map(x="1"))
        second = await api.admin.request("PUT", f"{MAPS}/a", {**first, "data": {"x": "2"}})
        assert second.status == 200
        stale = await api.admin.request("PUT", f"{MAPS}/a", {**first, "data": {"x": "3"}})
        assert refusal(stale)[:2] == (409, "Conflict")
        assert refusal(stale)[2].startswith(
            'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes '
        )
        blind = await api.admin.request("PUT", f"{MAPS}/a", config_map(x="4"))
        assert blind.json()["data"] == {"x": "4"}
        assert blind.json()["metadata"]["uid"] == first["metadata"]["uid"]
        assert blind.json()["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]

    serve(test)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (config_map("b"), 400, "the name of the object (b) does not match the name on the URL (a)"),
        ({"data": {}}, 400, "name must be provided"),
        ({"metadata": {"name": "a", "namespace": "x"}}, 400, "does not match the namespace"),
        ({"metadata": {"name": "a", "uid": "other"}}, 409, "Precondition failed: UID in precondition: other"),
    ],
)
def test_a_put_about_another_object_is_refused(body: Any, code: int, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map())
        answer = await api.admin.request("PUT", f"{MAPS}/a", body)
        assert answer.status == code
        assert words in refusal(answer)[2]

    serve(test)


def test_a_put_of_what_is_not_there() -> None:
    async def test(api: InProcessApi) -> None:
        assert refusal(await api.admin.request("PUT", f"{MAPS}/a", config_map()))[:2] == (404, "NotFound")

    serve(test)


def test_a_write_that_changes_nothing_makes_no_revision() -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, MAPS, config_map(x="y"))
        before = api.store.current_revision()
        assert (await api.admin.request("PUT", f"{MAPS}/a", config_map(x="y"))).json() == made
        same = await api.admin.request("PATCH", f"{MAPS}/a", {"data": {"x": "y"}}, content_type=MERGE)
        assert same.json() == made
        assert api.store.current_revision() == before

    serve(test)


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        (MERGE, {"data": {"x": None, "z": "1"}}),
        (STRATEGIC, {"data": {"x": None, "z": "1"}}),
        (JSON_PATCH, [{"op": "remove", "path": "/data/x"}, {"op": "add", "path": "/data/z", "value": "1"}]),
    ],
)
def test_the_three_patches_change_what_is_stored(content_type: str, patch: Any) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map(x="y", k="v"))
        answer = await api.admin.request("PATCH", f"{MAPS}/a", patch, content_type=content_type)
        assert (answer.status, answer.json()["data"]) == (200, {"k": "v", "z": "1"})
        assert (await api.admin.request("GET", f"{MAPS}/a")).json() == answer.json()

    serve(test)


APPLY = "application/apply-patch+yaml"
ACCEPTED = f"accepted media types include: {JSON_PATCH}, {MERGE}, {STRATEGIC}, {APPLY}"


@pytest.mark.parametrize(
    ("content_type", "patch", "code", "words"),
    [
        ("application/apply-patch+cbor", {"data": {}}, 415, ACCEPTED),
        ("application/json", {"data": {}}, 415, ACCEPTED),
        (MERGE, b"{", 400, "error decoding patch"),
        (MERGE, [1], 400, "a JSON object is expected"),
        (MERGE, b"null", 400, "a JSON object is expected"),
        (STRATEGIC, b"true", 400, "a JSON object is expected"),
        (JSON_PATCH, b"1", 400, "a list of operations"),
        (
            MERGE,
            {"data": {"x": 1}},
            400,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (MERGE, {"kind": "Pod"}, 400, "cannot be handled as a ConfigMap"),
        (MERGE, {"metadata": {"resourceVersion": "1"}}, 409, "the object has been modified"),
        (MERGE, {"metadata": {"name": "b"}}, 400, "the name of the object (b) does not match the name on the URL (a)"),
        (JSON_PATCH, [{"op": "remove", "path": "/metadata"}], 400, "name must be provided"),
        (MERGE, {"metadata": "b"}, 400, "cannot unmarshal string into Go struct field ConfigMap.metadata"),
        (MERGE, {"metadata": {"namespace": "b"}}, 400, "does not match the namespace"),
        (MERGE, {"metadata": {"uid": "b"}}, 409, "Precondition failed: UID in precondition: b"),
        (JSON_PATCH, {"op": "add"}, 400, "a list of operations"),
        (
            JSON_PATCH,
            [{"op": "remove", "path": "/nope"}],
            422,
            "the server rejected our request due to an error in our",
        ),
        (JSON_PATCH, [{"op": "replace", "path": "", "value": 1}], 400, "the patched document is not an object"),
        (STRATEGIC, {"$patch": "jump"}, 400, "unknown patch type found: jump"),
    ],
)
def test_a_patch_that_is_wrong_is_refused(content_type: str, patch: Any, code: int, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, MAPS, config_map(x="y"))
        answer = await api.admin.request("PATCH", f"{MAPS}/a", patch, content_type=content_type)
        assert answer.status == code
        assert words in refusal(answer)[2]
        assert (await api.admin.request("GET", f"{MAPS}/a")).json() == made

    serve(test)


def test_a_patch_is_applied_off_the_loop_and_to_a_copy() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map(x="y"))
        server, threads = api.app.server, set[int]()
        old = server.find("", "configmaps", "default", "a")
        assert old is not None

        def engine(obj: dict[str, Any]) -> dict[str, Any]:
            threads.add(threading.get_ident())
            obj["data"]["x"] = "z"
            return obj

        ctx = server.own_context("update", "default", "a")
        route = Route(server.kind_of(old), "patch", "default", "a", "")
        change = _Change(engine, route, str, WriteOptions(), ctx, [])
        assert (await change(old))["data"] == {"x": "z"}
        assert old["data"] == {"x": "y"}
        assert threading.get_ident() not in threads

    serve(test)


def test_a_strict_patch_names_the_unknown_field() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map())
        target = f"{MAPS}/a?fieldValidation=Strict"
        answer = await api.admin.request("PATCH", target, {"foo": 1}, content_type=MERGE)
        assert answer.json()["message"] == (
            ' "" is invalid: patch: Invalid value: "{\\"foo\\":1}": strict decoding error: unknown field "foo"'
        )

    serve(test)


def test_status_and_the_rest_are_written_apart() -> None:
    async def test(api: InProcessApi) -> None:
        pods = "/api/v1/namespaces/default/pods"
        spec = {"containers": [{"name": "c", "image": "i"}]}
        await created(api.admin, pods, {"metadata": {"name": "p"}, "spec": spec, "status": {"podIP": "10.0.0.9"}})
        plain = await api.admin.request("PATCH", f"{pods}/p", {"status": {"podIP": "10.0.0.1"}}, content_type=MERGE)
        assert "podIP" not in plain.json()["status"]
        change = {"status": {"podIP": "10.0.0.1"}, "spec": {"hostNetwork": True}}
        status = await api.admin.request("PATCH", f"{pods}/p/status", change, content_type=MERGE)
        assert status.json()["status"]["podIP"] == "10.0.0.1"
        assert "hostNetwork" not in status.json()["spec"]
        assert (await api.admin.request("GET", f"{pods}/p/status")).json() == status.json()

    serve(test)


def test_delete_answers_with_a_status_and_the_object_is_gone() -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, MAPS, config_map())
        answer = await api.admin.request("DELETE", f"{MAPS}/a")
        assert answer.json() == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]},
        }
        gone = await api.admin.request("DELETE", f"{MAPS}/a")
        assert refusal(gone) == (404, "NotFound", 'configmaps "a" not found')

    serve(test)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            {"preconditions": {"uid": "other"}},
            409,
            "Precondition failed: UID in precondition: other, UID in object meta: ",
        ),
        ({"preconditions": {"resourceVersion": "1"}}, 409, "Precondition failed: ResourceVersion in precondition: 1, "),
        ({"kind": "Pod"}, 400, 'Pod in version "v1" cannot be handled as a DeleteOptions'),
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, 400, "cannot be handled as a DeleteOptions"),
        ({"apiVersion": "apps/v1", "dryRun": ["Some"]}, 422, "dryRun"),
        ({"propagationPolicy": "Sometime"}, 422, 'propagationPolicy: Unsupported value: "Sometime"'),
        ({"gracePeriodSeconds": -1}, 422, "gracePeriodSeconds"),
        ({"dryRun": ["Some"]}, 422, "dryRun"),
    ],
)
def test_a_delete_whose_options_do_not_hold_is_refused(options: Any, code: int, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map())
        answer = await api.admin.request(
            "DELETE", f"{MAPS}/a", {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        )
        assert answer.status == code
        assert words in refusal(answer)[2]
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 200

    serve(test)


def test_finalizers_hold_a_deleted_object_until_the_last_is_taken_away() -> None:
    async def test(api: InProcessApi) -> None:
        held = {"metadata": {"name": "a", "finalizers": ["example.com/one"]}}
        await created(api.admin, MAPS, held)
        marked = (await api.admin.request("DELETE", f"{MAPS}/a")).json()
        assert marked["metadata"]["deletionTimestamp"]
        again = (await api.admin.request("DELETE", f"{MAPS}/a")).json()
        assert again["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
        more = {"metadata": {"finalizers": ["example.com/one", "example.com/two"]}}
        late = await api.admin.request("PATCH", f"{MAPS}/a", more, content_type=MERGE)
        assert "no new finalizers can be added if the object is being deleted" in refusal(late)[2]
        last = await api.admin.request("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
        assert last.status == 200
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404

    serve(test)


def test_deletecollection_deletes_what_the_selector_selects() -> None:
    async def test(api: InProcessApi) -> None:
        for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
            await created(api.admin, MAPS, {"metadata": {"name": name, "labels": {"l": label}}})
        answer = await api.admin.request("DELETE", f"{MAPS}?labelSelector=l%3Dx")
        assert answer.json()["kind"] == "ConfigMapList"
        assert [item["metadata"]["name"] for item in answer.json()["items"]] == ["a", "c"]
        left = (await api.admin.request("GET", MAPS)).json()["items"]
        assert [item["metadata"]["name"] for item in left] == ["b"]

    serve(test)


def test_a_put_creates_a_lease_and_needs_the_version_of_one_that_is_there() -> None:
    async def test(api: InProcessApi) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
        assert (await api.admin.request("PUT", f"{leases}/l", lease)).status == 201
        blind = await api.admin.request("PUT", f"{leases}/l", lease)
        assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in refusal(blind)[2]

    serve(test)


def test_a_put_that_would_create_needs_the_right_to_create() -> None:
    async def test(api: InProcessApi) -> None:
        lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
        path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
        answer = await api.user("updater").request("PUT", path, lease)
        assert refusal(answer)[:2] == (403, "Forbidden")
        assert 'User "updater" cannot create resource "leases"' in refusal(answer)[2]

    serve(test)


MANY = 100_000
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
SERVICES = "/api/v1/namespaces/default/services"


@pytest.mark.parametrize(
    ("method", "target", "obj"),
    [
        ("POST", MAPS, {"metadata": {"name": "b", "ownerReferences": [{}] * MANY}}),
        ("PUT", f"{MAPS}/a", {"metadata": {"name": "a", "labels": {f"{i}/": "" for i in range(MANY)}}}),
        ("POST", ROLES, {"metadata": {"name": "b"}, "rules": [{}] * MANY}),
        ("POST", SERVICES, {"metadata": {"name": "b"}, "spec": {"ports": [{}] * MANY}}),
        ("POST", SERVICES, {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 1}], "ipFamilies": ["x"] * MANY}}),
        ("DELETE", f"{MAPS}/a", {"dryRun": [""] * MANY}),
    ],
)
def test_of_very_many_faults_a_hundred_are_told(method: str, target: str, obj: dict[str, Any]) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map())
        began = time.process_time()
        answer = await api.admin.request(method, target, obj)
        assert (answer.status, len(answer.json()["details"]["causes"])) == (422, 100)
        # With all of them told it takes 10 s and more, and an answer many times as long as the body.
        assert time.process_time() - began < 4

    serve(test)


def test_a_body_over_the_limit_is_refused() -> None:
    async def test(api: InProcessApi) -> None:
        big = await api.admin.request("POST", MAPS, b"x" * (3 * 1024 * 1024 + 1))
        assert refusal(big) == (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")

    serve(test)


def test_without_the_door_s_headers_nobody_is_served() -> None:
    async def test(api: InProcessApi) -> None:
        assert refusal(await Caller(api.app, "").request("GET", MAPS))[:2] == (401, "Unauthorized")

    serve(test)


class HastyStore(MemoryStore):
    """A store in which somebody else writes just before each of the first `rivals` updates."""

    def __init__(self, rivals: int) -> None:
        super().__init__()
        self.rivals = rivals

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        if self.rivals and "/configmaps/" in key:
            self.rivals -= 1
            await super().update(key, value.replace(b'"x":', b'"rival":"1","x":'), expected_revision)
        return await super().update(key, value, expected_revision)


def test_a_patch_is_tried_again_when_somebody_was_faster() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map(x="y"))
        answer = await api.admin.request("PATCH", f"{MAPS}/a", {"data": {"x": "z"}}, content_type=MERGE)
        assert answer.json()["data"] == {"x": "z", "rival": "1"}

    serve(test, HastyStore(3))


def test_a_put_with_a_resource_version_is_not() -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, MAPS, config_map(x="y"))
        answer = await api.admin.request("PUT", f"{MAPS}/a", {**made, "data": {"x": "z"}})
        assert refusal(answer)[:2] == (409, "Conflict")

    serve(test, HastyStore(1))


class FullStore(MemoryStore):
    """A store that has no room for one key, and where deletes of services always come too late."""

    async def create(self, key: str, value: bytes) -> int:
        if key.endswith("/full"):
            raise StoreFull("there is no room left on the device")
        return await super().create(key, value)

    async def delete(self, key: str, expected_revision: int = 0) -> KeyValue:
        if key.startswith("/registry/core/services/"):
            raise RevisionMismatch(key, expected_revision, None)
        return await super().delete(key, expected_revision)


def test_what_the_store_refuses_is_said_and_what_was_reserved_given_back() -> None:
    async def test(api: InProcessApi) -> None:
        services = "/api/v1/namespaces/default/services"
        spec = {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}
        full = await api.admin.request("POST", services, {"metadata": {"name": "full"}, "spec": spec})
        assert refusal(full)[:2] == (503, "ServiceUnavailable")
        assert (await api.admin.request("POST", services, {"metadata": {"name": "a"}, "spec": spec})).status == 201
        late = await api.admin.request("DELETE", f"{services}/a")
        assert refusal(late)[:2] == (409, "Conflict")

    serve(test, FullStore())


@pytest.mark.parametrize("query", ["", "?includeObject=Everything"])
@pytest.mark.parametrize(
    ("method", "name", "content_type"),
    [
        ("POST", "", "application/json"),
        ("PUT", "/a", "application/json"),
        ("PATCH", "/a", MERGE),
        ("PATCH", "/a", "application/apply-patch+yaml"),
        ("PATCH", "/b", "application/apply-patch+yaml"),
        ("DELETE", "/a", "application/json"),
    ],
)
def test_nothing_is_written_for_whom_no_answer_can_be_made(
    method: str, name: str, content_type: str, query: str
) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, MAPS, config_map(x="y"))
        before = api.store.current_revision()
        accept, status = ("application/json", 422) if query else ("text/csv", 406)
        path = (
            f"{MAPS}{name}{query}{'&' if query else '?'}fieldManager=me" if method == "PATCH" else MAPS + name + query
        )
        body = {"apiVersion": "v1", "kind": "ConfigMap"} | config_map(name.removeprefix("/") or "new", z="1")
        sent = None if method == "DELETE" else body
        answer = await api.admin.request(method, path, sent, content_type=content_type, accept=accept)
        assert answer.status == status, answer.body
        assert api.store.current_revision() == before

    serve(test)
