"""JSON patch and merge patch: the RFCs' own examples, limits, and what holds for any document."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver import patch as module
from portway.apiserver.patch import (
    MalformedPatchError,
    PatchDoesNotApplyError,
    PatchError,
    PatchTooLargeError,
    json_patch,
    merge_patch,
)

leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~0", max_size=3)
names = st.text("ab/~01-$", max_size=3)
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=12
)
pointers = st.lists(st.text("ab01-~/", max_size=2), max_size=3).map(lambda tokens: "".join(f"/{t}" for t in tokens))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "other"]), "path": pointers},
    optional={"from": pointers, "value": documents},
)


@pytest.mark.parametrize(
    ("document", "patch", "merged"),
    [
        # RFC 7386, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_what_rfc_7386_shows(document: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(document, patch) == merged


def test_what_is_done_to_the_merged_document_is_not_done_to_the_patch() -> None:
    patch = {"ports": [{"port": 80}]}
    merge_patch({}, patch)["ports"][0]["nodePort"] = 30080
    assert merge_patch({}, patch) == {"ports": [{"port": 80}]}


@given(documents, documents)
def test_a_merge_patch_applied_again_changes_nothing_more(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once
    assert (document, patch) == before


@pytest.mark.parametrize(
    ("document", "patch", "patched"),
    [
        # RFC 6902, appendix A, by its numbers.
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"foo": ["a", 2]}, [{"op": "test", "path": "/foo/1", "value": 2.0}], {"foo": ["a", 2]}),
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": 1, "xyz": 1}], {"foo": "bar", "baz": 1}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["x"]}], {"foo": ["bar", ["x"]]}),
        (
            {"a": [1]},
            [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "remove", "path": "/a/0"}],
            {"a": [], "b": [1]},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": [2]}], [2]),
    ],
)
def test_json_patch_does_what_rfc_6902_shows(document: Any, patch: Any, patched: Any) -> None:
    before = copy.deepcopy(document)
    assert json_patch(document, patch) == patched
    assert document == before


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ({"foo": "bar"}, {"op": "test", "path": "/foo", "value": "baz"}),
        ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}),
        ({"foo": 1}, {"op": "test", "path": "/foo", "value": True}),
        ({"foo": "bar"}, {"op": "remove", "path": "/baz"}),
        ({"foo": "bar"}, {"op": "replace", "path": "/baz", "value": 1}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/2", "value": 1}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/01", "value": 1}),
        ({"foo": [1]}, {"op": "remove", "path": "/foo/-"}),
        ({"foo": [1]}, {"op": "remove", "path": "/foo/-1"}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/٣", "value": 1}),
        ({"foo": {"a": 1}}, {"op": "move", "from": "/foo", "path": "/foo/a"}),
        ({"foo": {}}, {"op": "copy", "from": "/bar", "path": "/foo/a"}),
    ],
)
def test_a_json_patch_that_does_not_fit_the_document_does_not_apply(document: Any, operation: dict[str, Any]) -> None:
    with pytest.raises(PatchDoesNotApplyError):
        json_patch(document, [operation])


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        [1],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "value": 1}],
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": 7, "value": 1}],
        [{"op": "remove", "path": "/a" * 300}],
    ],
)
def test_what_is_no_json_patch_is_refused_as_malformed(patch: Any) -> None:
    with pytest.raises(MalformedPatchError):
        json_patch({"a": 1}, patch)


def test_a_json_patch_has_at_most_ten_thousand_operations() -> None:
    step = {"op": "replace", "path": "/a", "value": 2}
    assert json_patch({"a": 1}, [step] * 10_000) == {"a": 2}
    with pytest.raises(PatchTooLargeError, match="maximum operations in a JSON patch is 10000, got 10001"):
        json_patch({"a": 1}, [step] * 10_001)


def test_copies_cannot_grow_a_document_without_bound() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"} for _ in range(40)]
    with pytest.raises(PatchTooLargeError):
        json_patch({"a": ["x" * 1000]}, doubling)


def test_a_patch_nested_without_end_is_refused() -> None:
    deep: Any = 1
    for _ in range(module.MAX_DEPTH + 2):
        deep = {"a": deep}
    with pytest.raises(MalformedPatchError):
        merge_patch({}, deep)


def test_a_json_patch_that_stacks_what_it_adds_is_refused() -> None:
    chain: Any = {}
    for _ in range(module.MAX_DEPTH - 5):
        chain = {"a": chain}
    deep = "/a" * (module.MAX_DEPTH - 5)
    stack: list[dict[str, Any]] = [{"op": "add", "path": "/0", "value": chain}]
    for i in range(20):
        stack += [
            {"op": "add", "path": f"/{i + 1}", "value": chain},
            {"op": "move", "from": f"/{i}", "path": f"/{i + 1}{deep}/b"},
        ]
    with pytest.raises(MalformedPatchError):
        json_patch({}, [*stack, {"op": "copy", "from": "/20", "path": "/c"}])


@given(documents, st.lists(operations, max_size=4))
def test_a_json_patch_applies_or_raises_our_error_and_never_touches_its_input(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    try:
        json_patch(document, patch)
    except PatchError:
        pass
    assert (document, patch) == before


@given(st.dictionaries(names, documents, max_size=3), names, documents)
def test_what_is_added_is_found_by_test_and_gone_after_remove(document: Any, name: str, value: Any) -> None:
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    added = {"op": "add", "path": path, "value": value}
    assert json_patch(document, [added, {"op": "test", "path": path, "value": value}])[name] == value
    without = json_patch(document, [added, {"op": "remove", "path": path}])
    assert without == {key: known for key, known in document.items() if key != name}
