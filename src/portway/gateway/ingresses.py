"""Ingresses at the door: which service a host name and a path mean together. Only in the embedded cluster.

A `PathTable` is what is served at one host; `Ingresses` makes the tables from the view, anew when that has changed and
somebody asks. What may be served at all is `kube.ingresses`' to say; whether the caller may use the service is decided
afterwards, as at the service's own host name.

Precedence: networking.k8s.io/v1, HTTPIngressPath and IngressRule.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from portway.client.view import ClusterView
from portway.gateway.hosts import KEPT, LONGEST, Site, without_port
from portway.kube.errors import BadRequest, NotFound
from portway.kube.ingresses import Ingress, IngressPath, Plan, plan
from portway.kube.ingresshosts import IngressHosts
from portway.kube.proxyurl import backend_path

_ESCAPE: Final = re.compile(rb"%[0-9a-f]{2}", re.IGNORECASE)
FOLLOWED: Final = ("ingresses", "ingressclasses")
"""The kinds that the tables are made of."""


class _Reading:
    """Paths as one kind of server reads them. Exact ones first, then the longest in front, by whole segments."""

    def __init__(self) -> None:
        self._exact: dict[bytes, Site] = {}
        self._prefixes: dict[bytes, Site] = {}
        self._lengths: list[int] = []

    def add(self, path: bytes, site: Site, *, exact: bool) -> None:
        """The first of two alike stays."""
        if exact:
            self._exact.setdefault(path, site)
            return
        prefix = path.removesuffix(b"/")
        self._prefixes.setdefault(prefix, site)
        if len(prefix) not in self._lengths:
            self._lengths = sorted([*self._lengths, len(prefix)], reverse=True)

    def find(self, path: bytes) -> Site | None:
        found = self._exact.get(path)
        if found is not None:
            return found
        for length in self._lengths:
            if len(path) == length or path[length : length + 1] == b"/":
                found = self._prefixes.get(path[:length])
                if found is not None:
                    return found
        return None


class PathTable:
    """The paths of one host."""

    def __init__(self, paths: Iterable[tuple[Ingress, IngressPath]]) -> None:
        """`paths`: of two alike the first counts."""
        self._strict, self._lenient = _Reading(), _Reading()
        for ingress, path in paths:
            try:
                forwarded = backend_path(path.path.encode())
            except BadRequest:
                continue  # a malformed escape: no request that has one gets this far
            site = Site("", ingress.namespace, path.service, path.port)
            self._strict.add(_same_case(forwarded), site, exact=path.exact)
            self._lenient.add(_resolved(unquote_to_bytes(forwarded), merged=True), site, exact=path.exact)

    def find(self, path: bytes) -> Site:
        """The service of a request's path, from the bytes that it is going to get.

        NotFound when there is none. BadRequest for a path that means another service to a server that decodes escapes,
        or merges slashes, before it looks: then nobody can say which one the caller, or the Ingress, had in mind.
        """
        if not path.startswith(b"/"):
            raise BadRequest("the request target is not a path")
        forwarded = backend_path(path)
        found = self._strict.find(_same_case(forwarded))
        if (b"%" in forwarded or b"//" in forwarded) and any(
            self._lenient.find(reading) != found for reading in _readings(forwarded)
        ):
            raise BadRequest("the request path can be read in several ways, which mean different services here")
        if found is None:
            raise NotFound("no Ingress has this path for this host")
        return found


class Ingresses:
    """What the view's Ingresses make of a host name and a path."""

    def __init__(self, view: ClusterView, allowed: IngressHosts, changed: Callable[[], None]) -> None:
        """`changed` is called when what was found before may not be found any more."""
        self._view = view
        self._allowed = allowed
        self._changed = changed
        self._tables: dict[str, PathTable] | None = {}
        self._some = False
        # Asked of every request, whosever its host is: remembered until the tables are made anew.
        self._at = lru_cache(KEPT)(self._table)
        view.subscribe(self._heard)

    def __bool__(self) -> bool:
        """Whether there is any Ingress, served or not."""
        return any(True for _ in self._view.ingresses())

    def find(self, host: bytes, target: bytes) -> Site | None:
        """The service that a request is for; None when its host is no Ingress's. See PathTable.find for errors."""
        if self._tables is None:
            self._tables = tables(plan(self._view.ingresses(), self._view.ingress_classes(), self._allowed))
            self._at.cache_clear()
        table = self._at(host) if len(host) <= LONGEST else self._table(host)
        return table.find(target.partition(b"?")[0]) if table is not None else None

    def _table(self, host: bytes) -> PathTable | None:
        name = without_port(host.decode("latin-1")).lower().rstrip(".")
        known = self._tables
        if not known or not name:  # the table at "" is for names that no Ingress has, not for having none
            return None
        exact = known.get(name)
        if exact is not None:
            return exact
        return None if self._allowed.problem(name) else known.get(f"*.{name.partition('.')[2]}", known.get(""))

    def _heard(self, kind: str, _namespace: str, _name: str) -> None:
        # Of many changes in a row the first says it all: until somebody asks again, nothing new was found.
        if kind in FOLLOWED and (self._tables is not None or bool(self) != self._some):
            self._tables, self._some = None, bool(self)
            self._changed()


def tables(planned: Plan) -> dict[str, PathTable]:
    """The table of each host. One without paths has an empty one: the API is not there any more."""
    paths: dict[str, list[tuple[Ingress, IngressPath]]] = {host: [] for host in planned.hosts}
    for ingress, path in planned.served:
        paths[path.host].append((ingress, path))
    return {host: PathTable(found) for host, found in paths.items()}


def _same_case(path: bytes) -> bytes:
    """The digits of escapes in one case, which means nothing (RFC 3986 section 6.2.2.1)."""
    return _ESCAPE.sub(lambda found: found[0].upper(), path) if b"%" in path else path


def _readings(path: bytes) -> Iterator[bytes]:
    """A path as servers read it that decode first: a backslash may be a slash to them or not, and slashes merge before
    dots are resolved ("/a//.." is "/") or after (it is "/a/", as RFC 3986 section 5.2.4 has it).
    """
    decoded = unquote_to_bytes(path)
    for spelled in {decoded, decoded.replace(b"\\", b"/")}:
        yield _resolved(spelled, merged=True)
        yield _resolved(spelled, merged=False)


def _resolved(path: bytes, *, merged: bool) -> bytes:
    """Without dot segments and empty ones; `merged`: the empty ones go first."""
    segments = path.split(b"/")
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b"." and (segment or not merged):
            kept.append(segment)
    kept = [segment for segment in kept if segment]
    ends = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + ends
