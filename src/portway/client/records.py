"""What the door keeps of each object: small frozen values, a few hundred bytes each.

Nothing here reads JSON (that is `decode`) or finds anything (that is `view`). Every record has slots, shares the
strings that repeat and keeps only what routing, authentication and address checks ask for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

KUBELET_PORT = 10250
"""Where a node's agent listens when the node does not say (kube-apiserver's --kubelet-port default)."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One entry of a Service's `spec.ports`, defaults filled in."""

    name: str
    """"" when unnamed."""
    number: int
    protocol: str
    target_port: int | str
    app_protocol: str
    node_port: int
    """0 when none is allocated."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a Service is reached otherwise than through the door: what kube-proxy makes of its spec and status."""

    cluster_ips: tuple[str, ...] = ()
    """Without "None"."""
    load_balancer_ips: tuple[str, ...] = ()
    """`status.loadBalancer.ingress[].ip` of a LoadBalancer where `ipMode` is VIP."""
    external_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    """CIDRs that may use the load balancer's addresses; () = all."""
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    affinity_seconds: int = 0
    """How long a client address stays with its endpoint; 0 = session affinity None."""
    health_check_node_port: int = 0
    problem: str = ""
    """What the condition portway.dev/PortsError on the Service's status says; "" without it."""


NOT_EXPOSED = Exposure()
"""What a Service without an address has."""


@dataclass(frozen=True, slots=True)
class Service:
    """A Service as the router needs it; labels and selectors are not kept."""

    namespace: str
    name: str
    uid: str
    type: str
    ports: tuple[ServicePort, ...]
    cluster_ip: str
    """"None" for a headless service, "" when there is none."""
    external_name: str
    annotations: Mapping[str, str]
    """Only those whose key starts with `portway.dev/`."""
    publish_not_ready: bool
    session_affinity: str
    exposure: Exposure = NOT_EXPOSED


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address and port behind a service's port."""

    address: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    pod: str
    """Name of the pod behind the address; "" when no pod is named."""
    pod_namespace: str
    node: str
    hinted_zones: tuple[str, ...] = ()
    """`hints.forZones`: the zones that should use it; () without a hint."""
    hinted_nodes: tuple[str, ...] = ()
    """`hints.forNodes`."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod: its addresses, the ports it declares, and what a bound token must match."""

    namespace: str
    name: str
    uid: str
    ips: tuple[str, ...]
    """`status.podIPs` in order; the first is the primary one."""
    ports: tuple[tuple[str, int], ...]
    """(name, containerPort) in the order of `spec.containers`; whatever the protocol."""
    phase: str
    deleting: bool
    service_account: str
    deletion_time: float = 0.0
    """When its deletion is due, unix seconds; 0 when it is not being deleted."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node: where its agent is."""

    name: str
    uid: str
    addresses: tuple[tuple[str, str], ...]
    """(type, address), in the order of `status.addresses`."""
    kubelet_port: int
    zone: str = ""
    """Its label topology.kubernetes.io/zone."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A ServiceAccount: what a token must match."""

    namespace: str
    name: str
    uid: str
    deletion_time: float = 0.0
    """As in `Pod`."""


EndpointMap = Mapping[str, tuple[Endpoint, ...]]
"""Endpoints by the name of the service port ("" when unnamed)."""
