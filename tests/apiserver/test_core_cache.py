"""What is kept of an object, and how a shelf is read: JSON that nobody decoded, pages, selections told by the bytes."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver import table, tablejson
from portway.apiserver.cache import Shelf
from portway.apiserver.entries import Entry
from portway.apiserver.kinds.data import CONFIG_MAP
from portway.apiserver.kinds.pods import POD
from portway.kube.objects import Object
from portway.testing.api import InProcessApi

KEY = CONFIG_MAP.key("ns", "one")
OBJ = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "one", "namespace": "ns"}, "data": {"a": "1"}}


@pytest.mark.parametrize(
    "order", [("kind", "apiVersion", "metadata", "data"), ("data", "metadata", "kind", "apiVersion")]
)
def test_an_entry_is_the_same_however_its_bytes_are_ordered(order: tuple[str, ...]) -> None:
    entry = Entry(KEY, orjson.dumps({name: OBJ[name] for name in order}), 7)
    whole = {**OBJ, "metadata": {"name": "one", "namespace": "ns", "resourceVersion": "7"}}
    assert (entry.name, entry.namespace) == ("one", "ns")
    assert orjson.loads(entry.json(CONFIG_MAP)) == whole == entry.obj
    assert orjson.loads(b"".join(entry.item(CONFIG_MAP))) == {"metadata": whole["metadata"], "data": {"a": "1"}}
    assert orjson.loads(entry.metadata(CONFIG_MAP)) == whole["metadata"]
    assert orjson.loads(entry.at(9).json(CONFIG_MAP))["metadata"]["resourceVersion"] == "9"


_TEXT = st.text(max_size=8) | st.sampled_from(['"},"data":{', "}", '\\"', '{"a":1},"spec":{}'])
_META: st.SearchStrategy[Object] = st.fixed_dictionaries(
    {"name": st.just("one"), "labels": st.dictionaries(_TEXT, _TEXT), "annotations": st.dictionaries(_TEXT, _TEXT)},
    optional={"managedFields": st.lists(st.fixed_dictionaries({"fieldsV1": st.dictionaries(_TEXT, st.just({}))}))},
)


@given(_META, st.dictionaries(st.sampled_from(["data", "immutable", "spec"]), st.dictionaries(_TEXT, _TEXT)))
def test_metadata_is_cut_out_of_the_bytes_whatever_it_says(metadata: Object, rest: Object) -> None:
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, **rest}
    entry = Entry(KEY, orjson.dumps(obj), 7)
    cut = entry.metadata(CONFIG_MAP)
    assert orjson.loads(cut) == {**metadata, "resourceVersion": "7"} == entry.obj["metadata"]


def test_the_names_of_cluster_scoped_objects_have_no_namespace() -> None:
    entry = Entry("/registry/core/nodes/one", b"{}", 1)
    assert (entry.name, entry.namespace) == ("one", "")


@given(st.sets(st.text("ab-z", min_size=1, max_size=3)), st.text("ab-z", max_size=3), st.integers(0, 4))
def test_a_scan_is_what_comes_behind_a_key_under_a_prefix(names: set[str], after: str, limit: int) -> None:
    shelf = Shelf("/registry/core/pods/", 10, 0)
    keys = sorted(POD.key(name, other) for name in names for other in ("x", "y"))
    for key in keys:
        shelf.load(Entry(key, b"{}", 1))
    for prefix in ("", POD.key("a", "")):
        behind = f"{shelf.prefix}{after}" if after else ""
        found = [key for key in keys if key.startswith(prefix) and key > behind]
        assert shelf.count(prefix, behind) == len(found)
        assert [entry.key for entry in shelf.scan(prefix, behind, limit)] == (found[:limit] if limit else found)


def _pod(name: str, labels: dict[str, str], **spec: object) -> Object:
    containers = [{"name": "c", "image": "i"}]
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": containers, **spec}}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("fieldSelector=spec.hostNetwork%3Dtrue", {"host"}),
        ("fieldSelector=spec.hostNetwork%3Dfalse", {"plain", "quoted"}),
        ("fieldSelector=spec.nodeName%3Dn1", {"plain"}),
        ("fieldSelector=spec.nodeName%3D", {"host", "quoted"}),
        ("fieldSelector=spec.nodeName%3Dn1,spec.restartPolicy%3DAlways", {"plain"}),
        ("fieldSelector=status.podIPs%3D10.0.0.1%5C,fd00::1", {"host"}),
        ("fieldSelector=spec.schedulerName%3D%22%C3%A9%22", set()),
        ("labelSelector=app%3Dx", {"plain"}),
        ("labelSelector=app+in+(x)", {"plain"}),
        ("labelSelector=other%3Dx", set()),
        ("labelSelector=app%3D", {"host"}),
        ("labelSelector=app%21%3Dx", {"host", "quoted"}),
    ],
)
def test_what_is_selected_is_found_whatever_its_bytes_look_like(query: str, found: set[str]) -> None:
    """`other` stands beside `x` in an annotation: a selection isn't decided by the bytes alone."""

    async def run() -> None:
        async with InProcessApi() as api:
            pods = [_pod("plain", {"app": "x"}, nodeName="n1"), _pod("host", {"app": ""}, hostNetwork=True)]
            quoted = _pod("quoted", {})
            quoted["metadata"]["annotations"] = {"other": "x", "app": '"app":"x"'}
            for pod in (*pods, quoted):
                answer = await api.admin.request("POST", "/api/v1/namespaces/default/pods", pod)
                assert answer.status == 201, answer.body
            status = {"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}
            answer = await api.admin.request(
                "PATCH",
                "/api/v1/namespaces/default/pods/host/status",
                status,
                content_type="application/merge-patch+json",
            )
            assert answer.status == 200, answer.body
            listed = (await api.admin.request("GET", f"/api/v1/namespaces/default/pods?{query}")).json()
            assert {item["metadata"]["name"] for item in listed["items"]} == found

    asyncio.run(run())


_RESTARTED = {
    "containerStatuses": [{"restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]
}


@pytest.mark.parametrize("status", [{"phase": "Running"}, _RESTARTED], ids=["timeless", "restarted"])
@pytest.mark.parametrize("created", [{"creationTimestamp": "2026-01-01T00:00:00Z"}, {}])
@pytest.mark.parametrize("include", ["None", "Metadata", "Object"])
def test_a_kept_row_is_the_row_at_any_time(status: Object, created: Object, include: str) -> None:
    metadata = {"name": "p", "namespace": "ns", "labels": {"a": 'b"c'}, **created}
    obj = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": [{}]}, "status": status}
    entry = Entry(POD.key("ns", "p"), orjson.dumps(obj), 5)
    for now in (1767225600.0, 1767225700.0, 1800000000.0):
        expected = table.row(POD, {**obj, "metadata": {**metadata, "resourceVersion": "5"}}, now, include, "v1")
        assert orjson.loads(tablejson.row(POD, entry, now, include, "v1")) == expected
    assert (entry.cells is None) is (status is _RESTARTED)


@pytest.mark.parametrize("target", ["Table", "PartialObjectMetadataList"])
@pytest.mark.parametrize("path", ["/api/v1/services", "/api/v1/events", "/apis/events.k8s.io/v1/events"])
def test_what_is_put_together_from_bytes_is_what_would_be_made_of_objects(path: str, target: str) -> None:
    """`pretty` takes the other way."""

    async def run() -> None:
        async with InProcessApi() as api:
            event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "Made"}
            assert (await api.admin.request("POST", "/api/v1/namespaces/default/events", event)).status == 201
            accept = f"application/json;as={target};v=v1;g=meta.k8s.io"
            while True:  # ages may change between two requests
                plain, pretty, again = [
                    (await api.admin.request("GET", f"{path}{query}", accept=accept)).json()
                    for query in ("", "?pretty=1", "")
                ]
                if plain == again:
                    break
            assert plain == pretty
            assert plain["kind"] == target
            assert len(plain.get("rows") or plain["items"]) == 1

    asyncio.run(run())
