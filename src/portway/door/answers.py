"""What a door to an existing cluster answers itself: the catalogue, static files; everything else is the API's."""

from collections.abc import Sequence
from urllib.parse import parse_qs, quote

import orjson

from portway.client.records import Service, ServicePort
from portway.client.view import ClusterView
from portway.door.rights import Rights
from portway.gateway import answers
from portway.gateway.hosts import Hosts, Site
from portway.gateway.localanswers import Answer, First, LocalAnswers
from portway.kube.identity import User
from portway.kube.proxyurl import TargetId, join_id
from portway.portal import catalogue

CATALOGUE = "/portway/services"


class FirstOf:
    """Asks one after the other."""

    def __init__(self, parts: Sequence[LocalAnswers]) -> None:
        self._parts = parts

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | First | None:
        for part in self._parts:
            found = part.answer(path, query, page=page, host=host, user=user)
            if found is not None:
                return found
        return None


class Catalogue:
    """/portway/services for programs (?namespace=NAME), / and /portway/ for people. `scheme`: http or https."""

    def __init__(self, view: ClusterView, rights: Rights, hosts: Hosts, cluster: str, scheme: str) -> None:
        self._view = view
        self._rights = rights
        self._hosts = hosts
        self._cluster = cluster
        self._scheme = scheme

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | First | None:
        as_page = page and path in ("/", "/portway", "/portway/")
        if not as_page and path != CATALOGUE:
            return None
        namespace = "" if as_page else parse_qs(query).get("namespace", [""])[0]
        namespaces = [namespace] if namespace else [service.namespace for service in self._view.services()]
        allowed = self._rights.known(user, namespaces)
        if callable(allowed):
            return allowed
        found = catalogue.entries(self._view, self._link(host), allowed, namespace)
        if as_page:
            return self._page(catalogue.page(found, self._cluster).encode())
        body = orjson.dumps({"services": found}, option=orjson.OPT_APPEND_NEWLINE)
        return 200, answers.head(200, b"application/json", len(body)), body

    def _page(self, body: bytes) -> Answer:
        policy = b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
        return 200, answers.head(200, b"text/html; charset=utf-8", len(body), policy), body

    def _link(self, host: str) -> catalogue.Link:
        port = host.rpartition(":")[2]
        suffix = f":{port}" if port.isdigit() else ""

        def link(service: Service, at: ServicePort) -> str:
            alone = len(service.ports) == 1
            name = self._hosts.host(
                Site("", service.namespace, service.name, "" if alone else at.name or str(at.number))
            )
            if name is not None:
                return f"{self._scheme}://{name}{suffix}/"
            spelled = quote(join_id(TargetId("", service.name, at.name)), safe=":")
            namespace = quote(service.namespace, safe="")
            return f"{self._scheme}://{host}/api/v1/namespaces/{namespace}/services/{spelled}/proxy/"

        return link
