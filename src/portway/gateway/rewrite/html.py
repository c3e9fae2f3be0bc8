"""HTML, rewritten while it streams: links that lead to the backend's root lead to its prefix instead.

Tokenised, not parsed: only start tags of LINKS are looked into, only attributes whose URL changes are written anew,
every other byte comes out as it came in. What is kept between two feeds is at most one tag of TAG_LIMIT bytes; a longer
tag passes through as it is (a page's inlined images are such tags, and their URLs need no rewriting).

Not looked into, as with kube-apiserver: srcset, style, scripts, CSS, meta refresh, data-* attributes.
"""

import re
from typing import Final

from portway.gateway.rewrite.links import Links
from portway.gateway.rewrite.markup import ATTRIBUTE, NAME, TAG, TagEnd, uninteresting

TAG_LIMIT: Final = 64 * 1024

_SRC_FRAME = frozenset({b"src", b"longdesc"})
_HREF = frozenset({b"href"})
_SRC = frozenset({b"src"})
_CITE = frozenset({b"cite"})
LINKS: Final[dict[bytes, frozenset[bytes]]] = {
    **dict.fromkeys((b"a", b"area", b"base", b"link"), _HREF),
    **dict.fromkeys((b"audio", b"embed", b"script", b"source"), _SRC),
    **dict.fromkeys((b"blockquote", b"del", b"ins", b"q"), _CITE),
    **dict.fromkeys((b"iframe", b"frame"), _SRC_FRAME),
    b"img": frozenset({b"src", b"longdesc", b"usemap"}),
    b"input": frozenset({b"src", b"usemap", b"formaction"}),
    b"video": frozenset({b"src", b"poster"}),
    b"button": frozenset({b"formaction"}),
    b"body": frozenset({b"background"}),
    b"form": frozenset({b"action"}),
    b"html": frozenset({b"manifest"}),
    b"object": frozenset({b"data", b"classid", b"codebase", b"usemap"}),
    b"applet": frozenset({b"codebase"}),
    b"head": frozenset({b"profile"}),
    b"command": frozenset({b"icon"}),
}
"""The attributes that hold a URL, by element: kube-apiserver's table."""

