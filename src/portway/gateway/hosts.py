"""Which service a host name means, and back: an origin of its own for each service.

    NAME.NAMESPACE.BASE          a service's evident port
    PORT.NAME.NAMESPACE.BASE     the port of that name or number
    ….NAMESPACE.CLUSTER.BASE     in another cluster than the default one

BASE is `localhost` on a laptop (RFC 6761: every name below it is this machine, and browsers take it so), or a domain
with a wildcard record. Pure; what the name leads to is the router's.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

KEPT: Final = 4096
"""Host names remembered; then all are forgotten."""
LONGEST: Final = 320
"""Bytes of the longest Host field that is remembered: a DNS name (253), a port, and some air."""
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class Site(NamedTuple):
    """A service as a host name names it; `cluster` "" for the default one, `port` "" for the evident one."""

    cluster: str
    namespace: str
    name: str
    port: str


class Hosts:
    """Host names below some bases. `clusters` are the names (DNS labels) of the other clusters."""

    def __init__(self, bases: Iterable[str], clusters: Iterable[str] = ()) -> None:
        self._bases = tuple(base.lower().strip(".") for base in bases)
        self._clusters = frozenset(clusters)
        self._known: dict[bytes, Site | None] = {}

    def find(self, host: bytes) -> Site | None:
        """The site of a Host field (a port in it says nothing); None for every other host."""
        try:
            return self._known[host]
        except KeyError:
            found = self._find(host)
        if len(host) <= LONGEST:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[host] = found
        return found

    def _find(self, host: bytes) -> Site | None:
        name = without_port(host.decode("latin-1")).lower().rstrip(".")
        for base in self._bases:
            if name.endswith("." + base):
                return self._site(name[: -len(base) - 1].split("."))
        return None

    def _site(self, labels: list[str]) -> Site | None:
        cluster = ""
        if len(labels) > 2 and labels[-1] in self._clusters:
            cluster = labels.pop()
        if len(labels) not in (2, 3) or not all(map(_LABEL.match, labels)):
            return None
        *port, name, namespace = labels
        return Site(cluster, namespace, name, port[0] if port else "")

    def host(self, site: Site) -> str | None:
        """The host name of a site, below the first base; None when no host name can say it (an upper-case port…)."""
        cluster, namespace, name, port = site
        if not (_LABEL.match(name) and _is_label(namespace) and (not port or _is_label(port))):
            return None
        # The last label before the base may be a cluster's: then it is no namespace behind a port.
        if cluster not in self._clusters if cluster else port and namespace in self._clusters:
            return None
        before = f"{port}." if port else ""
        return f"{before}{name}.{namespace}.{cluster}{'.' if cluster else ''}{self._bases[0]}"


@lru_cache(KEPT)
def _is_label(text: str) -> bool:
    """For what many names have in common."""
    return _LABEL.match(text) is not None


def without_port(host: str) -> str:
    """A Host field's name: "[::1]:80" → "[::1]", "a.b:80" → "a.b"."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
