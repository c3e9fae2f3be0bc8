"""Which target: from a parsed proxy URL and the view of the cluster to endpoints that may be dialled.

Pure but for the view it reads: it raises what upstream answers when a target can't be had. The caller confirms such a
miss with the API before it answers, because the view may be a moment behind. Facts: kube-apiserver's ResourceLocation
of services, pods and nodes; "default or unnamed port" as the documentation of the proxy verb has it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from portway.client.records import Endpoint as Address
from portway.client.records import Node, Pod, Service, ServicePort
from portway.client.view import ClusterView
from portway.gateway.upstream.addresses import AddressPolicy
from portway.kube.errors import BadRequest, ServiceUnavailable, StatusError, not_found
from portway.kube.proxyurl import TargetId, equivalent_ids

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
_NODE_ADDRESSES = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a target is.

    `addresses` are literal and checked, except when `host` is set: then they are empty and that name must be
    resolved, checked and dialled as resolved, at `port`. `spellings` are the other ids that mean the same port and
    scheme. `watched` are the (kind, namespace, name) whose change makes this location stale.
    """

    addresses: tuple[tuple[str, int], ...]
    tls: bool
    spellings: tuple[str, ...]
    watched: tuple[tuple[str, str, str], ...]
    service: Service | None = None
    host: str = ""
    port: int = 0
    kubelet: bool = False
    """A node's own agent, which the operator may have given an authority of its own."""
    pods: tuple[str, ...] = ()
    """The pod behind each of `addresses`, in the target's namespace; () where there are none."""


class Router:
    """Finds locations on one view. `endpoints_without_pods` and `external_names` are the operator's, off by default."""

    def __init__(
        self,
        view: ClusterView,
        policy: AddressPolicy,
        *,
        endpoints_without_pods: bool = False,
        external_names: bool = False,
    ) -> None:
        self._view = view
        self._policy = policy
        self._bare = endpoints_without_pods
        self._external = external_names

    def locate(self, resource: str, namespace: str, target: TargetId) -> Location:
        """The location of a target, or upstream's StatusError (404, 503, 400)."""
        if resource == "services":
            return self._service(namespace, target)
        if resource == "pods":
            return self._pod(namespace, target)
        return self._node(target)

    def named(self, namespace: str, name: str, port: str) -> TargetId:
        """The id of a service that a host name names: TLS where the port says https, for a host name can't.

        While the service or the port is not known it is the plain id, whose location then says so.
        """
        service = self._view.service(namespace, name)
        plain = TargetId("", name, port)
        try:
            if service is None:
                return plain
            found = service_port(service, plain)
        except StatusError:
            return plain
        return TargetId("https" if _says(found, "https") else "", name, found.name)

    def _service(self, namespace: str, target: TargetId) -> Location:
        service = self._view.service(namespace, target.name)
        if service is None:
            raise not_found("services", target.name)
        tls = target.scheme == "https"
        port = service_port(service, target)
        default = _is_default(service, port, tls)
        names = [str(port.number)] if _first_of_number(service, port) else []
        names += [port.name] if port.name and not _INTEGER.match(port.name) else []
        spellings = equivalent_ids(target, (*names, "") if default else tuple(names))
        watched = [("services", namespace, target.name), ("endpointslices", namespace, target.name)]
        if service.type == "ExternalName":
            if not self._external:
                raise not_found("services", target.name)
            return Location((), tls, spellings, tuple(watched), service, service.external_name, port.number)
        found, pods = self._ready(namespace, target, port)
        watched += (("pods", namespace, pod) for pod in pods)
        behind = {(a.address, a.port): a.pod for a in found}
        pod_names = tuple(behind.values()) if all(behind.values()) else ()
        return Location(tuple(behind), tls, spellings, tuple(watched), service, pods=pod_names)

    def _ready(self, namespace: str, target: TargetId, port: ServicePort) -> tuple[list[Address], set[str]]:
        """The addresses that may serve, and the pods that this depends on: also those that are not yet what the slice
        says of them, for a pod's event may come after the slice's.
        """
        by_port = self._view.endpoints(namespace, target.name)
        if by_port is None:
            raise not_found("services", target.name)
        named = by_port.get(port.name, ())
        offered = [a for a in named if self._valid(namespace, a) and not _is_door(namespace, target.name)]
        found = [a for a in offered if a.ready] or [a for a in offered if a.serving and a.terminating]
        if not found:
            raise ServiceUnavailable(f'no endpoints available for service "{_spelled(target)}"')
        return found, {a.pod for a in named if a.pod and a.pod_namespace == namespace}

    def _valid(self, namespace: str, address: Address) -> bool:
        if not self._policy.allows(address.address):
            return False
        if not address.pod:
            return self._bare
        if address.pod_namespace != namespace:
            return False
        pod = self._view.pod(namespace, address.pod)
        return pod is not None and address.address in pod.ips

    def _pod(self, namespace: str, target: TargetId) -> Location:
        pod = self._view.pod(namespace, target.name)
        if pod is None:
            raise not_found("pods", target.name)
        port = _pod_port(pod, target)
        if not pod.ips or not self._policy.allows(pod.ips[0]):
            raise BadRequest("address not allowed")
        # A name that two containers declare means the first's port only.
        said = ["", *dict.fromkeys(name for name, number in pod.ports if name and number == port)]
        ports = [str(port), *(name for name in said if _pod_port(pod, target._replace(port=name)) == port)]
        return Location(
            ((pod.ips[0], port),),
            target.scheme == "https",
            equivalent_ids(target, tuple(ports)),
            (("pods", namespace, target.name),),
            pods=(target.name,),
        )

    def _node(self, target: TargetId) -> Location:
        node = self._view.node(target.name)
        if node is None:
            raise not_found("nodes", target.name)
        host = _node_host(node)
        kubelet = target.port in ("", str(node.kubelet_port))
        port = node.kubelet_port if kubelet else _number(target.port, f'node "{target.name}"')
        tls = kubelet or target.scheme == "https"
        spellings = equivalent_ids(target, ("", str(node.kubelet_port))) if kubelet else ()
        watched = (("nodes", "", target.name),)
        if not _literal(host):
            return Location((), tls, spellings, watched, None, host, port, kubelet)
        if not self._policy.allows(host):
            raise BadRequest("address not allowed")
        return Location(((host, port),), tls, spellings, watched, kubelet=kubelet)


