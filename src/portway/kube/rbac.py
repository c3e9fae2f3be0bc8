"""RBAC: may this user do that?

``RBAC`` holds the roles and bindings of a cluster and is told of each change by ``set``; ``decide`` answers from
indexes and never walks over all bindings. Nothing here watches or caches: the client's view feeds it, the gateway's
authoriser keeps decisions for as long as ``generation`` stays the same. Upstream: ``plugin/pkg/auth/authorizer/rbac``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import Any, Final, NamedTuple

from portway.kube.attributes import Attributes
from portway.kube.identity import MASTERS, User, service_account_name
from portway.kube.quoting import quote
from portway.kube.rules import ALL, Rule, uncovered

__all__ = ["KINDS", "RBAC", "Decision", "Rule"]

KINDS: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


class Decision(NamedTuple):
    """Allowed or not, and why as upstream says it: which binding allowed it; for a refusal, roles that are missing.

    ``until``: when it must be asked anew at the latest, by the event loop's clock; a decision on watched objects holds
    until they change.
    """

    allowed: bool
    reason: str
    until: float = math.inf


_MASTERS_MAY: Final = Decision(True, "")
_REFUSED: Final = Decision(False, "")

# (kind, namespace, name) of a role; a ClusterRole's namespace is "".
_RoleKey = tuple[str, str, str]
# (kind, name) that a user answers to: ("User", name) or ("Group", name).
_Who = tuple[str, str]
# Where somebody is bound: in a namespace, or in the whole cluster ("").
_Place = tuple[str, _Who]

_CLUSTER: Final = "ClusterRoleBinding"


@dataclass(frozen=True, slots=True)
class _Subject:
    kind: str
    name: str
    namespace: str

    def who(self) -> _Who | None:
        """What a user has to answer to; None for a subject that nobody is."""
        if self.kind == "ServiceAccount":
            return ("User", intern(service_account_name(self.namespace, self.name))) if self.namespace else None
        return (self.kind, self.name) if self.kind in ("User", "Group") else None

    def describe(self) -> str:
        name = f"{self.name}/{self.namespace}" if self.kind == "ServiceAccount" else self.name
        return f"{self.kind} {quote(name)}"


@dataclass(frozen=True, slots=True)
class _Binding:
    namespace: str
    name: str
    role: _RoleKey
    subjects: tuple[_Subject, ...]

    @classmethod
    def from_object(cls, namespace: str, name: str, obj: Mapping[str, Any]) -> _Binding:
        ref = obj.get("roleRef") or {}
        kind = intern(ref.get("kind") or "")
        role = (kind, namespace if kind == "Role" else "", intern(ref.get("name") or ""))
        return cls(namespace, name, role, tuple(_subjects(obj, namespace)))

    def describe(self, mine: Collection[_Who]) -> str:
        """``RoleBinding "b/ns" of Role "r" to User "u"``, with the first subject that the user answers to."""
        subject = next(subject for subject in self.subjects if subject.who() in mine)
        kind, name = ("RoleBinding", f"{self.name}/{self.namespace}") if self.namespace else (_CLUSTER, self.name)
        return f"{kind} {quote(name)} of {self.role[0]} {quote(self.role[2])} to {subject.describe()}"

    def places(self) -> set[_Place]:
        """Where it binds whom."""
        return {(self.namespace, who) for subject in self.subjects if (who := subject.who()) is not None}


class _Role:
    """A role's rules by the resource they name, so that a request looks at those that can matter."""

    __slots__ = ("_by_resource", "_with_urls", "rules")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._with_urls = tuple(rule for rule in rules if rule.urls)
        by_resource: dict[str, list[Rule]] = {}
        for rule in rules:
            for resource in dict.fromkeys(rule.resources):
                by_resource.setdefault(resource, []).append(rule)
        self._by_resource = {resource: tuple(found) for resource, found in by_resource.items()}

    def allows(self, resources: tuple[str, ...], attributes: Attributes, names: Sequence[str]) -> bool:
        """``resources``: what a rule may list to cover the request's resource."""
        if not attributes.resource_request:
            return self._allows_url(attributes)
        for resource in resources:
            for rule in self._by_resource.get(resource, ()):
                if (
                    rule.allows_verb(attributes.verb)
                    and rule.allows_group(attributes.group)
                    and rule.allows_name(attributes.name, names)
                ):
                    return True
        return False

    def _allows_url(self, attributes: Attributes) -> bool:
        return any(rule.allows_verb(attributes.verb) and rule.allows_url(attributes.path) for rule in self._with_urls)


