"""Everything that a gateway worker is told, in one frozen object; nothing else in the gateway reads files or the
environment for it.

It crosses the process boundary as JSON. Limits bound what a peer controls; each names its precedent.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from portway.gateway.filter import FilterRules
from portway.kube.ingresshosts import IngressHosts

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients and backends may make a worker hold. Sizes in bytes, times in seconds, 0 = no bound
    where said.
    """

    header_bytes: int = 65536
    """Request line and headers together; over it 431 (nginx: 32 KiB, Envoy: 60 KiB, kube-apiserver: 1 MiB)."""
    header_count: int = 256
    """Header fields of one request; over it 431."""
    url_bytes: int = 16384
    """Length of the request target; over it 414."""
    header_timeout: float = 32.0
    """First byte to end of headers (kube-apiserver's ReadHeaderTimeout)."""
    body_timeout: float = 60.0
    """Between two reads of a request body that the backend is waiting for (nginx's client_body_timeout)."""
    idle_timeout: float = 90.0
    """A kept-alive client connection without a request (kube-apiserver's IdleTimeout)."""
    handshake_timeout: float = 10.0
    """A client's TLS handshake (Go's TLSHandshakeTimeout)."""
    connect_timeout: float = 5.0
    """Dialling an endpoint, its TLS handshake included, before the next one is tried (Envoy: 5 s)."""
    response_timeout: float = 3600.0
    """From the end of a request to its response's headers, and between two reads of the response; 0 = none, as
    upstream.
    """
    upstream_idle_timeout: float = 60.0
    """A pooled connection without a request (Go's transport: 90 s; ours is the side that must close first)."""
    upstream_idle: int = 1024
    """Pooled connections to one endpoint in one worker; further ones are closed after their answer."""
    requests_per_connection: int = 100000
    """After as many answers a client connection is closed politely, so that clients spread over workers again."""
    connections_per_client: int = 10000
    """Open connections of one peer address in one worker."""
    connections: int = 50000
    """Open client connections in one worker."""
    pipelined: int = 64
    """Requests that may wait behind the one being answered; over it the connection ends after them."""
    upgrade_lifetime: float = 86400.0
    """Longest life of an upgraded connection: a credential that was revoked ends no later than this."""
    upgrade_idle_timeout: float = 3600.0
    """An upgraded connection without a byte in either direction."""
    drain_timeout: float = 30.0
    """SIGTERM to the end of what is still open (Kubernetes' default grace period)."""
    service_connections: int = 20000
    """Open TCP connections to services' own ports, of all together; a further one is reset."""
    service_connections_per_port: int = 10000
    """The same for one listener, and the UDP flows of one."""
    service_idle_timeout: float = 86400.0
    """A TCP connection to a service's own port without a byte (kube-proxy's conntrack-tcp-timeout-established)."""
    service_half_closed_timeout: float = 3600.0
    """The same once one side has ended (kube-proxy's conntrack-tcp-timeout-close-wait)."""
    service_udp_flows: int = 10000
    """Clients of services' UDP ports, of all together; datagrams of further ones are dropped."""
    service_udp_idle_timeout: float = 120.0
    """A UDP flow without a datagram (Linux' nf_conntrack_udp_timeout_stream); 30 s while it was never answered."""


def limit(value: str) -> tuple[str, float]:
    """NAME=VALUE, with a name of docs/limits.md → (field, number); ValueError says what is wrong."""
    name, mark, number = value.partition("=")
    known = {n.replace("_", "-"): type(default) for n, default in dataclasses.asdict(Limits()).items()}
    if not mark or name not in known:
        raise ValueError(f'"{value}" is not NAME=VALUE with one of the names {", ".join(known)}')
    try:
        found = known[name](number)
    except ValueError:
        raise ValueError(f'"{number}" is no number for {name}') from None
    if not 0 <= found < 2**40 or (found == 0 and name != "response-timeout"):
        raise ValueError(f"{name} must be more than 0")
    return name.replace("-", "_"), found


@dataclass(frozen=True)
class Authentication:
    """Who may come in, and by what."""

    local: str = ""
    """Whoever reaches the listener is the user of this name, and asked for nothing (`portway proxy`)."""
    anonymous_auth: bool = True
    token_auth_file: str = ""
    basic_auth_file: str = ""
    client_ca_file: str = ""
    service_account_key_files: tuple[str, ...] = ()
    service_account_issuer: str = "https://kubernetes.default.svc"
    api_audiences: tuple[str, ...] = ("https://kubernetes.default.svc",)


