"""Strategic merge patch: upstream's rules one by one, and what holds for any document."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.kinds.base import MergeInfo
from portway.apiserver.order import in_given_order
from portway.apiserver.patch import MalformedPatchError, PatchDoesNotApplyError, PatchError
from portway.apiserver.schema import merge_key
from portway.apiserver.strategic import strategic_merge

FIELDS = {
    "list": MergeInfo(key="name"),
    "set": MergeInfo(),
    "whole": MergeInfo(replace=True),
    "union": MergeInfo(retain_keys=True),
    "inner": MergeInfo(key="port"),
}


def lookup(path: tuple[str, ...]) -> MergeInfo | None:
    return FIELDS.get(path[-1])


def named(*values: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [value if isinstance(value, dict) else {"name": value} for value in values]


@pytest.mark.parametrize(
    ("original", "patch", "merged"),
    [
        pytest.param({"a": 1, "b": {"c": 1}}, {"b": {"d": 2}}, {"a": 1, "b": {"c": 1, "d": 2}}, id="objects merge"),
        pytest.param({"a": 1}, {"a": None, "b": None}, {}, id="null deletes"),
        pytest.param({"b": {"c": 1}}, {"b": {"$patch": "replace", "d": 2}}, {"b": {"d": 2}}, id="object replaced"),
        pytest.param({"b": {"c": 1}}, {"b": {"$patch": "delete"}}, {"b": {}}, id="object emptied"),
        pytest.param({"b": {"c": 1}}, {"b": {"$patch": "merge", "d": 2}}, {"b": {"c": 1, "d": 2}}, id="said to merge"),
        pytest.param({"whole": {"a": 1}}, {"whole": {"b": 2}}, {"whole": {"b": 2}}, id="field that is replaced"),
        pytest.param({"other": [1, 2]}, {"other": [3]}, {"other": [3]}, id="plain list replaced"),
        pytest.param({"set": [1, 2]}, {"set": [2, 3]}, {"set": [1, 2, 3]}, id="set united"),
        pytest.param(
            {"set": [1, 2, 3]}, {"$deleteFromPrimitiveList/set": [2, 9]}, {"set": [1, 3]}, id="values leave a set"
        ),
        pytest.param(
            {"list": named("a", "b")},
            {"list": [{"name": "b", "x": 1}, {"name": "c"}]},
            {"list": named("a", {"name": "b", "x": 1}, "c")},
            id="list merged by its key",
        ),
        pytest.param(
            {"list": named("a", "b")},
            {"list": [{"name": "a", "$patch": "delete"}]},
            {"list": named("b")},
            id="element deleted",
        ),
        pytest.param(
            {"list": named("a", "b")},
            {"list": [{"$patch": "replace"}, {"name": "c"}]},
            {"list": named("c")},
            id="list replaced",
        ),
        pytest.param({}, {"list": [{"name": "a", "$patch": "delete"}]}, {"list": []}, id="nothing to delete from"),
        pytest.param(
            {}, {"a": {"b": None, "c": 1, "$retainKeys": ["c"]}}, {"a": {"c": 1}}, id="new without directives"
        ),
        pytest.param(
            {"union": {"kind": "x", "x": 1}},
            {"union": {"$retainKeys": ["kind", "y"], "kind": "y", "y": 2}},
            {"union": {"kind": "y", "y": 2}},
            id="only retained keys stay",
        ),
        pytest.param(
            {"list": [{"name": "a", "inner": [{"port": 1, "v": 1}]}]},
            {"list": [{"name": "a", "inner": [{"port": 2}, {"port": 1, "v": 2}]}]},
            {"list": [{"name": "a", "inner": [{"port": 1, "v": 2}, {"port": 2}]}]},
            id="lists within lists",
        ),
        pytest.param(
            {"list": named("a", "b", "c")},
            {"$setElementOrder/list": named("c", "a"), "list": [{"name": "c", "x": 1}]},
            {"list": named("b", {"name": "c", "x": 1}, "a")},
            id="order given, the rest keeps its place",
        ),
        pytest.param(
            {"set": [1, 2, 3]},
            {"$setElementOrder/set": [3, 2]},
            {"set": [1, 3, 2]},
            id="order of a set, nothing changed",
        ),
        pytest.param({"a": 1}, {"$setElementOrder/list": []}, {"a": 1}, id="order of a list that is not there"),
    ],
)
def test_strategic_merge(original: Any, patch: Any, merged: Any) -> None:
    before = copy.deepcopy((original, patch))
    assert strategic_merge(original, patch, lookup) == merged
    assert (original, patch) == before


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "jump"},
        {"list": [{"$patch": "merge", "name": "a"}]},
        {"$retainKeys": ["a"], "b": 1},
        {"$retainKeys": "a"},
        {"$deleteFromPrimitiveList/set": 1},
        {"$setElementOrder/list": named("a"), "list": named("b")},
        {"$setElementOrder/list": 1},
    ],
)
def test_a_patch_that_makes_no_sense_is_malformed(patch: Any) -> None:
    with pytest.raises(MalformedPatchError):
        strategic_merge({"list": named("a"), "set": [1]}, patch, lookup)


@pytest.mark.parametrize("patch", [{"list": [{"x": 1}]}, {"list": ["a"]}, {"list": [{"$patch": "delete"}]}])
def test_an_element_without_its_merge_key_cannot_be_merged(patch: Any) -> None:
    with pytest.raises(PatchDoesNotApplyError):
        strategic_merge({"list": named("a")}, patch, lookup)


def test_kubectl_s_change_of_a_service_s_port_merges_with_what_the_server_filled_in() -> None:
    service = {
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}, {"port": 443, "nodePort": 30443}]}
    }
    patch = {
        "spec": {
            "$setElementOrder/ports": [{"port": 80}, {"port": 444}],
            "ports": [{"port": 443, "$patch": "delete"}, {"port": 444}, {"port": 80, "name": "web"}],
        }
    }
    merged = strategic_merge(service, patch, lambda path: merge_key("Service", path))
    assert merged["spec"]["ports"] == [{"port": 80, "nodePort": 30080, "name": "web"}, {"port": 444}]
    assert merged["spec"]["clusterIP"] == "10.0.0.1"


def timed(original: Any, patch: Any) -> float:
    """Processor time, so that a busy machine doesn't count."""
    began = time.process_time()
    strategic_merge(original, patch, lookup)
    return time.process_time() - began


