"""Where a request is meant to go, as far as its host name and the front of its path say: which cluster, and whose host.

Only doors that have several of them need this; the pipeline asks it first in `authorise`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from portway.gateway import answers
from portway.gateway import headers as h
from portway.gateway.cluster import Cluster
from portway.gateway.filter import Filter
from portway.gateway.grant import Grant
from portway.gateway.guard import is_link
from portway.gateway.hosts import Hosts, Site
from portway.gateway.ingresses import Ingresses
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.requesthead import origin_form
from portway.kube.errors import BadRequest, Forbidden, not_found
from portway.kube.identity import User
from portway.kube.proxyurl import ProxyURL, TargetId, backend_path, join_id, parse_id

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange

CLUSTERS: Final = b"/clusters/"
"""In front of the name of a cluster, and then of its API."""


class Places:
    """What a door serves besides one cluster's API at the root of whatever host it is called by."""

    def __init__(
        self,
        clusters: Sequence[Cluster],
        local: LocalAnswers,
        *,
        hosts: Hosts | None,
        filter: Filter | None,  # noqa: A002 - kubectl's word for it
        api_prefix: str,
        ingresses: Ingresses | None = None,
    ) -> None:
        """`clusters`: the first is meant by a URL that names none, the others are at /clusters/NAME/. `ingresses` are
        the first one's.
        """
        self._named = {one.name: one for one in clusters} if len(clusters) > 1 else {}
        self._labelled = {one.label: one for one in clusters}
        self._local = local
        self._hosts = hosts
        self._ingresses = ingresses
        self._filter = filter
        self._below = api_prefix.rstrip("/").encode()
        # kubectl's rule: a prefix that begins so is the API's own, and stays.
        self._stripped = b"" if self._below.startswith(b"/api") else self._below
        self._always = bool(self._named or hosts is not None or filter is not None or self._below)
        self.several = self._always
        """Whether there is anything to ask."""
        self.filtered = filter is not None
        """Whether `lets_through` can say no."""

    def ingresses_changed(self) -> None:
        """While there are no Ingresses, no request is asked whether it is for one."""
        self.several = self._always or bool(self._ingresses)

    def repeats(self, exchange: "Exchange") -> bool:
        """Whether the header fields of a request say where the connection's next one with the same fields leads."""
        if self._below or exchange.below or exchange.by_path:
            return False
        return self._hosts is None or exchange.site is not None or not is_link(exchange.special)

    def place(self, exchange: "Exchange") -> None:
        """Which cluster, and whose host; the target becomes what that cluster's API would be asked. Then the filter."""
        target = exchange.target = origin_form(exchange)
        host = exchange.special.get(h.HOST, b"")
        exchange.site = self._hosts.find(host) if self._hosts is not None else None
        if exchange.site is None and self._ingresses is not None:
            exchange.site = self._ingresses.find(host, target)
            exchange.by_path = exchange.site is not None
        if exchange.site is not None:
            exchange.cluster = self._labelled.get(exchange.site.cluster, exchange.cluster)
        elif not exchange.below:
            self._unprefix(exchange, target)
            if exchange.done:
                return
        if self._filter is not None:
            path = _as_path(exchange.site, exchange.target)
            self._filter.check(exchange.method, host, path, own_host=exchange.site is not None)

    def _unprefix(self, exchange: "Exchange", target: bytes) -> None:
        """Takes what is not the API's own from the front of the target; nothing stands beside it, which is answered."""
        path, mark, query = target.partition(b"?")
        if self._below:
            if path == self._below:
                exchange.answer(301, *answers.moved(path + b"/" + mark + query))
                return
            if not path.startswith(self._below + b"/"):
                if self._local.answer(path.decode("latin-1"), "", page=False, host="", user=User("")) is None:
                    exchange.answer(404, *answers.text(404, b"404 page not found\n"))
                return
        below = self._stripped
        if self._named and path.startswith(below + CLUSTERS):
            name, slash, _ = path[len(below + CLUSTERS) :].partition(b"/")
            cluster = self._named.get(unquote(name.decode("latin-1")))
            if cluster is None:
                raise not_found("clusters", unquote(name.decode("latin-1")))
            if not slash:
                exchange.answer(301, *answers.moved(path + b"/" + mark + query))
                return
            exchange.cluster, below = cluster, below + CLUSTERS + name
        exchange.target, exchange.below = target[len(below) :], below

    def lets_through(self, method: bytes, target: bytes, exchange: "Exchange") -> bool:
        """Whether the filter, if there is one, takes another target with an earlier exchange's header fields."""
        if self._filter is None:
            return True
        try:
            path = _as_path(exchange.site, target)
            self._filter.check(method, exchange.special.get(h.HOST, b""), path, own_host=exchange.site is not None)
        except Forbidden:
            return False
        return True

    def moves_to_its_host(self, exchange: "Exchange", grant: Grant) -> bool:
        """Sends a browser that opens a service by its path to the service's own origin, where its scripts work."""
        special = exchange.special
        if self._hosts is None or exchange.site is not None or exchange.method != b"GET" or not is_link(special):
            return False
        attributes = grant.attributes
        if attributes.resource != "services" or not exchange.door.wants_page(exchange):
            return False
        target = parse_id("services", attributes.name)
        there = grant.cluster.locations.named(attributes.namespace, target.name, target.port)
        if target.scheme == "https" and there.scheme != "https":
            return False  # a host name can't say it, and would mean plain HTTP
        host = self._hosts.host(Site(grant.cluster.label, attributes.namespace, target.name, target.port))
        if host is None:
            return False
        port = special.get(h.HOST, b"").rpartition(b":")[2]
        authority = f"{host}:{port.decode()}" if port.isdigit() else host
        path = backend_path(exchange.path) if exchange.path else b"/"
        to = b"%b://%b%b%b" % (exchange.down.scheme, authority.encode(), path, exchange.query)
        exchange.answer(307, *answers.elsewhere(to))
        return True


def _as_path(site: Site | None, target: bytes) -> bytes:
    """The target as rules about paths know it: that of a service's own host is the proxy verb's for the service."""
    if site is None:
        return target
    spelled = join_id(TargetId("", site.name, site.port))
    return f"/api/v1/namespaces/{site.namespace}/services/{spelled}/proxy".encode() + target


def at_site(cluster: Cluster, site: Site, target: bytes) -> ProxyURL:
    """The proxy URL that means what a service's own host name and the target mean together."""
    path, mark, query = target.partition(b"?")
    if not path.startswith(b"/"):
        raise BadRequest("the request target is not a path")
    named = cluster.locations.named(site.namespace, site.name, site.port)
    spelled = join_id(named)
    prefix = f"/api/v1/namespaces/{site.namespace}/services/{quote(spelled, safe=':')}/proxy".encode()
    return ProxyURL("services", site.namespace, spelled, prefix, path, mark + query)
