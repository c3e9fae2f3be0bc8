"""Which form of port-forward a request asks for, and the head of the answer that grants it. Pure.

Sources: k8s.io/apimachinery/pkg/util/httpstream (SPDY), k8s.io/apiserver/pkg/util/proxy/streamtunnel.go (tunnel),
k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go (channels).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs

from portway.kube.errors import BadRequest, Forbidden, StatusError

STREAM_PROTOCOL = "portforward.k8s.io"
TUNNEL_PREFIX = "SPDY/3.1+"
TUNNEL = TUNNEL_PREFIX + STREAM_PROTOCOL
BINARY, BASE64 = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
MAX_PORTS = 100
"""Of one channel WebSocket; a channel's number is one byte."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Form(Enum):
    """How the streams travel."""

    SPDY = "SPDY"
    TUNNEL = "SPDY in a WebSocket"
    CHANNELS = "channels of a WebSocket"


@dataclass(frozen=True, slots=True)
class Granted:
    """What was agreed on. `ports` and `text` (base64 in text messages) are of channels only; `head` is the 101."""

    form: Form
    head: bytes
    ports: tuple[int, ...] = ()
    text: bool = False


def negotiate(method: str, query: str, headers: Mapping[str, list[str]]) -> Granted:
    """What a request gets. `headers`: names in lower case → their values in order. Raises StatusError."""
    upgrade = _tokens(headers, "upgrade")
    if "upgrade" not in _tokens(headers, "connection") or not upgrade:
        raise BadRequest("Upgrade request required")
    if "websocket" in upgrade:
        return _websocket(method, query, headers)
    if "spdy/3.1" in upgrade:
        return _spdy(headers)
    shown = ", ".join(headers.get("upgrade", []))
    raise BadRequest(f"unable to upgrade: missing upgrade headers in request: Upgrade is {shown!r}, not SPDY/3.1")


def _spdy(headers: Mapping[str, list[str]]) -> Granted:
    asked = _values(headers, "x-stream-protocol-version")
    if not asked:
        raise BadRequest("unable to upgrade: X-Stream-Protocol-Version header is required")
    if STREAM_PROTOCOL not in asked:
        raise Forbidden(
            f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(asked)}],"
            f" server accepts [{STREAM_PROTOCOL}]"
        )
    return Granted(Form.SPDY, _head("SPDY/3.1", f"X-Stream-Protocol-Version: {STREAM_PROTOCOL}"))


def _websocket(method: str, query: str, headers: Mapping[str, list[str]]) -> Granted:
    keys = headers.get("sec-websocket-key", [])
    if method != "GET" or headers.get("sec-websocket-version") != ["13"] or len(keys) != 1 or not _is_key(keys[0]):
        raise BadRequest("unable to upgrade: this is no WebSocket handshake (RFC 6455 section 4.2.1)")
    asked = _values(headers, "sec-websocket-protocol")
    accept = base64.b64encode(hashlib.sha1(keys[0].encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines = [f"Sec-WebSocket-Accept: {accept}"]
    if any(one.startswith(TUNNEL_PREFIX) for one in asked):
        if TUNNEL not in asked:
            raise BadRequest("unable to upgrade: no tunneling spdy protocols provided")
        return Granted(Form.TUNNEL, _head("websocket", *lines, f"Sec-WebSocket-Protocol: {TUNNEL}"))
    ports = _ports(query)
    chosen = next((one for one in asked if one in (BINARY, BASE64)), "")
    if asked and not chosen:
        raise StatusError(
            f"requested protocol(s) are not supported: [{' '.join(asked)}]; supports [{BINARY} {BASE64}]",
            code=403,
            reason="Forbidden",
        )
    if chosen:
        lines.append(f"Sec-WebSocket-Protocol: {chosen}")
    return Granted(Form.CHANNELS, _head("websocket", *lines), ports, chosen == BASE64)


def _ports(query: str) -> tuple[int, ...]:
    """The query's `ports`, which may be repeated, or a list with commas."""
    found = [one for value in parse_qs(query, keep_blank_values=True).get("ports", []) for one in value.split(",")]
    if not found:
        raise BadRequest('query parameter "port" is required')
    if len(found) > MAX_PORTS:
        raise BadRequest(f"more than {MAX_PORTS} ports in one request")
    return tuple(port_number(one) for one in found)


def port_number(text: str) -> int:
    """A port of a pod. Raises BadRequest in the kubelet's words."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise BadRequest(f'unable to parse "{text}" as a port')
    if int(text) < 1:
        raise BadRequest(f'port "{text}" must be > 0')
    return int(text)


def _head(protocol: str, *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{fields}\r\n".encode()


def _values(headers: Mapping[str, list[str]], name: str) -> list[str]:
    return [one.strip() for value in headers.get(name, []) for one in value.split(",") if one.strip()]


def _tokens(headers: Mapping[str, list[str]], name: str) -> list[str]:
    return [one.lower() for one in _values(headers, name)]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
