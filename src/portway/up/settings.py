"""What `portway up` was asked to do: one frozen, validated object.

A setting is declared once, as a field of `UpSettings`; its flag, its key in the configuration file and its help follow
from the field. Precedence: flag, then file, then default. This is the only place that reads the environment
(HOME and XDG_STATE_HOME, for the default data directory). `cli/up.py` makes the flags; `run.py` takes the result.
"""
# ruff: noqa: RUF009 - `_option` makes a dataclass field, it is no default value

import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from portway.up import values
from portway.up.errors import SettingsError

DEMO_INSECURE_PORT = 8080
PLAIN_ADDRESS = "127.0.0.1"
"""Where plain HTTP is served: nowhere else, because it carries passwords."""
DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Option:
    """How one setting is written.

    Attributes:
        name: the flag without its dashes, which is also the key in the configuration file.
        parse: text → value; ValueError says what is wrong with it.
        metavar: what stands for the value in the help.
        help: one line for the help.
        many: the flag may be repeated, the key may hold a list, and either may hold a comma-separated text.
        shown_default: the default in words, where the value would say too little.
    """

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    many: bool = False
    shown_default: str = ""

    def value(self, raw: object) -> Any:
        """The value of what stood in a file or on the command line; ValueError when it cannot be."""
        if self.many:
            items = raw if isinstance(raw, (list, tuple)) else [raw]
            pieces = [piece.strip() for item in items for piece in _as_text(item).split(",")]
            return tuple(self.parse(piece) for piece in pieces if piece)
        return self.parse(_as_text(raw))


def _as_text(raw: object) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if raw is None:
        raise ValueError("has no value")
    if isinstance(raw, (list, dict)):
        raise ValueError("must be a single value")
    return str(raw)


def _option(parse: Callable[[str], Any], metavar: str, help: str, **more: Any) -> Any:  # noqa: A002
    option: dict[str, Any] = {"parse": parse, "metavar": metavar, "help": help}
    default = more.pop("default", None)
    return field(default=default, metadata=option | more)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """Everything that `portway up` can be told. Flag names are kube-apiserver's where it has the same thing."""

    data_dir: Path = _option(
        values.path, "DIR", "where keys, users and the cluster's objects are kept", shown_default="~/.portway"
    )
    demo: bool = _option(values.boolean, "BOOL", "start demo services and a user to open them with", default=False)
    bind_address: str = _option(values.address, "IP", "address of the TLS listener", default="127.0.0.1")
    secure_port: int = _option(values.listening_port, "PORT", "port of the TLS listener", default=6443)
    insecure_port: int | None = _option(
        values.port,
        "PORT",
        "plain HTTP on 127.0.0.1, for a browser on this machine; 0 = off",
        shown_default="0; 8080 with --demo",
    )
    tls_cert_file: Path | None = _option(
        values.path,
        "FILE",
        "serving certificate and its chain, PEM",
        shown_default="one of the cluster's own authority",
    )
    tls_private_key_file: Path | None = _option(values.path, "FILE", "key of --tls-cert-file, PEM")
    client_ca_file: Path | None = _option(
        values.path, "FILE", "authorities of client certificates, beside the cluster's own"
    )
    token_auth_file: Path | None = _option(values.path, "FILE", 'static tokens: CSV of token,user,uid,"group1,group2"')
    basic_auth_file: Path | None = _option(
        values.path, "FILE", "users and password hashes (htpasswd: bcrypt, argon2)", shown_default="DATA-DIR/htpasswd"
    )
    anonymous_auth: bool = _option(
        values.boolean, "BOOL", "let requests without a credential be system:anonymous", default=True
    )
    service_cluster_ip_range: str = _option(
        values.service_network, "CIDR", "the cluster addresses of services", default="10.96.0.0/16"
    )
    service_node_port_range: tuple[int, int] = _option(
        values.port_range, "LOW-HIGH", "the node ports of services", default=(30000, 32767), shown_default="30000-32767"
    )
    cluster_cidr: str = _option(
        values.network, "CIDR", "the addresses of pods that this machine runs", default="127.64.0.0/10"
    )
    service_account_issuer: str = _option(
        values.text, "URL", "issuer of service account tokens", default=DEFAULT_ISSUER
    )
    service_account_key_file: tuple[Path, ...] = _option(
        values.path, "FILE", "further keys that service account tokens may be signed with", many=True, default=()
    )
    service_account_signing_key_file: Path | None = _option(
        values.path, "FILE", "key that signs service account tokens", shown_default="made in DATA-DIR"
    )
    api_audiences: tuple[str, ...] = _option(
        values.text, "LIST", "audiences that tokens must name", many=True, default=(), shown_default="the issuer"
    )
    audit_log_path: str = _option(values.output_path, "FILE", "where audit events go; - = standard output", default="")
    audit_policy_file: Path | None = _option(
        values.path, "FILE", "audit.k8s.io/v1 Policy", shown_default="metadata of all"
    )
    audit_log_maxsize: int = _option(values.whole_number, "MIB", "size at which the audit log is rotated", default=100)
    audit_log_maxbackup: int = _option(values.whole_number, "N", "rotated audit logs that are kept", default=10)
    access_log: str = _option(
        values.choice("off", "json", "combined"), "FORMAT", "off, json or combined", default="off"
    )
    access_log_path: str = _option(
        values.output_path, "FILE", "where the access log goes; - = standard output", default="-"
    )
    controllers: tuple[str, ...] = _option(
        values.controller,
        "LIST",
        "controllers to run: * = all, -name = all but it",
        many=True,
        default=("*",),
        shown_default="*",
    )
    html_sandbox: bool = _option(
        values.boolean,
        "BOOL",
        "give services' pages an origin of their own in browsers that send a password or certificate by themselves; "
        "without it a page's scripts act as the user who opens it",
        default=True,
    )
    proxy_endpoints_without_pods: bool = _option(
        values.boolean, "BOOL", "reach hand-made endpoints that name no pod", default=False
    )
    proxy_external_names: bool = _option(values.boolean, "BOOL", "reach ExternalName services", default=False)
    kubelet_certificate_authority: Path | None = _option(
        values.path, "FILE", "authorities that nodes' own ports are verified with, PEM", shown_default="unverified"
    )
    limit: tuple[tuple[str, float], ...] = _option(
        values.limit,
        "NAME=VALUE",
        "a bound on what clients and backends may take, such as header-bytes=32768; docs/limits.md lists them",
        many=True,
        default=(),
        shown_default="none changed",
    )
    store: str = _option(
        values.choice("sqlite", "memory"), "KIND", "sqlite, or memory, which forgets at exit", default="sqlite"
    )
    workers: int = _option(values.workers, "N", "gateway processes", shown_default="one per core")
    kubeconfig: Path | None = _option(
        values.path, "FILE", "where the admin's kubeconfig is written", shown_default="DATA-DIR/admin.kubeconfig"
    )

    @property
    def plain_port(self) -> int:
        """The plain listener's port, 0 when there is none."""
        if self.insecure_port is None:
            return DEMO_INSECURE_PORT if self.demo else 0
        return self.insecure_port

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
    def plain_server(self) -> str:
        """URL of the plain listener, "" when there is none."""
        return f"http://{PLAIN_ADDRESS}:{self.plain_port}" if self.plain_port else ""

    @property
    def audiences(self) -> tuple[str, ...]:
        """The API's audiences: the issuer unless said otherwise, as kube-apiserver's default."""
        return self.api_audiences or (self.service_account_issuer,)


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (Option(name=declared.name.replace("_", "-"), **declared.metadata) for declared in fields(UpSettings))
}
"""Every setting by its name, in the order in which the help lists them."""

