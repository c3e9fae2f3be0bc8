"""Server-side apply and managedFields through the whole server in-process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from portway.apiserver.kinds.data import CONFIG_MAP
from portway.apiserver.managed.lastapplied import ANNOTATION
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Caller

MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Object = dict[str, Any]


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    """Runs a test against a server."""

    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def service(*ports: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {**spec, **({"ports": list(ports)} if ports else {})},
    }


async def apply(caller: Caller, path: str, config: Any, manager: str = "me", **query: str) -> Answer:
    body = config if isinstance(config, bytes) else orjson.dumps(config)
    params = "&".join(f"{name}={value}" for name, value in {"fieldManager": manager, **query}.items())
    return await caller.request("PATCH", f"{path}?{params}", body, content_type=APPLY)


async def done(answer: Awaitable[Answer], status: int = 200) -> Any:
    found = await answer
    assert found.status == status, found.body
    return found.json()


def refusal(answer: Answer) -> tuple[int, str, str]:
    status = answer.json()
    assert status["kind"] == "Status", status
    assert status["code"] == answer.status
    return answer.status, status.get("reason", ""), status["message"]


def owners(obj: Object) -> dict[str, Any]:
    """FieldsV1 by `manager` or `manager/subresource`."""
    return {
        "/".join(filter(None, (entry["manager"], entry.get("subresource")))): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", [])
    }


def test_an_apply_creates_and_then_changes() -> None:
    async def test(api: InProcessApi) -> None:
        made = await done(apply(api.admin, f"{MAPS}/a", config_map(x="1")), 201)
        assert made["data"] == {"x": "1"}
        (entry,) = made["metadata"]["managedFields"]
        assert entry.pop("time") == made["metadata"]["creationTimestamp"]
        assert entry == {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:x": {}}},
        }
        changed = await done(apply(api.admin, f"{MAPS}/a", config_map(y="2")))
        assert changed["data"] == {"y": "2"}
        assert (await done(api.admin.request("GET", f"{MAPS}/a"))) == changed

    serve(test)


def test_yaml_is_what_is_applied() -> None:
    async def test(api: InProcessApi) -> None:
        text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  when: '12:30'\n"
        assert (await done(apply(api.admin, f"{MAPS}/a", text), 201))["data"] == {"when": "12:30"}

    serve(test)


def test_an_apply_that_changes_nothing_writes_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        config = service({"port": 80}, selector={"a": "b"})
        first = await done(apply(api.admin, f"{SERVICES}/a", config), 201)
        assert await done(apply(api.admin, f"{SERVICES}/a", config)) == first

    serve(test)


def test_quantities_that_are_written_otherwise_change_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        limits = {"cpu": "1000m", "memory": "1024Mi"}
        container = {"name": "c", "image": "i", "resources": {"limits": limits}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}
        first = await done(apply(api.admin, f"{PODS}/a", pod), 201)
        assert first["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
        again = await done(apply(api.admin, f"{PODS}/a", pod))
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    serve(test)


def test_conflicts_are_told_and_forced() -> None:
    async def test(api: InProcessApi) -> None:
        await done(api.admin.request("POST", f"{MAPS}?fieldManager=kubectl-create", config_map(x="1")), 201)
        refused = await apply(api.admin, f"{MAPS}/a", config_map(x="2"))
        text = 'Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .data.x'
        assert refusal(refused) == (409, "Conflict", text)
        assert refused.json()["details"] == {
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "kubectl-create" using v1',
                    "field": ".data.x",
                }
            ]
        }
        forced = await done(apply(api.admin, f"{MAPS}/a", config_map(x="2"), force="true"))
        assert forced["data"] == {"x": "2"}
        assert owners(forced) == {"me": {"f:data": {"f:x": {}}}, "kubectl-create": {"f:data": {}}}

    serve(test)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        pytest.param({**config_map(), "kind": "Secret"}, "invalid object type: /v1, Kind=Secret", id="kind"),
        pytest.param({"metadata": {"name": "a"}}, "invalid object type: /, Kind=", id="no kind"),
        pytest.param({**config_map(), "apiVersion": "v2"}, "invalid object type: /v2, Kind=ConfigMap", id="version"),
        pytest.param(
            {**config_map(), "metadata": {"name": "a", "managedFields": []}},
            "metadata.managedFields must be nil",
            id="managedFields",
        ),
        pytest.param(
            {**config_map(), "foo": 1, "metadata": {"name": "a", "bar": 1}},
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): errors:\n"
            "  .metadata.bar: field not declared in schema\n  .foo: field not declared in schema",
            id="unknown fields",
        ),
        pytest.param(
            config_map(x=1),  # type: ignore[arg-type]
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): "
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            id="type",
        ),
        pytest.param(
            {**config_map(), "metadata": {"name": "a", "finalizers": ["x/y", "x/y"]}},
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): "
            '.metadata.finalizers: duplicate entries for key [="x/y"]',
            id="twice in a set",
        ),
        pytest.param(
            {**config_map(), "metadata": "a"},
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): "
            "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
            id="metadata",
        ),
        pytest.param(
            {**config_map(), "metadata": {"name": "b"}},
            "the name of the object (b) does not match the name on the URL (a)",
            id="name",
        ),
        pytest.param(b"[1]", "error decoding YAML: an object is expected", id="list"),
        pytest.param(b"a: &x [1]\nb: *x", "error decoding YAML: aliases are not accepted", id="aliases"),
        pytest.param(b"[" * 300, "error decoding YAML: exceeded max depth", id="depth"),
    ],
)
def test_what_is_no_configuration_of_the_kind_is_refused(config: Any, text: str) -> None:
    async def test(api: InProcessApi) -> None:
        assert refusal(await apply(api.admin, f"{MAPS}/a", config)) == (400, "BadRequest", text)
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404

    serve(test)


def test_a_missing_manager_is_refused_before_the_body_is_read() -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("PATCH", f"{MAPS}/a", b"{", content_type=APPLY)
        text = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        assert refusal(answer) == (422, "Invalid", text)

    serve(test)


def test_an_apply_creates_only_for_who_may_create() -> None:
    async def test(api: InProcessApi) -> None:
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]
        rbac = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        await done(api.admin.request("POST", rbac, {"metadata": {"name": "patcher"}, "rules": rules}), 201)
        refused = await apply(api.user("eve", "system:authenticated"), f"{MAPS}/a", config_map(x="1"))
        assert refused.status == 403
        assert 'cannot create resource "configmaps"' in refused.json()["message"]

    serve(test)


def test_a_configuration_with_an_identity_applies_to_that_object_alone() -> None:
    async def test(api: InProcessApi) -> None:
        config = config_map(x="1")
        config["metadata"]["uid"] = "b"
        answer = await apply(api.admin, f"{MAPS}/a", config)
        assert answer.status == 409
        assert "the provided object specified uid b, and no existing object was found" in answer.json()["message"]
        made = await done(apply(api.admin, f"{MAPS}/a", config_map(x="1")), 201)
        config["metadata"] = {"name": "a", "resourceVersion": "1"}
        stale = await apply(api.admin, f"{MAPS}/a", config)
        assert (stale.status, stale.json()["reason"]) == (409, "Conflict")
        config["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        await done(apply(api.admin, f"{MAPS}/a", {**config, "data": {"x": "2"}}))

    serve(test)


def test_a_dry_run_changes_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        assert (await done(apply(api.admin, f"{MAPS}/a", config_map(x="1"), dryRun="All"), 201))["data"] == {"x": "1"}
        assert (await api.admin.request("GET", f"{MAPS}/a")).status == 404
        made = await done(apply(api.admin, f"{MAPS}/a", config_map(x="1")), 201)
        shown = await done(apply(api.admin, f"{MAPS}/a", config_map(x="2"), dryRun="All"))
        assert (shown["data"], owners(shown)) == ({"x": "2"}, {"me": {"f:data": {"f:x": {}}}})
        assert await done(api.admin.request("GET", f"{MAPS}/a")) == made

    serve(test)


def test_status_is_applied_through_its_own_subresource() -> None:
    async def test(api: InProcessApi) -> None:
        node: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
        ready = {"type": "Ready", "status": "True"}
        missing = await apply(api.admin, "/api/v1/nodes/n/status", {**node, "status": {"conditions": [ready]}})
        assert missing.status == 404
        named = {**node, "metadata": {"name": "n", "labels": {"a": "b"}}}
        await done(apply(api.admin, "/api/v1/nodes/n", named), 201)
        unheard = await done(apply(api.admin, "/api/v1/nodes/n", {**named, "status": {"conditions": [ready]}}))
        assert "conditions" not in unheard.get("status", {})
        assert owners(unheard) == {"me": {"f:metadata": {"f:labels": {"f:a": {}}}}}
        await done(apply(api.admin, "/api/v1/nodes/n/status", {**node, "status": {"conditions": [ready]}}, "kubelet"))
        disk = {"type": "DiskPressure", "status": "False"}
        both = await done(
            apply(api.admin, "/api/v1/nodes/n/status", {**node, "status": {"conditions": [disk]}}, "doctor")
        )
        assert [condition["type"] for condition in both["status"]["conditions"]] == ["Ready", "DiskPressure"]
        assert owners(both).keys() == {"me", "kubelet/status", "doctor/status"}
        late = {**node, "status": {"conditions": [{**ready, "status": "False"}]}}
        refused = await apply(api.admin, "/api/v1/nodes/n/status", late, "doctor")
        assert refusal(refused)[2] == (
            'Apply failed with 1 conflict: conflict with "kubelet" with subresource "status": '
            '.status.conditions[type="Ready"].status'
        )

    serve(test)


def test_what_the_server_decides_is_nobodys() -> None:
    async def test(api: InProcessApi) -> None:
        made = await done(api.admin.request("POST", f"{SERVICES}?fieldManager=me", service({"port": 80})), 201)
        assert made["spec"]["clusterIP"]
        assert owners(made)["me"]["f:spec"].keys() == {
            "f:internalTrafficPolicy",
            "f:ports",
            "f:sessionAffinity",
            "f:type",
        }
        again = await done(apply(api.admin, f"{SERVICES}/a", service({"port": 80, "name": "x"}), "other"))
        assert again["spec"]["clusterIP"] == made["spec"]["clusterIP"]

    serve(test)


def test_every_write_says_who_wrote() -> None:
    async def test(api: InProcessApi) -> None:
        path = f"{MAPS}/a"
        await done(api.admin.request("POST", MAPS, config_map(x="1"), user_agent="creator/v1 (linux)"), 201)
        patch = {"data": {"y": "1"}}
        patched = await done(api.admin.request("PATCH", path, patch, content_type=MERGE, user_agent="patcher/v1"))
        patched["data"]["z"] = "1"
        put = await done(api.admin.request("PUT", f"{path}?fieldManager=putter", patched))
        assert owners(put) == {
            "creator": {"f:data": {".": {}, "f:x": {}}},
            "patcher": {"f:data": {"f:y": {}}},
            "putter": {"f:data": {"f:z": {}}},
        }
        assert {entry["operation"] for entry in put["metadata"]["managedFields"]} == {"Update"}
        anonymous = await done(api.admin.request("PATCH", path, {"data": {"x": "2"}}, content_type=MERGE))
        assert owners(anonymous)["unknown"] == {"f:data": {"f:x": {}}}

    serve(test)


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        made = await done(api.admin.request("POST", f"{SERVICES}?fieldManager=me", service({"port": 80})), 201)
        bare = {**made, "metadata": {"name": "a"}}
        for body in (made, bare):
            assert await done(api.admin.request("PUT", f"{SERVICES}/a?fieldManager=other", body)) == made

    serve(test)


def test_the_servers_own_objects_have_an_owner() -> None:
    async def test(api: InProcessApi) -> None:
        found = await done(api.admin.request("GET", "/api/v1/namespaces/default"))
        assert owners(found).keys() == {"kube-apiserver"}

    serve(test)


def test_clients_may_rewrite_the_owners_of_an_object_but_not_through_a_subresource() -> None:
    async def test(api: InProcessApi) -> None:
        made = await done(api.admin.request("POST", f"{SERVICES}?fieldManager=me", service({"port": 80})), 201)
        (entry,) = made["metadata"]["managedFields"]
        moved = {**entry, "manager": "kubectl", "operation": "Apply"}
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": [moved]},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        ]
        for path in (f"{SERVICES}/a/status", f"{SERVICES}/a"):
            changed = await done(api.admin.request("PATCH", path, patch, content_type=JSON_PATCH))
            assert changed["metadata"]["managedFields"] == [entry if path.endswith("status") else moved]
        stale = await api.admin.request("PATCH", f"{SERVICES}/a", patch, content_type=JSON_PATCH)
        assert stale.status == 409

    serve(test)


@pytest.mark.parametrize("reset", [[], [{}]])
def test_owners_are_forgotten_and_found_again_by_the_next_apply(reset: Any) -> None:
    async def test(api: InProcessApi) -> None:
        await done(api.admin.request("POST", f"{MAPS}?fieldManager=me", config_map(x="1")), 201)
        patch = {"metadata": {"managedFields": reset}}
        bare = await done(api.admin.request("PATCH", f"{MAPS}/a", patch, content_type=MERGE))
        assert "managedFields" not in bare["metadata"]
        changed = await done(api.admin.request("PATCH", f"{MAPS}/a", {"data": {"y": "1"}}, content_type=MERGE))
        assert "managedFields" not in changed["metadata"]
        found = await done(apply(api.admin, f"{MAPS}/a", config_map(x="1")))
        assert owners(found) == {
            "me": {"f:data": {"f:x": {}}},
            "before-first-apply": {"f:data": {".": {}, "f:x": {}, "f:y": {}}},
        }

    serve(test)


@pytest.mark.parametrize(
    "given",
    [
        None,
        [{"manager": "x", "operation": "Eat", "apiVersion": "v1", "fieldsType": "FieldsV1"}],
        [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"y": 1}}],
        [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": "y"}],
    ],
)
def test_what_cannot_be_read_as_managed_fields_changes_no_owner(given: Any) -> None:
    async def test(api: InProcessApi) -> None:
        made = await done(api.admin.request("POST", f"{MAPS}?fieldManager=me", config_map(x="1")), 201)
        patch = {"metadata": {"managedFields": given}, "data": {"y": "1"}}
        changed = await done(api.admin.request("PATCH", f"{MAPS}/a?fieldManager=me", patch, content_type=MERGE))
        assert owners(changed) == {"me": {"f:data": {".": {}, "f:x": {}, "f:y": {}}}}
        assert made["metadata"]["uid"] == changed["metadata"]["uid"]
        body = {**config_map(x="1"), "metadata": {"name": "b", "managedFields": given}}
        created = await done(api.admin.request("POST", f"{MAPS}?fieldManager=me", body), 201)
        assert owners(created).keys() == {"me"}

    serve(test)


def test_objects_of_an_older_version_have_no_owners_and_go_on_working() -> None:
    async def test(api: InProcessApi) -> None:
        stored = {**config_map(x="1"), "metadata": {"name": "a", "namespace": "default", "uid": "u"}}
        await api.store.create(CONFIG_MAP.key("default", "a"), orjson.dumps(stored))
        changed = await done(api.admin.request("PATCH", f"{MAPS}/a", {"data": {"y": "1"}}, content_type=MERGE))
        assert (changed["data"], owners(changed)) == ({"x": "1", "y": "1"}, {})
        refused = await apply(api.admin, f"{MAPS}/a", config_map(x="2"))
        assert 'conflict with "before-first-apply" using v1: .data.x' in refused.json()["message"]

    serve(test)


def test_kubectl_goes_over_from_its_own_apply() -> None:
    async def test(api: InProcessApi) -> None:
        last = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}})
        obj = config_map(x="1")
        obj["metadata"]["annotations"] = {ANNOTATION: last}
        await done(api.admin.request("POST", f"{MAPS}?fieldManager=kubectl-client-side-apply", obj), 201)
        assert (await apply(api.admin, f"{MAPS}/a", config_map(x="2"), "flux")).status == 409
        moved = await done(apply(api.admin, f"{MAPS}/a", config_map(x="2"), "kubectl"))
        assert moved["data"] == {"x": "2"}
        assert json.loads(moved["metadata"]["annotations"][ANNOTATION])["data"] == {"x": "2"}

    serve(test)


def test_both_kinds_of_event_share_their_owners() -> None:
    async def test(api: InProcessApi) -> None:
        path, newer = "/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events"
        event = {
            "metadata": {"name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "x/y",
            "reportingInstance": "i",
            "action": "a",
            "reason": "r",
            "type": "Normal",
            "regarding": {"namespace": "default"},
            "note": "n",
        }
        made = await done(api.admin.request("POST", f"{newer}?fieldManager=recorder", event), 201)
        (entry,) = made["metadata"]["managedFields"]
        assert (entry["apiVersion"], "f:note" in entry["fieldsV1"]) == ("events.k8s.io/v1", True)
        patch = {"message": "other"}
        changed = await done(api.admin.request("PATCH", f"{path}/e?fieldManager=old", patch, content_type=MERGE))
        assert owners(changed)["old"] == {"f:message": {}}
        assert "f:note" not in owners(changed)["recorder"]
        assert "f:reason" in owners(changed)["recorder"]

    serve(test)


def test_a_pod_that_names_a_variable_twice_has_owners_too() -> None:
    async def test(api: InProcessApi) -> None:
        env = [{"name": "x", "value": "1"}, {"name": "x", "value": "2"}]
        pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "env": env}]}}
        made = await done(api.admin.request("POST", f"{PODS}?fieldManager=me", pod), 201)
        container = owners(made)["me"]["f:spec"]["f:containers"]['k:{"name":"c"}']
        assert container["f:env"] == {".": {}, 'k:{"name":"x"}': {}}

    serve(test)


REPEATED = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: '1'\n  x: '2'\nfoo: 1\nfoo: 2\n"


class TestFieldValidation:
    """Fields that are unknown or given twice, in YAML and in configurations."""

    def test_strictly(self) -> None:
        async def test(api: InProcessApi) -> None:
            answer = await api.admin.request(
                "POST", f"{MAPS}?fieldValidation=Strict", REPEATED, content_type="application/yaml"
            )
            assert refusal(answer)[2] == (
                'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
                'yaml: unmarshal errors:\n  line 6: key "x" already set in map\n'
                '  line 8: key "foo" already set in map, unknown field "foo"'
            )
            text = REPEATED.split(b"foo")[0]
            applied = await apply(api.admin, f"{MAPS}/a", text, fieldValidation="Strict")
            words = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
            assert refusal(applied) == (400, "BadRequest", f'{words}  line 6: key "x" already set in map')

        serve(test)

    def test_with_warnings(self) -> None:
        async def test(api: InProcessApi) -> None:
            answer = await api.admin.request("POST", MAPS, REPEATED, content_type="application/yaml")
            assert answer.status == 201
            assert answer.header("warning") == (
                '299 - "line 6: key \\"x\\" already set in map", '
                '299 - "line 8: key \\"foo\\" already set in map", 299 - "unknown field \\"foo\\""'
            )
            applied = await apply(api.admin, f"{MAPS}/b", REPEATED.split(b"foo")[0].replace(b"{name: a}", b"{name: b}"))
            assert applied.status == 201
            assert applied.header("warning") == '299 - "line 6: key \\"x\\" already set in map"'

        serve(test)

    def test_not_at_all(self) -> None:
        async def test(api: InProcessApi) -> None:
            answer = await api.admin.request(
                "POST", f"{MAPS}?fieldValidation=Ignore", REPEATED, content_type="application/yaml"
            )
            assert (answer.status, answer.header("warning")) == (201, "")
            assert answer.json()["data"] == {"x": "2"}

        serve(test)


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_metadata_of_another_form_is_no_trouble(metadata: Any) -> None:
    async def test(api: InProcessApi) -> None:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        assert (await apply(api.admin, f"{MAPS}/a", config)).status == 400

    serve(test)


def test_an_annotation_nested_without_end_gives_no_right() -> None:
    async def test(api: InProcessApi) -> None:
        deep = '{"a":' * 900 + "1" + "}" * 900
        annotations = {ANNOTATION: f'{{"apiVersion":"v1","spec":{{"ports":[{{"port":{deep}}}]}}}}'}
        made = service({"port": 80}, selector={"a": "b"})
        made["metadata"]["annotations"] = annotations
        await done(api.admin.request("POST", f"{SERVICES}?fieldManager=other", made), 201)
        answer = await apply(api.admin, f"{SERVICES}/a", service(selector={"a": "c"}), "kubectl")
        assert answer.status == 409, answer.body

    serve(test)


@pytest.mark.parametrize(
    ("owner", "causes"),
    [
        ({"manager": "x" * 128, "subresource": "s" * 256}, []),
        ({"manager": "é" * 65}, [("metadata.managedFields[0].manager", "FieldValueTooLong")]),
        ({"manager": "a\tb"}, [("metadata.managedFields[0].manager", "FieldValueInvalid")]),
        ({"subresource": "s" * 257}, [("metadata.managedFields[0].subresource", "FieldValueTooLong")]),
    ],
)
def test_owners_that_a_client_names_have_short_names(owner: Object, causes: list[tuple[str, str]]) -> None:
    """They stand in what others are told of conflicts, once for each field."""

    async def test(api: InProcessApi) -> None:
        await done(api.admin.request("POST", MAPS, config_map(x="1")), 201)
        entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
        named = {**entry, **owner, "fieldsV1": {"f:data": {"f:x": {}}}}
        body = {"metadata": {"name": "a", "managedFields": [named]}, "data": {"x": "1"}}
        answer = await api.admin.request("PUT", f"{MAPS}/a", body)
        found = [(one["field"], one["reason"]) for one in answer.json().get("details", {}).get("causes", [])]
        assert (answer.status, found) == (422 if causes else 200, causes), answer.body

    serve(test)
