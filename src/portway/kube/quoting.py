"""Go's ``%q`` and ``%v``: the forms that upstream's messages are made of.

Only the forms. Which messages there are, and which of their parts are quoted, is for the modules that build
them: ``errors``, ``causes``, ``rbac`` and ``selectors``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
# What needs no escape in nearly every string: printable ASCII but the quote and the backslash.
_PLAIN = re.compile(r"[ !#-\[\]-~]*")


def quote(text: str) -> str:
    """The text as Go's ``strconv.Quote`` writes it.

    A byte that was not UTF-8 (decoded with ``surrogateescape``) comes out as ``\\xNN``, as in Go.
    """
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def quote_list(texts: Iterable[str]) -> str:
    """``%q`` of a slice of strings: ``["a" "b"]``."""
    return "[" + " ".join(map(quote, texts)) + "]"


def go_value(value: Any) -> str:
    """``%v`` of a decoded JSON document: ``map[a:1 b:[x y] c:<nil>]``, keys in order, nothing quoted."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_value(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "<nil>", True: "true", False: "false"}[value]
    return str(value)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
