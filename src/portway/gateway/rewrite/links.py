"""Where a backend's links lead once it stands behind a prefix: Location, HTML attributes, cookie paths.

The rule is kube-apiserver's: a URL of the backend itself (by its address, or by the host name that the client used)
whose path is absolute gets the proxy prefix, unless it has it; every other URL stays as it came. Ours differs in what
serves nobody: ".." can't climb out of the prefix, "//" and escapes in the path are kept as the backend wrote them, and
a URL that is only the backend's address ("http://10.0.0.1:80") counts as its "/".

Pure. html.py asks for attributes; the relay asks for Location and Set-Cookie.
"""

import re

from portway.gateway.rewrite import cookies, urls
from portway.gateway.rewrite.entities import read_value, write_value

_WEB = ("http", "https")

# What most links of a page are, and what can be said of them at a glance: a rooted path without anything to resolve,
# encode or escape; a relative one, a fragment or a query.
_SIMPLE = re.compile(rb"((?:/(?![/.%])[A-Za-z0-9\-._~!$()*+,;=:@%]*+)++)(?:[?#].*)?", re.DOTALL)
_RELATIVE = re.compile(rb"[a-gi-zA-GI-Z0-9_.#?][^:&]*")


class Links:
    """The place of one backend behind one prefix; an immutable value, cheap to make per answer.

    `prefix`: the request's path up to the backend's own, percent-encoded as the client wrote it, without a slash at the
    end, e.g. "/api/v1/namespaces/ns/services/svc/proxy". `backend`: "ip:port" as in the backend's URLs. `host`: the
    request's Host.
    """

    __slots__ = ("_backend", "_host", "_prefix", "_prefix_bytes")

    def __init__(self, prefix: str, backend: str, host: str) -> None:
        self._prefix = urls.encode_path(prefix.rstrip("/"))
        self._prefix_bytes = self._prefix.encode()
        self._backend = backend.lower()
        self._host = host.lower()

    def location(self, value: str) -> str:
        """The Location header for the client. `value` holds the header's bytes as latin-1.

        Illegal bytes of the path come out percent-encoded even when the rest stays, as with kube-apiserver. Raises
        RewriteError (a ValueError) for a control character.
        """
        urls.refuse_controls(value)
        url = urls.split(value)
        moved = self._moved(url)
        if moved is not None:
            return str(moved._replace(path=urls.encode_path(moved.path)))
        opaque = url.scheme is not None and url.authority is None
        return value if opaque else str(url._replace(path=urls.encode_path(url.path)))

    def cookie(self, value: bytes) -> bytes:
        """The Set-Cookie field value for the client: see cookies.py."""
        return cookies.scope(value, self._prefix_bytes)

    def attribute(self, raw: bytes, quote: bytes) -> bytes | None:
        """An HTML attribute's value with its quotes, rewritten; None when it is to stay as it came.

        `raw` is the source between the quotes, entities and all; `quote` is one of `"`, `'` and empty. The new value
        keeps its quotes (unquoted ones get double quotes) and, byte for byte, its query and fragment.
        """
        if quote and (simple := _SIMPLE.fullmatch(raw)):
            under = cookies.is_under(simple[1], self._prefix_bytes)
            return None if under else quote + self._prefix_bytes + raw + quote
        if _RELATIVE.fullmatch(raw):
            return None
        head, tail = read_value(raw)
        moved = self._moved(urls.split(head))
        if moved is None:
            return None
        new = str(moved._replace(path=urls.encode_path(moved.path, keep_high=True)))
        return None if new == head else write_value(new, tail, quote or b'"')

    def _moved(self, url: urls.Url) -> urls.Url | None:
        """`url` behind the prefix; None when it isn't the backend's, or is relative and needs nothing."""
        if url.scheme is not None and url.scheme.lower() not in _WEB:
            return None
        own = url.authority is not None and self._names_door(url.authority)
        if url.authority is not None and not own and self._host_of(url.authority) != self._backend:
            return None
        path = url.path or ("/" if url.authority is not None else "")
        if not path.startswith("/"):
            return None
        path = urls.resolve_dots(path)
        if not self._is_under(path):
            path = self._prefix + path
        path = urls.rooted(path)
        return url._replace(path=path) if own else urls.Url(None, None, path, url.tail)

    @property
    def idle(self) -> bool:
        """Whether the backend's documents need nothing: it stands at the root of a host name of its own."""
        return not self._prefix

    def _names_door(self, authority: str) -> bool:
        return self._host_of(authority) == self._host != ""

    @staticmethod
    def _host_of(authority: str) -> str:
        return authority.rpartition("@")[2].lower()

    def _is_under(self, path: str) -> bool:
        return path == self._prefix or path.startswith(self._prefix + "/")


class MovedLinks(Links):
    """Links that somebody nearer to the backend has put behind a prefix already, for a client that uses another one.

    `there` is the prefix at the server of that name (`server`, its authority), `prefix` ours, "" at the root of a host
    name. Same values otherwise as in Links.
    """

    __slots__ = ("_there", "_there_bytes")

    def __init__(self, there: str, server: str, prefix: str, host: str) -> None:
        super().__init__(prefix, server, host)
        self._there = urls.encode_path(there.rstrip("/"))
        self._there_bytes = self._there.encode()

    @property
    def idle(self) -> bool:
        return self._there == self._prefix

    def cookie(self, value: bytes) -> bytes:
        return cookies.scope(value, self._prefix_bytes, self._there_bytes)

    def attribute(self, raw: bytes, quote: bytes) -> bytes | None:
        if quote and (simple := _SIMPLE.fullmatch(raw)):
            if not cookies.is_under(simple[1], self._there_bytes):
                return None
            rest = raw[len(self._there_bytes) :]
            return quote + self._prefix_bytes + (rest if rest.startswith(b"/") else b"/" + rest) + quote
        return super().attribute(raw, quote)

    def _moved(self, url: urls.Url) -> urls.Url | None:
        if url.scheme is not None and url.scheme.lower() not in _WEB:
            return None
        if url.authority is not None and self._host_of(url.authority) not in (self._host, self._backend):
            return None
        path = urls.resolve_dots(url.path) if url.path.startswith("/") else url.path
        if path != self._there and not path.startswith(self._there + "/"):
            return None
        return urls.Url(None, None, urls.rooted(self._prefix + (path[len(self._there) :] or "/")), url.tail)
