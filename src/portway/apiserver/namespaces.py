"""The life of namespaces: nothing is created outside a living one, and a deleted one is emptied before it goes.

`Reaper` empties; the other functions are what `registry` asks about finalizers. There is no separate controller: an API
server that forgets to empty a namespace would leave objects that nobody can reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from portway.apiserver.cache import Cache
from portway.apiserver.entries import Entry
from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.kinds.namespaces import NAMESPACE
from portway.kube import errors
from portway.kube.errors import Forbidden, StatusError
from portway.kube.objects import Object
from portway.storage import StorageError

_PAUSE = 1.0
"""Seconds between looks at a namespace that finalizers of its objects keep from being empty."""
_ENDED = 1024
"""Namespaces whose end is remembered, for what other servers may still let into them."""
_log = logging.getLogger(__name__)


def is_namespace(kind: Kind) -> bool:
    """Says whether a kind is core/v1 Namespace."""
    return kind.plural == "namespaces" and kind.group == ""


def held(kind: Kind, obj: Object, finalizers: list[str] | None = None) -> bool:
    """Says whether finalizers keep an object from being deleted: its own, or those that a delete leaves it."""
    if obj["metadata"].get("finalizers") if finalizers is None else finalizers:
        return True
    return is_namespace(kind) and bool(obj.get("spec", {}).get("finalizers"))


def mark(kind: Kind, obj: Object) -> None:
    """Changes what else shows that an object is being deleted, in place."""
    if is_namespace(kind):
        obj.setdefault("status", {})["phase"] = "Terminating"


def finalize(new: Object, old: Object) -> None:
    """Makes `new`, in place, `old` with the spec.finalizers of `new` (the subresource finalize)."""
    finalizers = new.get("spec", {}).get("finalizers", [])
    spec = {name: value for name, value in old.get("spec", {}).items() if name != "finalizers"}
    new["spec"] = {**spec, "finalizers": finalizers} if finalizers else spec
    if "status" in old:
        new["status"] = dict(old["status"])


def admit(kind: Kind, obj: Object, ctx: Context) -> None:
    """Refuses a new object outside a living namespace (upstream's admission plugin NamespaceLifecycle)."""
    if not kind.namespaced:
        return
    namespace = ctx.services.lookup.find("", "namespaces", "", ctx.namespace)
    if namespace is None:
        raise errors.not_found("namespaces", ctx.namespace)
    if namespace["metadata"].get("deletionTimestamp"):
        name = obj["metadata"].get("name", "")
        details = {"name": name, "group": kind.group, "kind": kind.plural}
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {ctx.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise Forbidden(
            f'{kind.resource} "{name}" is forbidden: unable to create new content in namespace {ctx.namespace} '
            "because it is being terminated",
            details={**{key: value for key, value in details.items() if value}, "causes": [cause]},
        )


Left = list[tuple[Kind, Object]]


class Acts(Protocol):
    """What a reaper does to the cluster; each touches what has that uid, and nothing else of its name."""

    async def delete(self, kind: Kind, entry: Entry) -> None:
        """Deletes an object."""

    async def release(self, namespace: str, uid: str) -> None:
        """Takes the finalizer that waits for its content out of a namespace."""

    async def report(self, namespace: str, uid: str, left: Left, failures: list[str]) -> None:
        """Writes into a namespace what keeps it from going."""


class Reaper:
    """Empties deleted namespaces. `run` is to be owned by a task.

    A name is not a namespace: while one is being emptied it may be forced out, and another of the same name be created.
    So each delete asks again whether the namespace that was scheduled is still there and still to go. Several servers
    on one store all reap: what they do is bound to uids, and done twice it is done once.
    """

    def __init__(self, cache: Cache, kinds: Sequence[Kind], acts: Acts) -> None:
        self._cache = cache
        self._kinds = [kind for kind in kinds if kind.namespaced and kind.store_plural is None]
        self._acts = acts
        self._wanted: set[tuple[str, str]] = set()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._wake = asyncio.Event()

    def schedule(self, namespace: Object) -> None:
        """Has a namespace emptied that is being deleted."""
        self._want(namespace["metadata"]["name"], namespace["metadata"]["uid"])

    def ended(self, namespace: str) -> None:
        """Notes that a namespace is gone."""
        self._ended[namespace] = None
        self._ended.move_to_end(namespace)
        while len(self._ended) > _ENDED:
            self._ended.popitem(last=False)

    def arrived(self, entry: Entry) -> None:
        """Has an object deleted that another server let into a namespace which is gone by now."""
        if self._ended and entry.namespace in self._ended and self._find(entry.namespace) is None:
            self._want(entry.namespace, "")

    def _want(self, namespace: str, uid: str) -> None:
        self._wanted.add((namespace, uid))
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._wanted

    async def run(self) -> None:
        """Works until it is cancelled; what can't be deleted yet is tried again."""
        while True:
            if not self._wanted:
                await self._wake.wait()
            self._wake.clear()
            for namespace, uid in sorted(self._wanted):
                try:
                    if await (self._reap(namespace, uid) if uid else self._sweep(namespace)):
                        self._wanted.discard((namespace, uid))
                except (StatusError, StorageError) as error:
                    _log.warning("namespace %s could not be emptied, trying again: %s", namespace, error)
            if self._wanted:
                await asyncio.sleep(_PAUSE)

    async def _reap(self, namespace: str, uid: str) -> bool:
        """Empties a namespace and lets it go; False when something is left that finalizers hold."""

        def dying() -> bool:
            found = self._find(namespace)
            return found is not None and found["uid"] == uid and bool(found.get("deletionTimestamp"))

        failures = await self._empty(namespace, dying)
        left = self._left(namespace)
        if not dying():
            return True
        if left or failures:
            await self._acts.report(namespace, uid, left, failures)
            return False
        await self._acts.release(namespace, uid)
        # What was on its way into the store when the namespace was found empty.
        await self._empty(namespace, lambda: self._find(namespace) is None or dying())
        return True

    async def _sweep(self, namespace: str) -> bool:
        await self._empty(namespace, lambda: self._find(namespace) is None)
        return True

    async def _empty(self, namespace: str, doomed: Callable[[], bool]) -> list[str]:
        """Deletes what is in a namespace for as long as it is `doomed`; returns what could not be deleted."""
        failures: list[str] = []
        await self._cache.current()
        for kind in self._kinds:
            for entry in list(self._entries(kind, namespace)):
                if not doomed():
                    return failures
                try:
                    await self._acts.delete(kind, entry)
                except StatusError as error:
                    failures.append(f"{kind.resource} {entry.name}: {error.message}")
        await self._cache.current()
        return failures

    def _left(self, namespace: str) -> Left:
        return [(kind, entry.obj) for kind in self._kinds for entry in self._entries(kind, namespace)]

    def _entries(self, kind: Kind, namespace: str) -> Iterator[Entry]:
        return self._cache.shelf(kind.prefix).scan(f"{kind.prefix}{namespace}/")

    def _find(self, namespace: str) -> Object | None:
        """The metadata of the namespace that has the name now."""
        entry = self._cache.shelf(NAMESPACE.prefix).get(NAMESPACE.key("", namespace))
        return entry.obj["metadata"] if entry else None
