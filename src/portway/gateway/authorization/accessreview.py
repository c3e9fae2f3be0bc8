"""`--authorization-mode=Webhook` against the cluster itself: each question is a SubjectAccessReview, as upstream's
delegating authoriser asks it.

Ten seconds for a yes and for a no; nothing is asked for system:masters and for the health paths. Beyond upstream: one
question per (user, attributes) at a time, a bound on all of them, a breaker (`gateway.reviews`), and while the API
can't be asked what it decided last counts for a configured grace. Without a decision that counts nobody gets in.

Keys are BLAKE2 sums of the question: what a client makes up is not kept, however long it is.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from portway.gateway.authentication.cache import RecentCache
from portway.gateway.authorization.authorizer import OPEN_PATHS
from portway.gateway.flights import Flights
from portway.gateway.reviews import GRACE, HURRY, Creates, Reviewer, ReviewUnavailable
from portway.kube.attributes import Attributes
from portway.kube.identity import MASTERS, User
from portway.kube.objects import Object
from portway.kube.rbac import Decision
from portway.kube.selectors import FieldSelector, Requirement, SelectorError, parse_field_selector, parse_label_selector

PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
TTL: Final = 10.0
"""Seconds that a yes, and a no, counts (DelegatingAuthorizationOptions.AllowCacheTTL, DenyCacheTTL)."""
SHORTEST: Final = 1.0
"""Whoever waits for an answer must still find it when it is its turn: no time is shorter."""
CACHED: Final = 8192
"""Decisions remembered in one worker (upstream's)."""
RECHECK: Final = 1.0
"""Seconds by which the grace is handed out: an answer that comes back cuts it short."""

_ALWAYS: Final = Decision(True, "")
_WORDS: Final = {"=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn", "exists": "Exists"}
_WORDS["!"] = "DoesNotExist"


class _Known(NamedTuple):
    decision: Decision
    end: float
    """The moment after which it counts no more, come what may."""
    generation: int
    final: bool = False
    """Denied by name, not for want of a grant: no other spelling may bring it about."""


class AccessReviews:
    """An `Authorizer` that asks a Kubernetes API. Lives on one event loop."""

    def __init__(
        self,
        api: Creates,
        *,
        allow_ttl: float = TTL,
        deny_ttl: float = TTL,
        grace: float = GRACE,
        groups: Sequence[str] = (MASTERS,),
        paths: Sequence[str] = OPEN_PATHS,
        reviewer: Reviewer | None = None,
    ) -> None:
        """`groups`, `paths`: who may do everything, and what everybody may; nobody is asked about them."""
        self._reviewer = reviewer or Reviewer(api, PATH, "authorization.k8s.io/v1 SubjectAccessReview")
        self._ttl = {True: max(allow_ttl, SHORTEST), False: max(deny_ttl, SHORTEST)}
        self._grace = grace
        self._groups = frozenset(groups)
        self._paths = frozenset(paths)
        self._loop = asyncio.get_running_loop()
        self._known: RecentCache[bytes, _Known] = RecentCache(CACHED)
        self._flights: Flights[bytes, _Known] = Flights("access reviews")
        self._chains: Flights[bytes, Decision] = Flights("decisions", 1024)
        self._generation = 0

    @property
    def generation(self) -> int:
        """Grows by `forget` alone: that a decision's time is over is said by the decision itself, in `until`."""
        return self._generation

    def decide(
        self, user: User, attributes: Attributes, names: Sequence[str] = ()
    ) -> Decision | asyncio.Future[Decision]:
        """See Authorizer. ReviewUnavailable (503), raised or in the Future: denied, for nobody can be asked."""
        if not self._groups.isdisjoint(user.groups):
            return _ALWAYS
        if not attributes.resource_request and attributes.path in self._paths:
            return _ALWAYS
        key = question_key(user, attributes, names)
        known = self._known.get(key)
        if known is not None and known.decision.until > self._loop.time():
            return known.decision
        # Whoever was let in need not wait long; whoever was not waits for what is true now.
        hurried = known if known is not None and known.decision.allowed and self._graced(known) else None
        if self._reviewer.refusing or (hurried is not None and self._chains.age(key) >= HURRY):
            return self._fallback(key, known, self._reviewer.unavailable()).decision
        answer = self._chains.ask(key, partial(self._chain, key, user, attributes, tuple(names), known))
        if hurried is not None:
            self._loop.call_later(HURRY, self._hurry, key, hurried, answer)
        return answer

    def forget(self) -> None:
        """Every decision given so far counts no more."""
        self._known = RecentCache(CACHED)
        self._generation += 1

    def health(self) -> str:
        """ "" when the API answers, else one line for an operator."""
        return self._reviewer.health()

    def close(self) -> None:
        """Give up what is being asked."""
        self._chains.close()
        self._flights.close()

    async def _chain(
        self, key: bytes, user: User, attributes: Attributes, names: tuple[str, ...], known: _Known | None
    ) -> Decision:
        """The literal spelling, and only when it is denied the others, until one is allowed."""
        generation = self._generation
        try:
            found = combined([answer async for answer in self._answers(user, attributes, names, known)])
        except ReviewUnavailable as error:
            return self._fallback(key, known, error).decision
        if not found.decision.allowed:
            # The first denials may be old by now; who waited must find one.
            until = max(found.decision.until, self._loop.time() + SHORTEST)
            found = found._replace(decision=found.decision._replace(until=until))
        if generation == self._generation:
            self._known.put(key, found)
        return found.decision

    async def _answers(
        self, user: User, attributes: Attributes, names: tuple[str, ...], known: _Known | None
    ) -> AsyncIterator[_Known]:
        for spelling in dict.fromkeys((attributes.name, *names)):
            answer = await self._single(user, dataclasses.replace(attributes, name=spelling), known)
            yield answer
            if answer.decision.allowed or answer.final:
                return

    async def _single(self, user: User, attributes: Attributes, known: _Known | None) -> _Known:
        spec = review_spec(user, attributes)
        key = _sum(spec)
        found = self._known.get(key)
        if found is not None and found.decision.until > self._loop.time() + SHORTEST / 2:
            return found
        patient = known is None or not self._graced(known)
        return await self._flights.ask(key, partial(self._asked, key, spec, patient))

    async def _asked(self, key: bytes, spec: Object, patient: bool) -> _Known:
        generation = self._generation
        allowed, final, reason = read_status(await self._reviewer.ask(spec, patient=patient))
        until = self._loop.time() + self._ttl[allowed]
        answer = _Known(Decision(allowed, reason, until), until + self._grace, generation, final)
        if generation == self._generation:
            self._known.put(key, answer)
        return answer

    def _hurry(self, key: bytes, known: _Known, answer: asyncio.Future[Decision]) -> None:
        """Who waits for an answer that does not come gets the older one; the question goes on."""
        if not answer.done() and self._graced(known):
            answer.set_result(self._fallback(key, known, self._reviewer.unavailable()).decision)

    def _fallback(self, key: bytes, known: _Known | None, error: ReviewUnavailable) -> _Known:
        """What was decided last goes on, for the grace; else nobody gets in."""
        if known is None or not self._graced(known):
            raise error
        until = min(self._loop.time() + RECHECK, known.end)
        stale = known._replace(decision=known.decision._replace(until=until))
        self._known.put(key, stale)
        return stale

    def _graced(self, known: _Known) -> bool:
        if self._reviewer.refused or known.generation != self._generation:
            return False
        return known.end > self._loop.time()


def review_spec(user: User, attributes: Attributes) -> Object:
    """A SubjectAccessReview's `spec`; what is empty is left out."""
    spec: Object = {"user": user.name, "uid": user.uid, "groups": list(user.groups)}
    spec["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    if not attributes.resource_request:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
        return {key: value for key, value in spec.items() if value}
    asked: Object = {name: getattr(attributes, name) for name in ("namespace", "verb", "group", "version")}
    asked |= {name: getattr(attributes, name) for name in ("resource", "subresource", "name")}
    asked |= {"fieldSelector": _fields(attributes.field_selector), "labelSelector": _labels(attributes.label_selector)}
    spec["resourceAttributes"] = {key: value for key, value in asked.items() if value}
    return {key: value for key, value in spec.items() if value}


def question_key(user: User, attributes: Attributes, names: Sequence[str]) -> bytes:
    """The same for the same question; that of the single review when there is no other spelling."""
    spec = review_spec(user, attributes)
    others = [name for name in dict.fromkeys(names) if name != attributes.name]
    return _sum({"spec": spec, "names": others} if others else spec)


def read_status(status: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """(allowed, denied by name, reason). Both at once is denied, as upstream."""
    denied = status.get("denied") is True
    reason = status.get("reason")
    return status.get("allowed") is True and not denied, denied, reason if isinstance(reason, str) else ""


def combined(answers: Sequence[_Known]) -> _Known:
    """One answer from those to each spelling: the one that allows (or forbids), else the first with the soonest end."""
    last = answers[-1]
    if last.decision.allowed or last.final or len(answers) == 1:
        return last
    until = min(answer.decision.until for answer in answers)
    return answers[0]._replace(
        decision=answers[0].decision._replace(until=until), end=min(answer.end for answer in answers)
    )


def _sum(value: Any) -> bytes:
    return blake2b(orjson.dumps(value), digest_size=32).digest()


def _fields(text: str) -> Object:
    """Requirements only, as upstream sends them; a selector that can't be read limits nothing."""
    try:
        selector = parse_field_selector(text)
    except SelectorError:
        selector = FieldSelector()
    return _requirements({"key": r.field, "operator": _WORDS[r.op], "values": [r.value]} for r in selector.requirements)


def _labels(text: str) -> Object:
    try:
        requirements = parse_label_selector(text).requirements
    except SelectorError:
        requirements = ()
    return _requirements(_label(r) for r in requirements if r.operator in _WORDS)


def _label(requirement: Requirement) -> Object:
    label: Object = {"key": requirement.key, "operator": _WORDS[requirement.operator]}
    return label | {"values": list(requirement.values)} if requirement.values else label


def _requirements(found: Iterable[Object]) -> Object:
    listed = list(found)
    return {"requirements": listed} if listed else {}


__all__ = ["AccessReviews", "question_key", "read_status", "review_spec"]