# Elements whose content is text up to their own end tag (HTML Standard 13.2.6.2 and 13.2.6.4.7), and the foreign ones,
# within which "<![CDATA[" means something.
_RAW: Final = frozenset({b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes"})
_FOREIGN: Final = frozenset({b"svg", b"math"})
_PLAINTEXT: Final = b"plaintext"
_SKIP: Final = uninteresting(frozenset(LINKS) | _RAW | _FOREIGN | {_PLAINTEXT}, _FOREIGN)

_RAW_END: Final = {name: re.compile(rb"</%b(?=[\t\n\f\r />])" % name, re.IGNORECASE) for name in _RAW}
_SCRIPT: Final = re.compile(rb"<!(?=--)|-->|<(/?)script(?=[\t\n\f\r />])", re.IGNORECASE)
_COMMENT_END: Final = re.compile(rb"--!?>")
_BOGUS_END: Final = re.compile(rb">")
_CDATA_END: Final = re.compile(rb"\]\]>")
_NEVER: Final = re.compile(rb"(?!)")
# How many bytes at the end of what has come may begin what ends an element or a comment: "</noframes", "--!".
_END_TAG_HOLD: Final = 10
_COMMENT_HOLD: Final = 3
_DECLARATIONS: Final = (b"<!--", b"<![CDATA[")


class HtmlRewriter:
    """One document. feed() it in pieces of any size, then close() it; raises nothing, whatever it is fed."""

    __slots__ = ("_foreign", "_links", "_long", "_pending", "_raw", "_script", "_tag", "_until")

    def __init__(self, links: Links) -> None:
        self._links = links
        self._pending = b""
        self._raw = b""  # the element with raw text that we are in
        self._script = 0  # how deep in its escaped states: 1 after "<!--", 2 after "<script" in that
        self._until: re.Pattern[bytes] | None = None  # what ends the comment or the like that we are in
        self._tag: TagEnd | None = None  # of the unfinished tag that _pending holds
        self._long: tuple[bool, bytes] | None = None  # that tag was too long to be held: (end tag, name)
        self._foreign = 0  # open svg and math elements

    def feed(self, data: bytes) -> bytes:
        """What can be said of the document so far, after what was returned before."""
        seen = len(self._pending)
        data = self._pending + data
        out: list[bytes] = []
        at = self._end_of_tag(data, 0, seen, out) if self._tag else 0
        while at < len(data):
            following = self._step(data, at, out)
            if following == at:
                break
            at = following
        self._pending = data[at:]
        return b"".join(out)

    def close(self) -> bytes:
        """The rest. An unfinished tag or comment comes out as it is."""
        rest, self._pending = self._pending, b""
        return rest

    def _step(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Passes one token or run of them, from `at` on; returns where it ends, `at` when more must come first."""
        if self._until is not None:
            return self._passed(self._until, data, at, out)
        if self._raw == b"script":
            return self._script_text(data, at, out)
        if self._raw:
            return self._raw_text(data, at, out)
        end = _end(_SKIP.match(data, at), at)
        if end > at:
            out.append(data[at:end])
            return end
        return self._markup(data, at, out)

    def _markup(self, data: bytes, at: int, out: list[bytes]) -> int:
        """A "<" that begins something: a tag of interest or an unfinished one, a comment, a declaration."""
        beginning = data[at : at + 3]
        letter = beginning[1:2] if beginning[1:2] != b"/" else beginning[2:3]
        if letter.isalpha():
            return self._tag_at(data, at, out)
        if not letter:
            return at
        if letter == b"!":
            return self._declaration(data, at, out)
        self._until = _BOGUS_END
        return at + _emit(out, data[at : at + 2])

    def _declaration(self, data: bytes, at: int, out: list[bytes]) -> int:
        start = data[at : at + 9]
        if any(len(start) < len(known) and known.startswith(start) for known in _DECLARATIONS):
            return at
        if start.startswith(b"<!--"):
            return self._comment(data, at, out)
        self._until = _CDATA_END if self._foreign and start == b"<![CDATA[" else _BOGUS_END
        return at + _emit(out, start[:2])

    def _comment(self, data: bytes, at: int, out: list[bytes]) -> int:
        start = data[at + 4 : at + 6]
        if start in (b"", b"-"):
            return at  # "<!-->" and "<!--->" are comments too, and whole
        for whole in (b">", b"->"):
            if start.startswith(whole):
                return at + _emit(out, data[at : at + 4 + len(whole)])
        self._until = _COMMENT_END
        return at + _emit(out, data[at : at + 4])

    def _passed(self, until: re.Pattern[bytes], data: bytes, at: int, out: list[bytes]) -> int:
        """Through the end of a comment or the like."""
        if match := until.search(data, at):
            self._until = None
            return at + _emit(out, data[at : match.end()])
        hold = _COMMENT_HOLD if until in (_COMMENT_END, _CDATA_END) else 0
        return at + _emit(out, data[at : max(at, len(data) - hold)])

    def _raw_text(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Up to the end tag of the raw text element that we are in."""
        if match := _RAW_END[self._raw].search(data, at):
            self._raw = b""
            out.append(data[at : match.start()])
            return self._tag_at(data, match.start(), out)
        return at + _emit(out, data[at : _held(data, at)])

    def _script_text(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Over one token of a script's escaped states (HTML Standard 13.2.5.15 ff.), or up to its end tag."""
        match = _SCRIPT.search(data, at)
        if match is None:
            dashes = 2 if data.endswith(b"--") else data.endswith(b"-")
            return at + _emit(out, data[at : max(at, min(_held(data, at), len(data) - dashes))])
        token, slash = match[0], match[1]
        if slash == b"/" and self._script < 2:
            self._raw, self._script = b"", 0
            out.append(data[at : match.start()])
            return self._tag_at(data, match.start(), out)
        if token == b"-->":
            self._script = 0
        elif token == b"<!":
            self._script = self._script or 1
        elif self._script:
            self._script = 1 if slash else 2
        return at + _emit(out, data[at : match.end()])

    def _tag_at(self, data: bytes, at: int, out: list[bytes]) -> int:
        if match := TAG.match(data, at, at + TAG_LIMIT):
            self._whole_tag(match[0], out)
            return match.end()
        self._tag = TagEnd()
        return self._end_of_tag(data, at, at + (3 if data[at + 1 : at + 2] == b"/" else 2), out)

    def _end_of_tag(self, data: bytes, at: int, resume: int, out: list[bytes]) -> int:
        """Follows the tag that begins at `at`, or began before and is too long to be held; `resume`: not yet seen."""
        end = self._tag.find(data, resume) if self._tag else -1
        if end < 0:
            if self._long is None and len(data) - at <= TAG_LIMIT:
                return at
            self._long = self._long or _name(data[at:])
            return at + _emit(out, data[at:])
        long, self._tag, self._long = self._long, None, None
        tag = data[at:end]
        if long is None and len(tag) <= TAG_LIMIT:
            self._whole_tag(tag, out)
        else:
            out.append(tag)
            self._entered(*(long or _name(tag)), empty=False)
        return end

    def _whole_tag(self, tag: bytes, out: list[bytes]) -> None:
        is_end, name = _name(tag)
        attributes = LINKS.get(name)
        out.append(self._rewritten(tag, attributes) if attributes and not is_end else tag)
        self._entered(is_end, name, empty=tag.endswith(b"/>"))

    def _rewritten(self, tag: bytes, attributes: frozenset[bytes]) -> bytes:
        pieces: list[bytes] = []
        done = 0
        for match in ATTRIBUTE.finditer(tag, _end(NAME.match(tag), 0)):
            which = match.lastindex or 0
            if which < 2 or match[1].lower() not in attributes:
                continue
            value = self._links.attribute(match[which], _QUOTES[which])
            if value is not None:
                pieces += tag[done : match.start(which) - (which < 4)], value
                done = match.end()
        return b"".join((*pieces, tag[done:])) if pieces else tag

    def _entered(self, is_end: bool, name: bytes, *, empty: bool) -> None:
        """Notes what a tag changes in how the bytes after it are read."""
        if name in _FOREIGN:
            self._foreign = max(0, self._foreign - 1) if is_end else self._foreign + (not empty)
        elif is_end or (self._foreign and empty):
            return  # "<style/>" is empty in SVG, and is not in HTML
        elif name in _RAW:
            self._raw = name
        elif name == _PLAINTEXT:
            self._until = _NEVER


_QUOTES: Final = {2: b'"', 3: b"'", 4: b""}


def _emit(out: list[bytes], piece: bytes) -> int:
    out.append(piece)
    return len(piece)


def _end(match: re.Match[bytes] | None, otherwise: int) -> int:
    return match.end() if match else otherwise


def _name(tag: bytes) -> tuple[bool, bytes]:
    """(is it an end tag, its name in lower case)."""
    match = NAME.match(tag)
    return (bool(match[1]), match[2].lower()) if match else (False, b"")


def _held(data: bytes, at: int) -> int:
    """Where the "<" is that may begin an end tag still incomplete at the end of `data`, else its length."""
    bracket = data.rfind(b"<", max(at, len(data) - _END_TAG_HOLD))
    return len(data) if bracket < 0 else bracket
