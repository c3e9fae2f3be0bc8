"""What `portway up` was asked to do: one frozen, validated object.

A setting is declared once, as a field of `UpSettings`; its flag, its key in the configuration file and its help follow
from the field. Precedence: flag, then file, then default. This is the only place that reads the environment
(HOME and XDG_STATE_HOME, for the default data directory). `cli/up.py` makes the flags; `run.py` takes the result.
"""
# ruff: noqa: RUF009 - `_option` makes a dataclass field, it is no default value

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from portway.kube.names import is_dns1123_subdomain
from portway.node.workload import DEFAULT_NODE_NAME
from portway.options import values
from portway.options.declared import Options, option
from portway.options.errors import SettingsError
from portway.storage.etcdsettings import DEFAULT_PREFIX, EtcdSettings, names_etcd, parse_endpoints
from portway.up import fitting, hostaddress

DEMO_INSECURE_PORT = 8080
PLAIN_ADDRESS = "127.0.0.1"
"""Where plain HTTP is served: nowhere else, because it carries passwords."""
DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"


def _limit(value: str) -> tuple[str, float]:
    from portway.gateway.settings import limit  # here, because few starts change one

    return limit(value)


def _controller(value: str) -> str:
    """A controller's name, `-name` or `*`."""
    from portway.controllers.manager import enabled_names  # here, because few starts name one

    enabled_names(values.text(value))
    return value


def _addresses(value: str) -> str:
    """A CIDR, or a range of addresses."""
    from portway.controllers.addresspool import parse  # here, because few starts give any

    parse(values.text(value))
    return value


class _Store(values.Choice):
    """sqlite, memory, or the address of an etcd."""

    def __call__(self, value: str) -> str:
        if not names_etcd(value):
            return super().__call__(value)
        parse_endpoints(value)
        return value


