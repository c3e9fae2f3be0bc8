"""The one list: identify, authorise, route, connect, relay, record.

Every request walks it in this order, whatever it is for; there is no side door. Each step is a method that takes the
exchange and returns, raises the StatusError that is the answer, or raises Wait when it must ask somebody first (then
the walk begins again once the answer is there). `connect` hands over to relay, which ends in `record`.
"""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from time import time
from typing import Final, NoReturn

from portway.gateway import answers
from portway.gateway import headers as h
from portway.gateway.authentication import Authenticators, Identity
from portway.gateway.authorization import Undecided
from portway.gateway.cluster import Cluster
from portway.gateway.crowd import Crowd
from portway.gateway.filter import Filter
from portway.gateway.grant import Grant
from portway.gateway.guard import guard
from portway.gateway.hosts import Hosts
from portway.gateway.http1 import Downstream
from portway.gateway.ingresses import Ingresses
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.locations import Located, Unsure
from portway.gateway.places import Places, at_site
from portway.gateway.record import Circumstances, Recorder
from portway.gateway.relay import SANDBOX, Exchange
from portway.gateway.requesthead import (
    attributes_if_any,
    attributes_of,
    origin_form,
    read_head,
    rest_of_head,
)
from portway.gateway.routing import Location
from portway.gateway.settings import GatewaySettings
from portway.gateway.tunnels import Tunnels, wanted_user
from portway.gateway.upstream.connection import Upstream
from portway.gateway.upstream.endpoint import Endpoint
from portway.gateway.upstream.reach import THROUGH
from portway.kube.attributes import Attributes, is_conversation, is_port_forward
from portway.kube.errors import (
    BadRequest,
    Forbidden,
    StatusError,
    Unauthorized,
    forbidden,
    method_not_allowed,
)
from portway.kube.identity import User
from portway.kube.proxyurl import (
    ProxyURL,
    backend_path,
    climbs,
    forwarded_uri,
    match,
    parse_id,
    plain_prefix,
)
from portway.kube.rbac import Decision

PROXIED: Final = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"))
REPEATED: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE"))
"""Methods whose requests name no length when they have no body: only these are served from the last one's fields."""
_METHODS: Final = {m: m.decode() for m in PROXIED}
DECISIONS: Final = 1024
"""Decisions remembered for one identity."""
OVERDUE: Final = 30.0
"""Seconds that a tunnel goes on without a decision while too much else is being asked."""
NOBODY: Final = Identity(User(""), "none")
"""Who sent what could not be attributed to anybody."""
NOTHING: Final = Attributes("", resource_request=False)
ANYWHERE: Final = Location((), tls=False, spellings=(), watched=())
"""Where a target is that the API server looks for itself; what is wrong with it, it says."""
UNSEEN: Final = 10.0
"""Seconds that such a target means the same: nobody tells us when it changes."""
CLUSTERS: Final = b"/clusters/"
"""In front of the name of a cluster, and then of its API."""
OWN: Final = frozenset((b"same-origin", b"none"))
"""Sec-Fetch-Site of what no foreign page asked for."""


class Wait(Exception):  # noqa: N818 - a signal, not an error
    """The step needs an answer first."""

    def __init__(self, answer: Awaitable[object]) -> None:
        super().__init__()
        self.answer = answer


