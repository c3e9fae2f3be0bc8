"""Identity: who a request comes from, and how we know. One object per credential, shared by all its requests.

It carries what the hot path would otherwise compute for each request: the audit log's `user` object and the
authoriser's cache. It never carries the credential itself, so nothing that prints it can leak one.
"""

import math
from collections.abc import Callable, Hashable
from time import time
from typing import Any

import orjson

from portway.kube.identity import User, user_info

LOCAL = "local"
"""The method of whoever can reach a door that asks nobody who they are: it listens for one person."""


class Identity:
    """A verified caller. Compared and hashed by identity: it is the key of several per-credential caches.

    `valid` turns False the moment the credential is revoked (a removed token, a deleted service account); `expires`
    is unix time, `math.inf` for never. Long-lived connections hold the object and ask `alive()` from time to time.
    """

    __slots__ = (
        "__weakref__",
        "ambient",
        "audit",
        "decisions",
        "expires",
        "method",
        "sandboxed",
        "user",
        "valid",
        "warning",
    )

    def __init__(
        self,
        user: User,
        method: str,
        *,
        ambient: bool = False,
        expires: float = math.inf,
        warning: bytes | None = None,
    ) -> None:
        self.user = user
        self.method = method
        """certificate, token, serviceaccount, basic or anonymous."""
        self.ambient = ambient
        """A browser sends it unasked (certificate, basic), so scripts of a proxied page could ride on it."""
        self.sandboxed = ambient or method == "anonymous"
        """Proxied pages get an origin of their own. Anonymous ones too: what their scripts ask for next, a browser may
        answer with a password that it knows for this host."""
        self.expires = expires
        self.valid = True
        self.warning = warning
        """Value of a `Warning` response header that this caller is owed, if any."""
        self.decisions: dict[Hashable, Any] = {}
        """The authoriser's cache for this caller; whoever fills it bounds it."""
        self.audit = user_json(user)
        """The `user` object of audit events, as JSON."""

    def alive(self, now: Callable[[], float] = time) -> bool:
        """Whether the credential still counts."""
        return self.valid and self.expires > now()

    def __repr__(self) -> str:
        return f"Identity({self.user.name!r}, {self.method!r}, valid={self.valid})"


def user_json(user: User) -> bytes:
    """A user as authentication.k8s.io/v1 UserInfo in JSON, empty members left out."""
    return orjson.dumps(user_info(user))
