"""A request's head: what the door reads of it, and what it becomes on the way to a backend.

No decision is made here and nothing is sent; the pipeline's steps call these functions on their exchange.
"""

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from portway.gateway import headers as h
from portway.gateway.authentication.headers import websocket_token
from portway.kube.attributes import Attributes, parse
from portway.kube.errors import BadRequest, StatusError, Unauthorized, method_not_allowed
from portway.kube.proxyurl import ProxyURL, match

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange

_STAY: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"content-length", b"host"))
"""What `Connection` may name without taking it from the head: the body's length is not the client's to hide."""
_AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~:\[\]-]+\Z")


def read_head(exchange: "Exchange") -> None:
    """Sorts a request's fields: what is forwarded, and what the door itself must know. Raises StatusError."""
    forward = exchange.forward
    special = exchange.special
    classified = h.REQUEST
    for name, value in exchange.fields:
        code = classified[name]
        if code == h.PASS:
            forward.append(b"%b: %b\r\n" % (name, value))
        elif code:
            if code in special:
                value = _joined(code, special[code], value)
            special[code] = value
            if code > h.KEEP:
                forward.append(b"%b: %b\r\n" % (name, value))
    if len(special) > 1 or h.HOST not in special:
        _read_special(exchange, special)


def _read_special(exchange: "Exchange", special: dict[int, bytes]) -> None:
    if h.HOST not in special and not exchange.old:
        raise BadRequest("missing required Host header")
    if h.CONTENT_LENGTH in special:
        exchange.length = int(special[h.CONTENT_LENGTH])
    elif h.TRANSFER_ENCODING in special:
        if exchange.old:
            raise BadRequest("HTTP/1.0 has no transfer encoding")  # RFC 9112 section 6.1
        if special[h.TRANSFER_ENCODING].strip().lower() != b"chunked":
            raise StatusError("unsupported transfer encoding", code=501, reason="NotImplemented")
        exchange.chunked = True
    if special.get(h.USER_AGENT) == b"":
        exchange.forward = [line for line in exchange.forward if not line.lower().startswith(b"user-agent:")]
    if h.CONNECTION in special:
        _read_connection(exchange, special)


def _read_connection(exchange: "Exchange", special: dict[int, bytes]) -> None:
    named = h.tokens(special[h.CONNECTION])
    hop = set(named) - _STAY
    if hop:
        exchange.forward = [line for line in exchange.forward if line.partition(b":")[0].lower() not in hop]
    if b"upgrade" in named and not exchange.old and _may_upgrade(special.get(h.UPGRADE, b"")):
        if exchange.length > 0 or exchange.chunked:
            raise BadRequest("an upgrade request cannot have a body")
        exchange.upgrade = special[h.UPGRADE]


def rest_of_head(exchange: "Exchange", own: bytes, host: bytes = b"") -> bytes:
    """What follows the lines that depend on the target. `host` stands in for the client's where it isn't empty."""
    special = exchange.special
    parts = [b"Host: %b\r\n" % (host or special.get(h.HOST, b"")), *exchange.forward, own]
    if h.TE in special and b"trailers" in h.tokens(special[h.TE]):
        parts.append(b"TE: trailers\r\n")
    if exchange.chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif exchange.length < 0 and exchange.method in (b"POST", b"PUT", b"PATCH"):
        parts.append(b"Content-Length: 0\r\n")
    if exchange.upgrade:
        parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % exchange.upgrade)
    protocols = special.get(h.WEBSOCKET_PROTOCOL)
    if protocols is not None:
        parts.append(_without_token(protocols))
    parts.append(b"\r\n")
    return b"".join(parts)


def _may_upgrade(protocols: bytes) -> bool:
    """Whether an upgrade is worth asking for: any protocol but HTTP itself, whose requests must pass through here."""
    names = h.tokens(protocols)
    return bool(names) and not any(n.startswith((b"h2c", b"http")) for n in names)


def _joined(code: int, first: bytes, second: bytes) -> bytes:
    if code in (h.HOST, h.AUTHORIZATION, h.CONTENT_LENGTH, h.TRANSFER_ENCODING):
        raise BadRequest("a header that may appear once appears twice")
    return first + b", " + second


def origin_form(exchange: "Exchange") -> bytes:
    """The request target as a path: absolute-form names its host itself (RFC 9112 section 3.2.2)."""
    target = exchange.target
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, mark, rest = target.partition(b"://")
    if exchange.method == b"CONNECT" or not mark or scheme.lower() not in (b"http", b"https"):
        raise method_not_allowed() if exchange.method == b"CONNECT" else BadRequest("the request target is not a path")
    authority, slash, path = rest.partition(b"/")
    if not _AUTHORITY.match(authority):
        raise BadRequest("the request target names no host")
    exchange.special[h.HOST] = authority
    return slash + path or b"/"


def attributes_if_any(exchange: "Exchange") -> Attributes | None:
    """For the record of a request that was refused before anything was decided."""
    try:
        return attributes_of(exchange, match(exchange.target))
    except StatusError:
        return None


def attributes_of(exchange: "Exchange", url: ProxyURL | None) -> Attributes:
    """Attributes from the same parse that routes: a proxy URL's segments are the ones that were matched."""
    raw, _, query = exchange.target.partition(b"?")
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    method = exchange.method.decode("latin-1")
    if url is None:
        return parse(method, path, query.decode("latin-1"))
    verb = parse(method, "/api/v1/nodes/x/proxy").verb
    return Attributes(
        verb, "", "v1", url.resource, "proxy", url.namespace, url.id, path, True, (url.resource, url.id, "proxy")
    )


def _without_token(protocols: bytes) -> bytes:
    """The subprotocols without the caller's bearer token, which no backend ever sees, upgrade or not."""
    try:
        rest = websocket_token(protocols)[1]
    except Unauthorized:
        return b""
    return b"Sec-WebSocket-Protocol: %b\r\n" % rest if rest else b""
