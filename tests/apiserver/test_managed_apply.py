"""Owners of fields and server-side apply, as values: upstream's cases, and what holds for any configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.conform import conform
from portway.apiserver.managed import fieldset
from portway.apiserver.managed.applying import applied
from portway.apiserver.managed.conflicts import ConflictsError, refusal
from portway.apiserver.managed.entries import Owners, entries_of, is_reset, owners_of, stored_owners, timeless
from portway.apiserver.managed.extract import UntypedError, check, fields_of
from portway.apiserver.managed.fieldset import FieldsError
from portway.apiserver.managed.lastapplied import ANNOTATION, apply
from portway.apiserver.managed.merge import merge, with_structs
from portway.apiserver.managed.tracking import Scope, Writer, updated
from portway.apiserver.managed.types import empty, type_for

Object = dict[str, Any]


def scope(kind: str, version: str = "v1", ignored: fieldset.FieldSet | None = None) -> Scope:
    type_ = type_for(version, kind)
    assert type_ is not None
    return Scope(version, type_, empty(version, kind), {"f:status": {}} if ignored is None else ignored)


SERVICE, POD, MAP, NODE = scope("Service"), scope("Pod"), scope("ConfigMap"), scope("Node")


class Cluster:
    """One object and its owners."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.live: Object = {}
        self.owners: Owners = {}
        self.clock = 0

    def _writer(self, manager: str) -> Writer:
        self.clock += 1
        return Writer(manager, "", f"2026-01-01T00:00:{self.clock:02}Z")

    def update(self, manager: str, obj: Object) -> None:
        old = self.live or self.scope.empty
        self.owners = updated(self.owners, old, obj, self.scope, self._writer(manager))
        self.live = copy.deepcopy(obj)

    def apply(self, manager: str, config: Object, *, force: bool = False) -> Object:
        check(config, self.scope.type)
        before = copy.deepcopy((self.live, config))
        merged, owners = applied(self.owners, self.live, config, self.scope, self._writer(manager), force=force)
        assert (self.live, config) == before
        self.live, self.owners = decoded(copy.deepcopy(merged)), owners
        return self.live

    def fields(self, manager: str) -> set[str]:
        return {fieldset.path_text(p) for o in self.owners.values() if o.manager == manager for p in paths(o.fields)}


def paths(fields: fieldset.FieldSet) -> list[tuple[str, ...]]:
    return list(fieldset.paths(fields))


def decoded(obj: Object) -> Object:
    """What decoding into Go's structs makes of null, empty lists and a spec that isn't given."""
    conform(obj["apiVersion"], obj["kind"], obj)
    if obj["kind"] == "Service":
        obj.setdefault("spec", {})
    return obj


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def service(*ports: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {**spec, **({"ports": list(ports)} if ports else {})},
    }


