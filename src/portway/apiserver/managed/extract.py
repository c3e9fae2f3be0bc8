"""An object → the set of its fields, by the types of its kind. Pure.

`fields_of` says what a configuration owns; `whole` what appears or vanishes with a value; `inner` is the walk that both
make, and `step_of` tells a list's elements apart. `check` refuses a configuration in which they can't be told apart.
Source: typed/tofieldset.go and typed/validate.go of structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from portway.apiserver.managed import elements
from portway.apiserver.managed.fieldset import FieldSet, node_of, path_text
from portway.apiserver.managed.types import ATOMIC, LEAF, Shape, Type


class UntypedError(Exception):
    """A configuration doesn't fit the types of its kind; the text says where and why, as upstream's."""


def step_of(item: Any, type_: Type) -> str:
    """Returns the step to an element of a list that merges; a key that is missing and has no default is null."""
    if not type_.keys:
        return elements.valued(item)
    given = item if isinstance(item, Mapping) else {}
    keys = {}
    for name, default in type_.keys.items():
        value = given.get(name)
        keys[name] = default if value is None else value
    return elements.keyed(keys)


def grouped(items: Any, type_: Type) -> dict[str, list[Any]]:
    """Returns the elements of a list by their steps, in order; more than one where they have the same keys."""
    found: dict[str, list[Any]] = {}
    for item in items or ():
        found.setdefault(step_of(item, type_), []).append(item)
    return found


def inner(value: Any, type_: Type) -> Iterator[tuple[str, Any, Type]]:
    """Yields what is in a value that is not a leaf: (step, value, type).

    Elements of a list that have the same keys are one leaf, the list of them.
    """
    if type_.shape is Shape.LIST:
        for step, same in grouped(value, type_).items():
            yield (step, same[0], type_.element or LEAF) if len(same) == 1 else (step, same, ATOMIC)
    else:
        for name, item in (value or {}).items():
            step, below = type_.field(name)
            yield step, item, below


def whole(value: Any, type_: Type) -> FieldSet:
    """Returns the node of a value that appears or vanishes with everything in it."""
    shape = type_.shape
    if shape is Shape.LEAF or not value:
        return {}
    found: FieldSet = {elements.SELF: {}}
    if shape is Shape.LIST:
        for step, item, below in inner(value, type_):
            found[step] = whole(item, below)
    else:
        for name, item in value.items():
            step, below = type_.field(name)
            found[step] = {} if below.shape is Shape.LEAF else whole(item, below)
    return found


def fields_of(value: Any, type_: Type) -> FieldSet:
    """Returns the set of fields of an object.

    In it are leaves and the elements of lists and maps; the fields that hold structs aren't, unless empty or null.
    """
    found: FieldSet = {}
    for step, item, below in inner(value, type_):
        leaf = below.shape is Shape.LEAF
        itself = leaf or item is None or item == {} or type_.shape is not Shape.STRUCT
        node = node_of(itself, {} if leaf else fields_of(item, below))
        if node is not None:
            found[step] = node
    return found


def check(value: Any, type_: Type) -> None:
    """Raises UntypedError for lists whose elements lack a key or have the same one."""
    _check(value, type_, ())


def _check(value: Any, type_: Type, path: tuple[str, ...]) -> None:
    if type_.shape is Shape.LEAF or not value:
        return
    if type_.shape is Shape.LIST:
        _check_list(value, type_, path)
    for step, item, below in inner(value, type_):
        _check(item, below, (*path, step))


def _check_list(items: list[Any], type_: Type, path: tuple[str, ...]) -> None:
    for i, item in enumerate(items):
        missing = [
            name
            for name, default in (type_.keys or {}).items()
            if default is None and (not isinstance(item, Mapping) or item.get(name) is None)
        ]
        if missing:
            raise UntypedError(
                f"{path_text(path)}: element {i}: associative list with keys has an element that omits key field "
                f'"{missing[0]}" (and doesn\'t have default value)'
            )
    for step, same in grouped(items, type_).items():
        if len(same) > 1:
            raise UntypedError(f"{path_text(path)}: duplicate entries for key {elements.shown(step)}")
