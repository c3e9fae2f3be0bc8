"""Who a request is from: the user, its groups, and the names that Kubernetes reserves.

How somebody proves to be that user is the gateway's (``gateway/authentication``); what the user may do is ``rbac``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

ANONYMOUS = "system:anonymous"
"""The name of the user who offered no credential."""
MASTERS = "system:masters"
"""The group whose members may do everything, RBAC or not."""
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNTS = "system:serviceaccounts"
"""The group of all service accounts; ``system:serviceaccounts:NS`` is that of a namespace's."""

_SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
_NO_EXTRA: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class User:
    """A name with its groups. ``extra`` holds what authenticators add; it takes no part in the hash."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_EXTRA, hash=False)


ANONYMOUS_USER = User(ANONYMOUS, groups=(UNAUTHENTICATED,))


def service_account_name(namespace: str, name: str) -> str:
    """The user name of a service account."""
    return f"{_SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"


def split_service_account(user_name: str) -> tuple[str, str] | None:
    """(namespace, name) of a service account's user name; None for any other user."""
    if not user_name.startswith(_SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, colon, name = user_name.removeprefix(_SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, name) if namespace and colon and name and ":" not in name else None


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups that every service account of a namespace is in, besides ``system:authenticated``."""
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")


def with_authenticated(user: User) -> User:
    """The user with the group that every authenticated one gets, unless it has it, or is marked as the opposite."""
    if user.name == ANONYMOUS or AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return User(user.name, user.uid, (*user.groups, AUTHENTICATED), user.extra)


def user_info(user: User) -> dict[str, Any]:
    """``authentication.k8s.io/v1`` UserInfo, as reviews and audit events carry it; empty parts are left out."""
    info: dict[str, Any] = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    info["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    return {key: value for key, value in info.items() if value}
