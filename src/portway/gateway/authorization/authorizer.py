"""The seam of authorisation, and its implementation on the RBAC objects that the view watches.

Decisions are values; whoever caches them keeps `generation` beside them, and drops them when it moves on or when the
decision's own `until` is over. `accessreview` is the implementation that asks the cluster.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from portway.kube.attributes import Attributes
from portway.kube.errors import ServiceUnavailable
from portway.kube.identity import User
from portway.kube.rbac import RBAC, Decision

OPEN_PATHS: Final = ("/healthz", "/readyz", "/livez")
"""AlwaysAllowPaths: who asks whether we are well must hear it also when nothing else can be decided, or the door is
restarted for its cluster's outage and then waits for it without serving anybody.
"""
_ALWAYS: Final = Decision(True, "")


class Authorizer(Protocol):
    """Decides whether a user may do something."""

    @property
    def generation(self) -> int:
        """Grows whenever a decision given before could be another one now."""
        ...

    def decide(
        self, user: User, attributes: Attributes, names: Sequence[str] = ()
    ) -> Decision | asyncio.Future[Decision]:
        """Allowed or not, and upstream's reason (which may be ""); a Future when somebody must be asked first.

        Once the Future has its result, asking the same again gives a Decision. A StatusError, raised or in the
        Future, is a refusal: nobody could be asked.
        `names` are other spellings of attributes.name that mean the same target: a grant on any of them is a grant.
        """
        ...


class Undecided(Exception):  # noqa: N818 - a signal, not an error
    """The authoriser must be asked again when `answer` is there; for code that can't wait itself."""

    def __init__(self, answer: asyncio.Future[Decision]) -> None:
        super().__init__()
        self.answer = answer


class RBACAuthorizer:
    """`--authorization-mode=RBAC`, with upstream's privileged group system:masters in front of it."""

    __slots__ = ("_rbac", "suspended")

    def __init__(self, rbac: RBAC) -> None:
        self._rbac = rbac
        self.suspended = ""
        """Why the objects are not to be believed any more; "" while they are. Set by whoever follows them."""

    @property
    def generation(self) -> int:
        return -1 if self.suspended else self._rbac.generation

    def decide(self, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:
        if self.suspended:
            if not attributes.resource_request and attributes.path in OPEN_PATHS:
                return _ALWAYS
            raise ServiceUnavailable(f"nothing can be authorised: {self.suspended}", retry_after=1)
        return self._rbac.decide(user, attributes, names)


class AlwaysAllow:
    """`--authorization-mode=AlwaysAllow`: where the API server behind the door decides, on the caller's credential."""

    generation = 0

    def decide(self, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:  # noqa: ARG002
        return Decision(True, "")
