"""What can't be served is told through the API: an Event about the Service, and a condition on it while that lasts.

The condition is compared with what the view has: whatever was true in an earlier life of this process, in the end the
status says what is so now. Nothing waits for this, and an API that is away is asked again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from urllib.parse import quote

from portway.client.api import STRATEGIC_MERGE_PATCH
from portway.client.backoff import Backoff
from portway.client.decode import PORTS_ERROR
from portway.client.protocol import ApiUnreachable, Client
from portway.client.recorder import Recorder
from portway.client.records import Service
from portway.kube.errors import NotFound, StatusError, TooManyRequests
from portway.kube.objects import Object, now_rfc3339

COMPONENT = "kube-proxy"
FAILED = "FailedToBind"
TOLD = 5
"""Problems of one service that are named; the others are counted."""
Key = tuple[str, str]
"""(namespace, name)"""

logger = logging.getLogger(__name__)


def in_words(problems: Collection[str]) -> str:
    """The problems of one service, as many as an Event's and a condition's message have room for."""
    told = sorted(problems)
    return "; ".join([*told[:TOLD], *([f"and {len(told) - TOLD} more"] if len(told) > TOLD else [])])


class Reporter:
    """Writes what `tell` is told. `run` it in a task."""

    def __init__(self, client: Client, recorder: Recorder, service: Callable[[str, str], Service | None]) -> None:
        """`service`: the view's look-up."""
        self._client, self._recorder, self._service = client, recorder, service
        self._problems: dict[Key, str] = {}
        """What is not right now."""
        self._queue: dict[Key, None] = {}
        self._said: dict[Key, str] = {}
        """What an Event was written about."""
        self._wake = asyncio.Event()

    def tell(self, service: Service, problem: str) -> None:
        """What of a service can't be served; "" when all is. Also when it was told before: cheap if so."""
        key = service.namespace, service.name
        if problem:
            self._problems[key] = problem
        else:
            self._problems.pop(key, None)
        if problem != service.exposure.problem or problem != self._said.get(key, ""):
            self._queue[key] = None
            self._wake.set()

    def gone(self, key: Key) -> None:
        """The service is."""
        for known in (self._problems, self._queue, self._said):
            known.pop(key, None)

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(first=0.2)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                key = next(iter(self._queue))
                del self._queue[key]
                try:
                    await self._write(key)
                    backoff.reset()
                except NotFound:
                    self.gone(key)
                except (ApiUnreachable, StatusError) as error:
                    if isinstance(error, StatusError) and error.code != TooManyRequests.code and error.code < 500:
                        logger.warning("the status of service %s/%s cannot be written: %s", *key, error)
                        continue
                    self._queue[key] = None
                    await asyncio.sleep(backoff.delay())

    async def _write(self, key: Key) -> None:
        service, problem = self._service(*key), self._problems.get(key, "")
        if service is None:
            return
        if problem != service.exposure.problem:
            path = f"/api/v1/namespaces/{quote(key[0], safe='')}/services/{quote(key[1], safe='')}/status"
            await self._client.patch(path, _patch(problem), STRATEGIC_MERGE_PATCH)
        if problem and problem != self._said.get(key):
            about = {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(service)}
            await self._recorder.warning(about, FAILED, problem)
        if problem:
            self._said[key] = problem
        else:
            self._said.pop(key, None)


def _metadata(service: Service) -> Object:
    return {"namespace": service.namespace, "name": service.name, "uid": service.uid}


def _patch(problem: str) -> Object:
    """Sets the condition, or takes it away."""
    condition: Object = {"type": PORTS_ERROR, "$patch": "delete"}
    if problem:
        condition = {
            "type": PORTS_ERROR,
            "status": "True",
            "reason": FAILED,
            "message": problem,
            "lastTransitionTime": now_rfc3339(),
        }
    return {"status": {"conditions": [condition]}}
