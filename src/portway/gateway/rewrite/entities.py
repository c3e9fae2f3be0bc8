"""HTML attribute values: from source to the URL that a browser sees, and back.

Values are read as latin-1, so that every byte keeps its place whatever the document's charset is. Only the part before
the query is decoded; query and fragment are never touched, so "&copy=1" and "&amp;" in them can't be misread.

Source: HTML Standard 13.2.5.72 ff. (character references in attributes).
"""

import html
import re
from html.entities import html5
from urllib.parse import quote as percent_encode

_PLAIN_HEAD = re.compile(rb"[^&?#\t\n\r]*+(?=[?#]|\Z)")
_UNIT = re.compile(rb"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[A-Za-z][A-Za-z0-9]*;?)|[?#]|[^&?#]+|&")
# Leading and trailing C0 controls and spaces, and tabs and newlines anywhere, are no part of a URL (URL Standard 4.4).
_AROUND = "".join(map(chr, range(0x21)))
_WITHIN = str.maketrans("", "", "\t\n\r")


def read_value(raw: bytes) -> tuple[str, bytes]:
    """(the URL before its query as a browser sees it, the source from the query or fragment on)."""
    if match := _PLAIN_HEAD.match(raw):
        head, tail = match[0].decode("latin-1"), raw[match.end() :]
    else:
        head, tail = _decode_head(raw)
    head = head.lstrip(_AROUND).translate(_WITHIN)
    return (head if tail else head.rstrip(_AROUND)), tail


def write_value(head: str, tail: bytes, quote: bytes) -> bytes:
    """The source of an attribute value with its quotes: `head` is escaped, `tail` is source already."""
    escaped = head.encode("latin-1").replace(b"&", b"&amp;")
    return quote + (escaped + tail).replace(quote, b"&#%d;" % ord(quote)) + quote


def _decode_head(raw: bytes) -> tuple[str, bytes]:
    parts: list[str] = []
    for match in _UNIT.finditer(raw):
        unit = match[0]
        text = _reference(unit, raw[match.end() : match.end() + 1]) if unit.startswith(b"&") else unit.decode("latin-1")
        if text in ("?", "#"):
            return "".join(parts), raw[match.start() :]
        parts.append(text)
    return "".join(parts), b""


def _reference(unit: bytes, following: bytes) -> str:
    """The text of a character reference, or its source when it is none; beyond ASCII as a URL's path would have it."""
    source = unit.decode("ascii")
    if source.startswith("&#") or source[1:] in html5:
        if not source.endswith(";") and source[1:2] != "#" and following == b"=":
            return source  # "&copy=1": a parameter, no reference
        return percent_encode(html.unescape(source), safe=_ASCII, errors="replace")
    return source  # unknown, or a legacy name with letters after it, which counts as text in an attribute


_ASCII = "".join(map(chr, range(0x80)))
