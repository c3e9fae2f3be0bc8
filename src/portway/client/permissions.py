"""What the caller may do with services: SelfSubjectRulesReview per namespace, and what its rules say of one service."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from portway.client.protocol import Client
from portway.kube.errors import StatusError
from portway.kube.rules import Rule

VERBS: Final = ("get", "create", "update", "patch", "delete")
"""Of services/proxy, in the order they are told; HTTP's GET, POST, PUT, PATCH and DELETE."""
AT_ONCE: Final = 16
"""Reviews that are asked for at the same time."""
_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The rules of one namespace. `incomplete`: the server has more to say than it can list (webhooks)."""

    rules: tuple[Rule, ...]
    incomplete: bool

    def verbs(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """Verbs on services/proxy for a service by any of its spellings; None when it can't be said that none is."""
        concerning = [rule for rule in self.rules if _concerns(rule) and any(map(rule.allows_name, names))]
        found = tuple(verb for verb in VERBS if any(rule.allows_verb(verb) for rule in concerning))
        return None if self.incomplete and len(found) < len(VERBS) else found


def _concerns(rule: Rule) -> bool:
    return rule.allows_group("") and bool({"services/proxy", "*/proxy", "*"}.intersection(rule.resources))


async def permissions(client: Client, namespaces: Iterable[str]) -> Mapping[str, Permissions]:
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
                return namespace, Permissions((), incomplete=True)
        rules = tuple(map(Rule.from_object, status.get("resourceRules") or ()))
        return namespace, Permissions(rules, bool(status.get("incomplete")))

    return dict(await asyncio.gather(*map(ask, dict.fromkeys(namespaces))))