DEFAULTS: Mapping[str, Any] = {declared.name.replace("_", "-"): declared.default for declared in fields(UpSettings)}


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
    given = _parse_all(flags, "--", usage=True)
    from_file = _parse_all(read_config(config_file), f"{config_file}: ", usage=False) if config_file else {}
    chosen = from_file | given
    chosen.setdefault("data-dir", default_data_dir())
    chosen.setdefault("workers", len(os.sched_getaffinity(0)))
    settings = UpSettings(**{name.replace("-", "_"): value for name, value in chosen.items()})
    _check_together(settings)
    return settings


def read_config(file: Path) -> Mapping[str, object]:
    """The configuration file's keys; SettingsError when it cannot be read, isn't a mapping or has an unknown key."""
    import yaml  # here, because a start without a file needn't pay for it

    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"--config: cannot read {file}: {error.strerror}", usage=True) from error
    except RecursionError:
        raise SettingsError(f"{file}: not YAML that can be read: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: not UTF-8, or a date that the calendar doesn't have
        raise SettingsError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: must hold keys and values, such as secure-port: 6443")
    known = "; `portway up --help` lists the names"
    for key in content:
        if key not in OPTIONS:
            raise SettingsError(f'{file}: unknown key "{key}"{closest(str(key), OPTIONS) or known}')
    return content


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for a misspelt name, "" when it is like none."""
    import difflib  # here, because only a mistake needs it

    close = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def _parse_all(raw: Mapping[str, object], where: str, *, usage: bool) -> dict[str, Any]:
    parsed = {}
    for name, value in raw.items():
        try:
            parsed[name] = OPTIONS[name].value(value)
        except ValueError as error:
            raise SettingsError(f"{where}{name}: {error}", usage=usage) from None
    return parsed


def _check_together(settings: UpSettings) -> None:
    if (settings.tls_cert_file is None) != (settings.tls_private_key_file is None):
        raise SettingsError(
            "--tls-cert-file and --tls-private-key-file belong together: give both or neither", usage=True
        )
    if settings.plain_port == settings.secure_port:
        raise SettingsError(
            f"--insecure-port and --secure-port are both {settings.secure_port}: change one", usage=True
        )
    services = ipaddress.ip_network(settings.service_cluster_ip_range)
    pods = ipaddress.ip_network(settings.cluster_cidr)
    if services.version == pods.version and services.overlaps(pods):
        raise SettingsError(
            f"--service-cluster-ip-range {services} and --cluster-cidr {pods} overlap: change one", usage=True
        )
