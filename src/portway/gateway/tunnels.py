"""Upgraded connections outlive decisions: each is looked at every second, and ends with its caller or its right."""

import asyncio
from collections.abc import Callable, Coroutine
from time import time
from typing import TYPE_CHECKING, Final

from portway.gateway.authentication import Identity
from portway.gateway.authorization import Undecided, impersonate
from portway.gateway.grant import Grant
from portway.gateway.settings import Limits
from portway.kube.errors import Forbidden, StatusError, TooManyRequests, forbidden
from portway.kube.identity import User
from portway.kube.rbac import Decision

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange

OVERDUE: Final = 30.0
"""Seconds that a tunnel goes on without a decision while too much else is being asked."""


def wanted_user(exchange: "Exchange", identity: Identity) -> User:
    """Whom a request acts as, by its fields and what its caller may. Raises StatusError and Undecided."""
    return impersonate(identity, [(n.lower(), v) for n, v in exchange.fields], exchange.cluster.authorizer)


class Tunnels:
    """Looks at tunnels. `own` takes the work that must wait for an authoriser, and its name."""

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        own: Callable[[Coroutine[None, None, None], str], None],
    ) -> None:
        self._limits = limits
        self._loop = loop
        self._own = own
        self._asking: set[Exchange] = set()
        """Tunnels whose right is being asked about."""

    def over(self, exchange: "Exchange") -> bool:
        """Whether a tunnel has lived too long, or its caller or right is gone."""
        identity, grant = exchange.identity, exchange.grant
        if identity is None or grant is None or not identity.alive():
            return True
        if (
            not grant.decided(self._loop)
            and exchange not in self._asking
            and self._undecided(exchange, identity, grant)
        ):
            return True
        return time() - exchange.started > self._limits.upgrade_lifetime

    def _undecided(self, exchange: "Exchange", identity: Identity, grant: Grant) -> bool:
        """Whether a tunnel is over, for want of a decision that lets it go on. While the authoriser asks it may."""
        try:
            self._decide_tunnel(exchange, identity, grant)
        except Undecided as undecided:
            self._asking.add(exchange)
            work = self._wait_for_tunnel(exchange, identity, grant, undecided.answer)
            self._own(work, f"tunnel {exchange.audit_id}")
        except TooManyRequests:
            return self._loop.time() > grant.until + OVERDUE  # it is asked again in a second
        except StatusError:
            return True
        return False

    def _decide_tunnel(self, exchange: "Exchange", identity: Identity, grant: Grant) -> None:
        """The decision again: StatusError when it is another one now, Undecided when it must be waited for."""
        if exchange.impersonated is not None and wanted_user(exchange, identity) != exchange.impersonated:
            raise Forbidden("impersonation means something else now")
        authorizer = grant.cluster.authorizer
        spellings = grant.located.location.spellings if grant.located is not None else ()
        user, generation = (exchange.acting or identity).user, authorizer.generation
        decision = authorizer.decide(user, grant.attributes, spellings)
        if not isinstance(decision, Decision):
            raise Undecided(decision)
        if not decision.allowed:
            raise forbidden(grant.attributes, user, decision.reason)
        grant.generation, grant.until = generation, decision.until

    async def _wait_for_tunnel(
        self, exchange: "Exchange", identity: Identity, grant: Grant, answer: asyncio.Future[Decision]
    ) -> None:
        try:
            while not exchange.done:
                try:
                    await answer
                    self._decide_tunnel(exchange, identity, grant)
                    return
                except Undecided as undecided:
                    answer = undecided.answer
        except TooManyRequests:
            pass  # the next sweep asks again, or finds it overdue
        except StatusError:
            if not exchange.done:
                exchange.expire("the right to it is gone")
        finally:
            self._asking.discard(exchange)
