"""Impersonation: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-KEY` turn the caller into somebody else, when the
authoriser says that the caller may. The result is authorised like any caller; the audit log keeps both names.

Facts: kube-apiserver's impersonation by verb `impersonate` on users, serviceaccounts, uids, groups and userextras,
checked in that order; everything asked for must be granted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from portway.gateway.authentication.identity import Identity
from portway.gateway.authorization.authorizer import Authorizer, Undecided
from portway.gateway.authorization.gosyntax import default_info
from portway.kube.attributes import Attributes
from portway.kube.errors import BadRequest, forbidden
from portway.kube.identity import (
    ANONYMOUS,
    UNAUTHENTICATED,
    User,
    service_account_groups,
    split_service_account,
    with_authenticated,
)
from portway.kube.names import is_dns1123_label, is_dns1123_subdomain
from portway.kube.rbac import Decision

PREFIX = b"impersonate-"
USER, UID, GROUP, EXTRA = PREFIX + b"user", PREFIX + b"uid", PREFIX + b"group", PREFIX + b"extra-"
AUTHENTICATION_GROUP = "authentication.k8s.io"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the headers ask for, as sent: no group added, nothing checked."""

    name: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]


def impersonate(identity: Identity, headers: Iterable[tuple[bytes, bytes]], authorizer: Authorizer) -> User:
    """Whom the request acts as: identity.user when no header asks for another one.

    `headers` are (lower-cased name, value); others than Impersonate-* are ignored, and it is the caller's to drop
    these before it forwards. BadRequest for groups, uid or extra without a user (and for values that are no UTF-8),
    Forbidden when any part of it is not granted, Undecided when the authoriser must ask somebody first.
    """
    offered = [(name, value) for name, value in headers if name.startswith(PREFIX)]
    wanted = _wanted(offered) if offered else None
    if wanted is None:
        return identity.user
    for attributes in _checks(wanted):
        decision = authorizer.decide(identity.user, attributes)
        if not isinstance(decision, Decision):
            raise Undecided(decision)
        if not decision.allowed:
            raise forbidden(attributes, identity.user, decision.reason)
    return with_authenticated(User(wanted.name, wanted.uid, _groups(wanted), wanted.extra))


def _wanted(offered: list[tuple[bytes, bytes]]) -> Wanted | None:
    try:
        name, uid = _first(offered, USER), _first(offered, UID)
        groups = tuple(value.decode() for header, value in offered if header == GROUP)
        extra = _extra(offered)
    except UnicodeDecodeError as error:
        raise BadRequest("impersonation headers must be UTF-8") from error
    if name:
        return Wanted(name, uid, groups, extra)
    if uid or groups or extra:
        raise BadRequest(f"requested {default_info(uid, groups, extra)} without impersonating a user name")
    return None


def _first(offered: list[tuple[bytes, bytes]], wanted: bytes) -> str:
    """The first line of a header counts, even when it is empty and a second one is not (as Go's Header.Get)."""
    return next((value.decode() for header, value in offered if header == wanted), "")


def _extra(offered: list[tuple[bytes, bytes]]) -> dict[str, tuple[str, ...]]:
    extra: dict[str, tuple[str, ...]] = {}
    for header, value in offered:
        if header.startswith(EXTRA):
            key = _extra_key(header[len(EXTRA) :])
            extra[key] = (*extra.get(key, ()), value.decode())
    return extra


def _extra_key(encoded: bytes) -> str:
    """Percent-decoded; as it is when an escape is broken (as Go's url.PathUnescape fails whole)."""
    pieces = encoded.split(b"%")[1:]
    whole = all(len(piece) >= 2 and _is_hex(piece[:2]) for piece in pieces)
    return (unquote_to_bytes(encoded) if whole else encoded).decode()


def _is_hex(text: bytes) -> bool:
    return all(character in b"0123456789abcdefABCDEF" for character in text)


def _checks(wanted: Wanted) -> Iterator[Attributes]:
    """What the caller must be granted, in upstream's order: the first denial is the answer."""
    account = _account(wanted.name)
    if account is None:
        yield _attributes("users", wanted.name)
    else:
        yield _attributes("serviceaccounts", account[1], namespace=account[0])
    if wanted.uid:
        yield _attributes("uids", wanted.uid, group=AUTHENTICATION_GROUP)
    for group in wanted.groups:
        yield _attributes("groups", group)
    for key, values in wanted.extra.items():
        for value in values:
            yield _attributes("userextras", value, group=AUTHENTICATION_GROUP, subresource=key)


def _groups(wanted: Wanted) -> tuple[str, ...]:
    groups = wanted.groups
    account = _account(wanted.name)
    if account is not None and not groups:
        groups = service_account_groups(account[0])
    if wanted.name == ANONYMOUS and UNAUTHENTICATED not in groups:
        groups = (*groups, UNAUTHENTICATED)
    return groups


def _account(user_name: str) -> tuple[str, str] | None:
    """(namespace, name) when it is a possible service account's user name; else it is just a user's."""
    account = split_service_account(user_name)
    if account is None or is_dns1123_label(account[0]) or is_dns1123_subdomain(account[1]):
        return None
    return account


def _attributes(resource: str, name: str, *, namespace: str = "", group: str = "", subresource: str = "") -> Attributes:
    return Attributes("impersonate", group, "v1", resource, subresource, namespace, name)