class RBAC:
    """The roles and bindings of one cluster. Not thread-safe: one thread sets and asks."""

    def __init__(self) -> None:
        self._roles: dict[_RoleKey, _Role] = {}
        self._bindings: dict[tuple[str, str], _Binding] = {}
        # By place, the roles bound there, and by name the bindings that do it: the cost of a decision is the number
        # of distinct roles that its user holds, however many bindings there are.
        self._held: dict[_Place, dict[_RoleKey, dict[str, _Binding]]] = {}
        self.generation = 0

    def set(self, kind: str, namespace: str, name: str, obj: Mapping[str, Any] | None) -> None:
        """Take in the current state of one object; None: it is gone.

        ``generation`` grows when roles or bindings mean something else than before, not when only metadata changed.
        Raises ValueError for another kind than those of ``KINDS``.
        """
        if kind not in KINDS:
            raise ValueError(f"not an RBAC kind: {kind}")
        namespace = intern(namespace) if kind in ("Role", "RoleBinding") else ""
        if kind in ("Role", "ClusterRole"):
            changed = self._set_role((kind, namespace, name), obj)
        else:
            changed = self._set_binding(namespace, name, obj)
        self.generation += changed

    def decide(self, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:
        """Whether the user may. ``names``: other spellings of ``attributes.name``; a rule may name any of them."""
        if MASTERS in user.groups:
            return _MASTERS_MAY
        mine = _answers_to(user)
        # RoleBindings grant resources of their namespace, never paths.
        namespace = attributes.namespace if attributes.resource_request else ""
        spellings = _spellings(attributes)
        for key, bindings in self._bound(mine, namespace):
            role = self._roles.get(key)
            if role is not None and role.allows(spellings, attributes, names):
                binding = next(iter(bindings.values()))
                return Decision(True, f"RBAC: allowed by {binding.describe(mine)}")
        missing = self.missing_roles(user, namespace)
        return Decision(False, f"RBAC: {_aggregate(missing)}") if missing else _REFUSED

    def rules(self, user: User, namespace: str) -> tuple[list[Rule], list[Rule]]:
        """What the user holds in a namespace ("" = at the cluster scope): (resource rules, non-resource rules)."""
        held = list(self._rules_held(user, namespace))
        of_resources = [replace(rule, urls=()) for rule in held if rule.resources]
        of_urls = [Rule(rule.verbs, urls=rule.urls) for rule in held if rule.urls]
        return of_resources, of_urls

    def covers(self, user: User, namespace: str, rules: Iterable[Rule]) -> list[Rule]:
        """The parts of ``rules`` that the user does not hold there, so may not grant; [] when the user holds all.

        ``system:masters`` holds everything.
        """
        return [] if MASTERS in user.groups else uncovered(list(self._rules_held(user, namespace)), rules)

    def role_rules(self, kind: str, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """The rules of a Role or ClusterRole; None when there is no such role."""
        role = self._roles.get((kind, namespace if kind == "Role" else "", name))
        return None if role is None else role.rules

    def missing_roles(self, user: User, namespace: str) -> list[str]:
        """Upstream's messages for the roles that the user is bound to and that do not exist."""
        bound = self._bound(_answers_to(user), namespace)
        return list(dict.fromkeys(_missing(key) for key, _ in bound if key not in self._roles))

    def _rules_held(self, user: User, namespace: str) -> Iterator[Rule]:
        seen: set[_RoleKey] = set()
        for key, _ in self._bound(_answers_to(user), namespace):
            role = self._roles.get(key)
            if role is not None and key not in seen:
                seen.add(key)
                yield from role.rules

    def _bound(self, mine: Iterable[_Who], namespace: str) -> Iterator[tuple[_RoleKey, dict[str, _Binding]]]:
        """The user's roles with the bindings behind them: the cluster's first, then the namespace's."""
        for scope in ("", namespace) if namespace else ("",):
            for who in mine:
                held = self._held.get((scope, who))
                if held:
                    yield from held.items()

    def _set_role(self, key: _RoleKey, obj: Mapping[str, Any] | None) -> bool:
        old = self._roles.get(key)
        if obj is None:
            return self._roles.pop(key, None) is not None
        rules = tuple(map(Rule.from_object, obj.get("rules") or ()))
        if old is not None and old.rules == rules:
            return False
        self._roles[key] = _Role(rules)
        return True

    def _set_binding(self, namespace: str, name: str, obj: Mapping[str, Any] | None) -> bool:
        old = self._bindings.get((namespace, name))
        new = None if obj is None else _Binding.from_object(namespace, name, obj)
        if old == new:
            return False
        if old is not None:
            self._unbind(old)
        if new is not None:
            self._bind(new)
        return True

    def _bind(self, binding: _Binding) -> None:
        self._bindings[binding.namespace, binding.name] = binding
        for place in binding.places():
            self._held.setdefault(place, {}).setdefault(binding.role, {})[binding.name] = binding

    def _unbind(self, binding: _Binding) -> None:
        del self._bindings[binding.namespace, binding.name]
        for place in binding.places():
            held = self._held[place]
            del held[binding.role][binding.name]
            if not held[binding.role]:
                del held[binding.role]
            if not held:
                del self._held[place]


def _answers_to(user: User) -> tuple[_Who, ...]:
    return (("User", user.name), *(("Group", group) for group in user.groups))


def _spellings(attributes: Attributes) -> tuple[str, ...]:
    """What a rule may list to cover the request's resource; () for a request that has none."""
    if not attributes.resource_request:
        return ()
    if attributes.subresource:
        return f"{attributes.resource}/{attributes.subresource}", ALL, f"{ALL}/{attributes.subresource}"
    return attributes.resource, ALL


def _subjects(obj: Mapping[str, Any], namespace: str) -> Iterator[_Subject]:
    for subject in obj.get("subjects") or ():
        kind, name = intern(subject.get("kind") or ""), intern(subject.get("name") or "")
        # A RoleBinding's service account without a namespace is one of its own.
        yield _Subject(kind, name, intern(subject.get("namespace") or namespace) if kind == "ServiceAccount" else "")


def _missing(role: _RoleKey) -> str:
    kind, _, name = role
    if kind not in ("Role", "ClusterRole"):
        return f"unsupported role reference kind: {quote(kind)}"
    return f"{kind.lower()}.rbac.authorization.k8s.io {quote(name)} not found"


def _aggregate(messages: Sequence[str]) -> str:
    return messages[0] if len(messages) == 1 else "[" + ", ".join(messages) + "]"