@dataclass(frozen=True)
class Delegation:
    """Who else is asked: issuers whose tokens the door verifies, and the cluster itself. Flags of these names are
    kube-apiserver's and kubelet's.
    """

    authentication_config: str = ""
    """An AuthenticationConfiguration file; instead of the oidc settings."""
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_ca_file: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_signing_algs: tuple[str, ...] = ("RS256",)
    oidc_required_claims: tuple[str, ...] = ()
    """CLAIM=VALUE each."""
    authentication_token_webhook: bool = False
    """Ask the cluster with a TokenReview about bearer tokens that nobody here knows."""
    token_review_audiences: tuple[str, ...] = ()
    """Of which such a token must be for one; () = the API server's own."""
    authentication_token_webhook_cache_ttl: float = 10.0
    authorization_webhook_cache_authorized_ttl: float = 10.0
    authorization_webhook_cache_unauthorized_ttl: float = 10.0
    outage_grace: float = 60.0
    """Seconds that what the cluster said is believed beyond its time while it can't be asked; 0 = none."""


@dataclass(frozen=True)
class Record:
    """Where events go. Paths: empty = off, "-" = standard output."""

    audit_log_path: str = ""
    audit_policy_file: str = ""
    audit_log_maxsize: int = 100
    """Mebibytes after which the file is rotated (kube-apiserver's flag; 0 = never)."""
    audit_log_maxbackup: int = 5
    access_log: str = "off"
    """off, json or combined."""
    access_log_path: str = "-"
    run_dir: str = ""
    """Directory where workers leave each other their counters."""


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster behind the door: where its API is, and what of it is believed."""

    name: str = ""
    """How the door's URLs call it: /clusters/NAME/."""
    label: str = ""
    """How host names call it, a DNS label; "" for the one that they mean when they name none."""
    api_socket: str = ""
    """The unix socket of the embedded API server; without it the cluster is the kubeconfig's."""
    streams_socket: str = ""
    """The unix socket of the embedded node agent, where port-forwards go instead of the API server."""
    kubeconfig: str = ""
    """As kubectl's flag: "" for $KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of client.kubeconfig.Overrides: the context and what else a command line said."""
    identity: str = "own"
    """Who a request is to a remote API server: `own` (the kubeconfig's user) or `impersonate` (whom the door
    identified).
    """
    authorization_mode: str = "RBAC"
    """RBAC, Webhook (SubjectAccessReview) or AlwaysAllow (where the API server decides): kube-apiserver's names."""
    append_server_path: bool = True
    """Whether the path of the server's URL stands in front of every request's."""
    via: str = "direct"
    """How services are reached: direct, tunnel, through, or auto."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are followed; () = all."""
    cluster_cidrs: tuple[str, ...] = ()
    """The cluster's pod ranges: loopback and other special addresses inside them are pods, outside them they are
    refused.
    """
    endpoints_without_pods: bool = False
    """Dial hand-made endpoints that name no pod; upstream never does."""
    external_names: bool = False
    """Proxy to ExternalName services; upstream never does."""
    kubelet_ca_file: str = ""
    """Authority of the nodes' agents; "" = not verified, as upstream."""


@dataclass(frozen=True)
class GatewaySettings:
    """One gateway. The first of its clusters is the one that a URL means when it names none."""

    clusters: tuple[ClusterSettings, ...]
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    insecure_port: int | None = None
    """Plain HTTP; 0 = any free port, None = off."""
    insecure_address: str = "127.0.0.1"
    unix_socket: str = ""
    """Plain HTTP on a unix socket, for this user alone."""
    workers: int = 1
    share_ports: bool = True
    """Whether several workers may listen on one port; a lone process that does would share it with a stranger's."""
    html_sandbox: bool = True
    """Serve a service's HTML in a sandboxed origin when the browser's credential is ambient (basic, certificate)."""
    host_bases: tuple[str, ...] = ()
    """Domains below which each service has a host name of its own: see gateway.hosts."""
    api_prefix: str = "/"
    """Below which path the API and the proxy verb are served; nothing else is then."""
    filter: FilterRules | None = None
    """What is let through at all; None = everything."""
    ingress: IngressHosts | None = None
    """Which hosts the first cluster's Ingresses may have; None = Ingresses are not served."""
    limits: Limits = field(default_factory=Limits)
    authentication: Authentication = field(default_factory=Authentication)
    delegation: Delegation = field(default_factory=Delegation)
    record: Record = field(default_factory=Record)

    def to_json(self) -> str:
        """For a worker's standard input."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "GatewaySettings":
        """What to_json wrote; unknown keys are a TypeError."""
        value = json.loads(text)
        value["clusters"] = [_from_dict(ClusterSettings, cluster) for cluster in value["clusters"]]
        if value.get("filter") is not None:
            value["filter"] = _from_dict(FilterRules, value["filter"])
        if value.get("ingress") is not None:
            value["ingress"] = _from_dict(IngressHosts, value["ingress"])
        parts = {"limits": Limits, "authentication": Authentication, "delegation": Delegation, "record": Record}
        for name, kind in parts.items():
            value[name] = _from_dict(kind, value.get(name, {}))
        return _from_dict(cls, value)


def _from_dict(kind: type[T], value: dict[str, Any]) -> T:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})
