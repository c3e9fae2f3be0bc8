"""What etcd's refusals mean: whether the request was done, may be repeated, and what to tell a person. Pure.

etcd's errors are a gRPC status and a fixed text (its rpctypes package, v3.4 and v3.5). Whether a write happened can be
told from some of them only; what isn't known to be harmless counts as unknown.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import grpc

from portway.storage.errors import StorageError, StoreFull, StoreUnavailable, ValueTooLarge

COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
AUTH_IS_OFF = "etcdserver: authentication is not enabled"
_FULL = "etcdserver: mvcc: database space exceeded"
_CORRUPT = "etcdserver: corrupt cluster"
_TOO_LARGE = ("etcdserver: request is too large", "received message larger than max", "sent message larger than max")
_STALE_TOKEN = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")
_NOT_SENT = ("failed to connect to all addresses", "dns resolution failed", "address resolution failed")
_NOT_TAKEN = ("etcdserver: no leader", "etcdserver: not leader", "etcdserver: too many requests")


class Fate(Enum):
    """What became of a request that brought an error."""

    REFUSED = auto()
    """It was not done, and asking again would not change that."""
    LOGIN = auto()
    """It was not done: the token is no longer good."""
    NOT_DONE = auto()
    """It was not done, and may be later or by another member."""
    UNKNOWN = auto()
    """It may have been done."""


def fate_of(error: Any) -> Fate:
    """What a `grpc.aio.AioRpcError` says about its request."""
    text = words_of(error).lower()
    if any(known in text for known in _STALE_TOKEN):
        return Fate.LOGIN
    if any(text.startswith(known) for known in _NOT_SENT + _NOT_TAKEN):
        return Fate.NOT_DONE
    if error.code() in _PASSING:
        return Fate.UNKNOWN
    return Fate.REFUSED


_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
)


def explained(error: Any, address: str) -> StorageError:
    """The error in our words: one line that says the way out."""
    text, low = words_of(error), words_of(error).lower()
    if any(known in low for known in _TOO_LARGE):
        return ValueTooLarge("the object is larger than etcd takes (etcd --max-request-bytes)")
    if text == _FULL:
        return StoreFull(
            f"etcd at {address} is full: compact and defragment it or raise --quota-backend-bytes,"
            " then etcdctl alarm disarm"
        )
    return StoreUnavailable(f"etcd at {address}: {_reason(error.code(), text)}")


def _reason(code: Any, text: str) -> str:
    low = text.lower()
    if "handshake" in low or "ssl_error" in low:
        return (
            "the TLS handshake failed: is its certificate signed by --etcd-cafile and for this name,"
            " does it want another client certificate (--etcd-certfile), does it speak TLS?"
        )
    if "connection refused" in low:
        return "nothing listens there: start it, or correct the address"
    if "socket closed" in low or "connection reset" in low or "settings frame" in low:
        return "the connection was closed: does it want TLS (etcds://)?"
    if "resolution failed" in low:
        return "the name is not known: correct the address"
    if text == _CORRUPT:
        return "it has raised the alarm CORRUPT: restore the member that is damaged (etcdctl alarm list)"
    if "authentication failed" in low or code is grpc.StatusCode.UNAUTHENTICATED:
        return "user or password is wrong (--etcd-username, --etcd-password-file)"
    if "user name is empty" in low:
        return "it wants a user: give --etcd-username and --etcd-password-file"
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return "the user may not read and write all keys below --etcd-prefix: grant the role that range"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time: is it reachable, does it have a leader?"
    return text.removeprefix("etcdserver: ") or code.name.lower().replace("_", " ")


def words_of(error: Any) -> str:
    """The status's text, on one line."""
    return " ".join((error.details() or "").split())
