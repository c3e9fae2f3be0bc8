"""URLs as text: split, resolve dot segments, percent-encode. Pure and tolerant, as browsers are.

Not a validator: what isn't understood is reported as such (None) or left as it came. links.py decides with this what
a link means behind a prefix.
"""

import re
from typing import NamedTuple

from portway.gateway.rewrite.errors import RewriteError

# RFC 3986 appendix B with the scheme's grammar of section 3.1. "///x" has no authority here (as in Go's net/url).
_SPLIT = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?!/)([^/?#\\]*))?([^?#]*)(.*)", re.DOTALL)
# Characters of a path that need no encoding (RFC 3986 section 3.3), and the stricter set that Go's net/url leaves
# alone once it has to encode anything in a path. A per cent sign that begins no escape is the backend's own business.
_LEGAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
_TO_ENCODE = re.compile(r"[^A-Za-z0-9\-._~$&+,;=:@/%]")
_TO_ENCODE_BUT_HIGH = re.compile(r"[^A-Za-z0-9\-._~$&+,;=:@/%\x80-\xff]")
_LEGAL_OR_HIGH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%\x80-\xff]*")
# A dot segment, each dot perhaps written %2e: browsers take both for one (URL Standard, "double-dot URL path segment").
_DOT = re.compile(r"\.|%2[eE]")
_ANY_DOT_SEGMENT = re.compile(r"/(?:\.|%2[eE]){1,2}(?:/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Url(NamedTuple):
    """A URL's parts, each as written: `scheme` and `authority` None when absent, `tail` from the first ? or # on."""

    scheme: str | None
    authority: str | None
    path: str
    tail: str

    def __str__(self) -> str:
        scheme = "" if self.scheme is None else f"{self.scheme}:"
        authority = "" if self.authority is None else f"//{self.authority}"
        return f"{scheme}{authority}{self.path}{self.tail}"


def split(text: str) -> Url:
    """`text` in parts; every text has some (the grammar's last resort is a relative path)."""
    match = _SPLIT.fullmatch(text)
    if match is None:  # cannot be: the last two groups take anything
        raise RewriteError("not a URL")
    return Url(*match.groups())


def refuse_controls(text: str) -> None:
    """Raises RewriteError when `text` holds a control character, which no URL may and no header should."""
    if _CONTROL.search(text):
        raise RewriteError("invalid control character in URL")


def resolve_dots(path: str) -> str:
    """`path`, which starts with "/", without "." and ".." segments: what a browser makes of it before it asks."""
    if not _ANY_DOT_SEGMENT.search(path):
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        plain = _DOT.sub(".", segment)
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if _DOT.sub(".", segments[-1]) in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def rooted(path: str) -> str:
    """`path` as a reference that stays on its host: "//x" alone would name another one (URL Standard, "URL
    serializing").
    """
    return "/." + path if path.startswith("//") else path


def encode_path(path: str, *, keep_high: bool = False) -> str:
    """`path` with illegal characters percent-encoded; a legal path comes back as it is, escapes in it untouched.

    `path` holds bytes as latin-1 (what a header or a document is before its charset is known); characters beyond are
    encoded as UTF-8. `keep_high` leaves bytes from 0x80 on alone, for documents whose charset only the browser knows.
    """
    if (_LEGAL_OR_HIGH if keep_high else _LEGAL).fullmatch(path):
        return path
    return (_TO_ENCODE_BUT_HIGH if keep_high else _TO_ENCODE).sub(_escape, path)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "".join(f"%{byte:02X}" for byte in character.encode("latin-1" if character <= "\xff" else "utf-8"))
