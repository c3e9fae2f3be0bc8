"""Service account tokens (JWTs): verified by signature and claims, then against what the view knows of the account and
of the pod or node that the token is bound to.

The view is a watch: when it does not know an object, or another one of that name, the API is asked before the token is
refused, so a token works the moment it is issued. When the object changes or goes, every identity that hangs on it
stops being valid (or gets the end of its grace as expiry).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from time import time
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

from portway.gateway.authentication.identity import Identity
from portway.kube.errors import TooManyRequests, Unauthorized
from portway.kube.identity import with_authenticated
from portway.kube.serviceaccount import Claims, TokenInvalid

GRACE = 60.0
"""Seconds that a token outlives the due deletion of what it is bound to, as upstream."""

CONFIRMING = 256
"""Tokens whose objects may be asked for at one time in one worker."""

SECRET_TRUST = 10.0
"""Seconds that an answer about a Secret is believed (upstream caches verified tokens as long)."""

BONDED = frozenset(("serviceaccounts", "pods", "nodes"))

PRUNE = 16384
"""Watched objects after which those that no identity hangs on any more are forgotten."""


class Known(Protocol):
    """What the view says about an object."""

    @property
    def uid(self) -> str: ...


class Accounts(Protocol):
    """The part of the view that this module needs; portway.client.view.ClusterView has it."""

    def service_account(self, namespace: str, name: str) -> Known | None: ...
    def pod(self, namespace: str, name: str) -> Known | None: ...
    def node(self, name: str) -> Known | None: ...
    def subscribe(self, callback: Callable[[str, str, str], None]) -> object: ...
    def confirm_service_account(self, namespace: str, name: str) -> Awaitable[object]: ...
    def confirm_pod(self, namespace: str, name: str) -> Awaitable[object]: ...
    def confirm_node(self, name: str) -> Awaitable[object]: ...
    def secret_uid(self, namespace: str, name: str) -> str | None: ...
    def confirm_secret(self, namespace: str, name: str) -> Awaitable[object]: ...


class Verifies(Protocol):
    """Signature, issuer, audience and times; portway.kube.serviceaccount.Verifier."""

    def verify(self, token: str) -> Claims: ...


class Bond(NamedTuple):
    """One object that a token stands and falls with; `kind` is the plural that the view uses."""

    kind: str
    namespace: str
    name: str
    uid: str


class ServiceAccounts:
    """Callers by service account token."""

    def __init__(self, verifier: Verifies, view: Accounts) -> None:
        self._verifier = verifier
        self._view = view
        self._hanging: dict[tuple[str, str, str], WeakKeyDictionary[Identity, str]] = {}
        self._prune_at = PRUNE
        self._tasks: set[asyncio.Task[Identity]] = set()
        view.subscribe(self._changed)

    def identify(self, token: str) -> Identity | asyncio.Future[Identity]:
        """The caller, or a Future when the API must be asked. Unauthorized (raised, or in the Future) otherwise."""
        try:
            claims = self._verifier.verify(token)
        except TokenInvalid as error:
            raise Unauthorized from error
        bonds = _bonds(claims)
        if self._end(bonds) > time():
            return self._admit(claims, bonds)
        if len(self._tasks) >= CONFIRMING:
            raise TooManyRequests("too many tokens are being confirmed, please try again later", retry_after=1)
        task = asyncio.get_running_loop().create_task(self._confirmed(claims, bonds), name="confirm a token")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Identity]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A client that went away awaits nothing; asyncio need not complain that nobody took the refusal.
            task.exception()

    async def _confirmed(self, claims: Claims, bonds: list[Bond]) -> Identity:
        try:
            for bond in bonds:
                if self._end([bond]) <= time():
                    await self._ask(bond)
        except Exception as error:
            # Whatever kept the API from answering: what can't be confirmed is not believed.
            raise Unauthorized from error
        if self._end(bonds) <= time():
            raise Unauthorized
        return self._admit(claims, bonds)

    def _ask(self, bond: Bond) -> Awaitable[object]:
        if bond.kind == "serviceaccounts":
            return self._view.confirm_service_account(bond.namespace, bond.name)
        if bond.kind == "pods":
            return self._view.confirm_pod(bond.namespace, bond.name)
        if bond.kind == "secrets":
            return self._view.confirm_secret(bond.namespace, bond.name)
        return self._view.confirm_node(bond.name)

    def _end(self, bonds: Iterable[Bond]) -> float:
        """Until when the bonds hold as the view knows: unix time; inf when nothing is being deleted, 0 if broken."""
        return min((self._bond_end(*bond) for bond in bonds), default=0.0)

    def _bond_end(self, kind: str, namespace: str, name: str, uid: str) -> float:
        if kind == "secrets":
            return time() + SECRET_TRUST if self._view.secret_uid(namespace, name) == uid else 0.0
        if kind == "serviceaccounts":
            known = self._view.service_account(namespace, name)
        elif kind == "pods":
            known = self._view.pod(namespace, name)
        else:
            known = self._view.node(name)
        if known is None or known.uid != uid:
            return 0.0
        due: float = getattr(known, "deletion_time", 0.0)
        return due + GRACE if due else math.inf

    def _admit(self, claims: Claims, bonds: list[Bond]) -> Identity:
        expires = min(float(claims.expires), self._end(bonds))
        identity = Identity(with_authenticated(claims.user()), "serviceaccount", expires=expires)
        if len(self._hanging) >= self._prune_at:
            self._hanging = {key: held for key, held in self._hanging.items() if held}
            self._prune_at = max(PRUNE, 2 * len(self._hanging))
        for kind, namespace, name, uid in bonds:
            self._hanging.setdefault((kind, namespace, name), WeakKeyDictionary())[identity] = uid
        return identity

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        """The view's news: whoever hangs on this object ends, now or with the grace that deletion leaves."""
        if kind not in BONDED:
            return
        held = self._hanging.get((kind, namespace, name))
        if held is None:
            return
        for identity, uid in list(held.items()):
            end = self._bond_end(kind, namespace, name, uid)
            identity.expires = min(identity.expires, end)
            if not end:
                identity.valid = False
        if not held:
            del self._hanging[kind, namespace, name]


def _bonds(claims: Claims) -> list[Bond]:
    bonds = [Bond("serviceaccounts", claims.namespace, claims.name, claims.uid)]
    if claims.pod is not None:
        bonds.append(Bond("pods", claims.namespace, *claims.pod))
    elif claims.secret is not None:
        bonds.append(Bond("secrets", claims.namespace, *claims.secret))
    elif claims.node is not None:
        # A pod's token names its node too, for information: upstream checks it only when the node is what is bound.
        bonds.append(Bond("nodes", "", *claims.node))
    return bonds
