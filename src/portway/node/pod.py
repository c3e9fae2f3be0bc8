"""One pod's life: its process, its probes, and its object in the API.

Two tasks share one state. `_live` runs the process and makes the state true; `_report` tells the API, again and again
until it has heard. Neither waits for the other: a pod serves before the API is up, and goes on when it is down.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from portway.client.api import MERGE_PATCH, ApiClient
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import NotFound, StatusError
from portway.kube.objects import Object
from portway.node import status
from portway.node.probe import Probe, succeeds
from portway.node.process import Process
from portway.node.workload import MANAGED_BY, Placement, pod_object

GRACE_SECONDS = 5.0
_EAGER_PROBE = 0.03
_STEADY_PROBE = 2.0
_FAILURES = 3
"""A kubelet's failureThreshold: so many failures in a row make a ready pod unready."""
_RETRY_SECONDS = 0.5
_SLOT_SECONDS = 1.0
NO_GRACE: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long to wait before a process that ended is started again: doubling, and forgiven after a long life."""

    first: float = 1.0
    longest: float = 300.0
    forgiven_after: float = 600.0

    def delay(self, crashes: int) -> float:
        """Seconds before the restart after so many ends in a row (1 = the first)."""
        return min(self.first * 2.0 ** (min(crashes, 32) - 1), self.longest)


AS_KUBELET = RestartPolicy()


class StartSlots:
    """How many pods start at the same time: a machine that starts all at once is late with each of them."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take(self) -> Callable[[], None]:
        """Wait for a slot; what is returned gives it back, which also happens by itself after a while."""
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                timer.cancel()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(_SLOT_SECONDS, give_back)
        return give_back


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pods of a node share."""

    client: ApiClient
    node_address: str
    log_dir: Path
    slots: StartSlots
    restarts: RestartPolicy = AS_KUBELET


class PodRunner:
    """Keeps one replica running and reported. `run` it in a task; cancelling that stops the process."""

    def __init__(self, placement: Placement, environment: Mapping[str, str], around: Surroundings) -> None:
        self.placement = placement
        self._environment = environment
        self._around = around
        self._state = status.initial()
        self._uid = ""
        self._changed = asyncio.Event()
        self._replaced = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._live(), name=f"pod {self.placement.name}: process")
            tasks.create_task(self._report(), name=f"pod {self.placement.name}: status")

    @property
    def is_up(self) -> bool:
        """Whether it was ever started: then it has its address, as a sandbox, even while its process is not there."""
        return bool(self._state.started or self._state.last)

    def deleted(self, uid: str) -> bool:
        """Somebody deleted the Pod with this uid: its process ends, and a new Pod takes its place. False = not ours."""
        if uid != self._uid:
            return False
        self._replaced.set()
        return True

    async def _live(self) -> None:
        crashes = 0
        while True:
            born = asyncio.get_running_loop().time()
            code, words = await self._one_process()
            if self._replaced.is_set():
                await self._start_over()
                crashes = 0
                continue
            long_lived = asyncio.get_running_loop().time() - born >= self._around.restarts.forgiven_after
            crashes = 1 if long_lived else crashes + 1
            logger.warning("pod %s ended with %d: %s", self.placement.name, code, words.rpartition("\n")[2])
            self._set(self._state.ended(code, words))
            await self._pause(self._around.restarts.delay(crashes))

    async def _one_process(self) -> tuple[int, str]:
        """Run it until it ends or the pod is replaced; exit code and last words."""
        log = self._around.log_dir / f"{self.placement.workload.namespace}_{self.placement.name}.log"
        started = await self._around.slots.take()
        try:
            process = await Process.start(self.placement.workload.command, self._environment, log)
        except BaseException:
            started()
            raise
        self._set(self._state.running(process.pid))
        helpers = [
            asyncio.create_task(self._watch_readiness(started), name=f"pod {self.placement.name}: probe"),
            asyncio.create_task(self._replaced.wait(), name=f"pod {self.placement.name}: replaced"),
        ]
        ended = asyncio.create_task(process.wait(), name=f"pod {self.placement.name}: wait")
        try:
            await asyncio.wait([ended, *helpers], return_when=asyncio.FIRST_COMPLETED)
            if helpers[0].done():
                helpers[0].result()  # raises: probing only ends by a bug
        finally:
            started()
            for helper in helpers:
                helper.cancel()
            await process.stop(GRACE_SECONDS)
        return await ended, process.last_words()

    async def _watch_readiness(self, started: Callable[[], None]) -> None:
        """Probe often until ready, which ends the start, then steadily; never returns."""
        workload = self.placement.workload
        probe = Probe(self.placement.address, workload.port, workload.ready_path, workload.ready_scheme)
        failures, pause = 0, _EAGER_PROBE
        while True:
            if await succeeds(probe):
                failures, pause = 0, _STEADY_PROBE
                self._set(self._state.probed(True))
                started()
            else:
                failures += 1
                if not self._state.ready or failures >= _FAILURES:
                    self._set(self._state.probed(False))
                    pause = min(pause * 1.5, _STEADY_PROBE)
            await asyncio.sleep(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait before a restart; a replaced pod starts at once, with a clean slate."""
        try:
            await asyncio.wait_for(self._replaced.wait(), seconds)
        except TimeoutError:
            return
        await self._start_over()

    async def _start_over(self) -> None:
        self._replaced.clear()
        self._uid = ""
        self._set(status.initial())

    def _set(self, state: status.State) -> None:
        if state is not self._state:
            self._state = state
            self._changed.set()

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if not self._uid:
                    await self._ensure_object()
                await self._send_status()
            except NotFound:
                self._uid = ""
                self._changed.set()
                await asyncio.sleep(_RETRY_SECONDS)
            except (ApiUnreachable, StatusError) as error:
                logger.warning("pod %s: its status could not be reported: %s", self.placement.name, error)
                self._changed.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _send_status(self) -> None:
        body = status.pod_status(self.placement, self._state, self._around.node_address)
        await self._around.client.patch(f"{self.placement.path}/status", {"status": body}, MERGE_PATCH)

    async def _ensure_object(self) -> None:
        """The Pod of an earlier run when it still fits, else a new one."""
        client, wanted = self._around.client, pod_object(self.placement)
        try:
            found = await client.get(self.placement.path)
        except NotFound:
            found = None
        if found is not None and not _fits(found, wanted):
            await client.delete(self.placement.path, NO_GRACE)
            found = None
        if found is None:
            found = await client.create(self.placement.collection, wanted)
        else:
            self._state = _resumed(self._state, found)
        self._uid = found["metadata"]["uid"]


def _fits(found: Object, wanted: Object) -> bool:
    """Whether the Pod of an earlier run can be carried on with; StatusError never: a stranger's Pod is replaced too,
    for its name on this node is ours."""
    if found["metadata"].get("deletionTimestamp"):
        return False
    ours = (found["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == MANAGED_BY
    old, new = found["spec"]["containers"][0], wanted["spec"]["containers"][0]
    same = all(old.get(key) == new[key] for key in ("name", "image", "command"))
    ports = [port["containerPort"] for port in old.get("ports") or []]
    return ours and same and ports == [port["containerPort"] for port in new["ports"]]


def _resumed(state: status.State, found: Object) -> status.State:
    """The state of a Pod whose process was started again by a new agent: it counts as a restart."""
    old = found.get("status") or {}
    counted = [one.get("restartCount", 0) for one in old.get("containerStatuses") or []]
    restarts = counted[0] + 1 if counted else 0
    return replace(state, restarts=state.restarts + restarts, created=old.get("startTime") or state.created)
