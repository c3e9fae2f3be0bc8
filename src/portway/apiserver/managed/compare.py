"""Two objects → which fields were added, modified and removed. Pure.

Parts that are equal are not entered, so that an update of one field costs little however large the object is.
Source: typed/compare.go of structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from portway.apiserver.managed import fieldset
from portway.apiserver.managed.extract import inner, whole
from portway.apiserver.managed.fieldset import FieldSet
from portway.apiserver.managed.types import Shape, Type

_ABSENT: Any = object()


@dataclass
class Comparison:
    """The fields that differ; none is in two of the sets."""

    added: FieldSet = field(default_factory=dict)
    modified: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)

    @cached_property
    def written(self) -> FieldSet:
        """What was added or modified; asked for once the comparison is complete."""
        return fieldset.union(self.modified, self.added)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)

    def without(self, ignored: FieldSet) -> Comparison:
        """Returns the comparison without the ignored fields and what is below them."""
        if not ignored:
            return self
        parts = (fieldset.recursive_difference(part, ignored) for part in (self.added, self.modified, self.removed))
        return Comparison(*parts)


def compare(old: Any, new: Any, type_: Type) -> Comparison:
    """Compares two values that are not leaves.

    Null, and an empty list or map, are as good as absent, but for a field that becomes that: they are not stored.
    """
    found = Comparison()
    for step, was, item, below in _pairs(old, new, type_):
        if was is _ABSENT:
            if not _vanishes(item, below):
                found.added[step] = whole(item, below)
        elif item is _ABSENT:
            if was is not None:
                found.removed[step] = whole(was, below)
        elif below.shape is Shape.LEAF or not (was or item):
            found.modified[step] = {}
        else:
            _descend(found, step, compare(was, item, below))
    return found


def _pairs(old: Any, new: Any, type_: Type) -> Iterator[tuple[str, Any, Any, Type]]:
    """Yields the parts of two values that differ: (step, old, new, type), absent ones as _ABSENT."""
    if type_.shape is Shape.LIST:
        yield from _elements(old, new, type_)
        return
    old, new = old or {}, new or {}
    for name, item in new.items():
        was = old.get(name, _ABSENT)
        if was is not item and was != item:
            yield type_.field(name)[0], was, item, type_.field(name)[1]
    for name, was in old.items():
        if name not in new:
            yield type_.field(name)[0], was, _ABSENT, type_.field(name)[1]


def _elements(old: Any, new: Any, type_: Type) -> Iterator[tuple[str, Any, Any, Type]]:
    """The same for a list. Where keys are repeated on one side alone, the elements are other ones than before."""
    before = {step: (item, below) for step, item, below in inner(old, type_)}
    for step, item, below in inner(new, type_):
        was, was_type = before.pop(step, (_ABSENT, below))
        if was_type is not below:
            yield step, was, _ABSENT, was_type
            yield step, _ABSENT, item, below
        elif was is not item and was != item:
            yield step, was, item, below
    for step, (was, below) in before.items():
        yield step, was, _ABSENT, below


def _descend(found: Comparison, step: str, deeper: Comparison) -> None:
    if deeper.added:
        found.added[step] = deeper.added
    if deeper.modified:
        found.modified[step] = deeper.modified
    if deeper.removed:
        found.removed[step] = deeper.removed


def _vanishes(item: Any, type_: Type) -> bool:
    return item is None or item == [] or (item == {} and type_.shape is Shape.MAP)
