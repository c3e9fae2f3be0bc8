"""Where one Kubernetes API is and how to speak to it: what `kubeconfig` makes, and `api` and `dial` use."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from portway.client.credentials import Credentials, Headers, StaticCredentials
from portway.client.proxies import Proxy


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Where an API is and how to speak to it."""

    server: str
    """http(s)://host[:port][/prefix]; over a unix socket only the prefix matters."""
    unix_socket: str | None = None
    credentials: Credentials = field(default_factory=StaticCredentials, repr=False)
    """Who asks: headers and TLS of each request. Shared by all who use this cluster, so that a plugin runs once."""
    headers: Headers = field(default=(), repr=False)
    """Sent besides the credential's: X-Remote-* at the embedded API's socket, Impersonate-* of a kubeconfig."""
    server_name: str | None = None
    """Name to verify and to send as SNI instead of the host."""
    proxy: Proxy | None = None
    """What connections are made through; None = directly."""
    namespace: str = "default"
    """Where the user works when they say nothing."""
    disable_compression: bool = False
    """Ask for uncompressed answers."""

    @classmethod
    def local(cls, unix_socket: str, user: str, groups: tuple[str, ...] = ("system:masters",)) -> "ClusterConfig":
        """The embedded API on its socket, which trusts the identity headers of whoever can open it."""
        headers = (("X-Remote-User", user), *(("X-Remote-Group", group) for group in groups))
        return cls("http://localhost", unix_socket=unix_socket, headers=headers)

    @property
    def is_https(self) -> bool:
        return self.server.startswith("https://")

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of the server; an IPv6 address without brackets. Raises ValueError for a port that is none."""
        parts = urlsplit(self.server)
        return parts.hostname or "", parts.port or (443 if self.is_https else 80)
