"""Sets of fields: FieldsV1 in and out, and the laws of their algebra."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.managed import elements, fieldset
from portway.apiserver.managed.entries import ANCIENT, MAX_UPDATERS, UPDATE, Key, Owner, capped
from portway.apiserver.managed.fieldset import FieldsError, FieldSet, path_text, paths

STEPS = st.one_of(
    st.sampled_from(["f:a", "f:b", "f:c.d", "f:.", 'k:{"name":"x"}', 'k:{"port":80,"protocol":"TCP"}', 'v:"z"', "i:0"]),
    st.text(max_size=5).map(elements.field),
    st.integers(-9, 9).map(elements.valued),
)
PATHS = st.lists(STEPS, min_size=1, max_size=4).map(tuple)
PATH_SETS = st.sets(PATHS, max_size=8)


def of(chosen: set[tuple[str, ...]]) -> FieldSet:
    made: FieldSet = {}
    for path in chosen:
        node: FieldSet = {}
        for step in reversed(path):
            node = {step: node}
        made = fieldset.union(made, node)
    return made


@given(PATH_SETS)
def test_a_set_holds_the_paths_it_was_made_of(chosen: set[tuple[str, ...]]) -> None:
    assert set(paths(of(chosen))) == chosen
    assert all(fieldset.contains(of(chosen), path) for path in chosen)


@given(PATH_SETS)
def test_what_is_written_is_read(chosen: set[tuple[str, ...]]) -> None:
    assert fieldset.parse(json.loads(json.dumps(of(chosen)))) == of(chosen)


@given(PATH_SETS, PATH_SETS)
def test_the_algebra_is_that_of_sets_of_paths(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> None:
    assert fieldset.union(of(one), of(other)) == of(one | other)
    assert fieldset.intersection(of(one), of(other)) == of(one & other)
    assert fieldset.difference(of(one), of(other)) == of(one - other)


@given(PATH_SETS, PATH_SETS)
def test_a_recursive_difference_takes_what_is_below_too(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> None:
    left = {path for path in one if not any(path[:length] in other for length in range(1, len(path) + 1))}
    assert fieldset.recursive_difference(of(one), of(other)) == of(left)


@given(PATH_SETS, PATH_SETS)
def test_nothing_is_changed_in_place(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> None:
    left, right = of(one), of(other)
    for operation in (fieldset.union, fieldset.intersection, fieldset.difference, fieldset.recursive_difference):
        operation(left, right)
    assert (left, right) == (of(one), of(other))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"f:a": {".": {}}}, {"f:a": {}}, id="a path without others below it"),
        pytest.param({'k:{"protocol":"TCP", "port":80.0}': {}}, {'k:{"port":80,"protocol":"TCP"}': {}}, id="keys"),
        pytest.param({'v: "x"': {}}, {'v:"x"': {}}, id="blanks"),
        pytest.param({"i:00": {}}, {"i:0": {}}, id="positions"),
        pytest.param({"z:new": {}, "f:a": {}}, {"f:a": {}}, id="steps of a kind that isn't known"),
    ],
)
def test_steps_have_one_form(written: Any, read: FieldSet) -> None:
    assert fieldset.parse(written) == read


@pytest.mark.parametrize("written", [{"a": {}}, {"": {}}, {"k:[]": {}}, {"v:{": {}}, {"i:x": {}}, {"f:a": 1}, []])
def test_what_is_no_set_is_refused(written: Any) -> None:
    with pytest.raises(FieldsError):
        fieldset.parse(written)


def test_no_set_is_too_deep_to_be_read() -> None:
    deep: Any = {}
    for _ in range(150):
        deep = {"f:a": deep}
    with pytest.raises(FieldsError):
        fieldset.parse(deep)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name"), '.spec.ports[port=80,protocol="TCP"].name'),
        (("f:metadata", "f:finalizers", 'v:"a/b"'), '.metadata.finalizers[="a/b"]'),
        (("f:a", "i:3"), ".a[3]"),
    ],
)
def test_paths_are_named_as_upstream_names_them(path: tuple[str, ...], text: str) -> None:
    assert path_text(path) == text


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("v:18446744073709551616", id="beyond 64 bits"),
        pytest.param("v:" + "[" * 300 + "]" * 300, id="nested lists"),
        pytest.param("k:" + '{"a":' * 600 + "1" + "}" * 600, id="nested objects"),
        pytest.param("i:" + "9" * 5000, id="digits"),
    ],
)
def test_values_that_can_t_be_written_are_no_steps(step: str) -> None:
    with pytest.raises(FieldsError):
        fieldset.parse({"f:a": {step: {}}})


def test_many_owners_become_one_in_time() -> None:
    """One that has much and many that have little: the time must not be the product of both."""
    many = [Owner(f"m{i:05}", UPDATE, "v1", "", {"f:data": {f"f:{i}-{i}": {}}}) for i in range(10_000)]
    large = Owner("", UPDATE, "v1", "", {"f:data": {f"f:{i}": {} for i in range(50_000)}})
    began = time.process_time()
    left = capped({owner.key: owner for owner in (large, *many)})
    assert time.process_time() - began < 10
    assert len(left) == MAX_UPDATERS
    ancient = left[Key(ANCIENT, UPDATE, "v1", "")].fields["f:data"]
    assert len(ancient) == len(many) - (MAX_UPDATERS - 1) + 50_000


def test_what_is_ancient_already_takes_in_more() -> None:
    old = Owner(ANCIENT, UPDATE, "v1", "", {"f:old": {}}, "2020-01-01T00:00:00Z")
    others = [Owner(f"m{i:02}", UPDATE, "v1", "", {f"f:{i}": {}}, f"2021-01-{i + 1:02}T00:00:00Z") for i in range(12)]
    left = capped({owner.key: owner for owner in (old, *others)})
    assert len(left) == MAX_UPDATERS
    assert left[Key(ANCIENT, UPDATE, "v1", "")].fields == {"f:old": {}, "f:0": {}, "f:1": {}, "f:2": {}}
