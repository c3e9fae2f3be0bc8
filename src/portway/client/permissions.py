"""What the caller may do with services: SelfSubjectRulesReview per namespace, and what its rules say of one service."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from portway.client.protocol import ApiUnreachable, Creates
from portway.kube.errors import StatusError
from portway.kube.rules import Rule

VERBS: Final = ("get", "create", "update", "patch", "delete")
"""Of services/proxy, in the order they are told; HTTP's GET, POST, PUT, PATCH and DELETE."""
AT_ONCE: Final = 16
"""Reviews that are asked for at the same time."""
_RESOURCES: Final = frozenset(("services/proxy", "*/proxy", "*"))
_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


class Permissions:
    """What the rules of one namespace say of services/proxy. `incomplete`: the server has more to say than it can list
    (webhooks).
    """

    def __init__(self, rules: Iterable[Rule], *, incomplete: bool = False) -> None:
        self._incomplete = incomplete
        self._always: set[str] = set()
        self._named: dict[str, set[str]] = {}
        for rule in rules:
            if rule.allows_group("") and _RESOURCES.intersection(rule.resources):
                allowed = [verb for verb in VERBS if rule.allows_verb(verb)]
                for held in [self._named.setdefault(name, set()) for name in rule.names] or [self._always]:
                    held.update(allowed)

    def verbs(self, names: Iterable[str]) -> tuple[str, ...] | None:
        """Verbs on services/proxy for a service by any of its spellings; None when it can't be said that none is."""
        held = self._always.union(*(self._named.get(name, ()) for name in names)) if self._named else self._always
        if self._incomplete and len(held) < len(VERBS):
            return None
        return tuple(verb for verb in VERBS if verb in held)


UNKNOWN: Final = Permissions((), incomplete=True)
"""Nothing can be said."""


async def permissions(client: Creates, namespaces: Iterable[str]) -> Mapping[str, Permissions]:
    """By namespace. One that the server will not review counts as incomplete. Raises ApiUnreachable."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(namespace: str) -> tuple[str, Permissions]:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        async with turns:
            try:
                status = (await client.create(_PATH, review)).get("status") or {}
            except StatusError:
                return namespace, UNKNOWN
        rules = map(Rule.from_object, status.get("resourceRules") or ())
        return namespace, Permissions(rules, incomplete=bool(status.get("incomplete")))

    try:
        async with asyncio.TaskGroup() as group:  # the first that nobody answers ends the others
            asked = [group.create_task(ask(namespace)) for namespace in dict.fromkeys(namespaces)]
    except* ApiUnreachable as errors:
        raise errors.exceptions[0] from None
    return dict(task.result() for task in asked)
