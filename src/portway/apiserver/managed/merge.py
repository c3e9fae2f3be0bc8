"""An applied configuration into a live object, and fields out of an object. Pure.

Inputs stay as they are, and results share parts with them.
Source: typed/merge.go and typed/remove.go of structured-merge-diff.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from portway.apiserver.managed.extract import grouped, step_of
from portway.apiserver.managed.fieldset import FieldSet, below, member, node_of
from portway.apiserver.managed.types import LEAF, Shape, Type


def merge(live: Any, applied: Any, type_: Type) -> Any:
    """Returns `live` with what `applied` says: a field that it says nothing of stays. None is a field to leave out."""
    if type_.shape is Shape.LEAF or not (live or applied):
        return applied
    if type_.shape is Shape.LIST:
        return _merge_lists(live or [], applied or [], type_)
    merged = dict(live or {})
    for name, value in (applied or {}).items():
        merged[name] = merge(merged[name], value, type_.field(name)[1]) if name in merged else value
    return merged


def _merge_lists(live: list[Any], applied: list[Any], type_: Type) -> list[Any]:
    """Merges by key. Elements that both have stand in the order of `applied`, the others where they stood.

    Elements of `live` that have the same keys as another are replaced by what is applied under that key, not merged.
    """
    before = grouped(live, type_)
    wanted = {step_of(item, type_): item for item in applied}
    merged = {step: _element(before.get(step, []), item, type_) for step, item in wanted.items()}
    shared = deque(step for step in wanted if step in before)
    left = deque((step_of(item, type_), item) for item in live)
    result: list[Any] = []
    for step, item in merged.items():
        while left and (left[0][0] not in wanted or (shared and left[0][0] != shared[0])):
            passed, kept = left.popleft()
            if passed not in wanted:
                result.append(kept)
        result.append(item)
        if shared and shared[0] == step:
            shared.popleft()
    result.extend(kept for passed, kept in left if passed not in wanted)
    return result


def _element(live: list[Any], applied: Any, type_: Type) -> Any:
    return merge(live[0], applied, type_.element or LEAF) if len(live) == 1 else applied


def remove(value: Any, gone: FieldSet, type_: Type) -> Any:
    """Returns a value without the fields of a set; None where nothing is left of a list or map."""
    if not value or type_.shape is Shape.LEAF:
        return None if type_.atomic else value
    if type_.shape is Shape.LIST:
        kept = [_kept(item, gone.get(step_of(item, type_)), type_.element or LEAF) for item in value]
        return [item for there, item in kept if there] or None
    pairs = {name: _field_kept(name, item, gone, type_) for name, item in value.items()}
    return {name: item for name, (there, item) in pairs.items() if there} or None


def _field_kept(name: str, value: Any, gone: FieldSet, type_: Type) -> tuple[bool, Any]:
    step, below_ = type_.field(name)
    return _kept(value, gone.get(step), below_)


def _kept(value: Any, gone: FieldSet | None, type_: Type) -> tuple[bool, Any]:
    """Whether a value stays, and what stays of it."""
    if gone is None:
        return True, value
    return (False, None) if member(gone) else (True, remove(value, gone, type_))


def with_structs(fields: FieldSet, type_: Type) -> FieldSet:
    """Returns a set with the fields that hold structs, lists and maps of which it has something below.

    They are in no set of their own, but have to go when all that is in them goes.
    """
    named: Mapping[str, Any] = type_.fields if type_.shape is Shape.STRUCT else {}
    found: FieldSet = {}
    for step, node in fields.items():
        declared = step.startswith("f:") and step[2:] in named
        deeper = with_structs(below(node), _type_below(step, type_))
        found[step] = node_of(member(node) or declared, deeper) or {}
    return found


def _type_below(step: str, type_: Type) -> Type:
    if type_.shape is Shape.LEAF:
        return LEAF
    if type_.shape is Shape.LIST:
        return type_.element or LEAF
    return type_.field(step[2:])[1]
