"""An API that answers reviews from values: what a test says of tokens, and an RBAC for who may. No sockets.

It can be away, be slow, refuse, or say something else than it should; and it counts what it was asked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from portway.client.protocol import ApiUnreachable
from portway.kube.attributes import Attributes
from portway.kube.errors import StatusError
from portway.kube.identity import User, user_info
from portway.kube.objects import Object
from portway.kube.rbac import RBAC


class ReviewApi:
    """A `reviews.Creates`."""

    def __init__(self, rbac: RBAC | None = None) -> None:
        self.tokens: dict[str, User] = {}
        self.rbac = rbac or RBAC()
        self.forbidding: set[str] = set()
        """Names that are denied outright."""
        self.error = "invalid bearer token"
        """What is said of unknown tokens."""
        self.audiences: list[str] | None = None
        """What is said of a token's audiences; None: that they are those asked for."""
        self.failure: Exception | None = None
        self.failures = 0
        """Failures before it is well again; 0: none but `failure` itself, if set, for ever."""
        self.answer: Object | None = None
        """Said instead of everything else."""
        self.slow = 0.0
        self.asked: list[Object] = []

    def down(self) -> None:
        """From now on nobody answers."""
        self.failure = ApiUnreachable("10.0.0.1:443: Connection refused")

    def refuse(self, code: int, reason: str, message: str = "", retry_after: int | None = None) -> None:
        """From now on the door may not ask."""
        self.failure = StatusError(message, code=code, reason=reason, retry_after=retry_after)

    def up(self) -> None:
        """All is well again."""
        self.failure = None

    async def create(self, path: str, obj: Object) -> Object:
        assert path.endswith(f"/{obj['kind'].lower()}s")
        self.asked.append(obj)
        await asyncio.sleep(self.slow)
        failure = self.failure
        if failure is not None:
            if self.failures:
                self.failures -= 1
                self.failure = failure if self.failures else None
            raise failure
        if self.answer is not None:
            return self.answer
        spec = obj["spec"]
        status = self._token(spec) if obj["kind"] == "TokenReview" else self._access(spec)
        return {**obj, "status": status}

    def _token(self, spec: Object) -> dict[str, Any]:
        user = self.tokens.get(spec["token"])
        if user is None:
            return {"user": {}, **({"error": self.error} if self.error else {})}
        audiences = spec.get("audiences", []) if self.audiences is None else self.audiences
        return {"authenticated": True, "user": user_info(user), "audiences": audiences}

    def _access(self, spec: Object) -> dict[str, Any]:
        extra = {key: tuple(values) for key, values in spec.get("extra", {}).items()}
        user = User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups", ())), extra)
        asked, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes", {})
        if asked is None:
            attributes = Attributes(other.get("verb", ""), path=other.get("path", ""), resource_request=False)
        else:
            names = ("group", "version", "resource", "subresource", "namespace", "name")
            attributes = Attributes(asked.get("verb", ""), **{name: asked.get(name, "") for name in names})
        if attributes.name in self.forbidding:
            return {"allowed": False, "denied": True, "reason": "not that one"}
        decision = self.rbac.decide(user, attributes)
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}


__all__ = ["ReviewApi"]