def labelled(**labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": labels}}


def conflict(cluster: Cluster, manager: str, config: Object) -> list[str]:
    with pytest.raises(ConflictsError) as caught:
        cluster.apply(manager, config)
    causes = (refusal(caught.value).details or {})["causes"]
    return sorted(f"{cause['message']}: {cause['field']}" for cause in causes)


def test_what_is_applied_is_owned_and_what_is_not_is_not() -> None:
    cluster = Cluster(SERVICE)
    cluster.update("kubectl-create", service({"port": 80, "protocol": "TCP"}, type="ClusterIP"))
    assert cluster.apply("me", service({"port": 80, "name": "http"}))["spec"]["ports"] == [
        {"port": 80, "protocol": "TCP", "name": "http"}
    ]
    port = '.spec.ports[port=80,protocol="TCP"]'
    assert cluster.fields("me") == {port, f"{port}.port", f"{port}.name"}
    created = {".spec.type", ".spec.ports", port, f"{port}.port", f"{port}.protocol"}
    assert cluster.fields("kubectl-create") == created


def test_the_same_value_is_shared_and_then_contested() -> None:
    cluster = Cluster(MAP)
    cluster.apply("one", config_map(key="x"))
    cluster.apply("two", config_map(key="x"))
    assert cluster.fields("one") == cluster.fields("two") == {".data.key"}
    assert conflict(cluster, "two", config_map(key="y")) == ['conflict with "one": .data.key']
    cluster.apply("two", config_map(key="y"), force=True)
    assert (cluster.live["data"], cluster.fields("one")) == ({"key": "y"}, set())


def test_an_update_takes_fields_from_whoever_had_them() -> None:
    cluster = Cluster(MAP)
    cluster.apply("applier", config_map(a="1", b="1"))
    cluster.update("editor", config_map(a="2", b="1"))
    assert cluster.fields("applier") == {".data.b"}
    assert cluster.fields("editor") == {".data.a"}
    assert conflict(cluster, "applier", config_map(a="1", b="1")) == ['conflict with "editor" using v1: .data.a']
    cluster.update("editor", config_map(b="1"))
    assert cluster.fields("editor") == set()


def test_what_only_the_applier_had_goes_when_it_is_no_longer_applied() -> None:
    cluster = Cluster(MAP)
    cluster.apply("one", config_map(a="1", b="1", c="1"))
    cluster.apply("two", config_map(b="1"))
    cluster.update("three", {**cluster.live, "data": {**cluster.live["data"], "d": "1"}})
    assert cluster.apply("one", config_map(c="1"))["data"] == {"b": "1", "c": "1", "d": "1"}
    assert cluster.apply("two", {**config_map(), "data": {}})["data"] == {"c": "1", "d": "1"}


def test_a_field_that_an_updater_shares_stays() -> None:
    cluster = Cluster(MAP)
    cluster.update("editor", config_map(a="1"))
    cluster.apply("one", config_map(a="1"))
    bare = config_map()
    del bare["data"]
    assert cluster.apply("one", bare)["data"] == {"a": "1"}
    assert cluster.fields("one") == set()


def test_elements_of_lists_come_and_go_by_their_keys() -> None:
    cluster = Cluster(SERVICE)
    cluster.apply("one", service({"port": 80, "name": "a"}, {"port": 80, "protocol": "UDP", "name": "b"}))
    cluster.apply("two", service({"port": 90, "name": "c"}))
    assert [port["name"] for port in cluster.live["spec"]["ports"]] == ["a", "b", "c"]
    cluster.apply("one", service({"port": 80, "protocol": "UDP", "name": "b"}))
    assert [port["name"] for port in cluster.live["spec"]["ports"]] == ["b", "c"]
    assert cluster.apply("one", service())["spec"] == {"ports": [{"port": 90, "name": "c"}]}


def test_a_part_goes_with_all_that_was_in_it() -> None:
    cluster = Cluster(SERVICE)
    affinity = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}
    cluster.apply("one", service(type="ClusterIP", **affinity))
    assert cluster.apply("one", service(type="ClusterIP"))["spec"] == {"type": "ClusterIP"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"selector": {"b": "2"}}, ".spec.selector", id="map"),
        pytest.param({"externalIPs": ["192.0.2.2"]}, ".spec.externalIPs", id="list"),
    ],
)
def test_what_is_atomic_is_owned_as_a_whole(spec: Object, path: str) -> None:
    cluster = Cluster(SERVICE)
    cluster.apply("one", service(selector={"a": "1"}, externalIPs=["192.0.2.1"]))
    assert conflict(cluster, "two", service(**spec)) == [f'conflict with "one": {path}']
    forced = cluster.apply("two", service(**spec), force=True)["spec"]
    assert {name: forced[name] for name in spec} == spec


def test_sets_are_owned_by_the_value() -> None:
    def finalized(*names: str) -> Object:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": list(names)}}

    cluster = Cluster(MAP)
    cluster.apply("one", finalized("x/a", "x/b"))
    cluster.apply("two", finalized("x/b", "x/c"))
    assert cluster.live["metadata"]["finalizers"] == ["x/a", "x/b", "x/c"]
    assert cluster.apply("one", finalized())["metadata"]["finalizers"] == ["x/b", "x/c"]
    assert cluster.fields("two") == {'.metadata.finalizers[="x/b"]', '.metadata.finalizers[="x/c"]'}


def test_owner_references_are_told_apart_by_uid_and_owned_as_a_whole() -> None:
    def owned(**reference: str) -> Object:
        return {**config_map(), "metadata": {"name": "a", "ownerReferences": [{"uid": "1", **reference}]}}

    cluster = Cluster(MAP)
    cluster.apply("one", owned(name="x"))
    found = conflict(cluster, "two", owned(name="y"))
    assert found == ['conflict with "one": .metadata.ownerReferences[uid="1"]']


