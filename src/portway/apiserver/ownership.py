"""Who owns which field, on the way of a write: `managed`, for kinds and requests, which it knows nothing of.

    create   owners that the client names, plus whoever creates
    update   the stored ones, or those that the client puts in their place, less what it takes from them
    apply    the stored ones; the result carries what becomes of them

The registry calls the first two before a strategy changes the object, so that what the server fills in of itself (an
address, a finalizer) is nobody's. Clients change owners through the object alone, never through a subresource, and
what can't be read as managedFields changes nothing.
Source: k8s.io/apimachinery/pkg/util/managedfields/internal/fieldmanager.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.managed import conflicts, lastapplied
from portway.apiserver.managed.entries import UNKNOWN, Owners, entries_of, is_reset, owners_of, stored_owners, timeless
from portway.apiserver.managed.fieldset import FieldsError, FieldSet
from portway.apiserver.managed.tracking import Scope, Writer, updated
from portway.apiserver.managed.types import Type, empty, type_for
from portway.kube.objects import Object


class Ownership:
    """The owners of the fields of a server's objects."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[str, str, str, str], Scope | None] = {}

    def created(self, kind: Kind, obj: Object, ctx: Context) -> None:
        """Writes the owners of a new object into it, in place."""
        scope = self.scope(kind, ctx)
        if scope is not None and not ctx.applies:
            given = _named(obj["metadata"].pop("managedFields", None)) or {}
            _write(obj, updated(given, scope.empty, obj, scope, _writer(ctx)))

    def changed(self, kind: Kind, new: Object, old: Object, ctx: Context) -> None:
        """Writes the owners of an object's successor into it, in place."""
        scope = self.scope(kind, ctx)
        if scope is None or ctx.applies:
            return
        given, stored = new["metadata"].pop("managedFields", None), old["metadata"].get("managedFields") or []
        owners: Owners | None = None
        if not ctx.subresource and given != stored:
            owners = {} if is_reset(given) else _named(given)
        if owners is None:
            owners = stored_owners(stored)
        if owners:
            owners = updated(owners, old, new, scope, _writer(ctx))
        _write(new, owners)

    def applied(self, kind: Kind, live: Object, config: Object, ctx: Context, *, force: bool) -> Object:
        """Returns the object after an apply, with its owners; `live` is {} when there is none.

        Raises Conflict for what others own. The result shares parts with `live` and `config`.
        """
        scope = self.scope(kind, ctx)
        if scope is None:
            raise TypeError(f"the fields of {kind.kind} are not known")
        owners = stored_owners((live.get("metadata") or {}).get("managedFields") or [])
        bare = _without_owners(live)
        try:
            merged, owners = lastapplied.apply(owners, bare, config, scope, _writer(ctx), force=force)
        except conflicts.ConflictsError as found:
            raise conflicts.refusal(found) from found
        merged = {**merged, "metadata": dict(merged.get("metadata") or {})}
        _write(merged, owners)
        return merged

    def scope(self, kind: Kind, ctx: Context) -> Scope | None:
        """Returns what a request's writes are measured by; None for a kind whose fields aren't known."""
        key = (kind.group, kind.version, kind.kind, ctx.subresource)
        if key not in self._scopes:
            self._scopes[key] = _scope(kind, ctx)
        return self._scopes[key]


def _writer(ctx: Context) -> Writer:
    return Writer(ctx.manager or UNKNOWN, ctx.subresource, ctx.now)


def _named(given: Any) -> Owners | None:
    """The owners that a client names; None when it names none, or not in a way that can be read."""
    try:
        return owners_of(given) or None
    except FieldsError:
        return None


def _write(obj: Object, owners: Owners) -> None:
    if owners:
        obj["metadata"]["managedFields"] = entries_of(owners)
    else:
        obj["metadata"].pop("managedFields", None)


def _without_owners(obj: Object) -> Object:
    if "managedFields" not in obj.get("metadata", {}):
        return obj
    return {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}


def _scope(kind: Kind, ctx: Context) -> Scope | None:
    type_ = type_for(kind.api_version, kind.kind)
    if type_ is None:
        return None
    base = empty(kind.api_version, kind.kind)
    scope = Scope(kind.api_version, type_, base, _ignored(kind, type_, ctx.subresource))
    return replace(scope, others=_others(kind, ctx))


def _ignored(kind: Kind, type_: Type, subresource: str) -> FieldSet:
    """What a write of the object, or of a subresource, can't change (upstream's resetFields)."""
    if subresource:
        kept = ("metadata", "spec" if subresource == "finalize" else subresource)
        return {f"f:{name}": {} for name in type_.fields if name not in kept}
    return {"f:status": {}} if kind.has_status else {}


def _others(kind: Kind, ctx: Context) -> dict[str, tuple[Type, Callable[[Object], Object]]]:
    """The other kinds that are stored as the same objects: owners may have written through these."""
    found: dict[str, tuple[Type, Callable[[Object], Object]]] = {}
    for other in ctx.services.kinds:
        type_ = type_for(other.api_version, other.kind)
        if other.prefix == kind.prefix and other.api_version != kind.api_version and type_ is not None:
            found[other.api_version] = type_, _conversion(kind, other)
    return found


def _conversion(kind: Kind, other: Kind) -> Callable[[Object], Object]:
    def convert(obj: Object) -> Object:
        stored = kind.to_storage(obj) if kind.to_storage else obj
        return other.from_storage(stored) if other.from_storage else stored

    return convert


def same(new: Object, old: Object) -> bool:
    """Whether an object is its predecessor in all but resourceVersion and the times at which fields were written."""
    one, other = new["metadata"], old["metadata"]
    if one.get("managedFields") == other.get("managedFields"):
        return _equal(new, old, ())
    return _equal(new, old, ("managedFields",)) and timeless(one.get("managedFields") or ()) == timeless(
        other.get("managedFields") or ()
    )


def _equal(new: Object, old: Object, ignored: tuple[str, ...]) -> bool:
    one, other = (
        {**obj, "metadata": {**obj["metadata"], **dict.fromkeys(("resourceVersion", *ignored), "")}}
        for obj in (new, old)
    )
    return bool(one == other)
