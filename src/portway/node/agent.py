"""The node agent: places the workloads, then runs each pod, the heartbeat and the watch over its Pods as named tasks.

Whoever composes a cluster makes a `NodeAgent` and awaits `run`; cancelling it stops every process that it started.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from portway.client.api import ApiClient
from portway.client.backoff import Backoff
from portway.client.informer import Informer, Key, key_of
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import BadRequest, InternalError, NotFound, ServiceUnavailable, StatusError
from portway.kube.objects import Object
from portway.node import addresses, manifests
from portway.node.environment import Reachable, service_variables
from portway.node.heartbeat import Heartbeat
from portway.node.pod import AS_KUBELET, NO_GRACE, PodRunner, RestartPolicy, StartSlots, Surroundings
from portway.node.streaming.relay import RunningPod
from portway.node.streaming.server import StreamingServer
from portway.node.workload import DEFAULT_NODE_NAME, Manifest, Placement, Workload, place

_STARTING = 2
"""Pods that start at the same time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node is told.

    Attributes:
        cluster_cidr: the range that its pods' addresses come from.
        seed: names the cluster; picks the part of the range (see `addresses`).
        log_dir: an existing directory for the pods' output.
        environment: what every process gets (PATH and the like).
        workloads: what runs here.
        name: the node's.
        manifests: what else comes with them; `withdrawn` says what to take away when they don't run:
            (collections, label selector).
    """

    cluster_cidr: str
    seed: str
    log_dir: Path
    environment: Mapping[str, str]
    workloads: tuple[Workload, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    withdrawn: tuple[tuple[str, ...], str] = ((), "")
    restarts: RestartPolicy = AS_KUBELET
    name: str = DEFAULT_NODE_NAME


class NodeAgent:
    """One node. The address plan is made at once, so that processes start before the API answers."""

    def __init__(self, client: ApiClient, settings: NodeSettings, streams: socket.socket | None = None) -> None:
        """`streams`: the listening socket on which the door asks for port-forwards; none are served without it."""
        self._client = client
        self._settings = settings
        self._streams = streams
        self._streaming = StreamingServer(self)
        replicas = [w.port for w in settings.workloads for _ in range(w.replicas)]
        subnet, chosen = addresses.choose(settings.cluster_cidr, settings.seed, replicas, addresses.is_free)
        self.placements = place(settings.workloads, chosen, settings.name)
        self._heartbeat = Heartbeat(client, settings.name, addresses.node_address(subnet), str(subnet))
        slots = StartSlots(_STARTING)
        around = Surroundings(client, addresses.node_address(subnet), settings.log_dir, slots, settings.restarts)
        self._runners: dict[Key, PodRunner] = {
            (p.workload.namespace, p.name): PodRunner(p, self._environment(p), around) for p in self.placements
        }
        self._seen: set[Key] = set()
        self._stale: asyncio.Queue[Object] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled; a task that ends otherwise ends all of them."""
        watch = Informer(
            self._client,
            "/api/v1/pods",
            self._on_pod,
            lambda: self._seen,
            field_selector=f"spec.nodeName={self._settings.name}",
        )
        async with asyncio.TaskGroup() as tasks:
            for runner in self._runners.values():
                tasks.create_task(runner.run(), name=f"pod {runner.placement.name}")
            tasks.create_task(self._heartbeat.run(), name="node heartbeat")
            tasks.create_task(watch.run(), name="node pods")
            tasks.create_task(self._sweep(), name="node sweep")
            tasks.create_task(self._put_manifests(), name="node manifests")
            if self._streams is not None:
                tasks.create_task(self._streaming.run(self._streams), name="node streams")

    async def find(self, namespace: str, name: str) -> RunningPod:
        """See streaming.server.Pods. A pod that runs here is found without asking the API."""
        runner = self._runners.get((namespace, name))
        if runner is not None and runner.is_up:
            return RunningPod(namespace, name, runner.placement.address)
        try:
            pod = await self._client.get(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}")
        except ApiUnreachable as error:
            raise ServiceUnavailable(f"the API server cannot be reached: {error}", retry_after=1) from error
        node = pod["spec"].get("nodeName", "")
        if not node:
            raise BadRequest(f"pod {name} does not have a host assigned")
        if node != self._settings.name:
            raise InternalError(f'error dialing backend: no agent of node "{node}" is known here')
        raise InternalError(f'pod not found ("{name}_{namespace}")')

    def _environment(self, placement: Placement) -> Mapping[str, str]:
        workload = placement.workload
        found = dict(self._settings.environment)
        for used in workload.uses:
            for other in self.placements:
                if (other.workload.namespace, other.workload.name) == used and other.ordinal == 0:
                    found |= service_variables(Reachable(used[1], other.address, other.workload.port))
        return found | {
            "POD_NAME": placement.name,
            "POD_NAMESPACE": workload.namespace,
            "POD_IP": placement.address,
            "NODE_NAME": self._settings.name,
            "PORT": str(workload.port),
        }

    def _on_pod(self, event: str, pod: Object) -> None:
        key = key_of(pod)
        if event == "DELETED":
            self._seen.discard(key)
        else:
            self._seen.add(key)
        runner = self._runners.get(key)
        if runner is None:
            if event != "DELETED":
                self._stale.put_nowait(pod)
        elif (event == "DELETED" or pod["metadata"].get("deletionTimestamp")) and runner.deleted(
            pod["metadata"].get("uid", "")
        ):
            self._streaming.pod_gone(*key)

    async def _sweep(self) -> None:
        """Remove Pods that say they run here and don't: a node is the truth about its own."""
        backoff = Backoff()
        while True:
            pod = await self._stale.get()
            namespace, name = key_of(pod)
            try:
                await self._client.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", NO_GRACE)
                backoff.reset()
            except NotFound:
                continue
            except (ApiUnreachable, StatusError) as error:
                logger.warning("pod %s/%s: it does not run here, but cannot be removed: %s", namespace, name, error)
                self._stale.put_nowait(pod)
                await asyncio.sleep(backoff.delay())

    async def _put_manifests(self) -> None:
        """All at once, as soon as the API answers."""
        wanted = [self._insist(partial(manifests.put, self._client, one)) for one in self._settings.manifests]
        collections, selector = self._settings.withdrawn
        if collections:
            wanted.append(self._insist(partial(manifests.withdraw, self._client, collections, selector)))
        await asyncio.gather(*wanted)

    async def _insist(self, action: Callable[[], Awaitable[None]]) -> None:
        """Until it is done or refused; a refusal is reported: an object that somebody broke must not end the node."""
        backoff = Backoff()
        while True:
            try:
                return await action()
            except ApiUnreachable:
                await asyncio.sleep(backoff.delay())
            except StatusError as error:
                return logger.error("an object of the node was refused: %s", error)