def test_many_conflicts_are_listed_by_owner() -> None:
    cluster = Cluster(MAP)
    cluster.apply("zoe", config_map(a="1", b="1"))
    cluster.update("amy", {**cluster.live, "data": {"a": "1", "b": "1", "c": "1"}})
    with pytest.raises(ConflictsError) as caught:
        cluster.apply("me", config_map(a="2", b="2", c="2"))
    status = refusal(caught.value).status()
    assert status["message"] == (
        'Apply failed with 3 conflicts: conflicts with "amy" using v1:\n- .data.c\n'
        'conflicts with "zoe":\n- .data.a\n- .data.b'
    )
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "amy" using v1',
        "field": ".data.c",
    }


def test_very_many_conflicts_are_counted_and_the_first_are_told() -> None:
    cluster = Cluster(MAP)
    name = "k" * 5000
    cluster.apply("one", config_map(**{f"{name}{i:03}": "1" for i in range(150)}))
    with pytest.raises(ConflictsError) as caught:
        cluster.apply("me", config_map(**{f"{name}{i:03}": "2" for i in range(150)}))
    status = refusal(caught.value).status()
    assert status["message"].startswith('Apply failed with 150 conflicts: conflicts with "one":\n- .data.kkk')
    assert len(status["details"]["causes"]) == 100
    assert len(status["message"]) < 110_000


def test_one_conflict_is_one_sentence_and_names_the_subresource() -> None:
    cluster = Cluster(scope("Node", ignored={"f:spec": {}}))
    old: Object = {"metadata": {"name": "n"}, "status": {}}
    new: Object = {"metadata": {"name": "n"}, "status": {"phase": "Running"}}
    cluster.owners = updated({}, old, new, cluster.scope, Writer("kubelet", "status", ""))
    cluster.live = new
    with pytest.raises(ConflictsError) as caught:
        cluster.apply("me", {"metadata": {"name": "n"}, "status": {"phase": "Pending"}})
    text = 'Apply failed with 1 conflict: conflict with "kubelet" with subresource "status" using v1: .status.phase'
    assert refusal(caught.value).message == text


def test_an_object_without_owners_belonged_to_somebody_before() -> None:
    cluster = Cluster(MAP)
    cluster.live = config_map(a="1")
    assert conflict(cluster, "me", config_map(a="2")) == ['conflict with "before-first-apply" using v1: .data.a']
    cluster.apply("me", config_map(b="2"))
    assert cluster.fields("before-first-apply") == {".data", ".data.a"}


def test_an_apply_that_changes_nothing_leaves_its_time() -> None:
    cluster = Cluster(MAP)
    cluster.apply("me", config_map(a="1"))
    before = entries_of(cluster.owners)
    cluster.apply("me", config_map(a="1"))
    assert entries_of(cluster.owners) == before


def test_what_a_subresource_cant_change_is_not_owned_through_it() -> None:
    cluster = Cluster(SERVICE)
    cluster.apply("me", {**service(type="ClusterIP"), "status": {"loadBalancer": {}}})
    assert cluster.fields("me") == {".spec.type"}


def test_metadata_of_the_server_is_nobodys() -> None:
    cluster = Cluster(MAP)
    given = {"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "1", "generation": 1, "labels": {"x": "y"}}
    cluster.update("me", {**config_map(a="1"), "metadata": {**given, "creationTimestamp": "2026-01-01T00:00:00Z"}})
    assert cluster.fields("me") == {".metadata.labels", ".metadata.labels.x", ".data", ".data.a"}


def test_the_oldest_updaters_become_one() -> None:
    cluster = Cluster(MAP)
    data: dict[str, str] = {}
    for i in range(14):
        data[f"k{i:02}"] = "1"
        cluster.update(f"m{i:02}", config_map(**data))
    names = [entry["manager"] for entry in entries_of(cluster.owners)]
    assert names == ["ancient-changes", *(f"m{i:02}" for i in range(5, 14))]
    assert cluster.fields("ancient-changes") == {".data", *(f".data.k{i:02}" for i in range(5))}


def test_elements_with_the_same_keys_are_one_leaf() -> None:
    """A pod may name a variable twice; nobody can apply that."""

    def pod(*env: Object) -> Object:
        return {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "env": list(env)}]}}

    cluster = Cluster(POD)
    cluster.update("me", pod({"name": "x", "value": "1"}, {"name": "x", "value": "2"}))
    variable = '.spec.containers[name="c"].env[name="x"]'
    assert variable in cluster.fields("me")
    assert f"{variable}.value" not in cluster.fields("me")
    cluster.update("other", pod({"name": "x", "value": "1"}))
    assert {variable, f"{variable}.value", f"{variable}.name"} == cluster.fields("other")
    assert variable not in cluster.fields("me")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        pytest.param(
            service({"name": "x"}),
            '.spec.ports: element 0: associative list with keys has an element that omits key field "port" '
            "(and doesn't have default value)",
            id="a key is missing",
        ),
        pytest.param(
            service({"port": 80}, {"port": 80, "protocol": "TCP"}),
            '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]',
            id="twice the same key, once by default",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "a"]}},
            '.metadata.finalizers: duplicate entries for key [="a"]',
            id="twice in a set",
        ),
    ],
)
def test_lists_that_cant_be_told_apart_are_refused(config: Object, text: str) -> None:
    with pytest.raises(UntypedError) as caught:
        check(config, SERVICE.type)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        ("a b c", "b", "a b c"),
        ("a b c", "c a", "b c a"),
        ("a b", "c", "a b c"),
        ("a b", "c b", "a c b"),
        ("a b c d", "d x b", "a c d x b"),
        ("", "b a", "b a"),
    ],
)
def test_lists_keep_the_order_of_the_configuration(live: str, config: str, merged: str) -> None:
    one, other = ({"metadata": {"finalizers": names.split()}} for names in (live, config))
    assert merge(one, other, MAP.type)["metadata"]["finalizers"] == merged.split()