class Door:
    """What a worker's connections share: settings, view, caches, and the steps themselves."""

    def __init__(
        self,
        settings: GatewaySettings,
        cluster: Cluster,
        authenticators: Authenticators,
        recorder: Recorder,
        local: LocalAnswers,
        *,
        hosts: Hosts | None = None,
        filter: Filter | None = None,  # noqa: A002 - kubectl's word for it
        others: Sequence[Cluster] = (),
    ) -> None:
        """See Places for `hosts`, `filter` and `others`, the clusters behind the first."""
        self.settings = settings
        self.limits = settings.limits
        self.cluster = cluster
        self.clusters = (cluster, *others)
        self.authenticators = authenticators
        self.recorder = recorder
        self.local = local
        allowed, prefix = settings.ingress, settings.api_prefix
        ingresses = Ingresses(cluster.view, allowed, self._ingresses_changed) if allowed is not None else None
        self.places = Places(self.clusters, local, hosts=hosts, filter=filter, api_prefix=prefix, ingresses=ingresses)
        self.loop = asyncio.get_running_loop()
        self.now = 0.0
        self.response_due = 0.0
        """When an answer that makes progress now is overdue; 0 = never."""
        self.draining = False
        self.sandbox = SANDBOX if settings.html_sandbox else b""
        self.crowd = Crowd(settings.limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._tunnels = Tunnels(settings.limits, self.loop, self._own)
        self._audit_prefix, self._audit_count = _audit_prefix(), 0
        self._tick()
        self.steps: tuple[Callable[[Exchange], None], ...] = (
            self.identify,
            self.authorise,
            self.route,
            Exchange.connect,
        )

    def handle(self, exchange: Exchange) -> None:
        """Walks the list. A step that waits, and so does what comes after it, goes on in a task of the door's."""
        try:
            for step in self.steps:
                step(exchange)
                if exchange.done:
                    return
        except Wait as wait:
            self._own(self._resume(exchange, wait.answer), f"wait {exchange.audit_id}")
        except StatusError as error:
            self._refuse(exchange, error)

    async def _resume(self, exchange: Exchange, answer: Awaitable[object]) -> None:
        try:
            await self._resumed(exchange, answer)
        except BaseException:
            exchange.down.transport.abort()  # a bug of ours must not leave the client waiting
            raise

    async def _resumed(self, exchange: Exchange, answer: Awaitable[object]) -> None:
        try:
            found = await answer
        except StatusError as error:
            self._refuse(exchange, error)
            return
        if isinstance(found, Identity):
            exchange.identity = found
        elif not isinstance(found, Decision):
            exchange.confirmed = True
        if not exchange.done:
            self.handle(exchange)

    def _own(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, exchange: Exchange, error: StatusError) -> None:
        extra = b""
        if exchange.attributes is None and exchange.problem is None:
            exchange.attributes = attributes_if_any(exchange)
        if self._asks_for_login(exchange, error):
            error = Unauthorized("Log in to open this page.") if isinstance(error, Forbidden) else error
            extra = b'WWW-Authenticate: Basic realm="Portway", charset="UTF-8"\r\n'
        exchange.refuse(error, extra)

    def _asks_for_login(self, exchange: Exchange, error: StatusError) -> bool:
        """A browser without a credential, or with a wrong one, is asked for one; a program gets upstream's 401 or
        403.
        """
        if not self.authenticators.passwords or error.code not in (401, 403) or not self.wants_page(exchange):
            return False
        return error.code == 401 or (exchange.identity is not None and exchange.identity.method == "anonymous")

    def next_audit_id(self) -> str:
        """A UUID for the next request; echoed as `Audit-Id`."""
        self._audit_count += 1
        return f"{self._audit_prefix}{self._audit_count:012x}"

    # identify

    def identify(self, exchange: Exchange) -> None:
        """Who is it. Reads the head once: what is forwarded of it, and what the door itself needs to know."""
        if exchange.problem is not None:
            raise exchange.problem
        if not exchange.audit_id:
            exchange.audit_id = self.next_audit_id()
            try:
                read_head(exchange)
            except StatusError:
                exchange.close = True  # where the next request begins is in doubt
                raise
        if exchange.identity is None:
            special = exchange.special
            protocols = special.get(h.WEBSOCKET_PROTOCOL) if exchange.upgrade else None
            found = self.authenticators.identify(special.get(h.AUTHORIZATION), exchange.down.certificate, protocols)
            if not isinstance(found, Identity):
                raise Wait(found)
            exchange.identity = found

    def _impersonate(self, exchange: Exchange, identity: Identity) -> None:
        try:
            user = wanted_user(exchange, identity)
        except Undecided as undecided:
            raise Wait(undecided.answer) from None
        except BadRequest as error:
            exchange.refuse(error, b"X-Content-Type-Options: nosniff\r\n")
            return
        if user is not identity.user:
            exchange.impersonated = user
            exchange.acting = Identity(user, identity.method, ambient=identity.ambient, expires=identity.expires)

    # authorise

    def authorise(self, exchange: Exchange) -> None:
        """May they. A decision that still holds is used again: one look-up by method and target."""
        if self.places.several:
            self.places.place(exchange)
            if exchange.done:
                return
        if h.IMPERSONATE in exchange.special and exchange.impersonated is None and not exchange.cluster.api.judges:
            self._impersonate(exchange, exchange.identity or NOBODY)
            if exchange.done:
                return
        identity = exchange.acting or exchange.identity or NOBODY
        target = exchange.target
        end = plain_prefix(target) if exchange.site is None else 0
        if end or (exchange.site is not None and target.startswith(b"/")):
            key = exchange.below + target[:end] if end else exchange.site
            known: Grant | None = identity.decisions.get((exchange.method, key))
            if known is not None and known.holds(self.now, self.loop):
                exchange.grant = known
                exchange.attributes = known.attributes
                exchange.path, mark, query = target[end:].partition(b"?")
                exchange.query = mark + query
                if identity.ambient:
                    guard(exchange, proxied=True)
                return
        self._decide(exchange, identity)

    def _decide(self, exchange: Exchange, identity: Identity) -> None:
        exchange.target = origin_form(exchange)
        cluster = exchange.cluster
        site = exchange.site
        if site is not None and not exchange.confirmed and cluster.view.service(site.namespace, site.name) is None:
            raise Wait(cluster.view.confirm_service(site.namespace, site.name))
        url = match(exchange.target) if site is None else at_site(cluster, site, exchange.target)
        attributes = exchange.attributes = attributes_of(exchange, url)
        if identity.method == "anonymous" and not self.authenticators.admits_anonymous(attributes.path):
            raise Unauthorized
        generation = cluster.authorizer.generation
        located, problem = self._locate(cluster, exchange, url) if url is not None else (None, None)
        decision = _allowed(
            cluster, identity.user, attributes, located.location.spellings if located is not None else ()
        )
        granted = self._may_converse(cluster, identity, attributes) if url is None else attributes
        if identity.ambient:
            guard(exchange, proxied=url is not None)
        if url is None:
            exchange.grant = Grant(cluster, granted, decision, generation, None, b"", b"")
            return
        if exchange.method not in PROXIED:
            raise method_not_allowed()
        if located is None:
            self._confirm(cluster, url, problem)
        exchange.path, exchange.query = url.path, url.query
        prefix = exchange.below + url.prefix if exchange.site is None else b""
        grant = exchange.grant = Grant(cluster, attributes, decision, generation, located, prefix, url.prefix)
        if len(identity.decisions) >= DECISIONS:
            identity.decisions.clear()
        identity.decisions[exchange.method, prefix if exchange.site is None else exchange.site] = grant

    def _may_converse(self, cluster: Cluster, identity: Identity, attributes: Attributes) -> Attributes:
        """What must stay allowed while a request's connection lasts.

        A WebSocket begins with a GET, but to get an exec, attach or portforward is to create one (upstream's
        AuthorizePodWebsocketUpgradeCreatePermission).
        """
        if attributes.verb != "get" or not is_conversation(attributes):
            return attributes
        needed = replace(attributes, verb="create")
        _allowed(cluster, identity.user, needed)
        return needed

    def _locate(self, cluster: Cluster, exchange: Exchange, url: ProxyURL) -> tuple[Located | None, StatusError | None]:
        if cluster.locations.reach.name == THROUGH:
            return Located(ANYWHERE, (), self.now + UNSEEN), None
        try:
            target = parse_id(url.resource, url.id)
            return cluster.locations.find(url.resource, url.namespace, target, self.now), None
        except Unsure as unsure:
            if exchange.confirmed and unsure.problem is None:
                return None, StatusError("the target changes faster than it can be found")
            return None, None if not exchange.confirmed else unsure.problem
        except StatusError as error:
            return None, error

    def _confirm(self, cluster: Cluster, url: ProxyURL, problem: StatusError | None) -> NoReturn:
        if problem is not None:
            raise problem
        raise Wait(cluster.locations.ask(url.resource, url.namespace, parse_id(url.resource, url.id), self.now))

    # route

    def route(self, exchange: Exchange) -> None:
        """Where to, and with which head: the bytes that were decided on."""
        grant = exchange.grant
        if grant is None:
            raise StatusError("no decision was made")
        if grant.located is None:
            self._route_api(exchange, grant)
            return
        method, raw, query = exchange.method, exchange.path, exchange.query
        if self.places.moves_to_its_host(exchange, grant):
            return
        if not raw and (method == b"GET" or method == b"HEAD") and not exchange.upgrade:
            exchange.answer(301, *answers.moved(grant.prefix + b"/" + query))
            return
        path = backend_path(raw)
        special = exchange.special
        if grant.through:
            if exchange.site is not None and climbs(path):
                raise BadRequest("the request path leads out of the service")
            exchange.head = self._head_for_api(exchange, grant, grant.path + (raw and path) + query)
        elif exchange.site is not None:
            host = b"X-Forwarded-Host: %b\r\nX-Forwarded-Proto: %b\r\n" % (
                special.get(h.HOST, b""),
                exchange.down.scheme,
            )
            own = exchange.down.forwarded_for(special.get(h.FORWARDED_FOR)) + host
            exchange.rest = rest_of_head(exchange, own)
            exchange.head = b"%b %b%b HTTP/1.1\r\n%b" % (method, path, query, exchange.rest)
        else:
            uri = b"" if exchange.upgrade else b"X-Forwarded-Uri: %b\r\n" % forwarded_uri(grant.prefix, raw, path)
            exchange.rest = rest_of_head(exchange, exchange.down.forwarded_for(special.get(h.FORWARDED_FOR)))
            exchange.head = b"%b %b%b HTTP/1.1\r\n%b%b" % (method, path, query, uri, exchange.rest)
        single = exchange.upgrade or exchange.chunked or exchange.acting is not None or method not in REPEATED
        if single or not self.places.repeats(exchange):
            exchange.rest = b""
        else:
            exchange.remember(grant.prefix)

    def _route_api(self, exchange: Exchange, grant: Grant) -> None:
        path, _, query = exchange.target.partition(b"?")
        page = self.wants_page(exchange)
        host = exchange.special.get(h.HOST, b"").decode("latin-1")
        own = None
        if grant.cluster is self.cluster:
            user = (exchange.acting or exchange.identity or NOBODY).user
            own = self.local.answer(path.decode("latin-1"), query.decode("latin-1"), page=page, host=host, user=user)
        if own is not None:
            if exchange.method not in (b"GET", b"HEAD"):
                raise method_not_allowed()
            if callable(own):
                raise Wait(own())
            exchange.answer(*own)
            return
        exchange.head = self._head_for_api(exchange, grant, exchange.target)

    def _head_for_api(self, exchange: Exchange, grant: Grant, target: bytes) -> bytes:
        """The head of a request that the API server answers, as whoever the door is to be there."""
        api = grant.cluster.api
        waits_for = api.waits_for
        if waits_for is not None:
            raise Wait(waits_for)
        grant.endpoints = (is_port_forward(grant.attributes) and grant.cluster.streams) or api.endpoints
        if (
            api.authority
            and h.ORIGIN in exchange.special
            and exchange.identity is not None
            and exchange.identity.ambient
        ):
            # It was judged by our name, which is not the API server's: to that it would look foreign.
            exchange.forward = [field for field in exchange.forward if not field.lower().startswith(b"origin:")]
        rest = rest_of_head(exchange, api.fields(exchange), api.authority.encode())
        if grant.located is not None:
            exchange.rest, exchange.stamp = rest, api.stamp
        return b"%b %b%b HTTP/1.1\r\n%b" % (exchange.method, api.prefix, target, rest)

    # connect

    def dial(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Opens a connection for an exchange."""
        self._own(self._dial(exchange, endpoint), f"dial {endpoint.label}")

    async def _dial(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                upstream = await endpoint.dial(lambda: Upstream(endpoint))
        except TimeoutError:
            exchange.dial_failed(f"dial tcp {endpoint.label}: i/o timeout")
        except OSError as error:
            exchange.dial_failed(f"dial tcp {endpoint.label}: {error.strerror or error}")
        except BaseException:
            exchange.down.transport.abort()  # a bug of ours must not leave the client waiting
            raise
        else:
            exchange.dialled(upstream)

    def keep(self, upstream: Upstream) -> None:
        """Pools a connection that is idle again."""
        if upstream.closed:
            return
        idle = upstream.endpoint.idle
        if len(idle) >= self.limits.upstream_idle:
            upstream.close()
            return
        if upstream.paused:
            upstream.resume()  # the client that it waited for is not the next one's
        upstream.since = self.now
        idle.append(upstream)

    def wants_page(self, exchange: Exchange) -> bool:
        """Whether a person's browser is at the other end: it accepts HTML by name."""
        return b"text/html" in exchange.special.get(h.ACCEPT, b"")

    # record

    def record(self, exchange: Exchange, stage: str) -> None:
        """What happened, as one tuple."""
        who = exchange.who
        if who is None:
            who = exchange.who = _circumstances(exchange)
        endpoint, started = exchange.endpoint, exchange.started
        self.recorder.add(
            (
                who,
                started,
                time() - started,
                exchange.audit_id,
                stage,
                exchange.target,
                exchange.status,
                exchange.received,
                exchange.sent,
                endpoint.label if endpoint is not None else exchange.served_by,
                exchange.message,
            )
        )

    # connections

    def _ingresses_changed(self) -> None:
        """What a connection remembers may be another's now: a host that was the API's has become an Ingress's."""
        self.places.ingresses_changed()
        for down in self.crowd.connections:
            down.forget()

    def _tick(self) -> None:
        self.now = self.loop.time()
        timeout = self.limits.response_timeout
        self.response_due = self.now + timeout if timeout else 0.0

    def sweep(self) -> None:
        """Once a second: ends what is overdue or idle for too long, and tunnels whose caller or right is gone."""
        self._tick()
        now = self.now
        for down in list(self.crowd.connections):
            try:
                self._sweep_one(down, now)
            except Exception:  # one connection's trouble must not end every other's
                traceback.print_exc()
                down.transport.abort()
        for cluster in self.clusters:
            cluster.endpoints.close_idle(now - self.limits.upstream_idle_timeout)

    def _sweep_one(self, down: Downstream, now: float) -> None:
        if down.deadline <= now:
            down.expire()
        active = down.active
        if active is not None and (0.0 < active.deadline <= now or (active.tunnel and self._tunnels.over(active))):
            active.expire("the service did not answer in time")


def _circumstances(exchange: Exchange) -> Circumstances:
    special, grant = exchange.special, exchange.grant
    return Circumstances(
        exchange.identity or NOBODY,
        exchange.impersonated,
        exchange.attributes or NOTHING,
        _METHODS.get(exchange.method) or exchange.method.decode("latin-1"),
        exchange.down.peer,
        special.get(h.FORWARDED_FOR),
        special.get(h.USER_AGENT),
        "allow" if grant is not None else "forbid" if exchange.status == 403 else "",
        grant.reason if grant is not None else "",
        "1.0" if exchange.old else "1.1",
        special.get(h.REFERER),
    )


def _allowed(cluster: Cluster, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:
    """The decision that lets somebody do it; Forbidden, or Wait when the authoriser must ask first."""
    decision = cluster.authorizer.decide(user, attributes, names)
    if not isinstance(decision, Decision):
        raise Wait(decision)
    if not decision.allowed:
        raise forbidden(attributes, user, decision.reason)
    return decision


def _audit_prefix() -> str:
    """The worker's part of its audit ids: a version 4 UUID whose last group counts."""
    random = os.urandom(8).hex()
    return f"{random[:8]}-{random[8:12]}-4{random[12:15]}-8{os.urandom(2).hex()[:3]}-"


__all__ = ["NOBODY", "Door", "Wait"]
