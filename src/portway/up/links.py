"""A Service → the URL that reaches it through the door, as `kubectl cluster-info` spells it. Pure."""

from collections.abc import Mapping
from typing import Any

from portway.kube.objects import Object
from portway.kube.proxyurl import TargetId, join_id

CLUSTER_SERVICE = "kubernetes.io/cluster-service=true"
"""Label selector of the services that `cluster-info` lists."""


def title(service: Object) -> str:
    """What `cluster-info` calls a service: its label kubernetes.io/name, else its name."""
    labels = service["metadata"].get("labels") or {}
    return str(labels.get("kubernetes.io/name") or service["metadata"]["name"])


def ports(service: Object) -> list[Mapping[str, Any]]:
    """The service's ports."""
    return (service.get("spec") or {}).get("ports") or []


def link(server: str, service: Object, port: Mapping[str, Any] | None) -> str:
    """The URL of one port, without a trailing slash; without a port, of the service's bare name.

    As kubectl: the scheme is https for a port named `https` or numbered 443, and the id carries the port's name.
    """
    metadata = service["metadata"]
    spoken = "https" if port and (port.get("name") == "https" or port.get("port") == 443) else ""
    target = join_id(TargetId(spoken, metadata["name"], (port or {}).get("name") or ""))
    return proxy_url(server, metadata["namespace"], target)


def proxy_url(server: str, namespace: str, target: str) -> str:
    """The URL of a service's id in a namespace, without a trailing slash."""
    return f"{server}/api/v1/namespaces/{namespace}/services/{target}/proxy"


def first_link(server: str, service: Object) -> str:
    """What `cluster-info` prints: the load balancer's addresses where there are any, else the first port's URL."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress:
        host = ingress[0].get("ip") or ingress[0].get("hostname") or ""
        return "".join(f"http://{host}:{port['port']} " for port in ports(service))
    return link(server, service, next(iter(ports(service)), None))
