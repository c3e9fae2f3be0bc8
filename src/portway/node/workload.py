"""What should run on this node, and the Pod object that says so. Values only; `pod.py` makes it true."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from portway import __version__
from portway.kube.objects import Object

DEFAULT_NODE_NAME = "portway"
MANAGED_BY = "portway-node-agent"


@dataclass(frozen=True, slots=True)
class Workload:
    """One program and how many of it.

    Attributes:
        name: the pods are NAME-0, NAME-1 …
        module: run as `python -m MODULE`; finds its address in POD_IP and PORT.
        port, port_name: what it listens on.
        ready_path: answers 2xx or 3xx once the program is ready; "" = it is ready when it accepts a connection.
        ready_scheme: of that probe.
        uses: services (namespace, name) whose addresses it is told in its environment.
    """

    namespace: str
    name: str
    module: str
    port: int
    port_name: str = ""
    replicas: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = ""
    ready_scheme: Literal["http", "https"] = "http"
    uses: tuple[tuple[str, str], ...] = ()

    @property
    def image(self) -> str:
        """A name for the image column; nothing is ever pulled."""
        return f"portway.dev/{self.name}:{__version__}"

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-m", self.module)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object that comes with a node's programs, and the API path of the collection it belongs to."""

    collection: str
    object: Object

    @property
    def path(self) -> str:
        """API path of the object."""
        return f"{self.collection}/{self.object['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class Placement:
    """One replica of a workload, with the address it has on this node.

    Where there are several nodes, the pods' names tell them apart: the one with the usual name keeps the short names.
    """

    workload: Workload
    ordinal: int
    address: str
    node: str = DEFAULT_NODE_NAME

    @property
    def name(self) -> str:
        place = "" if self.node == DEFAULT_NODE_NAME else f"{self.node}-".replace(".", "-")
        return f"{self.workload.name}-{place}{self.ordinal}"

    @property
    def collection(self) -> str:
        """API path of the pods of its namespace."""
        return f"/api/v1/namespaces/{self.workload.namespace}/pods"

    @property
    def path(self) -> str:
        """API path of its Pod."""
        return f"{self.collection}/{self.name}"


def place(
    workloads: tuple[Workload, ...], addresses: tuple[str, ...], node: str = DEFAULT_NODE_NAME
) -> tuple[Placement, ...]:
    """Every replica of every workload on a node, with the addresses in order."""
    replicas = [(workload, ordinal) for workload in workloads for ordinal in range(workload.replicas)]
    return tuple(
        Placement(w, ordinal, address, node) for (w, ordinal), address in zip(replicas, addresses, strict=True)
    )


def pod_object(placement: Placement) -> Object:
    """The Pod as the agent creates it; it is bound to this node, so no scheduler is needed."""
    workload = placement.workload
    labels = {"app.kubernetes.io/managed-by": MANAGED_BY, "app.kubernetes.io/name": workload.name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": placement.name,
            "namespace": workload.namespace,
            "labels": labels | dict(workload.labels),
        },
        "spec": {
            "nodeName": placement.node,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "containers": [_container(workload)],
        },
    }


def _container(workload: Workload) -> dict[str, Any]:
    port: dict[str, Any] = {"containerPort": workload.port, "protocol": "TCP"}
    if workload.port_name:
        port["name"] = workload.port_name
    return {
        "name": workload.name,
        "image": workload.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(workload.command),
        "ports": [port],
        "readinessProbe": _probe(workload),
    }


def _probe(workload: Workload) -> dict[str, Any]:
    if workload.ready_path:
        scheme = workload.ready_scheme.upper()
        return {"httpGet": {"path": workload.ready_path, "port": workload.port, "scheme": scheme}, "periodSeconds": 2}
    return {"tcpSocket": {"port": workload.port}, "periodSeconds": 2}