def test_clients_entries_are_read_strictly() -> None:
    entry = {"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
    assert len(owners_of([entry])) == 1
    wrongs: list[Object] = [
        {"operation": "Create"},
        {"apiVersion": ""},
        {"fieldsType": "FieldsV2"},
        {"fieldsV1": {"x": {}}},
    ]
    for wrong in wrongs:
        with pytest.raises(FieldsError):
            owners_of([{**entry, **wrong}])
    assert (is_reset([]), is_reset([{}]), is_reset(None), is_reset([entry])) == (True, True, False, False)


def test_entries_are_what_they_were_after_being_written() -> None:
    cluster = Cluster(MAP)
    cluster.apply("one", config_map(a="1"))
    cluster.update("two", {**cluster.live, "data": {"a": "1", "b": "1"}})
    written = entries_of(cluster.owners)
    assert entries_of(stored_owners(written)) == entries_of(owners_of(written)) == written
    later = [{**entry, "time": "2027-01-01T00:00:00Z"} for entry in reversed(written)]
    assert timeless(later) == timeless(written)


class TestKubectl:
    """Where kubectl goes from its own apply to the server's."""

    def _client_side(self, **data: str) -> Cluster:
        cluster = Cluster(MAP)
        last = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"annotations":{},"name":"a"},"data":{"a":"1"}}'
        obj = config_map(a="1")
        obj["metadata"]["annotations"] = {ANNOTATION: last}
        cluster.update("kubectl-client-side-apply", obj)
        if data:
            cluster.update("editor", {**cluster.live, "data": data})
        return cluster

    def _apply(self, cluster: Cluster, manager: str, config: Object) -> Object:
        writer = Writer(manager, "", "2026-02-01T00:00:00Z")
        merged, cluster.owners = apply(cluster.owners, cluster.live, config, MAP, writer, force=False)
        return merged

    def test_what_kubectl_applied_itself_is_no_conflict(self) -> None:
        cluster = self._client_side()
        merged = self._apply(cluster, "kubectl", config_map(a="<2>"))
        assert merged["data"] == {"a": "<2>"}
        assert merged["metadata"]["annotations"][ANNOTATION] == (
            '{"apiVersion":"v1","data":{"a":"\\u003c2\\u003e"},"kind":"ConfigMap","metadata":{"name":"a"}}\n'
        )

    def test_others_have_no_such_right(self) -> None:
        with pytest.raises(ConflictsError):
            self._apply(self._client_side(), "flux", config_map(a="2"))

    def test_what_was_changed_since_is_a_conflict(self) -> None:
        with pytest.raises(ConflictsError) as caught:
            self._apply(self._client_side(a="3"), "kubectl", config_map(a="2"))
        assert [owner.manager for owner in caught.value.found] == ["editor"]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"apiVersion":"v2"}', '{"apiVersion":"v1","metadata":"x"}'])
    def test_an_annotation_that_says_nothing_gives_no_right(self, text: str) -> None:
        cluster = self._client_side()
        cluster.live["metadata"]["annotations"][ANNOTATION] = text
        with pytest.raises(ConflictsError):
            self._apply(cluster, "kubectl", config_map(a="2"))


