"""A backend's response head, read once: what passes, what is dropped, what must be rewritten.

A pure step of the relay: fields in, lines out. Which rewriting applies, and how the body is framed, is the relay's.
"""

from http import HTTPStatus
from typing import Final

from portway.gateway import headers as h
from portway.gateway.rewrite import Links

PHRASES: Final = {s.value: s.phrase.encode() for s in HTTPStatus}


_PLAIN_CONNECTION: Final = frozenset((b"keep-alive", b"close"))


class Head:
    """The head that is being made: `lines` so far, `length` of the body or -1, and the fields that need a decision."""

    __slots__ = ("chunked", "encoding", "length", "lines", "special", "unknown_coding")

    def __init__(self, status: int, reason: bytes) -> None:
        self.lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason or PHRASES.get(status, b""))]
        self.length = -1
        self.chunked = False
        self.unknown_coding = False
        """A transfer coding other than chunked: what it means can't be given on."""
        self.encoding = b""
        self.special: h.Fields = []
        """Location, cookies, and an HTML body's type and coding, in the order they came."""

    def rewrite(self, links: Links) -> bool:
        """Passes the special fields rewritten, all but Content-Encoding; whether the body is HTML to be rewritten too.

        As upstream, a body is left alone when there is a Location. ValueError for one that can't be parsed.
        """
        is_html = True
        for name, value in self.special:
            code = h.RESPONSE[name]
            if code == h.LOCATION:
                is_html = False
                value = links.location(value.decode("latin-1")).encode("latin-1")
            elif code == h.SET_COOKIE:
                value = links.cookie(value)
            elif code == h.CONTENT_ENCODING:
                self.encoding = value
                continue
            self.lines.append(b"%b: %b\r\n" % (name, value))
        return is_html and any(h.RESPONSE[name] == h.CONTENT_TYPE for name, _ in self.special)

    def pass_special(self) -> None:
        """Passes them as they are: the API speaks for itself."""
        self.lines += [b"%b: %b\r\n" % field for field in self.special]


def read_head(status: int, reason: bytes, fields: h.Fields) -> Head:
    """Sorts the fields of a final response."""
    head = Head(status, reason)
    lines = head.lines
    encoding: tuple[bytes, bytes] | None = None
    named: list[bytes] = []
    is_html = False
    classified = h.RESPONSE
    for field in fields:
        code = classified[field[0]]
        if code == h.PASS:
            lines.append(b"%b: %b\r\n" % field)
        elif code == h.CONTENT_LENGTH:
            head.length = int(field[1])
        elif code == h.CONTENT_TYPE:
            if field[1].startswith(b"text/html") and field[1].partition(b";")[0].strip() == b"text/html":
                is_html = True
                head.special.append(field)
            else:
                lines.append(b"%b: %b\r\n" % field)
        elif code == h.LOCATION or code == h.SET_COOKIE:
            head.special.append(field)
        elif code == h.CONTENT_ENCODING:
            encoding = field if encoding is None else (encoding[0], b"%b, %b" % (encoding[1], field[1]))
        elif code == h.TRANSFER_ENCODING:
            head.unknown_coding = head.chunked or field[1].strip().lower() != b"chunked"
            head.chunked = True
        elif code == h.CONNECTION and field[1].lower() not in _PLAIN_CONNECTION:
            named += h.tokens(field[1])
    if encoding is not None:
        if is_html:
            head.special.append(encoding)
        else:
            lines.append(b"%b: %b\r\n" % encoding)
    if named:
        # What `Connection` names is between the backend and us (RFC 9110 section 7.6.1).
        lines[1:] = [line for line in lines[1:] if line.partition(b":")[0].lower() not in named]
    return head
