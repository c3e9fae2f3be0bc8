"""HTML's tokens as regular expressions, and where a tag ends. Knows nothing of URLs; html.py drives it.

A tag in hand as a whole is one match of TAG (possessive, so linear in its length). A tag that arrives in pieces, or is
longer than is kept, is followed by TagEnd, which looks at each byte once and keeps one state.

Source: HTML Standard 13.2.5 (tokenization). Bytes, not text: everything here is ASCII in every charset that browsers
still sniff for HTML, but for UTF-16, where nothing here matches and the document passes as it is.
"""

import re
from enum import Enum, auto
from typing import Final

_WS = rb"\t\n\f\r "
_VALUE = rb"""(?:"([^"]*+)"|'([^']*+)'|([^%(ws)b>"'][^%(ws)b>]*+)|(?=>))""" % {b"ws": _WS}
_ATTRIBUTE = rb"([^%(ws)b/>][^%(ws)b/>=]*+)(?:[%(ws)b]*+=[%(ws)b]*+%(value)b|(?![%(ws)b]*+=))" % {
    b"ws": _WS,
    b"value": _VALUE,
}
_TAG = rb"</?[A-Za-z][^%(ws)b/>]*+(?:[%(ws)b/]++|%(attribute)b)*+>" % {
    b"ws": _WS,
    b"attribute": re.sub(rb"\((?!\?)", b"(?:", _ATTRIBUTE),
}

TAG: Final = re.compile(_TAG)
"""A whole tag, start or end."""

ATTRIBUTE: Final = re.compile(_ATTRIBUTE)
"""One attribute, to be used within a whole tag: name, and the value as group 2 (in "), 3 (in ') or 4 (unquoted)."""

NAME: Final = re.compile(rb"<(/?)([A-Za-z][^%b/>]*)" % _WS)
"""A tag's beginning: the slash of an end tag, the name."""


def uninteresting(names: frozenset[bytes], both: frozenset[bytes]) -> re.Pattern[bytes]:
    """Text and whole tags as far as they go, up to a start tag of `names` (lower case), a comment or the like.

    Names in `both` stop it at their end tags too.
    """
    stop = rb"(?!<(?:%b|/(?:%b))[%b/>])" % (_any_of(names), _any_of(both), _WS)
    return re.compile(rb"(?:[^<]++|<(?=[^A-Za-z/!?])|%b%b)*+" % (stop, _TAG), re.IGNORECASE)


def _any_of(names: frozenset[bytes]) -> bytes:
    return b"|".join(sorted(map(re.escape, names)))


class _State(Enum):
    """Where in a tag a byte stands; the names are the standard's."""

    TAG_NAME = auto()
    BEFORE_NAME = auto()
    IN_NAME = auto()
    AFTER_NAME = auto()
    BEFORE_VALUE = auto()
    DOUBLE_QUOTED = auto()
    SINGLE_QUOTED = auto()
    UNQUOTED = auto()


# Attributes that are whole and have whole successors: what lies between tag name and the attribute that is cut off.
_WHOLE: Final = (
    rb"(?:[%(ws)b/]++|[^%(ws)b/>][^%(ws)b/>=]*+"
    rb"""(?:[%(ws)b]*+=[%(ws)b]*+(?:"[^"]*+"|'[^']*+'|[^%(ws)b>"'][^%(ws)b>]*+(?=[%(ws)b>]))"""
    rb"|(?=[/>]|[%(ws)b]++[^%(ws)b=])))*+"
) % {b"ws": _WS}

# What a state runs over without leaving, and where the byte that stops it leads (None: any other byte).
_RUN: Final = {
    _State.TAG_NAME: rb"[^%b/>]*+" % _WS,
    _State.BEFORE_NAME: _WHOLE,
    _State.IN_NAME: rb"[^%b/>=]*+" % _WS,
    _State.AFTER_NAME: rb"[%b]*+" % _WS,
    _State.BEFORE_VALUE: rb"[%b]*+" % _WS,
    _State.DOUBLE_QUOTED: rb'[^"]*+',
    _State.SINGLE_QUOTED: rb"[^']*+",
    _State.UNQUOTED: rb"[^%b>]*+" % _WS,
}
_PATTERNS: Final = {state: re.compile(run) for state, run in _RUN.items()}
_NEXT: Final[dict[_State, dict[bytes | None, _State]]] = {
    _State.TAG_NAME: {None: _State.BEFORE_NAME},
    _State.BEFORE_NAME: {None: _State.IN_NAME},
    _State.IN_NAME: {b"/": _State.BEFORE_NAME, b"=": _State.BEFORE_VALUE, None: _State.AFTER_NAME},
    _State.AFTER_NAME: {b"/": _State.BEFORE_NAME, b"=": _State.BEFORE_VALUE, None: _State.BEFORE_NAME},
    _State.BEFORE_VALUE: {b'"': _State.DOUBLE_QUOTED, b"'": _State.SINGLE_QUOTED, None: _State.UNQUOTED},
    _State.DOUBLE_QUOTED: {None: _State.BEFORE_NAME},
    _State.SINGLE_QUOTED: {None: _State.BEFORE_NAME},
    _State.UNQUOTED: {None: _State.BEFORE_NAME},
}
_QUOTED: Final = (_State.DOUBLE_QUOTED, _State.SINGLE_QUOTED)


class TagEnd:
    """Follows one tag through the pieces it comes in."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = _State.TAG_NAME

    def find(self, data: bytes, start: int) -> int:
        """The index after the tag's ">", or -1 when `data[start:]`, now consumed, does not hold it."""
        while True:
            run = _PATTERNS[self._state].match(data, start)
            start = run.end() if run else start
            stop = data[start : start + 1]
            if not stop:
                return -1
            if stop == b">" and self._state not in _QUOTED:
                return start + 1
            following = _NEXT[self._state]
            next_attribute = self._state is _State.AFTER_NAME and stop not in following
            self._state = following.get(stop, following[None])
            start += not next_attribute  # whose first byte belongs to the next state
