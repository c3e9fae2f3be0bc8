"""Writes: one object goes through its kind's strategy and into the store, or nothing happens.

    create   metadata → namespace exists → owners of fields → strategy → allocate → store
    update   what is there → the change → owners of fields → strategy → allocate → store, again when somebody was faster
    delete   preconditions → finalizers mark, or the store forgets it → release, cascade

Every write returns when the cache shows it, so that a client reads what it wrote; or when it won't in a while, for it
is written. HTTP, bodies and patches are the handlers'; the emptying of a deleted namespace is `namespaces`'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson

from portway.apiserver import metadata, namespaces, propagation
from portway.apiserver.cache import Cache
from portway.apiserver.entries import Entry
from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Allocation, Context, Kind
from portway.apiserver.ownership import Ownership, same
from portway.kube import errors
from portway.kube.errors import (
    AlreadyExists,
    Cause,
    InternalError,
    RequestEntityTooLarge,
    ServiceUnavailable,
    StatusError,
    Timeout,
)
from portway.kube.objects import Object
from portway.storage import InvalidKey, KeyExists, KeyMissing, RevisionMismatch, Store, StoreFull

MAX_OBJECT = 3 * 1024 * 1024
"""Bytes of one stored object: what a request may bring; patches must not grow it beyond that."""
_ATTEMPTS = 30
"""How often a write without a resourceVersion is tried against faster writers."""
_NAME_ATTEMPTS = 8
"""How often another generated name is tried (KEP-4420)."""
_NOT_STORED = (StatusError, InvalidKey, KeyExists, KeyMissing, RevisionMismatch, StoreFull)
"""What is raised only when the store has refused. After anything else the write may yet have happened."""
_UNSEEN = (Timeout, ServiceUnavailable)
"""What the cache says that doesn't come to show a write."""

Change = Callable[[Object], Awaitable[Object]]
"""The stored object, which stays as it is → its successor, which is the registry's to change."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold for a delete; "" is no condition."""

    uid: str = ""
    resource_version: str = ""


class _Reservation:
    """What a strategy allocated: given back on the way out, unless the object was stored, or may have been."""

    def __init__(self, allocation: Allocation | None) -> None:
        self._allocation = allocation
        self._kept = False

    def keep(self) -> None:
        """The object was stored."""
        self._kept = True

    async def __aenter__(self) -> _Reservation:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._allocation is None:
            return
        if self._kept:
            await self._allocation.commit()
        elif kind is None or issubclass(kind, _NOT_STORED):
            await self._allocation.revert()


