"""The life of namespaces: nothing is created outside a living one, and a deleted one is emptied before it goes.

`Reaper` empties; the other functions are what `registry` asks about finalizers. There is no separate controller: an API
server that forgets to empty a namespace would leave objects that nobody can reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from portway.apiserver.cache import Cache
from portway.apiserver.kinds.base import Context, Kind
from portway.kube import errors
from portway.kube.errors import Forbidden, StatusError
from portway.kube.objects import Object
from portway.storage import StorageError

_PAUSE = 1.0
"""Seconds between looks at a namespace that finalizers of its objects keep from being empty."""
_log = logging.getLogger(__name__)


def is_namespace(kind: Kind) -> bool:
    """Says whether a kind is core/v1 Namespace."""
    return kind.plural == "namespaces" and kind.group == ""


def held(kind: Kind, obj: Object) -> bool:
    """Says whether finalizers keep an object from being deleted."""
    if obj["metadata"].get("finalizers"):
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


class Reaper:
    """Empties deleted namespaces. `run` is to be owned by a task."""

    def __init__(
        self,
        cache: Cache,
        kinds: Sequence[Kind],
        delete: Callable[[Kind, str, str], Awaitable[None]],
        release: Callable[[str], Awaitable[None]],
    ) -> None:
        """`delete(kind, namespace, name)` deletes one object, `release(namespace)` takes out the finalizer."""
        self._cache = cache
        self._kinds = [kind for kind in kinds if kind.namespaced and kind.store_plural is None]
        self._delete = delete
        self._release = release
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()

    def schedule(self, namespace: str) -> None:
        """Has a namespace emptied."""
        self._wanted.add(namespace)
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled; what can't be deleted yet is tried again."""
        while True:
            if not self._wanted:
                await self._wake.wait()
            self._wake.clear()
            for namespace in sorted(self._wanted):
                try:
                    if await self._reap(namespace):
                        self._wanted.discard(namespace)
                except (StatusError, StorageError) as error:
                    _log.warning("namespace %s could not be emptied, trying again: %s", namespace, error)
            if self._wanted:
                await asyncio.sleep(_PAUSE)

    async def _reap(self, namespace: str) -> bool:
        """Empties a namespace and lets it go; False when something is left that finalizers hold."""
        if not await self._empty(namespace):
            return False
        await self._release(namespace)
        # What was on its way into the store when the namespace was found empty.
        return await self._empty(namespace)

    async def _empty(self, namespace: str) -> bool:
        await self._cache.current()
        for kind in self._kinds:
            names = [entry.name for entry in self._cache.shelf(kind.prefix).scan(f"{kind.prefix}{namespace}/")]
            for name in names:
                await self._delete(kind, namespace, name)
        await self._cache.current()
        return not any(
            next(self._cache.shelf(kind.prefix).scan(f"{kind.prefix}{namespace}/"), None) for kind in self._kinds
        )
