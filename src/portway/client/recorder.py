"""Events that our own components write: what happened to an object, said once and counted after that.

As client-go's recorder: the same words about the same object are one core/v1 Event whose `count` and `lastTimestamp`
grow, and a component that has too much to say about one object is cut short. An Event is a courtesy: one that can't be
written is dropped, and nothing waits for it to be tried again. Source: k8s.io/client-go/tools/record/events_cache.go.
"""

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from portway.client.protocol import ApiUnreachable
from portway.kube import objects
from portway.kube.errors import NotFound, StatusError
from portway.kube.names import is_dns1123_subdomain
from portway.kube.objects import Object

BURST, REFILL_SECONDS = 25, 300.0
"""Events about one object at once, and seconds until one more may be written: client-go's figures."""
KNOWN = 4096
"""Events, and objects, that are remembered; client-go's LRU has as many."""
MAX_MESSAGE = 1024

_MERGE_PATCH = "application/merge-patch+json"
_log = logging.getLogger(__name__)


class WritesEvents(Protocol):
    """The part of a client that a recorder needs; `api.ApiClient` has it."""

    async def create(self, path: str, obj: Object) -> Object: ...
    async def patch(self, path: str, patch: object, content_type: str = ...) -> Object: ...


@dataclass(slots=True)
class _Said:
    """One Event as last written."""

    path: str
    count: int


class Recorder:
    """Writes Events in the name of one component. Use it from one event loop."""

    def __init__(self, client: WritesEvents, component: str, *, clock: Callable[[], float] = time.time) -> None:
        self._client, self._component, self._clock = client, component, clock
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def normal(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        """Says something that is as it should be. `about`: an object or reference with apiVersion, kind, name."""
        await self._record(about, "Normal", reason, message)

    async def warning(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        """Says something that somebody should look at; `about` as in `normal`, `reason` in CamelCase."""
        await self._record(about, "Warning", reason, message)

    async def _record(self, about: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        involved = reference(about)
        if not self._admitted(f"{involved.get('kind')}/{involved.get('namespace')}/{involved.get('name')}"):
            return
        message = message[:MAX_MESSAGE]
        key = (*(str(involved.get(part, "")) for part in ("kind", "namespace", "name", "uid")), type_, reason, message)
        try:
            if not await self._counted(key):
                await self._create(key, involved)
        except (StatusError, ApiUnreachable) as error:
            _log.debug("event %s about %s dropped: %s", reason, involved, error)

    async def _counted(self, key: tuple[str, ...]) -> bool:
        """Counts one more of an Event that was written before; False when there is none."""
        said = self._said.get(key)
        if said is None:
            return False
        change = {"count": said.count + 1, "lastTimestamp": objects.rfc3339(self._clock())}
        try:
            await self._client.patch(said.path, change, _MERGE_PATCH)
        except NotFound:
            self._said.pop(key, None)
            return False
        said.count += 1
        self._said.move_to_end(key)
        return True

    async def _create(self, key: tuple[str, ...], involved: Mapping[str, str]) -> None:
        *_, type_, reason, message = key
        now, namespace = objects.rfc3339(self._clock()), involved.get("namespace") or "default"
        name = _event_name(involved["name"])
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": name},
            "involvedObject": dict(involved),
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._client.create(f"/api/v1/namespaces/{namespace}/events", event)
        self._said[key] = _Said(f"/api/v1/namespaces/{namespace}/events/{name}", 1)
        _forget(self._said)

    def _admitted(self, about: str) -> bool:
        """Whether one more Event about an object may be written now (a token bucket)."""
        now = self._clock()
        left, since = self._buckets.pop(about, (float(BURST), now))
        left = min(BURST, left + max(now - since, 0.0) / REFILL_SECONDS)
        self._buckets[about] = (left - 1 if left >= 1 else left), now
        _forget(self._buckets)
        return left >= 1


def reference(about: Mapping[str, Any]) -> dict[str, str]:
    """An object, or a reference already, as an Event's `involvedObject`."""
    metadata = about.get("metadata") or about
    parts = {name: metadata.get(name) for name in ("namespace", "name", "uid", "resourceVersion")}
    parts |= {name: about.get(name) for name in ("apiVersion", "kind", "fieldPath")}
    return {name: value for name, value in parts.items() if value}


def _event_name(about: str) -> str:
    """A name of its own; client-go's, or a UUID for an object whose name no Event can have ("system:node")."""
    name = f"{about}.{time.time_ns():x}"
    return str(uuid.uuid4()) if is_dns1123_subdomain(name) else name


def _forget(known: OrderedDict[Any, Any]) -> None:
    while len(known) > KNOWN:
        known.popitem(last=False)
