"""Two objects → which fields were added, modified and removed. Pure.

Parts that are equal are not entered, so that an update of one field costs little however large the object is.
Source: typed/compare.go of structured-merge-diff.
"""

from __future__ import annotations

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
    before = {step: (item, below) for step, item, below in inner(old, type_)}
    for step, item, below in inner(new, type_):
        was, was_type = before.pop(step, (_ABSENT, below))
        if was_type is not below:
            found.removed[step], found.added[step] = whole(was, was_type), whole(item, below)
        elif was is not item and was != item:
            _differ(found, step, was, item, below)
    for step, (was, below) in before.items():
        if was is not None:
            found.removed[step] = whole(was, below)
    return found


def _differ(found: Comparison, step: str, was: Any, item: Any, type_: Type) -> None:
    if was is _ABSENT:
        if not _vanishes(item, type_):
            found.added[step] = whole(item, type_)
    elif type_.shape is Shape.LEAF or not (was or item):
        found.modified[step] = {}
    else:
        deeper = compare(was, item, type_)
        for part, below in (
            (found.added, deeper.added),
            (found.modified, deeper.modified),
            (found.removed, deeper.removed),
        ):
            if below:
                part[step] = below


def _vanishes(item: Any, type_: Type) -> bool:
    return item is None or item == [] or (item == {} and type_.shape is Shape.MAP)