VALUES = st.sampled_from(["1", "2"])
NAMES = st.sampled_from(["a", "b", "c"])
PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.sampled_from([80, 90])},
        optional={"protocol": st.sampled_from(["TCP", "UDP"]), "name": VALUES, "targetPort": st.sampled_from([1, 2])},
    ),
    max_size=3,
    unique_by=lambda port: (port["port"], port.get("protocol", "TCP")),
)
CONFIGS = st.builds(
    lambda labels, finalizers, spec: {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x", **({"labels": labels} if labels else {}), "finalizers": finalizers},
        "spec": spec,
    },
    st.dictionaries(NAMES, VALUES),
    st.lists(NAMES, unique=True),
    st.fixed_dictionaries(
        {},
        optional={
            "type": VALUES,
            "selector": st.dictionaries(NAMES, VALUES, min_size=1),
            "ports": PORTS,
            "externalIPs": st.lists(VALUES, min_size=1),
            "sessionAffinityConfig": st.just({"clientIP": {"timeoutSeconds": 1}}),
        },
    ),
)
STEPS = st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), CONFIGS), max_size=4)


def contained(config: Any, result: Any, type_: Any) -> bool:
    """Whether a result has everything that a configuration says."""
    again: Object = merge(result, config, type_)
    same: bool = decoded(copy.deepcopy(again)) == result
    return same


def history(steps: list[tuple[str, Object]]) -> Cluster:
    cluster = Cluster(SERVICE)
    for manager, config in steps:
        if manager == "three" and cluster.live:
            cluster.update(manager, {**cluster.live, "spec": config["spec"]})
        else:
            cluster.apply(manager, config, force=True)
    return cluster


@given(STEPS, CONFIGS)
def test_what_is_applied_is_in_the_object(steps: list[tuple[str, Object]], config: Object) -> None:
    cluster = history(steps)
    assert contained(config, cluster.apply("one", config, force=True), SERVICE.type)


@given(STEPS, CONFIGS)
def test_applying_twice_is_applying_once(steps: list[tuple[str, Object]], config: Object) -> None:
    cluster = history(steps)
    first = copy.deepcopy(cluster.apply("one", config, force=True))
    entries = entries_of(cluster.owners)
    assert cluster.apply("one", config) == first
    assert entries_of(cluster.owners) == entries


@given(STEPS, CONFIGS, CONFIGS)
def test_what_nobody_owns_any_more_is_gone(steps: list[tuple[str, Object]], before: Object, after: Object) -> None:
    cluster = history(steps)
    cluster.apply("one", before, force=True)
    mine = next((o.fields for o in cluster.owners.values() if o.manager == "one"), {})
    others = [o.fields for o in cluster.owners.values() if o.manager != "one"]
    live = cluster.apply("one", after, force=True)
    left = set(paths(cluster_fields(live)))
    wanted = set(paths(cluster_fields(after)))
    for path in paths(mine):
        held = any(fieldset.contains(fields, path) or _below(fields, path) for fields in others)
        if path in left:
            assert held or any(other[: len(path)] == path for other in wanted), path


def cluster_fields(obj: Mapping[str, Any]) -> fieldset.FieldSet:
    return fields_of(obj, SERVICE.type)


def _below(fields: fieldset.FieldSet, path: tuple[str, ...]) -> bool:
    return any(other[: len(path)] == path for other in paths(fields))


@given(
    st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1),
    st.dictionaries(st.sampled_from("xyz"), VALUES, min_size=1),
)
def test_appliers_of_different_fields_commute(one: dict[str, str], two: dict[str, str]) -> None:
    results = []
    for order in ((("one", one), ("two", two)), (("two", two), ("one", one))):
        cluster = Cluster(MAP)
        for manager, labels in order:
            cluster.apply(manager, labelled(**labels))
        results.append((cluster.live, timeless(entries_of(cluster.owners))))
    assert results[0] == results[1]


@given(STEPS)
def test_no_owner_has_a_field_that_is_not_there(steps: list[tuple[str, Object]]) -> None:
    cluster = history(steps)
    for owner in cluster.owners.values():
        assert owner.fields
        merged = set(paths(with_parents(cluster.live)))
        assert {path for path in paths(owner.fields) if path not in merged} <= _empties(owner.fields), owner.manager


def with_parents(obj: Mapping[str, Any]) -> fieldset.FieldSet:
    return with_structs(cluster_fields(obj), SERVICE.type)


def _empties(fields: fieldset.FieldSet) -> set[tuple[str, ...]]:
    """Lists and structs that an owner once filled may be empty and left out now."""
    return {path for path in paths(fields) if path[-1] in ("f:ports", "f:spec", "f:finalizers", "f:labels")}
