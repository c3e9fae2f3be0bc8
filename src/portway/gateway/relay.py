"""One request and its answer: bytes both ways, with backpressure, retries, rewriting and upgrades.

An Exchange is made by the downstream connection when a request's head is whole, walks through the pipeline's steps,
and is then driven by the callbacks of the two connections; no task or coroutine belongs to it. It ends once, in
`_end`, which is where it is recorded.
"""

from time import time
from typing import TYPE_CHECKING, Final

from portway.gateway import answers
from portway.gateway import headers as h
from portway.gateway.response import PHRASES, Head, read_head
from portway.gateway.rewrite import RewriteError, body_rewriter
from portway.gateway.rewritten import RewrittenBody
from portway.gateway.upstream.connection import Memo, Upstream
from portway.gateway.upstream.endpoint import Endpoint, pick
from portway.kube.errors import InternalError, ServiceUnavailable, StatusError, Timeout

if TYPE_CHECKING:
    from portway.gateway.authentication import Identity
    from portway.gateway.cluster import Cluster
    from portway.gateway.grant import Grant
    from portway.gateway.hosts import Site
    from portway.gateway.http1 import Downstream
    from portway.gateway.pipeline import Door
    from portway.gateway.record import Circumstances
    from portway.kube.attributes import Attributes
    from portway.kube.identity import User

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
ATTEMPTS: Final = 4
"""Endpoints that one request tries at most."""
INTERIM: Final = 16
"""1xx answers that one request passes on at most."""
SANDBOX: Final = (
    b"Content-Security-Policy: sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads\r\n"
)


