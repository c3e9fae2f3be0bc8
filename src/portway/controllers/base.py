"""What all controllers have in common: a name, the kinds they need, a queue of keys and the work on one key."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import ClassVar

from portway.client.protocol import ApiUnreachable, Client
from portway.controllers.collections import Caches
from portway.controllers.queue import Key, WorkQueue
from portway.controllers.settings import ControllerSettings
from portway.kube.errors import StatusError

WORKERS = 5
"""kube-controller-manager's --concurrent-*-syncs default."""

logger = logging.getLogger(__name__)


class Controller(ABC):
    """Makes one kind of thing so. Subclasses listen to the caches when constructed, and work in `sync`."""

    name: ClassVar[str]
    """As in kube-controller-manager's --controllers."""
    needs: ClassVar[tuple[str, ...]]
    """The kinds that must have been listed before any work is done, by plural."""

    def __init__(self, client: Client, caches: Caches) -> None:
        self.client, self.caches = client, caches
        self.queue = WorkQueue()

    @classmethod
    def made(cls, client: Client, caches: Caches, settings: ControllerSettings) -> "Controller | None":  # noqa: ARG003
        """Make one; None when the settings lack what it needs. Most need nothing."""
        return cls(client, caches)

    @abstractmethod
    async def sync(self, key: Key) -> None:
        """Make the world as it should be for one key, from what the caches say now. May be called at any time."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self.queue.run(self._work), name=f"{self.name} {number}")

    async def _work(self, key: Key) -> None:
        try:
            await self.sync(key)
        except ApiUnreachable:
            self.queue.retry(key)
        except StatusError as error:
            self._failed(key, error)
        else:
            self.queue.succeeded(key)

    def _failed(self, key: Key, error: StatusError) -> None:
        if _is_ending(error):
            return
        if error.code not in (404, 409):
            # Those two say that the caches are behind: the next look will be right.
            logger.warning("%s: %s/%s: %s", self.name, *key, error.message)
        self.queue.retry(key, error.retry_after)


def _is_ending(error: StatusError) -> bool:
    """Whether nothing may be made because the namespace is being deleted: then there is nothing left to do."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