def _is_door(namespace: str, name: str) -> bool:
    """Whether a service is the cluster's API itself: a door that proxied to it would proxy to itself."""
    return (namespace, name) == ("default", "kubernetes")


def service_port(service: Service, target: TargetId) -> ServicePort:
    """The port that an id means: by number, by name, or the default one."""
    if not target.port:
        return _default_port(service, target.scheme)
    if _INTEGER.match(target.port):
        number = int(target.port)
        for port in service.ports:
            if port.number == number:
                return port
        raise ServiceUnavailable(f'no service port {number} found for service "{service.name}"')
    for port in service.ports:
        if port.name == target.port:
            return port
    raise ServiceUnavailable(f'no endpoints available for service "{_spelled(target)}"')


def _default_port(service: Service, scheme: str) -> ServicePort:
    ports = [p for p in service.ports if p.protocol == "TCP"] or list(service.ports)
    unnamed = [p for p in ports if not p.name]
    for certain in (unnamed, ports):
        if len(certain) == 1:
            return certain[0]
    wanted = scheme or "http"
    said = [p for p in ports if _says(p, wanted)]
    exact = [p for p in said if p.name == wanted] or said
    if len(exact) == 1:
        return exact[0]
    prefix = f"{scheme}:" if scheme else ""
    choices = ", ".join(f'"{prefix}{service.name}:{p.name or p.number}"' for p in exact or ports)
    raise ServiceUnavailable(
        f'no port of service "{service.name}" is evidently meant; name one of: {choices or "none"}'
    )


def _says(port: ServicePort, scheme: str) -> bool:
    if port.app_protocol:
        return port.app_protocol.lower() == scheme
    if port.name == scheme or port.name.startswith(scheme + "-"):
        return True
    return port.number in ((443, 8443) if scheme == "https" else (80, 8080)) and not port.name.startswith("http")


def _is_default(service: Service, port: ServicePort, tls: bool) -> bool:
    try:
        return _default_port(service, "https" if tls else "") is port
    except StatusError:
        return False


def _first_of_number(service: Service, port: ServicePort) -> bool:
    return next(p for p in service.ports if p.number == port.number) is port


def _pod_port(pod: Pod, target: TargetId) -> int:
    if not target.port:
        if pod.ports:
            return pod.ports[0][1]
        return 443 if target.scheme == "https" else 80
    for name, number in pod.ports:
        if name == target.port:
            return number
    return _number(target.port, f'pod "{pod.name}"')


def _number(text: str, owner: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f'{owner} has no port named "{text}"')
    number = int(text[:6])
    if not 0 < number < 65536 or len(text) > 5:
        raise ServiceUnavailable(f"error trying to reach service: invalid port {text}")
    return number


def _node_host(node: Node) -> str:
    for kind in _NODE_ADDRESSES:
        for found, address in node.addresses:
            if found == kind:
                return address
    known: Iterable[str] = (address for _, address in node.addresses)
    raise StatusError(f"no preferred addresses found; known addresses: [{' '.join(known)}]")


def _literal(host: str) -> bool:
    return bool(re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", host))


def _spelled(target: TargetId) -> str:
    if target.scheme:
        return f"{target.scheme}:{target.name}:{target.port}"
    return f"{target.name}:{target.port}" if target.port else target.name
