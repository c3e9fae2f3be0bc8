"""One RBAC rule: what it allows, what it covers, and how upstream writes it.

``rbac`` holds the roles and bindings that rules come in. Upstream: ``pkg/apis/rbac/v1/evaluation_helpers.go`` and
``k8s.io/component-helpers/auth/rbac/validation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from sys import intern
from typing import Any, Final

from portway.kube.quoting import quote_list

ALL: Final = "*"
# A rule is a product of its lists, and a role of a few kilobytes can be one of millions. Rules that would unfold into
# more than this, in all, are judged as a whole: refused unless one held rule covers them.
_UNFOLD_LIMIT: Final = 5_000


@dataclass(frozen=True, slots=True)
class Rule:
    """``rbac.authorization.k8s.io/v1`` PolicyRule. Case-sensitive; ``*`` is the only wildcard word."""

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    @classmethod
    def from_object(cls, rule: Mapping[str, Any]) -> Rule:
        """The rule of a role's ``rules`` list, or of a review's."""
        fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
        return cls(*(tuple(map(intern, rule.get(field) or ())) for field in fields))

    def to_object(self) -> dict[str, Any]:
        """The rule as JSON; empty lists are left out, except the verbs."""
        lists = {"apiGroups": self.groups, "resources": self.resources, "resourceNames": self.names}
        given = {key: list(values) for key, values in lists.items() if values}
        urls = {"nonResourceURLs": list(self.urls)} if self.urls else {}
        return {"verbs": list(self.verbs), **given, **urls}

    def allows_verb(self, verb: str) -> bool:
        """Whether the verb is listed; "" (a method without a verb) needs ``*``."""
        return verb in self.verbs or ALL in self.verbs

    def allows_group(self, group: str) -> bool:
        """Whether the API group is listed."""
        return group in self.groups or ALL in self.groups

    def allows_name(self, name: str, others: Iterable[str] = ()) -> bool:
        """Whether the name, or another spelling of it, is listed; no list means every name."""
        return not self.names or name in self.names or any(other in self.names for other in others)

    def allows_url(self, url: str) -> bool:
        """Whether a non-resource path is listed, exactly or by a prefix that ends in ``*``."""
        return any(_url_covers(own, url) for own in self.urls)

    def covers(self, other: Rule) -> bool:
        """Whether whatever ``other`` allows, this rule allows too."""
        return (
            _holds(self.verbs, other.verbs)
            and _holds(self.groups, other.groups)
            and self._covers_resources(other.resources)
            and self._covers_names(other)
            and all(any(_url_covers(own, url) for own in self.urls) for url in other.urls)
        )

    @property
    def size(self) -> int:
        """How many rules ``unfolded`` gives."""
        resources = len(self.verbs) * len(self.groups) * len(self.resources) * max(1, len(self.names))
        return resources + len(self.verbs) * len(self.urls)

    def unfolded(self) -> Iterator[Rule]:
        """The same as rules of one verb, one group, one resource and at most one name, or one verb and one path."""
        names: list[tuple[str, ...]] = [(name,) for name in self.names] or [()]
        for group, resource, verb, only in product(self.groups, self.resources, self.verbs, names):
            yield Rule((verb,), (group,), (resource,), only)
        for url, verb in product(self.urls, self.verbs):
            yield Rule((verb,), urls=(url,))

    def describe(self) -> str:
        """The rule as upstream's escalation message writes it: ``{APIGroups:[""], Resources:["pods"], …}``."""
        parts = {
            "APIGroups": self.groups,
            "Resources": self.resources,
            "NonResourceURLs": self.urls,
            "ResourceNames": self.names,
            "Verbs": self.verbs,
        }
        return "{" + ", ".join(f"{key}:{quote_list(values)}" for key, values in parts.items() if values) + "}"

    def _covers_names(self, other: Rule) -> bool:
        # Names say nothing about paths; and a list of names is never as wide as no list.
        if not self.names or not other.resources:
            return True
        return bool(other.names) and set(other.names) <= set(self.names)

    def _covers_resources(self, wanted: tuple[str, ...]) -> bool:
        own = self.resources
        return ALL in own or all(one in own or _any_subresource(one) in own for one in wanted)


def uncovered(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of ``wanted`` that no rule of ``held`` covers, folded back together by verb; [] when all are."""
    budget = _UNFOLD_LIMIT
    missing: list[Rule] = []
    for rule in wanted:
        if any(own.covers(rule) for own in held):
            continue
        if rule.size > budget:
            missing.append(rule)
            continue
        budget -= rule.size
        missing += [part for part in rule.unfolded() if not any(own.covers(part) for own in held)]
    return _folded(missing)


def _folded(rules: Iterable[Rule]) -> list[Rule]:
    """Rules for one resource (or one name of it) that differ in their verbs only become one, as upstream does."""
    verbs: dict[Rule, dict[str, None]] = {}
    for index, rule in enumerate(rules):
        simple = len(rule.groups) == len(rule.resources) == 1 and len(rule.names) <= 1 and not rule.urls
        # What is not simple stays apart: its place in the list makes the key its own.
        key = replace(rule, verbs=()) if simple else replace(rule, verbs=(str(index),))
        verbs.setdefault(key, {}).update(dict.fromkeys(rule.verbs))
    return [replace(rule, verbs=tuple(every)) for rule, every in verbs.items()]


def _holds(own: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return ALL in own or set(wanted) <= set(own)


def _any_subresource(resource: str) -> str:
    """``*/proxy`` for ``services/proxy``; the resource itself when it has no subresource."""
    head, slash, subresource = resource.partition("/")
    return f"{ALL}/{subresource}" if slash and head else resource


def _url_covers(own: str, url: str) -> bool:
    return own == url or (own.endswith(ALL) and url.startswith(own.rstrip(ALL)))