def _domain(value: str) -> str:
    """A DNS name."""
    faults = is_dns1123_subdomain(value)
    if faults:
        raise ValueError(f'"{value}" is no domain: {faults[0]}')
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """Everything that `portway up` can be told. Flag names are kube-apiserver's where it has the same thing."""

    data_dir: Path = option(
        values.path, "DIR", "where keys, users and the cluster's objects are kept", shown_default="~/.portway"
    )
    demo: bool = option(values.boolean, "BOOL", "start demo services and a user to open them with", default=False)
    bind_address: str = option(values.address, "IP", "address of the TLS listener", default="127.0.0.1")
    advertise_address: str = option(
        values.advertised_address,
        "IP",
        "address by which the cluster's clients, and other servers on one etcd, are told to reach the TLS listener",
        default="",
        shown_default="--bind-address; if that is all addresses, the one of the interface with the default route",
    )
    secure_port: int = option(values.listening_port, "PORT", "port of the TLS listener", default=6443)
    insecure_port: int | None = option(
        values.port,
        "PORT",
        "plain HTTP on 127.0.0.1, for a browser on this machine; 0 = off",
        shown_default="0; 8080 with --demo",
    )
    tls_cert_file: Path | None = option(
        values.path,
        "FILE",
        "serving certificate and its chain, PEM",
        shown_default="one of the cluster's own authority",
    )
    tls_private_key_file: Path | None = option(values.path, "FILE", "key of --tls-cert-file, PEM")
    client_ca_file: Path | None = option(
        values.path, "FILE", "authorities of client certificates, beside the cluster's own"
    )
    token_auth_file: Path | None = option(values.path, "FILE", 'static tokens: CSV of token,user,uid,"group1,group2"')
    basic_auth_file: Path | None = option(
        values.path, "FILE", "users and password hashes (htpasswd: bcrypt, argon2)", shown_default="DATA-DIR/htpasswd"
    )
    anonymous_auth: bool = option(
        values.boolean, "BOOL", "let requests without a credential be system:anonymous", default=True
    )
    service_cluster_ip_range: str = option(
        values.service_networks,
        "CIDR[,CIDR]",
        "the cluster addresses of services; two of different families make a dual-stack cluster",
        default="10.96.0.0/16",
    )
    service_node_port_range: tuple[int, int] = option(
        values.port_range, "LOW-HIGH", "the node ports of services", default=(30000, 32767), shown_default="30000-32767"
    )
    proxy_mode: str = option(
        values.choice("userspace", "none"),
        "MODE",
        "userspace = serve node ports, load balancer, external and cluster addresses of services on this machine, to "
        "everybody who reaches them, unauthenticated; none = don't",
        default="userspace",
    )
    nodeport_addresses: tuple[str, ...] = option(
        values.network,
        "LIST",
        "CIDRs of this machine's addresses that node ports are served on, such as 127.0.0.0/8",
        many=True,
        default=(),
        shown_default="all addresses",
    )
    service_interface: str = option(
        values.interface,
        "NAME",
        "interface that bears the addresses of services, made when it isn't there, which needs root; none = only "
        "addresses that this machine has anyway",
        default="",
        shown_default="portway-HASH",
    )
    load_balancer_addresses: tuple[str, ...] = option(
        _addresses,
        "LIST",
        "addresses for services of type LoadBalancer: CIDRs and ranges such as 192.0.2.10-192.0.2.20",
        many=True,
        default=(),
        shown_default="none: such services stay pending",
    )
    ingress_domains: tuple[str, ...] = option(
        _domain,
        "LIST",
        "domains that Ingresses may have hosts in, themselves included, such as apps.example.com",
        many=True,
        default=(),
        shown_default="all names but those of the certificate",
    )
    cluster_cidr: str = option(
        values.network, "CIDR", "the addresses of pods that this machine runs", default="127.64.0.0/10"
    )
    service_account_issuer: str = option(values.text, "URL", "issuer of service account tokens", default=DEFAULT_ISSUER)
    service_account_key_file: tuple[Path, ...] = option(
        values.path, "FILE", "further keys that service account tokens may be signed with", many=True, default=()
    )
    service_account_signing_key_file: Path | None = option(
        values.path, "FILE", "key that signs service account tokens", shown_default="made in DATA-DIR"
    )
    service_account_jwks_uri: str = option(
        values.https_url,
        "URL",
        "where verifiers of service account tokens find the keys",
        default="",
        shown_default="/openid/v1/jwks here",
    )
    api_audiences: tuple[str, ...] = option(
        values.text, "LIST", "audiences that tokens must name", many=True, default=(), shown_default="the issuer"
    )
    audit_log_path: str = option(values.output_path, "FILE", "where audit events go; - = standard output", default="")
    audit_policy_file: Path | None = option(
        values.path, "FILE", "audit.k8s.io/v1 Policy", shown_default="metadata of all"
    )
    audit_log_maxsize: int = option(values.whole_number, "MIB", "size at which the audit log is rotated", default=100)
    audit_log_maxbackup: int = option(values.whole_number, "N", "rotated audit logs that are kept", default=10)
    access_log: str = option(values.choice("off", "json", "combined"), "FORMAT", "off, json or combined", default="off")
    access_log_path: str = option(
        values.output_path, "FILE", "where the access log goes; - = standard output", default="-"
    )
    controllers: tuple[str, ...] = option(
        _controller,
        "LIST",
        "controllers to run: * = all, -name = all but it",
        many=True,
        default=("*",),
        shown_default="*",
    )
    html_sandbox: bool = option(
        values.boolean,
        "BOOL",
        "give services' pages an origin of their own in browsers that send a password or certificate by themselves; "
        "without it a page's scripts act as the user who opens it",
        default=True,
    )
    proxy_endpoints_without_pods: bool = option(
        values.boolean, "BOOL", "reach hand-made endpoints that name no pod", default=False
    )
    proxy_external_names: bool = option(values.boolean, "BOOL", "reach ExternalName services", default=False)
    kubelet_certificate_authority: Path | None = option(
        values.path, "FILE", "authorities that nodes' own ports are verified with, PEM", shown_default="unverified"
    )
    limit: tuple[tuple[str, float], ...] = option(
        _limit,
        "NAME=VALUE",
        "a bound on what clients and backends may take, such as header-bytes=32768; docs/limits.md lists them",
        many=True,
        default=(),
        shown_default="none changed",
    )
    store: str = option(
        _Store(("sqlite", "memory", "etcd://")),
        "KIND",
        "sqlite; memory, which forgets at exit; or an etcd, which several servers may share: etcd://HOST:2379[,…], or "
        " etcds:// with TLS",
        default="sqlite",
    )
    etcd_prefix: str = option(values.text, "PATH", "what the keys in etcd begin with", default=DEFAULT_PREFIX)
    etcd_cafile: Path | None = option(
        values.path, "FILE", "authorities that etcd's certificate is verified with, PEM", shown_default="the system's"
    )
    etcd_certfile: Path | None = option(values.path, "FILE", "client certificate for etcd, PEM")
    etcd_keyfile: Path | None = option(values.path, "FILE", "key of --etcd-certfile, PEM")
    etcd_username: str = option(values.text, "NAME", "etcd's user, where it asks for one", default="")
    etcd_password_file: Path | None = option(values.path, "FILE", "its first line is the password of --etcd-username")
    hostname_override: str = option(
        values.node_name,
        "NAME",
        "name of this machine's node; each server on one etcd has its own",
        default="",
        shown_default="portway; with etcd one made of this machine's name and DATA-DIR",
    )
    etcd_compaction_interval: float = option(
        values.seconds,
        "DURATION",
        "how long the store keeps its history, for lists in pages; 0 = for ever",
        default=300.0,
        shown_default="5m",
    )
    default_watch_cache_size: int = option(
        values.positive_number,
        "N",
        "changes of a kind that are kept for watchers who come back",
        default=10_000,
    )
    workers: int = option(values.workers, "N", "gateway processes", shown_default="one per core")
    kubeconfig: Path | None = option(
        values.path, "FILE", "where the admin's kubeconfig is written", shown_default="DATA-DIR/admin.kubeconfig"
    )

    @property
    def plain_port(self) -> int:
        """The plain listener's port, 0 when there is none."""
        if self.insecure_port is None:
            return DEMO_INSECURE_PORT if self.demo else 0
        return self.insecure_port

    @property
    def interface(self) -> str:
        """What bears the addresses of services, "" for nothing; by default one that no other cluster has."""
        if self.service_interface == "none":
            return ""
        return self.service_interface or f"portway-{sha256(bytes(self.data_dir)).hexdigest()[:7]}"

    @property
    def reachable_address(self) -> str:
        """The address that a client on this machine dials for the TLS listener, ready for a URL."""
        bound = ipaddress.ip_address(self.bind_address)
        if bound.is_unspecified:
            return "127.0.0.1" if bound.version == 4 else "[::1]"
        return str(bound) if bound.version == 4 else f"[{bound}]"

    @property
    def server(self) -> str:
        """URL of the TLS listener."""
        return f"https://{self.reachable_address}:{self.secure_port}"

    @property
    def advertised(self) -> str:
        """ "host:port" of the TLS listener, as the cluster's clients are told."""
        host = self.advertise_address
        return f"[{host}]:{self.secure_port}" if ":" in host else f"{host}:{self.secure_port}"

    @property
    def plain_server(self) -> str:
        """URL of the plain listener, "" when there is none."""
        return f"http://{PLAIN_ADDRESS}:{self.plain_port}" if self.plain_port else ""

    @property
    def etcd(self) -> EtcdSettings | None:
        """The etcd that the objects are kept in; None when they are kept here. Raises SettingsError."""
        if not names_etcd(self.store):
            return None
        endpoints, tls = parse_endpoints(self.store)
        try:
            return EtcdSettings(
                endpoints=endpoints,
                tls=tls,
                ca_file=str(self.etcd_cafile or ""),
                cert_file=str(self.etcd_certfile or ""),
                key_file=str(self.etcd_keyfile or ""),
                username=self.etcd_username,
                password_file=str(self.etcd_password_file or ""),
                prefix=self.etcd_prefix,
            )
        except ValueError as error:
            raise SettingsError(str(error), usage=True) from None

    @property
    def node_name(self) -> str:
        """The name of this machine's node. In one etcd, two machines, or two data directories, must not share it."""
        if self.hostname_override:
            return self.hostname_override
        if not names_etcd(self.store):
            return DEFAULT_NODE_NAME
        place = f"{socket.gethostname()} {self.data_dir}"
        return f"{DEFAULT_NODE_NAME}-{sha256(place.encode()).hexdigest()[:8]}"

    @property
    def audiences(self) -> tuple[str, ...]:
        """The API's audiences: the issuer unless said otherwise, as kube-apiserver's default."""
        return self.api_audiences or (self.service_account_issuer,)


UP: Options[UpSettings] = Options(UpSettings, "portway up")


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """$XDG_STATE_HOME/portway where that is set, otherwise ~/.portway."""
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "portway"
    try:
        return Path.home() / ".portway"
    except RuntimeError:
        raise SettingsError("there is no home directory; give the cluster one with --data-dir", usage=True) from None


def load(flags: Mapping[str, object], config_file: Path | None = None) -> UpSettings:
    """Settings from flags (name → text or texts, only those that were given), a YAML file and the defaults.

    Raises:
        SettingsError: with one line that names the flag or key.
    """
    chosen = UP.given(flags, config_file)
    chosen.setdefault("data_dir", default_data_dir())
    chosen.setdefault("workers", len(os.sched_getaffinity(0)))
    settings = UpSettings(**chosen)
    fitting.check(settings)
    if settings.advertise_address:
        return settings
    services = ipaddress.ip_network(settings.service_cluster_ip_range.partition(",")[0])
    return replace(settings, advertise_address=hostaddress.of_door(settings.bind_address, services.version))