MANY = 20_000
NAMED = [{"name": str(i)} for i in range(MANY)]
MORE = [{"name": str(i)} for i in range(MANY, 2 * MANY)]
TEXTS = [str(i) for i in range(MANY)]


@pytest.mark.parametrize(
    ("original", "patch"),
    [
        pytest.param({"list": NAMED}, {"list": [*MORE, *NAMED]}, id="merged by key"),
        pytest.param({"list": NAMED}, {"list": [{**one, "$patch": "delete"} for one in NAMED]}, id="deleted by key"),
        pytest.param({"list": NAMED}, {"$setElementOrder/list": [*MORE, *NAMED], "list": MORE}, id="ordered by key"),
        pytest.param({"list": NAMED}, {"$setElementOrder/list": NAMED[::-2], "list": []}, id="ordered among others"),
        pytest.param({"set": TEXTS}, {"set": TEXTS}, id="united"),
        pytest.param({"set": TEXTS}, {"$deleteFromPrimitiveList/set": TEXTS[::-1]}, id="values deleted"),
        pytest.param({"set": TEXTS}, {"$setElementOrder/set": TEXTS[::-1], "set": TEXTS}, id="set ordered"),
        pytest.param(dict.fromkeys(TEXTS, 1), {"$retainKeys": TEXTS[::-1]}, id="keys retained"),
    ],
)
def test_a_merge_takes_time_in_proportion_to_its_size(original: Any, patch: Any) -> None:
    # Quadratic, each takes 5 s and more.
    assert timed(original, patch) < 1.5


def test_an_element_that_was_not_there_comes_last_though_others_were_there_twice() -> None:
    assert in_given_order([2, 1, 3, 9], [1, 3, 1, 3, 2, 1], [2], "") == [1, 3, 2, 9]


leaves = st.none() | st.booleans() | st.integers(0, 5) | st.sampled_from(["a", "b", "replace", "delete"])
keys = st.sampled_from(
    ["a", "name", "port", "list", "set", "whole", "union", "$patch", "$retainKeys", "$setElementOrder/list",
     "$setElementOrder/set", "$deleteFromPrimitiveList/set"]
)  # fmt: skip
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=15
)
objects = st.dictionaries(keys, anything, max_size=4)


@given(objects, objects)
def test_it_merges_or_raises_our_error_and_never_touches_its_input(original: Any, patch: Any) -> None:
    before = copy.deepcopy((original, patch))
    try:
        merged = strategic_merge(original, patch, lookup)
    except PatchError:
        pass
    else:
        assert isinstance(merged, dict)
    assert (original, patch) == before


elements = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)


@given(elements, elements)
def test_a_list_merged_by_key_has_every_key_of_both_once(original: list[str], patch: list[str]) -> None:
    merged = strategic_merge({"list": named(*original)}, {"list": named(*patch)}, lookup)["list"]
    assert [element["name"] for element in merged] == original + [name for name in patch if name not in original]


@given(elements, elements)
def test_an_ordered_merge_keeps_both_orders_and_loses_nothing(original: list[str], order: list[str]) -> None:
    merged = list(dict.fromkeys([*original, *order]))
    result = in_given_order(merged, original, order, "")
    assert sorted(result) == sorted(merged)
    assert [value for value in result if value in order] == order
    assert [value for value in result if value not in order] == [value for value in original if value not in order]
