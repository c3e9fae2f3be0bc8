"""What a write does to the owners of an object's fields. Pure.

Whoever changes a field owns it, and alone; what nobody changed keeps its owners. What a write may not change
(`Scope.ignored`) is nobody's. Source: merge/update.go of structured-merge-diff, and the managers around it in
k8s.io/apimachinery/pkg/util/managedfields/internal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from portway.apiserver.managed import fieldset
from portway.apiserver.managed.compare import Comparison, compare
from portway.apiserver.managed.entries import UPDATE, Key, Owner, Owners, capped
from portway.apiserver.managed.fieldset import FieldSet
from portway.apiserver.managed.types import Type
from portway.kube.objects import Object

_STRIPPED: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        ".": {},
        **{
            f"f:{name}": {}
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        },
    },
}
"""What is nobody's: the server's part of the metadata."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What writes of one kind and subresource are measured by.

    `empty` is what a new object is compared with; `ignored` what these writes can't change. `others` are further
    versions in which an owner may mean its fields: their type, and how an object is brought into them.
    """

    version: str
    type: Type
    empty: Mapping[str, Any]
    ignored: FieldSet
    others: Mapping[str, tuple[Type, Callable[[Object], Object]]] = field(default_factory=dict)

    def own(self, fields: FieldSet) -> FieldSet:
        """Returns those of the fields that somebody can own."""
        return fieldset.difference(fieldset.recursive_difference(fields, self.ignored), _STRIPPED)

    def changes(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
        """Returns what a write changes."""
        return Changes(self, old, new)


class Changes:
    """What a write changes, in the version of the write and, when an owner needs it, in others."""

    def __init__(self, scope: Scope, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._scope, self._old, self._new = scope, old, new
        self.here = compare(_bare(old), _bare(new), scope.type).without(scope.ignored)
        self._known: dict[str, Comparison | None] = {scope.version: self.here}

    def within(self, version: str) -> Comparison | None:
        """Returns the changes as an owner sees them that wrote in `version`, None when that is not a known one."""
        if version not in self._known:
            self._known[version] = self._converted(version)
        return self._known[version]

    def _converted(self, version: str) -> Comparison | None:
        if version not in self._scope.others:
            return None
        type_, convert = self._scope.others[version]
        old, new = (convert(dict(obj)) if "metadata" in obj else {} for obj in (self._old, self._new))
        return compare(_bare(old), _bare(new), type_)


def _bare(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what has no owners: its type, and managedFields themselves."""
    bare = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
    metadata = bare.get("metadata")
    if metadata and "managedFields" in metadata:
        bare["metadata"] = {name: value for name, value in metadata.items() if name != "managedFields"}
    return bare


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, and when (RFC 3339)."""

    manager: str
    subresource: str
    now: str


def updated(owners: Owners, old: Mapping[str, Any], new: Mapping[str, Any], scope: Scope, writer: Writer) -> Owners:
    """Returns the owners after a create or an update: what `writer` changed is its own."""
    changes = scope.changes(old, new)
    if not changes.here:
        return owners
    kept = yielded(owners, changes, {key: taken(owner, changes) for key, owner in owners.items()})
    fields = scope.own(changes.here.written)
    if fields:
        owner = Owner(writer.manager, UPDATE, scope.version, writer.subresource, fields, writer.now)
        before = kept.get(owner.key)
        kept[owner.key] = replace(owner, fields=fieldset.union(before.fields, fields)) if before else owner
    return capped(kept)


def taken(owner: Owner, changes: Changes) -> FieldSet:
    """Returns what a write changes of what an owner has."""
    seen = changes.within(owner.version)
    return fieldset.intersection(owner.fields, seen.written) if seen else {}


def yielded(owners: Owners, changes: Changes, lost: Mapping[Key, FieldSet]) -> Owners:
    """Returns the owners without what they `lost` to the writer and without what is no longer there."""
    kept: Owners = {}
    for key, owner in owners.items():
        seen = changes.within(owner.version)
        if seen is None:
            continue  # nobody knows any more what that version's fields are
        fields = owner.fields
        for gone in (lost.get(key), seen.removed):
            if gone:
                fields = fieldset.difference(fields, gone)
        if fields:
            kept[key] = owner if fields is owner.fields else replace(owner, fields=fields)
    return kept
