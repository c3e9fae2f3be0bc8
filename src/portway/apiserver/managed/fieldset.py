"""Sets of paths in an object, and their algebra. Pure; no function changes what it is given.

A set is a tree in the form of FieldsV1: {"f:spec": {"f:ports": {".": {}, 'k:{"port":80}': {}}}}. A node without steps
below it is in the set; one with steps is when it has ".". What the algebra says of a path it says of that path alone,
not of what is below it, but for `recursive_difference`. Source: fieldpath.Set of structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portway.apiserver.managed.elements import SELF, canonical, shown


class FieldsError(Exception):
    """What should be managedFields, or a part of them, is none."""


FieldSet = dict[str, Any]
"""A set, or a node of one."""
MAX_DEPTH = 100
"""Steps of a path that is read; objects aren't nested deeper."""


def member(node: Mapping[str, Any]) -> bool:
    """Whether a node itself is in the set it is part of."""
    return not node or SELF in node


def below(node: Mapping[str, Any]) -> FieldSet:
    """Returns the set below a node."""
    return {step: inner for step, inner in node.items() if step != SELF} if SELF in node else dict(node)


def node_of(itself: bool, inner: FieldSet) -> FieldSet | None:
    """Returns the node of a path that is in the set (`itself`) with a set below it; None when nothing is in it."""
    if not inner:
        return {} if itself else None
    return {SELF: {}, **inner} if itself else inner


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """Returns what is in either."""
    result = dict(one)
    for step, node in other.items():
        if step in result and (node or result[step]):
            mine = result[step]
            joined = node_of(member(mine) or member(node), union(below(mine), below(node)))
            result[step] = {} if joined is None else joined
        else:
            result[step] = node
    return result


def union_of(sets: Iterable[FieldSet]) -> FieldSet:
    """Returns what is in any of the sets; in pairs, so that many small ones don't have a large one copied each."""
    left = list(sets)
    while len(left) > 1:
        left = [
            union(*pair) if len(pair) == 2 else pair[0] for pair in (left[i : i + 2] for i in range(0, len(left), 2))
        ]
    return left[0] if left else {}


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """Returns what is in `one` and not in `other`."""
    return _without(one, other, recursive=False)


def recursive_difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """Returns what is in `one`, neither in `other` nor below a path that is."""
    return _without(one, other, recursive=True)


def _without(one: FieldSet, other: FieldSet, *, recursive: bool) -> FieldSet:
    result: FieldSet = {}
    for step, node in one.items():
        against = other.get(step)
        if against is None:
            result[step] = node
            continue
        if recursive and member(against):
            continue
        inner = _without(below(node), below(against), recursive=recursive)
        left = node_of(member(node) and not member(against), inner)
        if left is not None:
            result[step] = left
    return result


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """Returns what is in both."""
    result: FieldSet = {}
    for step, node in one.items():
        against = other.get(step)
        if against is not None:
            shared = node_of(member(node) and member(against), intersection(below(node), below(against)))
            if shared is not None:
                result[step] = shared
    return result


def contains(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether a path (of steps) is in a set."""
    node: Any = fields
    for step in path:
        node = node.get(step)
        if node is None:
            return False
    return bool(path) and member(node)


def paths(fields: FieldSet, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the paths of a set, those above before those below, in order of their steps."""
    for step in sorted(fields):
        if step == SELF:
            continue
        path = (*above, step)
        if member(fields[step]):
            yield path
        yield from paths(fields[step], path)


def path_text(path: tuple[str, ...]) -> str:
    """Returns a path as conflicts name it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(shown, path))


def parse(value: Any) -> FieldSet:
    """Returns the set that a FieldsV1 document of a client holds; raises FieldsError.

    Steps of kinds that aren't known are left out, as upstream does.
    """
    try:
        return _parse(value, 0)
    except (ValueError, TypeError, RecursionError) as error:
        # The values in steps are a client's: numbers beyond 64 bits and deep nesting can be read, but not written.
        raise FieldsError(str(error)) from error


def _parse(value: Any, depth: int) -> FieldSet:
    if not isinstance(value, dict) or depth > MAX_DEPTH:
        raise ValueError("fields are objects")
    found: FieldSet = {}
    for text, inner in value.items():
        step = SELF if text == SELF else canonical(text)
        if step is not None:
            found[step] = {} if step == SELF else _parse(inner, depth + 1)
    return _tidy(found)


def _tidy(node: FieldSet) -> FieldSet:
    """{".": {}} is {}: one form for each set."""
    return {} if node.keys() == {SELF} else node
