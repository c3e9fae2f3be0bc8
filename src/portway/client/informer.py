"""One collection, followed for ever: list in pages, watch from there, list again when the watch's past is gone.

No clock is compared with the server's: versions say what is newer, and waits are durations (`Retry-After` in seconds).

Level-triggered: the consumer is told what is so now ("ADDED" and "MODIFIED" mean the same to it) and, after a gap, also
what is no longer so. What it makes of that is its own affair (`view`, the controllers).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing

from portway.client.backoff import Backoff
from portway.client.protocol import ApiUnreachable, ListWatcher
from portway.kube.errors import StatusError
from portway.kube.objects import Object

Key = tuple[str, str]
"""(namespace, name)"""
OnEvent = Callable[[str, Object], None]

PAGE = 250
BATCH = 50
"""Objects taken in before the loop gets a turn: a list must not stall the requests that the same process relays."""
STEADY_SECONDS = 5.0
"""A watch that lasted this long was a success, even if nothing happened in it."""
FORBIDDEN_FIRST_SECONDS, FORBIDDEN_CAP_SECONDS = 1.0, 60.0
"""How soon, and how late at most, it is asked again whether a collection may be read by now."""
MAX_WAIT_SECONDS = 300.0
"""The longest that a server's `Retry-After` is heeded."""
MAX_STUMBLES = 5
"""So many watches in a row that the server refuses or breaks with an error: its version is given up, list again."""

logger = logging.getLogger(__name__)


class Informer:
    """Follows one collection and tells `on_event(type, object)`, with types ADDED, MODIFIED and DELETED.

    `known` gives the keys that the consumer holds: those that a list no longer has are told as DELETED, with no more
    than their namespace, name and the list's resource version. `path` is the collection's, as /api/v1/pods.
    """

    def __init__(
        self,
        client: ListWatcher,
        path: str,
        on_event: OnEvent,
        known: Callable[[], Iterable[Key]],
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self.path = path
        self.synced = asyncio.Event()
        """Set once the first list has been told in full."""
        self.connected = False
        """Whether the last attempt to reach the API succeeded; False while `forbidden`."""
        self.forbidden = False
        """Whether the API last said that the collection may not be read (403) or isn't served (404). It is asked again,
        in the end every minute.
        """
        self.settled = asyncio.Event()
        """Set once the first list has been told, or has been forbidden: there is nothing more to wait for."""
        self.last_contact = 0.0
        """When the API was last heard on this collection, unix seconds."""
        self.resource_version = ""
        """Up to where the consumer knows everything; "" while a list is needed."""
        self._client, self._on_event, self._known = client, on_event, known
        self._selection = {"label_selector": label_selector, "field_selector": field_selector}
        self._metadata_only = metadata_only
        self._backoff = backoff or Backoff()
        self._denials = Backoff(FORBIDDEN_FIRST_SECONDS, FORBIDDEN_CAP_SECONDS)
        self._stumbles = 0
        self._complained = False

    async def run(self) -> None:
        """Follow until cancelled. What the API or the network does wrong is waited out; a consumer's bug is raised."""
        page_size = PAGE
        while True:
            wait: float | None = None
            try:
                if not self.resource_version:
                    await self._list(page_size)
                    page_size = PAGE
                if await self._watch():
                    continue
            except StatusError as error:
                if error.code == 410:
                    # In a list: the continuation expired. The next attempt takes everything at once, as upstream does.
                    page_size = page_size if self.resource_version else 0
                    self.resource_version = ""
                    self._heard()
                else:
                    self._failed(error)
                wait = min(float(error.retry_after or 0), MAX_WAIT_SECONDS)
            except ApiUnreachable as error:
                self._lost(error)
            await asyncio.sleep((self._denials if self.forbidden else self._backoff).delay(wait))

    async def _list(self, page_size: int) -> None:
        seen: set[Key] = set()
        version = ""
        listed = self._client.pages(self.path, **self._selection, limit=page_size, metadata_only=self._metadata_only)
        async with aclosing(listed) as pages:
            async for page in pages:
                self._heard()
                version = page.resource_version
                for index, obj in enumerate(page.items, 1):
                    seen.add(key_of(obj))
                    self._on_event("ADDED", obj)
                    if index % BATCH == 0:
                        await asyncio.sleep(0)
        for namespace, name in [key for key in self._known() if key not in seen]:
            metadata = {"namespace": namespace, "name": name, "resourceVersion": version}
            self._on_event("DELETED", {"metadata": metadata})
        self.resource_version = version
        self.synced.set()
        self.settled.set()

    async def _watch(self) -> bool:
        """Watch until the stream ends; whether it was a success (else the next attempt should wait)."""
        started, heard = time.monotonic(), False
        stream = self._client.watch(
            self.path, self.resource_version, **self._selection, metadata_only=self._metadata_only
        )
        try:
            async with aclosing(stream) as events:
                async for event, obj in events:
                    self._heard()
                    if event != "BOOKMARK":
                        heard = True
                        self._on_event(event, obj)
                    self.resource_version = obj["metadata"].get("resourceVersion") or self.resource_version
        except ApiUnreachable:
            if not self._steady(started, heard):
                raise
            # A stream that had worked was cut: that happens; whether the API is gone shows at the next attempt.
            return False
        return self._steady(started, heard)

    def _steady(self, started: float, heard: bool) -> bool:
        steady = heard or time.monotonic() - started >= STEADY_SECONDS
        if steady:
            self._backoff.reset()
            self._stumbles = 0
        return steady

    def _failed(self, error: StatusError) -> None:
        """The API's own error, but for 410."""
        self.forbidden = error.code in (403, 404)
        if self.forbidden:
            self.last_contact = time.time()
            self.settled.set()
        elif self.resource_version and error.code not in (401, 429):
            self._stumbles += 1
            if self._stumbles >= MAX_STUMBLES:
                # As upstream's reflector: who can't watch from here for whatever reason begins anew.
                self._stumbles, self.resource_version = 0, ""
        self._lost(error)

    def _heard(self) -> None:
        if self._complained:
            logger.info("%s: the API answers again", self.path)
        if self.forbidden:
            self.forbidden = False
            self._denials.reset()
        self._complained = False
        self.connected = True
        self.last_contact = time.time()

    def _lost(self, error: Exception) -> None:
        if not self._complained:
            logger.warning("%s: %s; trying again", self.path, error)
        self._complained = True
        self.connected = False


def key_of(obj: Object) -> Key:
    """(namespace, name) of an object; "" is the namespace of what has none."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
