"""The grammar of the proxy verb: which URL names which service, pod or node, and which bytes go to its backend.

Everything here is a function from bytes to values; who may use a target and where it lives is decided elsewhere, on
exactly the values returned here. Upstream's grammar: `pkg/registry/core/service/proxy.go`,
`apimachinery/pkg/util/net/port_split.go`.

We differ from upstream on purpose where its canonicalisation loses what the client said: percent-encoded octets and
empty segments reach the backend as sent. Dot segments are still resolved and bytes that are illegal in a path are
still encoded.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from portway.kube.errors import BadRequest

# A target whose API part needs no decoding: the common case, found with one match.
_PLAIN_TARGET = re.compile(
    rb"(/api/v1/(?:namespaces/([^/%?#\\]+)/(services|pods)|(nodes))/([^/%?#\\]+)/proxy)(?=[/?]|\Z)",
)
# A backend path that is forwarded as it stands: legal characters only, no escapes, no segment that starts with a dot.
_SEGMENTS = rb"((?:/(?:[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)?)+)"
_PLAIN_PATH = re.compile(_SEGMENTS + rb"\Z")
_QUERY = rb"(\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?"
plain_request: Final = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) "
    rb"((/api/v1/(?:namespaces/[A-Za-z0-9.-]+/(?:services|pods)|nodes)/[A-Za-z0-9.:-]+/proxy)"
    rb"%b%b) HTTP/1\.1" % (_SEGMENTS, _QUERY)
).fullmatch
"""Matches a request line that needs no parser, for no other could read it otherwise: its groups are the method, the
target, the API's part of it, the path and the query. The path is one that backend_path leaves as it is.
"""
plain_request_at_host: Final = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) (()%b%b) HTTP/1\.1" % (_SEGMENTS, _QUERY)
).fullmatch
"""The same for a request to a service's own host name: nothing of the target is the API's."""
plain_rest: Final = re.compile(rb"%b%b HTTP/1\.1" % (_SEGMENTS, _QUERY)).fullmatch
"""The end of such a line, behind what is the API's: its groups are the path and the query."""
_LEGAL = b"!$&'()*+,;=:@/%"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT = re.compile(rb"(?:\.|%2[eE]){1,2}\Z")
_SCHEMES = frozenset({"", "http", "https"})
_WORDS = {"services": "service", "pods": "pod", "nodes": "node"}


class TargetId(NamedTuple):
    """`[scheme:]name[:port]`, split. Empty scheme means http, empty port the default one."""

    scheme: str
    name: str
    port: str


class ProxyURL(NamedTuple):
    """A request target that uses the proxy verb.

    `prefix` is the canonical escaped URL up to and including `/proxy`; `path` the raw rest of the path (empty when
    the URL ends in `/proxy`); `query` the raw query with its question mark, or empty.
    """

    resource: str
    namespace: str
    id: str
    prefix: bytes
    path: bytes
    query: bytes


def split_id(text: str) -> TargetId | None:
    """Splits `name`, `name:port` or `scheme:name:port`; None when the id is not valid (spec: port_split_test.go)."""
    parts = text.split(":")
    if len(parts) == 1:
        found = TargetId("", parts[0], "")
    elif len(parts) == 2:
        found = TargetId("", parts[0], parts[1])
    elif len(parts) == 3:
        found = TargetId(*parts)
    else:
        return None
    return found if found.name and found.scheme in _SCHEMES else None


def join_id(target: TargetId) -> str:
    """The shortest spelling of a target; with a scheme always three parts, as client-go writes it."""
    if target.scheme:
        return ":".join(target)
    return f"{target.name}:{target.port}" if target.port else target.name


def parse_id(resource: str, text: str) -> TargetId:
    """Splits an id or raises upstream's 400 for it."""
    for bad in ("/", "%"):
        if bad in text:
            raise BadRequest(f"Name parameter invalid: \"{text}\": may not contain '{bad}'")
    if text in (".", ".."):
        raise BadRequest(f"Name parameter invalid: \"{text}\": may not be '{text}'")
    if not text:
        raise BadRequest("name must be provided")
    target = split_id(text)
    if target is None:
        raise BadRequest(f"invalid {_WORDS[resource]} request {_quoted(text)}")
    return target


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def plain_prefix(target: bytes) -> int:
    """Length of the API part of a plain proxy URL, or 0. The caller's cache is keyed by those bytes."""
    found = _PLAIN_TARGET.match(target)
    return found.end() if found else 0


