"""`metadata.managedFields` ↔ owners: who they are and what is theirs. Pure.

An owner that applies is one by its name and subresource, one that updates also by the version in which it wrote.
Source: k8s.io/apimachinery/pkg/util/managedfields/internal/managedfields.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from portway.apiserver.managed.fieldset import FieldsError, FieldSet, parse, union_of

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10
"""Owners by update of one object; beyond, the oldest become one."""
ANCIENT = "ancient-changes"
BEFORE_APPLY = "before-first-apply"
UNKNOWN = "unknown"


class Key(NamedTuple):
    """What tells owners apart; `version` is "" for those that apply."""

    manager: str
    operation: str
    version: str
    subresource: str


@dataclass(frozen=True, slots=True, eq=False)
class Owner:
    """One entry. `version` is the apiVersion in which the fields are meant, `time` RFC 3339 or "" for unknown."""

    manager: str
    operation: str
    version: str
    subresource: str
    fields: FieldSet
    time: str = ""

    @property
    def key(self) -> Key:
        """What tells it apart from others."""
        version = "" if self.operation == APPLY else self.version
        return Key(self.manager, self.operation, version, self.subresource)


Owners = dict[Key, Owner]


def is_reset(given: Any) -> bool:
    """Whether a client's managedFields say that all be forgotten: an empty list, or one empty entry."""
    return isinstance(given, list) and given in ([], [{}])


def owners_of(given: Any) -> Owners:
    """Returns the owners that a client's managedFields name; raises FieldsError for what upstream would not read."""
    return _owners([_entry(entry, parse(entry.get("fieldsV1") or {})) for entry in given or []])


def stored_owners(entries: Iterable[dict[str, Any]]) -> Owners:
    """Returns the owners that managedFields written by `entries_of` name."""
    return _owners([_owner(entry, entry.get("fieldsV1") or {}) for entry in entries])


def _owners(found: Iterable[Owner]) -> Owners:
    return {owner.key: owner for owner in found}


def _entry(entry: dict[str, Any], fields: FieldSet) -> Owner:
    if entry.get("operation") not in (APPLY, UPDATE):
        raise FieldsError("operation must be `Apply` or `Update`")
    if not entry.get("apiVersion"):
        raise FieldsError("apiVersion must not be empty")
    if entry.get("fieldsType") != "FieldsV1":
        raise FieldsError("fieldsType must be FieldsV1")
    return _owner(entry, fields)


def _owner(entry: dict[str, Any], fields: FieldSet) -> Owner:
    return Owner(
        entry.get("manager", ""),
        entry["operation"],
        entry["apiVersion"],
        entry.get("subresource", ""),
        fields,
        entry.get("time") or "",
    )


def entries_of(owners: Owners) -> list[dict[str, Any]]:
    """Returns the managedFields of owners, those that apply before the others, the oldest first."""
    ordered = sorted(owners.values(), key=lambda o: (o.operation, o.time, o.manager, o.version, o.subresource))
    return [_written(owner) for owner in ordered]


def _written(owner: Owner) -> dict[str, Any]:
    entry: dict[str, Any] = {"manager": owner.manager} if owner.manager else {}
    entry |= {"operation": owner.operation, "apiVersion": owner.version}
    if owner.time:
        entry["time"] = owner.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": owner.fields}
    if owner.subresource:
        entry["subresource"] = owner.subresource
    return entry


def timeless(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns managedFields without their times, in an order that doesn't depend on them."""
    bare = [{name: value for name, value in entry.items() if name != "time"} for entry in entries]
    return sorted(bare, key=lambda entry: _owner(entry, {}).key)


def capped(owners: Owners) -> Owners:
    """Returns the owners with the oldest by update joined, per version, until there are no more than MAX_UPDATERS."""
    updaters = sorted((o for o in owners.values() if o.operation == UPDATE), key=lambda o: (o.time, o.key))
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return owners
    kept, first, parts = dict(owners), dict[str, Owner](), defaultdict[str, list[FieldSet]](list)
    for owner in updaters:
        if excess <= 0:
            break
        parts[owner.version].append(owner.fields)
        held = first.get(owner.version)
        if held is None:
            first[owner.version] = owner
            continue
        joined = replace(owner, manager=ANCIENT, subresource="")
        del kept[owner.key]
        kept.pop(held.key, None)
        if before := kept.get(joined.key):
            parts[owner.version].append(before.fields)
        kept[joined.key] = first[owner.version] = joined
        excess -= 1
    for version, owner in first.items():
        if len(parts[version]) > 1:
            kept[owner.key] = replace(owner, fields=union_of(parts[version]))
    return kept
