"""Whose is this bearer token? The API server's own answer, for TokenReview.

The door authenticates requests by itself; this speaks to other servers that ask. Static tokens come from the settings,
service account tokens are verified against the keys and against the objects that they are bound to.
Source: k8s.io/apiserver/pkg/authentication/token, pkg/serviceaccount/claims.go, as facts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from portway.apiserver.kinds.base import Lookup, Services
from portway.kube.identity import User, with_authenticated
from portway.kube.objects import Object, from_rfc3339
from portway.kube.serviceaccount import Claims, TokenInvalid

_GRACE = 60.0
"""Seconds for which a token outlives the deletion of what it is bound to, as upstream."""


def authenticate(token: str, audiences: Sequence[str], services: Services) -> tuple[User, tuple[str, ...]] | None:
    """Returns (the user, which of `audiences` the token is for); None for a token that proves nothing.

    No audiences means the server's own. A static token is for the server's own audiences.
    """
    own = services.config.api_audiences
    wanted = tuple(audiences) or own
    user = services.config.token_users.get(token)
    if user is not None:
        accepted = tuple(audience for audience in wanted if audience in own)
        return (with_authenticated(user), accepted) if accepted else None
    try:
        claims = services.config.verifier.verify(token, wanted)
    except TokenInvalid:
        return None
    if not bound_objects_exist(claims, services.lookup):
        return None
    return with_authenticated(claims.user()), claims.audiences


def bound_objects_exist(claims: Claims, lookup: Lookup) -> bool:
    """Whether the account, and what else the token is bound to, are there and are the same objects."""
    account = lookup.find("", "serviceaccounts", claims.namespace, claims.name)
    bound = [(account, claims.uid)]
    if claims.pod is not None:
        bound.append((lookup.find("", "pods", claims.namespace, claims.pod.name), claims.pod.uid))
    if claims.secret is not None:
        bound.append((lookup.find("", "secrets", claims.namespace, claims.secret.name), claims.secret.uid))
    if claims.node is not None and claims.pod is None:
        bound.append((lookup.find("", "nodes", "", claims.node.name), claims.node.uid))
    return all(_alive(obj, uid) for obj, uid in bound)


def _alive(obj: Object | None, uid: str) -> bool:
    if obj is None or obj["metadata"].get("uid") != uid:
        return False
    deleted = obj["metadata"].get("deletionTimestamp")
    return not deleted or from_rfc3339(deleted) + _GRACE > time.time()
