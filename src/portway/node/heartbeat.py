"""The Node object and its Lease: that this node is, what it is, and that it still lives.

As a kubelet: the Lease every 10 s, the Node's conditions at the start and every 5 minutes.
"""

import asyncio
import logging
import os
import platform
from typing import Any

from portway import __version__
from portway.client.api import MERGE_PATCH, ApiClient
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import AlreadyExists, NotFound, StatusError
from portway.kube.objects import Object, now_micro, now_rfc3339

LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
STATUS_SECONDS = 300.0
RETRY_SECONDS = 0.5

_NODES = "/api/v1/nodes"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

logger = logging.getLogger(__name__)


class Heartbeat:
    """Keeps the Node and its Lease. `run` it in a task."""

    def __init__(self, client: ApiClient, name: str, address: str, pod_cidr: str) -> None:
        self._client = client
        self._name = name
        self._node = node_object(name, address, pod_cidr)
        self._since = now_rfc3339()

    async def run(self) -> None:
        """Until cancelled; an API that does not answer is asked again."""
        loop = asyncio.get_running_loop()
        status_due = loop.time()
        while True:
            pause = RENEW_SECONDS
            try:
                if loop.time() >= status_due:
                    await self._register()
                    status_due = loop.time() + STATUS_SECONDS
                await self._renew()
            except (ApiUnreachable, StatusError) as error:
                logger.warning("node %s: no heartbeat: %s", self._name, error)
                status_due, pause = loop.time(), RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _register(self) -> None:
        try:
            await self._client.create(_NODES, self._node)
        except AlreadyExists:
            described = {"metadata": {"labels": self._node["metadata"]["labels"]}}
            await self._client.patch(f"{_NODES}/{self._name}", described, MERGE_PATCH)
        status = {"status": node_status(self._node["status"]["addresses"], self._since)}
        await self._client.patch(f"{_NODES}/{self._name}/status", status, MERGE_PATCH)

    async def _renew(self) -> None:
        path = f"{_LEASES}/{self._name}"
        spec = {"holderIdentity": self._name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now_micro()}
        try:
            await self._client.patch(path, {"spec": spec}, MERGE_PATCH)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": spec,
            }
            await self._client.create(_LEASES, lease)


def node_object(name: str, address: str, pod_cidr: str) -> Object:
    """The Node as it registers itself."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _architecture(),
            },
        },
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def node_status(addresses: list[Object], since: str) -> Object:
    """What the node is, and that it is well now and has been `since` (RFC 3339)."""
    resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{_memory_bytes() // 1024}Ki", "pods": "110"}
    return {
        "addresses": addresses,
        "capacity": resources,
        "allocatable": resources,
        "conditions": _conditions(since),
        "nodeInfo": {
            "architecture": _architecture(),
            "bootID": "",
            "containerRuntimeVersion": f"process://{__version__}",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": "",
            "kubeletVersion": f"v{__version__}+portway",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": f"Portway on Python {platform.python_version()}",
            "systemUUID": "",
        },
    }


def _conditions(since: str) -> list[dict[str, Any]]:
    times = {"lastHeartbeatTime": now_rfc3339(), "lastTransitionTime": since}
    found = [{"type": t, "status": "False", "reason": r, "message": m} | times for t, r, m in _PRESSURES]
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "the node agent posts ready status",
    }
    return [*found, ready | times]


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
