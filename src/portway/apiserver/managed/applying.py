"""Server-side apply: a configuration into a live object, on behalf of one manager. Pure.

What the manager applied last time, does not apply now and nobody else owns is removed. What it would change and others
own is a conflict, unless it forces. Source: merge/update.go of structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from portway.apiserver.managed import fieldset
from portway.apiserver.managed.conflicts import ConflictsError
from portway.apiserver.managed.entries import APPLY, BEFORE_APPLY, Key, Owner, Owners
from portway.apiserver.managed.extract import fields_of
from portway.apiserver.managed.fieldset import FieldSet
from portway.apiserver.managed.merge import merge, remove, with_structs
from portway.apiserver.managed.tracking import Changes, Scope, Writer, taken, updated, yielded
from portway.kube.objects import Object


def applied(
    owners: Owners, live: Object, config: Object, scope: Scope, writer: Writer, *, force: bool
) -> tuple[Object, Owners]:
    """Returns the object and its owners after an apply; `live` is {} when there is no object yet.

    `config` must have passed `extract.check`. Raises ConflictsError.
    """
    if not owners and live:
        owners = updated({}, scope.empty, live, scope, replace(writer, manager=BEFORE_APPLY))
    mine = Owner(
        writer.manager,
        APPLY,
        scope.version,
        writer.subresource,
        fieldset.recursive_difference(fields_of(config, scope.type), scope.ignored),
        writer.now,
    )
    last = owners.get(mine.key)
    claims = {**owners, mine.key: mine}
    merged = merge(live, config, scope.type)
    if last is not None and last.version == mine.version:
        merged = _pruned(merged, last.fields, claims, scope)
    changes = scope.changes(live or scope.empty, merged)
    others = {key: owner for key, owner in owners.items() if key != mine.key}
    lost = {key: gone for key, owner in others.items() if (gone := taken(owner, changes))}
    if lost and not force:
        raise ConflictsError({others[key]: fields for key, fields in lost.items()})
    return merged, _with(yielded(others, changes, lost), mine, last, scope, changes)


def _with(others: Owners, mine: Owner, last: Owner | None, scope: Scope, changes: Changes) -> Owners:
    """The owners with the applier; one that neither changed the object nor what it owns keeps its time."""
    fields = scope.own(mine.fields)
    if not fields:
        return others
    same = last is not None and last.fields == fields and not changes.here
    time = last.time if same and last is not None else mine.time
    return {**others, mine.key: replace(mine, fields=fields, time=time)}


def _pruned(merged: Object, last: FieldSet, claims: Mapping[Key, Owner], scope: Scope) -> Object:
    """Returns the object without what was in `last` and nobody claims."""
    claimed = fieldset.union_of(owner.fields for owner in claims.values() if owner.version == scope.version)
    if not fieldset.difference(last, claimed):
        return merged
    type_ = scope.type
    mine = with_structs(last, type_)
    everything = with_structs(fields_of(merged, type_), type_)
    rest: Any = remove(merged, mine, type_) or {}
    left = fieldset.union(with_structs(fields_of(rest, type_), type_), with_structs(claimed, type_))
    rest = remove(merged, fieldset.difference(everything, left), type_) or {}
    left = with_structs(fields_of(rest, type_), type_)
    dangling = fieldset.intersection(fieldset.difference(everything, left), mine)
    found: Object = remove(merged, dangling, type_) or {}
    return found