def match(target: bytes) -> ProxyURL | None:
    """Recognises a proxy URL in an origin-form request target; None for every other URL.

    The API part may be percent-encoded (each segment is decoded once, after splitting, so an encoded slash never
    makes a new segment); the canonical prefix is what links are rewritten to and what `X-Forwarded-Uri` shows.
    """
    found = _PLAIN_TARGET.match(target)
    if found:
        prefix, namespace, kind, node, name = found.groups()
        path, mark, query = target[len(prefix) :].partition(b"?")
        resource = (kind or node).decode()
        return ProxyURL(resource, (namespace or b"").decode(), name.decode(), prefix, path, mark + query)
    if b"%" not in target and b"//" not in target:
        return None
    path, mark, query = target.partition(b"?")
    return _match_decoded(path, mark + query)


def _match_decoded(path: bytes, query: bytes) -> ProxyURL | None:
    segments = path.split(b"/")
    heads = [unquote_to_bytes(s).decode("utf-8", "replace") for s in segments[:8]]
    if heads[:3] == ["", "api", "v1"] and heads[3:4] == ["namespaces"] and len(heads) >= 8 and heads[7] == "proxy":
        resource, namespace, name, used = heads[5], heads[4], heads[6], 8
    elif heads[:4] == ["", "api", "v1", "nodes"] and heads[5:6] == ["proxy"]:
        resource, namespace, name, used = "nodes", "", heads[4], 6
    else:
        return None
    if resource not in _WORDS or (used == 8 and (resource == "nodes" or not namespace)):
        return None
    prefix = b"/".join(_escaped(s) for s in heads[:used])
    rest = segments[used:]
    return ProxyURL(resource, namespace, name, prefix, b"/" + b"/".join(rest) if rest else b"", query)


def _escaped(segment: str) -> bytes:
    return quote(segment, safe="!$&'()*+,;=:@").encode()


def backend_path(path: bytes) -> bytes:
    """The path that the backend is sent: escapes as sent, dot segments resolved, illegal bytes encoded.

    Never climbs above `/`. Raises BadRequest for a malformed escape, as a strict parser must.
    """
    if _PLAIN_PATH.match(path):
        return path
    if not path:
        return b"/"
    if _BAD_ESCAPE.search(path):
        raise BadRequest("the request path has a malformed percent-encoding")
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if not _DOT.match(segment):
            kept.append(segment)
        elif len(segment.replace(b"%2e", b".").replace(b"%2E", b".")) == 2 and kept:
            kept.pop()
    if _DOT.match(segments[-1]):
        kept.append(b"")
    return b"/" + quote_from_bytes(b"/".join(kept), safe=_LEGAL).encode()


def climbs(path: bytes) -> bool:
    """Whether a path leads above its own "/" for somebody who decodes it before resolving "..", as some proxies do."""
    if b"%" not in path:
        return False
    depth = 0
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        depth += -1 if segment == b".." else segment not in (b"", b".")
        if depth < 0:
            return True
    return False


def forwarded_uri(prefix: bytes, raw: bytes, path: bytes) -> bytes:
    """Upstream's X-Forwarded-Uri: prefix and backend path joined; with dot segments, the whole path cleaned."""
    if raw == path or not _has_dots(raw):
        return prefix + path
    return backend_path(prefix + raw)


def _has_dots(raw: bytes) -> bool:
    return any(_DOT.match(s) for s in raw.split(b"/"))


def equivalent_ids(target: TargetId, ports: tuple[str, ...]) -> tuple[str, ...]:
    """Every spelling of one (scheme, port) of a target.

    `ports` are the port strings that mean the same port there: its number, its name, and "" when it is the default
    for the target's scheme. An id without scheme means http.
    """
    schemes = ("https",) if target.scheme == "https" else ("", "http")
    found: list[str] = []
    for scheme in schemes:
        for port in ports:
            if scheme:
                found.append(f"{scheme}:{target.name}:{port}")
                continue
            found += [f"{target.name}:{port}", f":{target.name}:{port}"]
            if not port:
                found.append(target.name)
    return tuple(found)
