"""Which proxy leads to a server, by Go's rules: a kubeconfig's proxy-url, else HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

Pure: `dial` speaks to the proxy. Sources: client-go rest.parseProxyURL, golang.org/x/net/http/httpproxy.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORTS = {"http": 80, "https": 443, "socks5": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: http and https ones are asked to CONNECT. socks5 resolves names at the proxy, as in Go."""

    scheme: str
    host: str
    port: int
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Without the credentials."""
        return f"{self.scheme}://{join(self.host, self.port)}"


def parse(url: str) -> Proxy:
    """The proxy that a proxy-url names. Raises ValueError in kubectl's words."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("could not parse") from error
    scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
    if "://" not in url:
        raise ValueError(f"could not parse: {shown(url)}")
    if scheme not in PORTS:
        raise ValueError(f'unsupported scheme "{parts.scheme}", must be http, https, or socks5')
    if not parts.hostname:
        raise ValueError("no host in URL")
    return Proxy(
        scheme,
        parts.hostname,
        PORTS[scheme] if port is None else port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def from_environment(environ: Mapping[str, str], scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for a server; None = go there directly. Raises ValueError.

    Loopback addresses and "localhost" are never reached through one. In a CGI program HTTP_PROXY may be a caller's
    header, so it doesn't count.
    """
    variable = "HTTPS_PROXY" if scheme == "https" else "HTTP_PROXY"
    url = environ.get(variable) or environ.get(variable.lower()) or ""
    if not url or (variable == "HTTP_PROXY" and environ.get("REQUEST_METHOD")):
        return None
    if _is_exempt(environ.get("NO_PROXY") or environ.get("no_proxy") or "", host.lower().rstrip("."), port):
        return None
    try:
        return parse(url if url.startswith(("http://", "https://", "socks5://", "socks5h://")) else f"http://{url}")
    except ValueError as error:
        raise ValueError(f"invalid proxy address in {variable}") from error


def _is_exempt(no_proxy: str, host: str, port: int) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: "ipaddress.IPv4Address | ipaddress.IPv6Address | None", port: int) -> bool:
    if entry == "*":
        return True
    if not entry:
        return False
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split(entry)
    if wanted and wanted != str(port):
        return False
    named = _address(name)
    if named is not None:
        return named == address
    if address is not None:
        return False
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """(host, port or "") of an entry: a.b, a.b:80, 1.2.3.4:80, ::1, [::1], [::1]:80."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":")
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, ""


def _address(host: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def shown(url: str) -> str:
    """A proxy's URL without what may be a password."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def join(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
