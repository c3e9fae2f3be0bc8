"""Nobody grants what they don't hold: the check on writes of roles and bindings.

A role may be written by who holds all its rules, or has the verb `escalate` on it; a binding by who holds all rules of
the role it refers to, or has the verb `bind` on that role. Everything else about these kinds is in `rbac`.
Source: pkg/registry/rbac/{role,rolebinding,…}/policybased, pkg/registry/rbac/validation/rule.go, as facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from portway.apiserver.kinds.base import Context
from portway.kube.attributes import Attributes
from portway.kube.errors import Forbidden, not_found
from portway.kube.objects import Object
from portway.kube.quoting import quote, quote_list
from portway.kube.rules import Rule

_GROUP = "rbac.authorization.k8s.io"
_EVERYTHING = (Rule(("*",), ("*",), ("*",)), Rule(("*",), urls=("*",)))


def check_rules(new: Object, old: Object | None, ctx: Context, plural: str) -> None:
    """Raises Forbidden unless the user may write a role with these rules."""
    name = new["metadata"].get("name", "")
    aggregation = new.get("aggregationRule")
    if old is not None and (new.get("rules"), aggregation) == (old.get("rules"), old.get("aggregationRule")):
        return  # labels, finalizers, owner references: nothing is granted
    if _may("escalate", plural, name, ctx):
        return
    if aggregation and ctx.services.rbac.covers(ctx.user, "", _EVERYTHING):
        raise _forbidden(plural, name, "must have cluster-admin privileges to use an aggregationRule")
    missing = ctx.services.rbac.covers(ctx.user, ctx.namespace, map(Rule.from_object, new.get("rules") or ()))
    if missing:
        raise _forbidden(plural, name, _granting(missing, ctx))


def check_binding(new: Object, old: Object | None, ctx: Context, plural: str) -> None:
    """Raises Forbidden, or NotFound for a role that doesn't exist, unless the user may bind the role to others."""
    if old is not None and (new["roleRef"], new.get("subjects")) == (old.get("roleRef"), old.get("subjects")):
        return
    reference = new["roleRef"]
    kind, role = reference["kind"], reference["name"]
    if _may("bind", f"{kind.lower()}s", role, ctx):
        return
    rules = ctx.services.rbac.role_rules(kind, ctx.namespace, role)
    if rules is None:
        raise not_found(f"{kind.lower()}s", role, _GROUP)
    missing = ctx.services.rbac.covers(ctx.user, ctx.namespace, rules)
    if missing:
        raise _forbidden(plural, new["metadata"].get("name", ""), _granting(missing, ctx))


def _may(verb: str, plural: str, name: str, ctx: Context) -> bool:
    attributes = Attributes(verb, group=_GROUP, version="v1", resource=plural, namespace=ctx.namespace, name=name)
    return ctx.services.rbac.decide(ctx.user, attributes).allowed


def _granting(missing: Sequence[Rule], ctx: Context) -> str:
    head = f"user {quote(ctx.user.name)} (groups={quote_list(ctx.user.groups)}) is attempting to grant RBAC permissions"
    return "\n".join([f"{head} not currently held:", *sorted({rule.describe() for rule in missing})])


def _forbidden(plural: str, name: str, why: str) -> Forbidden:
    details = {"name": name, "group": _GROUP, "kind": plural}
    return Forbidden(f"{plural}.{_GROUP} {quote(name)} is forbidden: {why}", details=details)