class Registry:
    """The one way in which objects are written."""

    def __init__(self, store: Store, cache: Cache, kinds: Mapping[tuple[str, str], Kind]) -> None:
        """`kinds` by (group, plural)."""
        self._store = store
        self._cache = cache
        self._kinds = kinds
        self.ownership = Ownership()

    async def entry(self, kind: Kind, ctx: Context) -> Entry:
        """Returns the stored object that a request names, as of now; raises NotFound."""
        await self._cache.current()
        return self.known(kind, ctx)

    def known(self, kind: Kind, ctx: Context) -> Entry:
        """Returns the stored object that a request names, as this server knows it; raises NotFound."""
        found = self._cache.shelf(kind.prefix).get(kind.key(ctx.namespace, ctx.name))
        if found is None:
            raise errors.not_found(kind.plural, ctx.name, kind.group)
        return found

    async def create(self, kind: Kind, obj: Object, ctx: Context) -> Object:
        """Stores a new object (given over to the registry); returns it as stored."""
        generated = not obj.get("metadata", {}).get("name") and bool(obj.get("metadata", {}).get("generateName"))
        attempts = _NAME_ATTEMPTS if generated else 1
        await self._cache.current()
        for attempt in range(attempts):
            try:
                return await self._create(kind, copied(obj) if attempt + 1 < attempts else obj, ctx)
            except AlreadyExists:
                if attempt + 1 == attempts:
                    raise
        raise InternalError("Internal error occurred: no name could be generated")

    async def _create(self, kind: Kind, obj: Object, ctx: Context) -> Object:
        metadata.prepare_create(obj, kind, ctx.namespace, ctx.now)
        namespaces.admit(kind, obj, ctx)
        strategy = kind.strategy
        strategy.defaults(obj)
        self.ownership.created(kind, obj, ctx)
        strategy.prepare_create(obj, ctx)
        strategy.defaults(obj)
        metadata.tidy(obj)
        _refuse(kind, obj, metadata.validate(obj, strategy.name_errors), strategy.validate_create(obj, ctx))
        ctx.warnings.extend(strategy.warnings(obj))
        key = kind.key(ctx.namespace, obj["metadata"]["name"])
        async with _Reservation(await strategy.allocate(obj, None, ctx)) as reservation:
            if ctx.dry_run:
                if self._cache.shelf(kind.prefix).get(key) is not None:
                    raise errors.already_exists(kind.plural, obj["metadata"]["name"], kind.group)
                return obj
            try:
                revision = await self._store.create(key, encode(kind, obj))
            except KeyExists:
                raise errors.already_exists(kind.plural, obj["metadata"]["name"], kind.group) from None
            reservation.keep()
        return await self._stored(obj, revision)

    async def update(self, kind: Kind, change: Change, ctx: Context) -> Object:
        """Replaces the object that the request names by what `change` makes of it; returns it as stored.

        `change` is called again when another writer was faster; a resourceVersion of its own in the result then no
        longer fits. Raises NotFound, Conflict, Invalid, and what `change` raises.
        """
        for _ in range(_ATTEMPTS):
            entry = await self.entry(kind, ctx)
            old = entry.view(kind)
            new = await change(old)
            _check_version(kind, new, old, ctx)
            self._prepare_update(kind, new, old, ctx)
            if same(new, old):
                return old
            stored = await self._replace(kind, entry, new, old, ctx)
            if stored is not None:
                return stored
        raise errors.conflict(kind.plural, ctx.name, group=kind.group)

    def _prepare_update(self, kind: Kind, new: Object, old: Object, ctx: Context) -> None:
        """Brings `new` into the form in which it may be stored, in place; raises Invalid."""
        metadata.carry_over(new, old)
        _keep_the_rest(kind, new, old, ctx.subresource)
        strategy = kind.strategy
        strategy.defaults(new)
        self.ownership.changed(kind, new, old, ctx)
        strategy.prepare_update(new, old, ctx)
        metadata.tidy(new)
        causes = [*metadata.validate(new, strategy.name_errors), *metadata.validate_update(new, old)]
        _refuse(kind, new, causes, strategy.validate_update(new, old, ctx))
        ctx.warnings.extend(strategy.warnings(new))
        if kind.has_generation and ctx.subresource == "" and strategy.generation(new, old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    async def _replace(self, kind: Kind, entry: Entry, new: Object, old: Object, ctx: Context) -> Object | None:
        """Stores the successor of `entry`; None when somebody was faster."""
        try:
            async with _Reservation(await kind.strategy.allocate(new, old, ctx)) as reservation:
                if ctx.dry_run:
                    return new
                if new["metadata"].get("deletionTimestamp") and not namespaces.held(kind, new):
                    revision = (await self._store.delete(entry.key, entry.revision)).mod_revision
                    gone = True
                else:
                    revision = await self._store.update(entry.key, encode(kind, new), entry.revision)
                    gone = False
                reservation.keep()
        except (RevisionMismatch, KeyMissing):
            return None
        if gone:
            await self._forget(kind, new, ctx)
        return await self._stored(new, revision)

    async def delete(
        self, kind: Kind, ctx: Context, conditions: Preconditions, policy: str = ""
    ) -> tuple[Object, bool]:
        """Deletes what the request names; returns its last state, and whether it is gone (else finalizers hold it).

        `policy` is the propagation policy, "" for the one that the object's finalizers say.
        """
        for _ in range(_ATTEMPTS):
            entry = await self.entry(kind, ctx)
            obj = entry.view(kind)
            _check_conditions(kind, obj, conditions)
            kind.strategy.validate_delete(obj, ctx)
            finalizers = propagation.finalizers(kind, obj, policy)
            held = namespaces.held(kind, obj, finalizers)
            marked = obj["metadata"].get("deletionTimestamp") and finalizers == (
                obj["metadata"].get("finalizers") or []
            )
            if ctx.dry_run or (held and marked):
                return obj, not held
            try:
                if held:
                    return await self._stored(*await self._mark(kind, entry, finalizers, ctx)), False
                await self._store.delete(entry.key, entry.revision)
            except (RevisionMismatch, KeyMissing):
                continue
            await self._forget(kind, obj, ctx)
            return obj, True
        raise errors.conflict(kind.plural, ctx.name, group=kind.group)

    async def _mark(self, kind: Kind, entry: Entry, finalizers: list[str], ctx: Context) -> tuple[Object, int]:
        """Gives an object that finalizers hold these, and its deletionTimestamp; returns it and its revision."""
        new: Object = copied(entry.view(kind))
        meta = new["metadata"]
        meta.pop("finalizers", None)
        if finalizers:
            meta["finalizers"] = finalizers
        if not meta.get("deletionTimestamp"):
            meta |= {"deletionTimestamp": ctx.now, "deletionGracePeriodSeconds": 0}
            if kind.has_generation:
                meta["generation"] = meta.get("generation", 0) + 1
        namespaces.mark(kind, new)
        return new, await self._store.update(entry.key, encode(kind, new), entry.revision)

    async def _forget(self, kind: Kind, obj: Object, ctx: Context) -> None:
        """Gives back what a deleted object held, deletes what goes with it, and waits until the cache shows it.

        The wait comes last, and may be in vain: the object is gone, and nobody will ask for this again.
        """
        await kind.strategy.release(obj, ctx)
        for reference in kind.strategy.cascade(obj):
            dependent = self._kinds.get((reference.group, reference.plural))
            if dependent is not None:
                inner = replace(ctx, namespace=reference.namespace, name=reference.name, subresource="")
                await self._drop(dependent, inner)
        with suppress(*_UNSEEN):
            await self._cache.recent()

    async def _drop(self, kind: Kind, ctx: Context) -> None:
        """Deletes what `ctx` names, if it exists, as the store has it."""
        while (found := await self._store.get(kind.key(ctx.namespace, ctx.name))) is not None:
            entry = Entry(found.key, found.value, found.mod_revision)
            with suppress(RevisionMismatch, KeyMissing):
                if not namespaces.held(kind, entry.obj):
                    await self._store.delete(entry.key, entry.revision)
                elif not entry.obj["metadata"].get("deletionTimestamp"):
                    await self._mark(kind, entry, entry.obj["metadata"].get("finalizers") or [], ctx)
                return

    async def _stored(self, obj: Object, revision: int) -> Object:
        """The object as written. It is written also when the store goes before the cache could show it."""
        obj["metadata"]["resourceVersion"] = str(revision)
        with suppress(*_UNSEEN):
            await self._cache.wait(revision)
        return obj


def copied(value: Any) -> Any:
    """Returns a JSON value that shares nothing with another; many times as fast as `copy.deepcopy`."""
    return orjson.loads(orjson.dumps(value))


def _refuse(kind: Kind, obj: Object, *causes: Iterable[Cause]) -> None:
    if found := common.first(*causes):
        raise errors.invalid(kind.kind, obj["metadata"].get("name", ""), found, kind.group)


def encode(kind: Kind, obj: Object) -> bytes:
    """The stored form, which `cache` reads: kind, apiVersion, metadata first. The revision is the store's to know."""
    stored = kind.to_storage(obj) if kind.to_storage else obj
    bare = {name: value for name, value in stored["metadata"].items() if name != "resourceVersion"}
    head = {"kind": stored["kind"], "apiVersion": stored["apiVersion"], "metadata": bare}
    value = orjson.dumps(head | {name: value for name, value in stored.items() if name not in head})
    if len(value) > MAX_OBJECT:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {MAX_OBJECT}")
    return value


def _check_version(kind: Kind, new: Object, old: Object, ctx: Context) -> None:
    """Compares `new`'s resourceVersion and uid, where it has them, with the stored ones."""
    given, known = new.setdefault("metadata", {}), old["metadata"]
    uid = given.get("uid") or known["uid"]
    if uid != known["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
        raise errors.conflict(kind.plural, ctx.name, why, kind.group)
    version = given.get("resourceVersion")
    if version and version != known["resourceVersion"]:
        raise errors.conflict(kind.plural, ctx.name, group=kind.group)
    given["resourceVersion"] = known["resourceVersion"]


def _keep_the_rest(kind: Kind, new: Object, old: Object, subresource: str) -> None:
    """Takes from `old`, in place, what an update of this subresource does not change."""
    if subresource == "finalize":
        namespaces.finalize(new, old)
    elif subresource:
        written = kind.written.get(subresource, subresource)
        for name in set(new) | set(old):
            if name not in ("metadata", written):
                _restore(new, old, name)
    elif kind.has_status:
        _restore(new, old, "status")


def _restore(new: Object, old: Object, name: str) -> None:
    if name in old:
        new[name] = copied(old[name])
    else:
        new.pop(name, None)


def _check_conditions(kind: Kind, obj: Object, conditions: Preconditions) -> None:
    known = obj["metadata"]
    why = ""
    if conditions.uid and conditions.uid != known["uid"]:
        why = f"Precondition failed: UID in precondition: {conditions.uid}, UID in object meta: {known['uid']}"
    elif conditions.resource_version and conditions.resource_version != known["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {conditions.resource_version}, "
            f"ResourceVersion in object meta: {known['resourceVersion']}"
        )
    if why:
        raise errors.conflict(kind.plural, known["name"], why, kind.group)
