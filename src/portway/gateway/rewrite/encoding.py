"""The body of an HTML answer: decoded, rewritten and encoded again, a bounded piece at a time.

The relay asks is_html() and body_rewriter() when an answer's head has come, sends the head without Content-Length and
with `content_encoding`, and writes what pieces() gives. It skips all this where there is no body (HEAD, 204, 304).
"""

from collections.abc import Iterator
from typing import Final

from portway.gateway.rewrite.codings import Decoder, Encoder, PlainEncoder, decoder
from portway.gateway.rewrite.html import HtmlRewriter
from portway.gateway.rewrite.links import Links

STEP: Final = 16384
"""Bytes of a document that are looked at in one go."""
OVERHEAD: Final = 256
"""What taking up a piece costs, in bytes of work."""
_PLAIN: Final = (b"", b"identity")


def is_html(content_type: bytes) -> bool:
    """Whether a Content-Type's media type is text/html, parameters or not. (XHTML is left alone, as upstream does.)"""
    return content_type.partition(b";")[0].strip().lower() == b"text/html"


def body_rewriter(links: Links, content_encoding: bytes, client_accepts: bytes | None) -> "BodyRewriter | None":
    """What rewrites a body of this Content-Encoding (b"" for none); None when we don't know it: pass it as it is.

    `client_accepts` is the request's Accept-Encoding, None without one. A client that didn't offer the coding gets the
    body without it; every other gets what the backend chose.
    """
    source = decoder(content_encoding)
    if source is None:
        return None
    coding = content_encoding.strip().lower()
    plain = coding in _PLAIN or not _accepts(client_accepts, coding)
    return BodyRewriter(links, source, b"" if plain else coding)


class BodyRewriter:
    """One body. `content_encoding` is what comes out of it (b"": none), fit for the header of that name."""

    __slots__ = ("_encoder", "_html", "_source", "content_encoding", "work")

    def __init__(self, links: Links, source: Decoder, content_encoding: bytes) -> None:
        self._html = HtmlRewriter(links)
        self._source = source
        self._encoder: Encoder | None = None
        self.content_encoding = content_encoding
        self.work = 0
        """Bytes of document that were looked at so far, and a little for each time that there were none."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds to the body, lazily, a bounded piece at a time, so that the caller may pause between two.

        A piece may be empty: work was done, and nothing is to be sent yet. Must be exhausted before the next call.
        What `data` holds can be decoded by the receiver once all is sent: nothing waits for more. Raises RewriteError.
        """
        written = False
        for decoded in self._source.pieces(data):
            for start in range(0, len(decoded) or 1, STEP):
                plain = decoded[start : start + STEP]
                self.work += len(plain) + OVERHEAD
                html = self._html.feed(plain)
                written = written or bool(html)
                yield self._encoded(html)
        if written and self._encoder:
            yield self._encoder.flush()

    def feed(self, data: bytes) -> bytes:
        """All of pieces(data) at once: for bodies known to be small."""
        return b"".join(self.pieces(data))

    def close(self) -> bytes:
        """The end of the body. Raises RewriteError when the backend's was cut short."""
        self._source.finish()
        rest = self._encoded(self._html.close())
        return rest + self._encoder.finish() if self._encoder else rest

    def _encoded(self, html: bytes) -> bytes:
        """`html` in the body's coding. The encoder is made late: deflate's kind is known after its first bytes."""
        if not html:
            return b""
        if self._encoder is None:
            self._encoder = self._source.encoder() if self.content_encoding else PlainEncoder()
        return self._encoder.write(html)


def _accepts(accept_encoding: bytes | None, coding: bytes) -> bool:
    """Whether an Accept-Encoding lists `coding` (RFC 9110 section 12.5.3), by name or by "*", and not with q=0."""
    offers: dict[bytes, bool] = {}
    for offer in (accept_encoding or b"").lower().split(b","):
        name, _, weight = offer.partition(b";")
        offers[name.strip()] = weight.replace(b" ", b"").rstrip(b"0.") != b"q="
    return offers.get(coding, offers.get(b"*", False))