class Exchange:
    """A request and its answer."""

    __slots__ = (
        "_chunk_out",
        "_interim",
        "_out",
        "_pumping",
        "_rewritten",
        "acting",
        "attributes",
        "audit_id",
        "below",
        "body",
        "body_done",
        "by_path",
        "chunked",
        "close",
        "cluster",
        "confirmed",
        "deadline",
        "dialling",
        "done",
        "door",
        "down",
        "endpoint",
        "fields",
        "forward",
        "grant",
        "half_closed",
        "head",
        "head_sent",
        "identity",
        "impersonated",
        "length",
        "message",
        "method",
        "old",
        "opening",
        "path",
        "place",
        "problem",
        "query",
        "received",
        "rest",
        "sent",
        "served_by",
        "site",
        "special",
        "stamp",
        "started",
        "status",
        "target",
        "trailers",
        "tried",
        "tunnel",
        "upgrade",
        "upstream",
        "who",
    )  # fmt: skip

    def __init__(self, down: "Downstream", method: bytes, target: bytes, fields: h.Fields, old: bool) -> None:
        self.down = down
        self.door: Door = down.door
        self.method = method
        self.target = target
        self.fields = fields
        self.old = old
        """HTTP/1.0: no chunks, no interim answers, closed unless asked otherwise."""
        self.close = False
        self.upgrade: bytes = b""
        self.length = -1
        self.chunked = False
        self.body: list[bytes] = []
        self.body_done = False
        self.trailers: h.Fields = []
        self.problem: StatusError | None = None
        """Why it could not be parsed: then this is all there is to answer."""
        self.identity: Identity | None = None
        self.impersonated: User | None = None
        self.acting: Identity | None = None
        """The impersonated user, as the rest of the pipeline sees it."""
        self.grant: Grant | None = None
        self.attributes: Attributes | None = None
        self.special: dict[int, bytes] = {}
        self.site: Site | None = None
        """The service that the host name names; None when the path says what is meant."""
        self.by_path = False
        """Whether an Ingress says so of host name and path together: the next request's path may name another site."""
        self.cluster: Cluster = self.door.cluster
        self.below = b""
        """What was taken from the front of the target, for it is ours and not the cluster's API's."""
        self.forward: list[bytes] = []
        self.path = b""
        self.query = b""
        self.head = b""
        self.rest = b""
        """The forwarded head after its first lines: what does not depend on the target. Empty where that can't serve
        another request.
        """
        self.opening = b""
        """How the request line of another such request would begin, up to the backend's own path; `place` is what the
        decision on it is remembered by.
        """
        self.place: tuple[bytes, bytes | Site] = b"", b""
        self.stamp: object = None
        """What `rest` shows to the API server, where that is who it is for; None where it is for a backend."""
        self.confirmed = False
        self.who: Circumstances | None = None
        """What the records of these requests have in common, once there was one."""
        self._begin(time())

    def _begin(self, now: float) -> None:
        """What is new in every request, even when its fields are not."""
        self.started = now
        self.audit_id = ""
        self.upstream: Upstream | None = None
        self.endpoint: Endpoint | None = None
        self.tried: tuple[Endpoint, ...] = ()
        self.dialling = False
        self.tunnel = False
        self.half_closed = False
        self.status = 0
        self.head_sent = False
        self.done = False
        self.deadline = 0.0
        self.sent = 0
        self.received = 0
        self.served_by = ""
        self.message = ""
        self._out: list[bytes] = []
        self._chunk_out = False
        self._interim = 0
        self._rewritten: RewrittenBody | None = None
        self._pumping = False

    def again(self, target: bytes, path: bytes, query: bytes) -> bool:
        """Serves a request that begins with `opening` and has the very same header fields on the same connection: same
        caller, same service, same fields forwarded.

        False when the decision does not hold or the caller does not count any more: then the request must walk through
        the steps.
        """
        identity, door, method = self.identity, self.door, self.method
        if not self.rest or self.dialling or identity is None:
            return False
        grant: Grant | None = identity.decisions.get(self.place)
        if grant is None or (grant.cluster.api.stamp if grant.through else None) is not self.stamp:
            return False
        if grant.through:
            grant.endpoints = grant.cluster.api.endpoints  # of the credential that is shown now
        places = door.places
        if not grant.holds(door.now, door.loop) or (places.filtered and not places.lets_through(method, target, self)):
            return False
        now = time()
        if not identity.valid or identity.expires <= now:
            return False
        self._begin(now)
        if grant is not self.grant:
            self.grant, self.attributes, self.who = grant, grant.attributes, None
        self.target, self.path, self.query = target, path, query
        self.body_done = True
        self.audit_id = door.next_audit_id()
        if self.stamp is not None:
            place = grant.cluster.api.prefix + grant.path
            self.head = b"".join((method, b" ", place, path, query, b" HTTP/1.1\r\n", self.rest))
        elif self.site is not None:
            self.head = b"".join((method, b" ", path, query, b" HTTP/1.1\r\n", self.rest))
        else:
            uri = b" HTTP/1.1\r\nX-Forwarded-Uri: "
            self.head = b"".join((method, b" ", path, query, uri, grant.prefix, path, b"\r\n", self.rest))
        self._attempt("")
        return True

    def again_elsewhere(self, method: bytes, target: bytes, prefix: bytes, path: bytes, query: bytes) -> bool:
        """The same with another method or service."""
        if self.identity is None or (self.identity.ambient and method != self.method):
            return False
        self.method, self.grant = method, None
        self.remember(prefix)
        return self.again(target, path, query)

    def remember(self, prefix: bytes) -> None:
        """Which requests `again` is for: those of this method, to the service with this prefix, or to the site."""
        self.opening = b"%b %b" % (self.method, prefix)
        self.place = self.method, prefix if self.site is None else self.site

    @property
    def plain(self) -> bool:
        """A whole request without a body, on a connection that stays: nothing of it is left to be read."""
        return self.body_done and not (self.close or self.old or self.received or self.problem)

    # request body: called by the downstream connection once the exchange is under way

    def request_body(self, data: bytes) -> None:
        """A piece of the request's body."""
        self.received += len(data)
        upstream = self.upstream
        if upstream is None:
            self.body.append(data)
            self.down.pause()
        else:
            self.deadline = self.door.response_due
            upstream.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def request_ended(self) -> None:
        """The request is whole."""
        self.body_done = True
        if self.upstream is not None and self.chunked:
            self.upstream.transport.write(self._last_chunk())

    def _last_chunk(self) -> bytes:
        return b"0\r\n%b\r\n" % h.trailers(self.trailers, h.REQUEST)

    # connecting

    def connect(self) -> None:
        """Sends the request to the best endpoint that was not tried yet, or refuses it with upstream's 503."""
        self._attempt("no endpoint left to try")

    def _attempt(self, why: str) -> None:
        grant = self.grant
        endpoint = None
        if grant is not None and len(self.tried) < ATTEMPTS:
            endpoint = pick(grant.endpoints, self.door.now, self.tried)
        if endpoint is None:
            self._unreachable(why)
            return
        self.endpoint = endpoint
        endpoint.active += 1
        if not self.upgrade:
            idle = endpoint.idle
            while idle:
                upstream = idle.pop()
                if not upstream.closed:
                    self._send(upstream)
                    return
        self.dialling = True
        self.door.dial(self, endpoint)

    def dialled(self, upstream: Upstream) -> None:
        """The connection that `dial` was asked for is there."""
        self.dialling = False
        if self.done:
            self._leave_endpoint()
            self.door.keep(upstream)
            return
        self._send(upstream)

    def dial_failed(self, why: str) -> None:
        """It could not be made: nothing was sent, so the next endpoint may try."""
        self.dialling = False
        endpoint = self._leave_endpoint(failed=True)
        if not self.done and endpoint is not None:
            self.tried = (*self.tried, endpoint)
            self._attempt(why)

    def _leave_endpoint(self, failed: bool = False) -> Endpoint | None:
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            self.served_by = endpoint.label
            endpoint.active -= 1
            if failed:
                endpoint.failed(self.door.now)
        return endpoint

    def _send(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.deadline = self.door.response_due
        head = self.head
        if self.body or self.chunked:
            head += self._body_so_far()
        upstream.begin(self, head, self.method == b"HEAD", not self.upgrade)
        if not self.body_done:
            self.down.resume()

    def _body_so_far(self) -> bytes:
        body, self.body = self.body, []
        if self.chunked:
            body = [b"%x\r\n%b\r\n" % (len(b), b) for b in body]
            if self.body_done:
                body.append(self._last_chunk())
        return b"".join(body)

    def pause_upload(self) -> None:
        """The backend reads slower than the client sends."""
        self.down.pause()

    def resume_upload(self) -> None:
        """It caught up."""
        self.down.resume()

    def upstream_lost(self, upstream: Upstream, why: str) -> None:
        """The backend's connection ended before the answer was whole."""
        self.upstream = None
        endpoint = self._leave_endpoint(failed=upstream.served == 1 and not self.head_sent)
        if self.done:
            return
        if self.tunnel or self.head_sent or self.status:
            self._cut_short()
            return
        replayable = self.method in IDEMPOTENT and self.length <= 0 and not self.chunked and not self.upgrade
        if replayable and endpoint is not None:
            if upstream.served == 1:
                self.tried = (*self.tried, endpoint)
            self._attempt(why)
        else:
            self._unreachable(why)

    def _unreachable(self, why: str) -> None:
        door = self.door
        door.recorder.metrics.upstream_error()
        if self.grant is not None and self.grant.located is None:
            door.recorder.metrics.api_error()
            error: StatusError = ServiceUnavailable(f"the API server cannot be reached: {why}", retry_after=1)
        elif self.upgrade and self.tried:
            error = StatusError(f"error dialing backend: {why}")
        elif self.upgrade:
            error = StatusError("unexpected EOF" if why == "EOF" else why)
        else:
            error = ServiceUnavailable(f"error trying to reach service: {why}")
        self.refuse(error)

    # the answer: called by the upstream connection

    def response_started(self, upstream: Upstream, status: int, reason: bytes, fields: h.Fields) -> int:
        """See upstream.connection.Exchange."""
        if status < 200:
            self._pass_interim(status, reason, fields)
            return 0
        if self.upgrade and status < 400:
            self._upgrade_refused(status)
            return 0
        self.status = status
        if status == 401 and self.grant is not None and self.grant.through:
            api, proxied = self.grant.cluster.api, self.grant.located is not None
            api.refused(self, proxied=proxied)
            if not (proxied or api.judges):  # it saw no credential but the door's: the caller's is not what is wrong
                self._drop_upstream()
                self.refuse(ServiceUnavailable("the API server refuses the door's own credential", retry_after=1))
                return 0
        bodyless = self.method == b"HEAD" or status == 204 or status == 304
        head = read_head(status, reason, fields)
        if head.unknown_coding:
            self._drop_upstream(failed=True)
            self._unreachable("malformed HTTP response: unsupported transfer encoding")
            return 0
        if head.special and not self._rewrite(head, bodyless):
            return 0
        if self.site is not None and SANDBOX in head.lines:
            head.lines.remove(SANDBOX)  # of a door nearer to the service: it has an origin of its own here
        raw = self._frame(upstream, head, bodyless)
        base = b"".join(head.lines)
        self._out = [base, self._tail()]
        if not (head.special or bodyless or head.length < 0 or status == 401):
            upstream.plain_head = base
        return raw

    def response_whole(self, upstream: Upstream, memo: Memo, data: bytes) -> None:
        """See upstream.connection.Exchange."""
        self.status = memo.status
        self.sent = memo.length
        if not self.body_done or self.door.draining:
            self.close = True
        self.head_sent = True
        self.down.transport.write(b"".join((memo.head, self._tail(), data[memo.skip :])))
        self.upstream = None
        endpoint = self.endpoint
        if endpoint is not None:
            endpoint.active -= 1
            endpoint.failures = 0
            self.served_by = endpoint.label
            self.endpoint = None
        if self.body_done:
            self.door.keep(upstream)
        else:
            upstream.close()
        self._end()

    def _tail(self) -> bytes:
        """The lines that end every head: ours, and how the connection goes on."""
        audit = self.audit_id.encode()
        if not (self.close or self.old) and (self.identity is None or not self.identity.sandboxed):
            return b"Audit-Id: %b\r\n\r\n" % audit
        ends = b"Connection: close\r\n" if self.close else b"Connection: keep-alive\r\n" if self.old else b""
        if (
            self.grant is not None
            and self.grant.located is not None
            and self.site is None
            and self.identity is not None
            and self.identity.sandboxed
        ):
            ends += self.door.sandbox
        return b"%bAudit-Id: %b\r\n\r\n" % (ends, audit)

    def _pass_interim(self, status: int, reason: bytes, fields: h.Fields) -> None:
        self._interim += 1
        if self.old or self.done or self._interim > INTERIM:
            return
        kept = b"".join(b"%b: %b\r\n" % f for f in fields if h.RESPONSE[f[0]] == h.PASS)
        self.down.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason or PHRASES.get(status, b""), kept))

    def _upgrade_refused(self, status: int) -> None:
        self._drop_upstream()
        self.refuse(StatusError(f"invalid upgrade response: status code {status}"))

    def _rewrite(self, head: Head, bodyless: bool) -> bool:
        """Location, cookies and HTML; False when the answer was refused."""
        grant = self.grant
        if grant is None or grant.located is None:
            head.pass_special()
            return True
        links = grant.links(self.special.get(h.HOST, b""), self.endpoint)
        try:
            is_html = head.rewrite(links)
        except ValueError as error:
            self._drop_upstream()
            self.refuse(InternalError(f"Internal error occurred: error trying to parse Location header: {error}"))
            return False
        encoding = head.encoding
        if is_html and not bodyless and self.status != 206 and not links.idle:
            rewriter = body_rewriter(links, encoding, self.special.get(h.ACCEPT_ENCODING))
            if rewriter is not None:
                encoding = rewriter.content_encoding
                self._rewritten = RewrittenBody(rewriter)
        if encoding:
            head.lines.append(b"Content-Encoding: %b\r\n" % encoding)
        return True

    def _frame(self, upstream: Upstream, head: Head, bodyless: bool) -> int:
        """Says how the body is delimited; returns how much of it may bypass the parser."""
        length = head.length
        raw = 0
        if self.upgrade or not self.body_done or self.door.draining:
            self.close = True
        if bodyless:
            if length >= 0 and self.status != 204:
                head.lines.append(b"Content-Length: %d\r\n" % length)
        elif length >= 0 and self._rewritten is None:
            head.lines.append(b"Content-Length: %d\r\n" % length)
            raw = length
        else:
            upstream.until_close = length < 0 and not head.chunked
            if self.old:
                self.close = True
            else:
                self._chunk_out = True
                head.lines.append(b"Transfer-Encoding: chunked\r\n")
        return raw

    def response_body(self, data: bytes) -> None:
        """See upstream.connection.Exchange."""
        if self._rewritten is None:
            self._add_body(data)
        else:
            self._rewritten.add(data)
            self._pump()

    def _pump(self) -> None:
        """Gives on what of a rewritten body can be made in one turn of the loop; the next turns make the rest, with
        the backend waiting meanwhile.
        """
        if self._rewritten is None or self._pumping or self.done:
            return
        try:
            self._pumping = self._rewritten.pump(self._add_body, lambda: self.down.blocked)
        except RewriteError as error:
            self._broken_body(error)
            return
        if self._pumping:
            if self.upstream is not None:
                self.upstream.pause()
            self.door.loop.call_soon(self._pump_on)
        elif self.upstream is not None and not self.down.blocked:
            self.upstream.resume()

    def _pump_on(self) -> None:
        self._pumping = False
        self._pump()
        self.response_flush()

    def _add_body(self, data: bytes) -> None:
        if not data:
            return
        self.sent += len(data)
        if self._chunk_out:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def _broken_body(self, error: RewriteError) -> None:
        self._rewritten = None
        self._drop_upstream()
        if self.head_sent:
            self._cut_short()
        else:
            self.refuse(InternalError(str(error)))

    def response_raw(self, data: bytes) -> None:
        """See upstream.connection.Exchange."""
        self.sent += len(data)
        self.deadline = self.door.response_due
        self.down.transport.write(data)

    def response_flush(self) -> None:
        """See upstream.connection.Exchange."""
        out = self._out
        if out and not self.done:
            self.head_sent = True
            self._out = []
            self.deadline = self.door.response_due
            self.down.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def response_ended(self, upstream: Upstream, fields: h.Fields, reusable: bool) -> None:
        """See upstream.connection.Exchange."""
        self.upstream = None
        endpoint = self._leave_endpoint()
        if endpoint is not None:
            endpoint.failures = 0
        if self.done:
            upstream.close()
            return
        if reusable and self.body_done and not self.upgrade:
            self.door.keep(upstream)
        else:
            upstream.close()
        if self._rewritten is None:
            self._finish(fields)
        else:
            self._rewritten.finish(lambda: self._finish(fields))
            self._pump()

    def _finish(self, fields: h.Fields) -> None:
        """Everything that the backend sent is given on: so is its end."""
        if self._chunk_out:
            self._out.append(b"0\r\n%b\r\n" % (h.trailers(fields, h.RESPONSE) if fields else b""))
        self.response_flush()
        self._end()

    # upgrades

    def response_upgraded(self, upstream: Upstream, status: int, reason: bytes, fields: h.Fields, rest: bytes) -> None:
        """See upstream.connection.Exchange. Pipes from here on, only because we asked and the backend agreed."""
        if not self.upgrade:
            upstream.abandon()
            self.upstream = None
            self._leave_endpoint(failed=True)
            self._unreachable("unexpected 101 Switching Protocols")
            return
        self.status = status
        self.tunnel = self.head_sent = self.close = True
        kept = b"".join(b"%b: %b\r\n" % f for f in fields if h.RESPONSE[f[0]] in (h.PASS, h.UPGRADE, h.CONNECTION))
        kept += self._cookies(fields)
        if b"connection:" not in kept.lower():
            kept += b"Connection: Upgrade\r\n"
        self.down.write(b"HTTP/1.1 101 %b\r\n%b\r\n%b" % (reason or PHRASES[101], kept, rest))
        self.sent += len(rest)
        self.deadline = self.door.now + self.door.limits.upgrade_idle_timeout
        self.door.record(self, "ResponseStarted")
        self.door.recorder.metrics.upgrades(1)
        early = self.down.start_tunnel(self)
        if early:
            self.client_sent(early)

    def _cookies(self, fields: h.Fields) -> bytes:
        """The cookies that come with an upgrade, scoped as all others."""
        cookies = [field for field in fields if h.RESPONSE[field[0]] == h.SET_COOKIE]
        if not cookies or self.grant is None:
            return b""
        if self.grant.located is not None:
            links = self.grant.links(self.special.get(h.HOST, b""), self.endpoint)
            cookies = [(name, links.cookie(value)) for name, value in cookies]
        return b"".join(b"%b: %b\r\n" % cookie for cookie in cookies)

    def client_sent(self, data: bytes) -> None:
        """Bytes from the client after the upgrade."""
        self.received += len(data)
        if self.upstream is not None:
            self.upstream.transport.write(data)
            self.deadline = self.door.now + self.door.limits.upgrade_idle_timeout

    def client_finished(self) -> bool:
        """The client sends no more but may still read; True keeps its connection open."""
        upstream = self.upstream
        if upstream is None or upstream.closed or self.half_closed or not upstream.transport.can_write_eof():
            return False
        self.half_closed = True
        upstream.transport.write_eof()
        return True

    def tunnel_received(self, data: bytes) -> None:
        """See upstream.connection.Exchange."""
        self.sent += len(data)
        self.deadline = self.door.now + self.door.limits.upgrade_idle_timeout
        self.down.transport.write(data)

    def tunnel_ended(self) -> bool:
        """See upstream.connection.Exchange."""
        if self.half_closed or not self.down.finish_writing():
            return False
        self.half_closed = True
        return True

    # the end

    def pause_download(self) -> None:
        """The client reads slower than the backend sends."""
        if self.upstream is not None:
            self.upstream.pause()

    def resume_download(self) -> None:
        """It caught up."""
        if self.upstream is not None and not self._pumping:
            self.upstream.resume()
        self._pump()

    def refuse(self, error: StatusError, extra: bytes = b"") -> None:
        """Answers with an error of the door's own, if nothing was answered yet."""
        if self.done:
            return
        if self.head_sent:
            self._cut_short()
            return
        self._drop_upstream()
        self.message = error.message
        as_page = self.door.wants_page(self)
        self.answer(error.code, *answers.status(error, self.audit_id, as_page, extra))

    def answer(self, code: int, head: bytes, body: bytes) -> None:
        """Answers with something of the door's own."""
        self.status = code
        if not self.body_done or self.upgrade:
            self.close = True  # what follows a refused upgrade may be no HTTP
        ends = b"Connection: close\r\n" if self.close else b"Connection: keep-alive\r\n" if self.old else b""
        if self.identity is not None and self.identity.warning is not None:
            ends += b"Warning: %b\r\n" % self.identity.warning
        if self.method == b"HEAD":
            body = b""
        self.sent = len(body)
        self.head_sent = True
        self.down.write(b"%bAudit-Id: %b\r\n%b\r\n%b" % (head, self.audit_id.encode(), ends, body))
        self._end()

    def client_gone(self) -> None:
        """The client's connection is lost: the backend's work is for nobody."""
        if not self.done:
            self._drop_upstream()
            self._end(cut=True)

    def expire(self, why: str) -> None:
        """A deadline passed."""
        if self.head_sent:
            self._cut_short()
        else:
            self._drop_upstream(failed=True)
            self.refuse(Timeout(why))

    def _drop_upstream(self, failed: bool = False) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.release() if self.tunnel else upstream.abandon()
        if not self.dialling:
            self._leave_endpoint(failed)

    def _cut_short(self) -> None:
        """The answer can't be finished, and the client must be able to see that (RFC 9112 section 8)."""
        self._drop_upstream()
        if self.tunnel:
            self.down.close()
        else:
            self.response_flush()
            self.down.cut(abruptly=self.old and not self._chunk_out)
        self._end(cut=True)

    def _end(self, cut: bool = False) -> None:
        if self.done:
            return
        self.done = True
        if self.tunnel:
            self.door.recorder.metrics.upgrades(-1)
        self.door.record(self, "ResponseComplete")
        if cut:
            self.down.active = None
        else:
            self.down.answered(self)
