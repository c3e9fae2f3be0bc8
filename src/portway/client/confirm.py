"""Asking the API before a miss is answered: what was created a millisecond ago is found; a flood of misses ends here.

Each question is a list with a field selector, not a GET: its answer carries the revision at which it was true, also
when it is empty. Only an answer newer than what the watch has delivered is taken in, so a slow answer can neither
bring back what the watch has already removed nor hide what it has already shown.

What no watch follows (it may not be listed, or is of a namespace that nobody chose) is looked up in the same way, and
forgotten soon: nothing would tell that it has changed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from portway.client.protocol import ApiUnreachable, ListWatcher
from portway.client.state import ClusterState
from portway.kube.errors import Forbidden, NotFound, StatusError
from portway.kube.names import is_dns1123_label, is_dns1123_subdomain
from portway.kube.objects import Object

WINDOW_SECONDS = 1.0
QUESTIONS_PER_WINDOW = 10
"""The same question is asked so often a second; beyond that the last answer stands until the second is over."""
MAX_REMEMBERED = 4096
MAX_AT_ONCE = 16
"""Questions in flight, over all keys."""
BORROWED_SECONDS = 10.0
"""How long an object that is not followed is believed to be as it was."""
PATIENCE_SECONDS = 5.0
"""How long an answer is waited for, the time in line included."""

Key = tuple[str, str, str]
"""(kind's plural, namespace, name)"""
Progress = Callable[[str, str], str | None]
"""Resource version up to which a kind (by its plural) is known in a namespace; "" while it is being listed, None where
it is not followed.
"""

logger = logging.getLogger(__name__)


class Confirmer:
    """Refreshes single objects of a state from the API. Errors leave the state as it is."""

    def __init__(self, state: ClusterState, client: ListWatcher, progress: Progress) -> None:
        self._state, self._client, self._progress = state, client, progress
        self._waiting: dict[Key, asyncio.Task[None]] = {}
        self._asked: dict[Key, asyncio.Task[None]] = {}
        self._recent: dict[Key, tuple[float, int]] = {}
        self._limit = asyncio.Semaphore(MAX_AT_ONCE)
        self._borrowed: dict[Key, asyncio.TimerHandle] = {}

    async def service(self, namespace: str, name: str) -> None:
        """Refresh a service and its EndpointSlices."""

        async def ask() -> None:
            slices = f"kubernetes.io/service-name={name}"
            await asyncio.gather(
                self._one("services", namespace, name),
                self._refresh(
                    "endpointslices",
                    namespace,
                    f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
                    lambda: ((namespace, part) for part in self._state.slice_names(namespace, name)),
                    label_selector=slices,
                ),
            )

        await self._share(("services", namespace, name), ask)

    async def object(self, plural: str, namespace: str, name: str) -> None:
        """Refresh one object of a core/v1 kind: pods, nodes, serviceaccounts."""
        await self._share((plural, namespace, name), lambda: self._one(plural, namespace, name))

    async def uid(self, plural: str, namespace: str, name: str) -> str | None:
        """The uid of an object of a core/v1 kind that the state doesn't hold; None when there is none, or no answer."""
        found: list[str] = []

        async def ask() -> None:
            path, field = f"/api/v1/namespaces/{namespace}/{plural}", f"metadata.name={name}"
            async for page in self._client.pages(path, field_selector=field):
                found.extend(obj["metadata"].get("uid", "") for obj in page.items)

        key = plural, namespace, name
        if _may_exist(key):
            await self._patiently(key, ask)
        return found[0] if found else None

    async def close(self) -> None:
        """Cancel what is being asked."""
        for timer in self._borrowed.values():
            timer.cancel()
        self._borrowed.clear()
        tasks = [*self._waiting.values(), *self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _share(self, key: Key, ask: Callable[[], Awaitable[None]]) -> None:
        """One question in flight for a key, and at most one that waits for it to end.

        Who comes while a question is in flight must not share its answer: it may be older than what they know to exist.
        They share the next one.
        """
        task = self._waiting.get(key)
        if task is None:
            if not _may_exist(key) or self._too_often(key):
                return
            task = asyncio.create_task(self._turn(key, ask), name=f"confirm {'/'.join(key)}")
            self._waiting[key] = task
        await asyncio.shield(task)

    async def _turn(self, key: Key, ask: Callable[[], Awaitable[None]]) -> None:
        task = self._waiting[key]
        try:
            await self._patiently(key, lambda: self._in_turn(key, task, ask))
        finally:
            for tasks in (self._waiting, self._asked):
                if tasks.get(key) is task:
                    del tasks[key]

    async def _in_turn(self, key: Key, task: asyncio.Task[None], ask: Callable[[], Awaitable[None]]) -> None:
        before = self._asked.get(key)
        if before is not None:
            await asyncio.wait([before])
        async with self._limit:
            del self._waiting[key]
            self._asked[key] = task
            await ask()

    async def _patiently(self, key: Key, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ask()
        except (ApiUnreachable, StatusError, TimeoutError) as error:
            logger.debug("could not confirm %s: %s", "/".join(key), str(error) or "no answer in time")

    def _too_often(self, key: Key) -> bool:
        now = time.monotonic()
        since, count = self._recent.get(key, (now, 0))
        if now - since >= WINDOW_SECONDS:
            since, count = now, 0
        if len(self._recent) >= MAX_REMEMBERED:
            self._recent.clear()
        self._recent[key] = since, count + 1
        return count >= QUESTIONS_PER_WINDOW

    async def _one(self, plural: str, namespace: str, name: str) -> None:
        scope = f"/namespaces/{namespace}" if namespace else ""
        path = f"/api/v1{scope}/{plural}"
        try:
            await self._refresh(
                plural, namespace, path, lambda: [(namespace, name)], field_selector=f"metadata.name={name}"
            )
        except Forbidden:
            if self._progress(plural, namespace) is not None:
                raise
            await self._get(plural, namespace, name, path)

    async def _get(self, plural: str, namespace: str, name: str, path: str) -> None:
        """Look up what may be read but not listed. No watch can contradict the answer."""
        try:
            obj = await self._client.get(f"{path}/{name}")
        except NotFound:
            self._state.apply(plural, "DELETED", {"metadata": {"namespace": namespace, "name": name}})
        else:
            if obj.get("metadata", {}).get("name") == name:
                self._take(plural, namespace, obj)

    def _take(self, plural: str, namespace: str, obj: Object) -> None:
        self._state.apply(plural, "ADDED", obj)
        if self._progress(plural, namespace) is None:
            key = plural, namespace, obj["metadata"]["name"]
            earlier = self._borrowed.pop(key, None)
            if earlier is not None:
                earlier.cancel()
            self._borrowed[key] = asyncio.get_running_loop().call_later(BORROWED_SECONDS, self._forget, key)

    def _forget(self, key: Key) -> None:
        """Unless it is followed by now, an object that was looked up is no longer known."""
        del self._borrowed[key]
        plural, namespace, name = key
        if self._progress(plural, namespace) is None:
            self._state.apply(plural, "DELETED", {"metadata": {"namespace": namespace, "name": name}})

    async def _refresh(
        self,
        plural: str,
        namespace: str,
        path: str,
        known: Callable[[], Iterable[tuple[str, str]]],
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        """Make the state say of the selected objects what a list of them says; `known` are those it may hold now."""
        objects: dict[tuple[str, str], Object] = {}
        version = ""
        async for page in self._client.pages(path, label_selector=label_selector, field_selector=field_selector):
            version = page.resource_version
            for obj in page.items:
                objects[obj["metadata"].get("namespace", ""), obj["metadata"]["name"]] = obj
        if not is_newer(version, self._progress(plural, namespace) or ""):
            return
        for obj in objects.values():
            self._take(plural, namespace, obj)
        for scope, name in [key for key in known() if key not in objects]:
            self._state.apply(plural, "DELETED", {"metadata": {"namespace": scope, "name": name}})


def _may_exist(key: Key) -> bool:
    """Whether the API could hold an object by this name. What a caller made up must not get into a path or a query."""
    _, namespace, name = key
    return not is_dns1123_subdomain(name) and not (namespace and is_dns1123_label(namespace))


def is_newer(version: str, than: str) -> bool:
    """Whether a resource version is later than another. Versions that aren't numbers can't be told apart: yes."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return True
