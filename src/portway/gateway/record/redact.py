"""Keeps secrets that people put into URLs out of every log: values of telling query parameters become REDACTED.

Names are compared decoded and without case, so `%74oken=` hides no better than `token=`. A value that is itself a URL
with such a parameter goes as a whole. Pure text in, text out; a URL without `?`, `;` and `#` is the fast case.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

MARK = "REDACTED"

TELLING = ("token", "passw", "pwd", "secret", "signature", "credential", "jwt", "session", "assertion", "passcode")
"""A parameter whose name contains one of these (`-`, `_` and `.` aside) carries a secret, and so does every ...key."""

EXACTLY = frozenset(("auth", "authorization", "bearer", "code", "otp", "pass", "pin", "sas", "sid", "sig", "ticket"))
"""Names too short to look for inside others."""

DECODED = 3
"""Times that a name or a nested URL is decoded: applications hand URLs on inside URLs."""

_SEPARATORS = re.compile(r"([?&;#])")
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*:)?//[^/?#]*@", re.IGNORECASE)
_NESTED = re.compile(r"[?&;#]([^?&;#=]+)=")
_NESTED_USERINFO = re.compile(r"//[^/?#]*@")


def redacted(uri: bytes) -> str:
    """The request target or Referer as text, secrets replaced. Bytes that are no UTF-8 come out as `\\xNN`."""
    text = uri.decode("utf-8", "backslashreplace")
    if "?" not in text and ";" not in text and "#" not in text and "@" not in text:
        return text
    if not text.startswith("/") or text.startswith("//"):
        text = _USERINFO.sub(lambda match: f"{match[1] or ''}//{MARK}@", text)
    pieces = _SEPARATORS.split(text)
    return pieces[0] + "".join(map(_piece, pieces[1:]))


def _piece(piece: str) -> str:
    name, equals, value = piece.partition("=")
    if not value:  # the separators themselves are pieces, too
        return piece
    if secret_name(name) or ("%" in value and _hides_one(value)) or _NESTED_USERINFO.search(value):
        return f"{name}{equals}{MARK}"
    return piece


def _hides_one(value: str) -> bool:
    """Whether a value is a URL, itself encoded, that carries a secret."""
    for _ in range(DECODED):
        value = unquote_plus(value)
        if _NESTED_USERINFO.search(value) or any(map(secret_name, _NESTED.findall(value))):
            return True
    return False


@lru_cache(maxsize=1024)
def secret_name(name: str) -> bool:
    """Whether a parameter of this name (still percent-encoded) is likely to carry a secret."""
    plain = name
    for _ in range(DECODED if "%" in name else 1):
        plain = unquote_plus(plain)
    plain = plain.lower()
    if plain in EXACTLY:
        return True
    plain = plain.replace("-", "").replace("_", "").replace(".", "")
    return plain.endswith("key") or any(word in plain for word in TELLING)
