"""Password files in Apache's format: ``user:hash``, with bcrypt or argon2 hashes, and optionally groups behind.

Kubernetes had a basic authentication file until 1.19; this one takes the file that ``htpasswd -B`` writes instead.
The third field, ``user:hash:group1,group2``, is Portway's own. Reading the file, and keeping the slow ``verify`` off
the event loop, is the gateway's. Errors name the line and never quote it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
_ARGON2: Final = ("$argon2id$", "$argon2i$", "$argon2d$")
# bcrypt looks at 72 bytes; htpasswd hashes longer passwords by their first 72, so that is what they verify by.
_BCRYPT_LIMIT: Final = 72
_BCRYPT_ROUNDS: Final = 12
_ARGON2_HASHER: Final = PasswordHasher()


class HtpasswdError(ValueError):
    """A line that cannot be used; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the file says of one user."""

    hash: str = field(repr=False)
    groups: tuple[str, ...] = ()


def parse(text: str) -> dict[str, Entry]:
    """Entries by user name; empty lines and ``#`` comments are skipped. Raises HtpasswdError."""
    entries: dict[str, Entry] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        user, entry = _entry(number, line)
        if user in entries:
            raise HtpasswdError(f"line {number}: the user occurs twice")
        entries[user] = entry
    return entries


def verify(hashed: str, password: str) -> bool:
    """Whether the password is the hash's. Takes tens to hundreds of milliseconds; never raises.

    Bytes that are not UTF-8 come decoded with ``surrogateescape`` and are compared as the bytes they were.
    """
    try:
        secret = password.encode("utf-8", "surrogateescape")
        if hashed.startswith(_BCRYPT):
            # C implementations end at NUL: a password with one would verify by the part before it.
            return b"\0" not in secret and bcrypt.checkpw(secret[:_BCRYPT_LIMIT], hashed.encode())
        return _ARGON2_HASHER.verify(hashed, secret)
    except (ValueError, VerificationError, InvalidHashError):
        return False


def hash_password(password: str, rounds: int = _BCRYPT_ROUNDS) -> str:
    """A bcrypt hash. Raises ValueError for a password that bcrypt would cut short, or none at all."""
    secret = password.encode()
    if not secret:
        raise ValueError("the password is empty")
    if len(secret) > _BCRYPT_LIMIT or b"\0" in secret:
        raise ValueError(f"the password is longer than {_BCRYPT_LIMIT} bytes or contains a NUL")
    return bcrypt.hashpw(secret, bcrypt.gensalt(rounds)).decode()


def _entry(number: int, line: str) -> tuple[str, Entry]:
    fields = line.split(":", 2)  # a group's name may have colons: system:masters
    if len(fields) < 2 or not fields[0]:
        raise HtpasswdError(f"line {number}: not of the form user:hash or user:hash:group1,group2")
    if not fields[1].startswith((*_BCRYPT, *_ARGON2)):
        raise HtpasswdError(f"line {number}: the hash is neither bcrypt nor argon2 (htpasswd -B makes bcrypt hashes)")
    groups = fields[2].split(",") if len(fields) == 3 else []
    return fields[0], Entry(fields[1], tuple(filter(None, map(str.strip, groups))))
