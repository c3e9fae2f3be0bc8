"""Roles, bindings and their cluster-wide kin: defaults, validation and Tables.

That nobody grants more than they hold is checked by `escalation`; what the rules mean is `portway.kube.rbac`'s.
Source: pkg/apis/rbac/{v1/defaults.go,validation}, as facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Columns, Context, Kind, Strategy
from portway.apiserver.kinds.escalation import check_binding, check_rules
from portway.kube import names
from portway.kube.errors import Cause, invalid_value, not_supported, required
from portway.kube.objects import Object

GROUP = "rbac.authorization.k8s.io"


class _RBACStrategy(Strategy):
    def name_errors(self, name: str) -> list[str]:
        """Anything that can stand in a path: "system:node" is a role's name."""
        return names.is_path_segment_name(name)


class RoleStrategy(_RBACStrategy):
    """Roles and ClusterRoles."""

    def __init__(self, kind: str, plural: str) -> None:
        self._kind, self._plural = kind, plural

    def defaults(self, obj: Object) -> None:
        """A role without rules has an empty list of them."""
        obj.setdefault("rules", [])

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The rules and, for ClusterRoles, the selectors; raises Forbidden when the user would grant too much."""
        causes = common.first(self._causes(obj))
        if not causes:
            check_rules(obj, None, ctx, self._plural)
        return causes

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """As on create."""
        causes = common.first(self._causes(new))
        if not causes:
            check_rules(new, old, ctx, self._plural)
        return causes

    def _causes(self, obj: Object) -> Iterator[Cause]:
        for field, rule in common.each(obj.get("rules"), "rules"):
            yield from _rule(field, rule, namespaced=self._kind == "Role")
        if "aggregationRule" in obj:
            field = "aggregationRule.clusterRoleSelectors"
            if not common.items(obj, "aggregationRule", "clusterRoleSelectors"):
                yield required(field, "at least one clusterRoleSelector required if aggregationRule is non-nil")
            for where, selector in common.each(common.items(obj, "aggregationRule", "clusterRoleSelectors"), field):
                yield from common.label_selector(where, selector)


def _rule(field: str, rule: dict[str, Any], *, namespaced: bool) -> Iterator[Cause]:
    if not rule.get("verbs"):
        yield required(f"{field}.verbs", "verbs must contain at least one value")
    urls = rule.get("nonResourceURLs")
    if urls:
        where = f"{field}.nonResourceURLs"
        if namespaced:
            yield invalid_value(where, urls, "namespaced rules cannot apply to non-resource URLs")
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            yield invalid_value(where, urls, "rules cannot apply to both regular resources and non-resource URLs")
        return
    if not rule.get("apiGroups"):
        yield required(f"{field}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        yield required(f"{field}.resources", "resource rules must supply at least one resource")


class BindingStrategy(_RBACStrategy):
    """RoleBindings and ClusterRoleBindings."""

    def __init__(self, kind: str, plural: str) -> None:
        self._kind, self._plural = kind, plural

    def defaults(self, obj: Object) -> None:
        """Users, groups and roles are of RBAC's own API group."""
        for subject in obj.get("subjects") or ():
            if subject.get("kind") in ("User", "Group"):
                subject.setdefault("apiGroup", GROUP)
        reference = obj.setdefault("roleRef", {})
        if not reference.get("apiGroup"):
            reference["apiGroup"] = GROUP

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The role and the subjects; raises Forbidden when the user would grant too much."""
        causes = common.first(self._causes(obj))
        if not causes:
            check_binding(obj, None, ctx, self._plural)
        return causes

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """As on create; the role may not change."""
        causes = common.first(self._causes(new))
        causes += common.unchanged("roleRef", new["roleRef"], old.get("roleRef"), "cannot change roleRef")
        if not causes:
            check_binding(new, old, ctx, self._plural)
        return causes

    def _causes(self, obj: Object) -> Iterator[Cause]:
        reference = obj["roleRef"]
        if reference.get("apiGroup") != GROUP:
            yield not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), [GROUP])
        kinds = ["Role", "ClusterRole"] if self._kind == "RoleBinding" else ["ClusterRole"]
        if reference.get("kind") not in kinds:
            yield not_supported("roleRef.kind", reference.get("kind", ""), kinds)
        name = reference.get("name", "")
        if not name:
            yield required("roleRef.name")
        else:
            yield from common.bad("roleRef.name", name, names.is_path_segment_name(name))
        for field, subject in common.each(obj.get("subjects"), "subjects"):
            yield from _subject(field, subject)


def _subject(field: str, subject: dict[str, Any]) -> Iterator[Cause]:
    kind, group, name = (subject.get(part, "") for part in ("kind", "apiGroup", "name"))
    if not name:
        yield required(f"{field}.name")
    if kind == "ServiceAccount":
        if name:
            yield from common.subdomain(f"{field}.name", name)
        if group:
            yield not_supported(f"{field}.apiGroup", group, [""])
        if not subject.get("namespace"):
            yield required(f"{field}.namespace")
    elif kind in ("User", "Group"):
        if group != GROUP:
            yield not_supported(f"{field}.apiGroup", group, [GROUP])
    else:
        yield not_supported(f"{field}.kind", kind, ["ServiceAccount", "User", "Group"])


def _role_cells(obj: Object, _now: float) -> list[Any]:
    return [obj["metadata"].get("name", ""), obj["metadata"].get("creationTimestamp")]


def _binding_cells(obj: Object, _now: float) -> Iterable[Any]:
    reference = obj.get("roleRef") or {}
    subjects = obj.get("subjects") or []
    accounts = [f"{s.get('namespace', '')}/{s['name']}" for s in subjects if s.get("kind") == "ServiceAccount"]
    yield f"{reference.get('kind')}/{reference.get('name')}"
    for kind in ("User", "Group"):
        yield ", ".join(s["name"] for s in subjects if s.get("kind") == kind)
    yield ", ".join(accounts)


_ROLE_COLUMNS = Columns(
    (common.NAME, Column("Created At", type="date", description="When the role was made.")), _role_cells
)
_BINDING_COLUMNS = common.columns(
    _binding_cells,
    Column("Role", description="The role that is granted."),
    after=(
        common.wide("Users", "Users to whom it is granted."),
        common.wide("Groups", "Groups to whose members it is granted."),
        common.wide("ServiceAccounts", "Service accounts to which it is granted."),
    ),
)

ROLE = Kind(
    GROUP, "v1", "Role", "roles", "role", True, _ROLE_COLUMNS, RoleStrategy("Role", "roles"), create_on_update=True
)
CLUSTER_ROLE = Kind(
    GROUP,
    "v1",
    "ClusterRole",
    "clusterroles",
    "clusterrole",
    False,
    _ROLE_COLUMNS,
    RoleStrategy("ClusterRole", "clusterroles"),
    create_on_update=True,
)
ROLE_BINDING = Kind(
    GROUP,
    "v1",
    "RoleBinding",
    "rolebindings",
    "rolebinding",
    True,
    _BINDING_COLUMNS,
    BindingStrategy("RoleBinding", "rolebindings"),
    create_on_update=True,
)
CLUSTER_ROLE_BINDING = Kind(
    GROUP,
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    "clusterrolebinding",
    False,
    _BINDING_COLUMNS,
    BindingStrategy("ClusterRoleBinding", "clusterrolebindings"),
    create_on_update=True,
)
