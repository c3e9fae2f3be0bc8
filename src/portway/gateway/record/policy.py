"""The audit policy file (kind Policy, audit.k8s.io/v1): which events are recorded. First rule that matches wins.

Of the levels, None means no event and all others Metadata: bodies of proxied requests are not recorded by upstream
either. The stage RequestReceived is never recorded here, whatever the policy says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.identity import Identity
from portway.kube.attributes import Attributes
from portway.kube.identity import User

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
CACHED = 4096
LONGEST = 1024

_RULE_LISTS = ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs", "omitStages")


class PolicyError(ConfigurationError):
    """One line: which file, which rule, what is wrong."""


@dataclass(frozen=True, slots=True)
class GroupResources:
    """Resources of one API group. Patterns: `pods`, `pods/proxy`, `pods/*` (and pods itself), `*/proxy`, `*`."""

    group: str = ""
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def matches(self, attributes: Attributes) -> bool:
        if self.group != attributes.group:
            return False
        if not self.resources:
            return True
        if self.names and attributes.name not in self.names:
            return False
        resource, subresource = attributes.resource, attributes.subresource
        patterns = {f"{resource}/{subresource}" if subresource else resource, "*", f"{resource}/*"}
        if subresource:
            patterns.add(f"*/{subresource}")
        return not patterns.isdisjoint(self.resources)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; an empty list matches everything."""

    level: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    resources: tuple[GroupResources, ...] = ()
    urls: tuple[str, ...] = ()
    omit: frozenset[str] = frozenset()

    def matches(self, user: User, attributes: Attributes) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and not set(self.groups).intersection(user.groups):
            return False
        if self.verbs and attributes.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return attributes.resource_request and self._matches_resource(attributes)
        if self.urls:
            return not attributes.resource_request and any(_path_matches(attributes.path, url) for url in self.urls)
        return True

    def _matches_resource(self, attributes: Attributes) -> bool:
        if self.namespaces and attributes.namespace not in self.namespaces:
            return False
        return not self.resources or any(group.matches(attributes) for group in self.resources)


def _path_matches(path: str, pattern: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


@dataclass(slots=True)
class AuditPolicy:
    """A whole policy. An event that no rule matches is not recorded."""

    rules: tuple[Rule, ...]
    omit: frozenset[str] = frozenset()
    _decided: dict[tuple[object, ...], frozenset[str]] = field(default_factory=dict)

    def wants(self, identity: Identity, attributes: Attributes, stage: str) -> bool:
        """Whether an event of this caller, request and stage is recorded. The caller is the real one, as upstream."""
        a = attributes
        key = (identity, a.verb, a.group, a.resource, a.subresource, a.namespace, a.name, a.path)
        stages = self._decided.get(key)
        if stages is None:
            stages = self.stages(identity.user, attributes)
            if len(a.name) + len(a.path) <= LONGEST:
                if len(self._decided) >= CACHED:
                    self._decided.clear()
                self._decided[key] = stages
        return stage in stages

    def stages(self, user: User, attributes: Attributes) -> frozenset[str]:
        """The stages of a request that are recorded."""
        rule = next((rule for rule in self.rules if rule.matches(user, attributes)), None)
        if rule is None or rule.level == "None":
            return frozenset()
        return frozenset(STAGES) - self.omit - rule.omit


def load_policy(path: str) -> AuditPolicy:
    """The policy in a YAML or JSON file. PolicyError when it can't be read or isn't one."""
    try:
        return parse_policy(yaml.safe_load(Path(path).read_text("utf-8")))
    except OSError as error:
        raise PolicyError(f"audit policy file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"audit policy file {path}: not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise PolicyError(f"audit policy file {path}: {error}") from error


def parse_policy(value: Any) -> AuditPolicy:
    """A policy from its decoded form. PolicyError for anything unknown: a typo must not silence the audit log."""
    policy = _mapping("policy", value, ("apiVersion", "kind", "metadata", "omitStages", "omitManagedFields", "rules"))
    if policy.get("apiVersion") != "audit.k8s.io/v1" or policy.get("kind") != "Policy":
        raise PolicyError("not a Policy of audit.k8s.io/v1")
    rules = policy.get("rules")
    if not isinstance(rules, list) or not rules:
        raise PolicyError("it has no rules")
    parsed = tuple(_rule(f"rules[{index}]", rule) for index, rule in enumerate(rules))
    return AuditPolicy(parsed, _stages("omitStages", policy.get("omitStages")))


def _rule(where: str, value: Any) -> Rule:
    rule = _mapping(where, value, ("level", "resources", "omitManagedFields", *_RULE_LISTS))
    level = rule.get("level")
    if level not in LEVELS:
        raise PolicyError(f"{where}.level must be one of {', '.join(LEVELS)}")
    lists = {name: _strings(f"{where}.{name}", rule.get(name)) for name in _RULE_LISTS}
    resources = rule.get("resources") or []
    if not isinstance(resources, list):
        raise PolicyError(f"{where}.resources must be a list")
    if lists["nonResourceURLs"] and (resources or lists["namespaces"]):
        raise PolicyError(f"{where} can't apply to both resources and non-resource URLs")
    return Rule(
        level=level,
        users=lists["users"],
        groups=lists["userGroups"],
        verbs=lists["verbs"],
        namespaces=lists["namespaces"],
        resources=tuple(_group(f"{where}.resources[{index}]", group) for index, group in enumerate(resources)),
        urls=lists["nonResourceURLs"],
        omit=_stages(f"{where}.omitStages", rule.get("omitStages")),
    )


def _group(where: str, value: Any) -> GroupResources:
    group = _mapping(where, value, ("group", "resources", "resourceNames"))
    name = group.get("group") or ""
    if not isinstance(name, str):
        raise PolicyError(f"{where}.group must be a string")
    resources = _strings(f"{where}.resources", group.get("resources"))
    names = _strings(f"{where}.resourceNames", group.get("resourceNames"))
    if names and not resources:
        raise PolicyError(f"{where}.resourceNames needs resources")
    return GroupResources(name, resources, names)


def _mapping(where: str, value: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PolicyError(f"{where} must be a mapping")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise PolicyError(f"{where} has the unknown field {unknown[0]!r}")
    return value


def _strings(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PolicyError(f"{where} must be a list of strings")
    return tuple(value)


def _stages(where: str, value: Any) -> frozenset[str]:
    stages = _strings(where, value)
    for stage in stages:
        if stage not in STAGES:
            raise PolicyError(f"{where}: unknown stage {stage!r}")
    return frozenset(stages)
