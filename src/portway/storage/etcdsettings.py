"""Where an etcd is and how to be let in. Pure; without grpc, so that settings can be checked before it is loaded.

    etcd://host[:port][,host[:port]…]      etcds:// (or https://) with TLS

Next: `etcdclient.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 2379
DEFAULT_PREFIX = "/portway"
_SCHEMES = {"etcd": False, "http": False, "etcds": True, "https": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """Everything about one etcd.

    Attributes:
        endpoints: "host:port" of each member that may be asked.
        tls: whether they speak TLS; the files are PEM. Without `ca_file` the system's authorities count.
        cert_file, key_file: the client certificate; both or neither.
        username, password_file: etcd's own authentication; the file's first line is the password.
        prefix: what all keys begin with, so that several clusters can share one etcd
            (kube-apiserver's --etcd-prefix).
    """

    endpoints: tuple[str, ...]
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for what cannot work together."""
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("--etcd-certfile and --etcd-keyfile belong together: give both or neither")
        if (self.ca_file or self.cert_file) and not self.tls:
            raise ValueError("certificates are for etcds://, the store is etcd:// without TLS: change one")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("--etcd-username and --etcd-password-file belong together: give both or neither")
        if not self.prefix.startswith("/") or self.prefix.endswith("/") or "//" in self.prefix:
            raise ValueError(f"--etcd-prefix {self.prefix!r} must begin with a slash and not end with one")

    @property
    def address(self) -> str:
        """The endpoints, for messages."""
        return ",".join(self.endpoints)


def names_etcd(text: str) -> bool:
    """Whether a --store value is the address of an etcd."""
    return text.partition("://")[0] in _SCHEMES and "://" in text


def parse_endpoints(text: str) -> tuple[tuple[str, ...], bool]:
    """The endpoints of an etcd:// or etcds:// address, and whether they speak TLS; raises ValueError in one line.

    kube-apiserver's --etcd-servers form, a URL for each endpoint, is understood too.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"{text!r} names no etcd: write etcd://host:{DEFAULT_PORT}[,host:{DEFAULT_PORT}], or etcds://")
    parts = [part.removeprefix(f"{scheme}://").rstrip("/") for part in rest.split(",")]
    return tuple(_endpoint(part, text) for part in parts), _SCHEMES[scheme]


def _endpoint(part: str, text: str) -> str:
    host, colon, port = part.rpartition(":")
    if not colon or part.endswith("]"):
        host, port = part, str(DEFAULT_PORT)
    plain = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    fine = plain and not set(plain) & set("/@?#[] ") and (":" in plain) == bracketed
    if not fine or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{part!r} in {text!r} is no host:port")
    return f"{host}:{port}"
