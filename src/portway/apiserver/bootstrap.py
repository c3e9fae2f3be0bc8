"""The objects that every cluster has from the start: namespaces, default roles and bindings, default/kubernetes,
and the class of the door's Ingresses.

`desired` names them; `reconcile` says what an existing one lacks, as upstream's auto-reconciliation does at start:
permissions and subjects are added, never taken away, and a role annotated
`rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone. The server writes them as any other object.
The rules of admin, edit and view are left to the controller that aggregates them.

Source: plugin/pkg/auth/authorizer/rbac/bootstrappolicy (the facts), KEP for aggregated ClusterRoles.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from portway.apiserver.allocator import address_range
from portway.apiserver.bootstraproles import AGGREGATED, BINDINGS, ROLES
from portway.apiserver.config import ApiServerConfig
from portway.kube.ingresses import CONTROLLER, DEFAULT_ANNOTATION
from portway.kube.objects import Object

_log = logging.getLogger(__name__)
_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def desired(config: ApiServerConfig) -> Sequence[Object]:
    """Returns the objects that must exist, in order of creation (namespaces first)."""
    namespaces = [{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}} for name in _NAMESPACES]
    return [*namespaces, _service_cidr(config), *_roles(), *_bindings(), _ingress_class(), _kubernetes(config)]


def reconcile(existing: Object, wanted: Object) -> Object | None:
    """Returns the object to write where `existing` lacks something of `wanted`; None when nothing is to be done."""
    if existing.get("metadata", {}).get("annotations", {}).get(_AUTOUPDATE) == "false":
        return None
    update = _UPDATES.get(wanted["kind"])
    if update is None:
        return None
    found = copy.deepcopy(existing)
    _add_metadata(found, wanted)
    update(found, wanted)
    return found if found != existing else None


def _add_metadata(found: Object, wanted: Object) -> None:
    for part in ("labels", "annotations"):
        if missing := wanted["metadata"].get(part):
            found["metadata"][part] = {**found["metadata"].get(part, {}), **missing}


def _update_role(found: Object, wanted: Object) -> None:
    """Adds what is missing; the rules of an aggregated role belong to the controller."""
    if "aggregationRule" in wanted:
        aggregation = found.setdefault("aggregationRule", {})
        selectors = aggregation.setdefault("clusterRoleSelectors", [])
        selectors.extend(s for s in wanted["aggregationRule"]["clusterRoleSelectors"] if s not in selectors)
        return
    rules = found.get("rules") or []
    found["rules"] = rules + [rule for rule in wanted["rules"] if not any(_covers(held, rule) for held in rules)]


def _covers(held: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether one rule allows all that another allows."""
    if set(rule["verbs"]) - set(held.get("verbs", ())) and "*" not in held.get("verbs", ()):
        return False
    if "nonResourceURLs" in rule:
        return set(rule["nonResourceURLs"]) <= set(held.get("nonResourceURLs", ()))
    names = set(rule.get("resourceNames", ()))
    if held.get("resourceNames") and not (names and names <= set(held["resourceNames"])):
        return False
    return all(
        "*" in held.get(part, ()) or set(rule[part]) <= set(held.get(part, ())) for part in ("apiGroups", "resources")
    )


def _update_binding(found: Object, wanted: Object) -> None:
    """Adds missing subjects. A binding that an administrator points at another role stays: roleRef is immutable."""
    if found.get("roleRef") == wanted["roleRef"]:
        subjects = found.get("subjects") or []
        found["subjects"] = subjects + [subject for subject in wanted["subjects"] if subject not in subjects]


def _update_service(found: Object, wanted: Object) -> None:
    """The door's port may have changed; the cluster address is immutable."""
    found["spec"]["ports"] = wanted["spec"]["ports"]


def _update_ranges(found: Object, wanted: Object) -> None:
    """A second family may be added; else the ranges stay, because services have addresses out of them."""
    held, given = found["spec"]["cidrs"], wanted["spec"]["cidrs"]
    if len(held) == 1 and held == given[:1]:
        found["spec"]["cidrs"] = given
    elif held != given:
        _log.warning(
            "ServiceCIDR kubernetes stays at %s, though %s is asked for: another ServiceCIDR would add addresses",
            ",".join(held),
            ",".join(given),
        )


_UPDATES: Mapping[str, Any] = {
    "ClusterRole": _update_role,
    "ClusterRoleBinding": _update_binding,
    "Service": _update_service,
    "ServiceCIDR": _update_ranges,
}


def _roles() -> list[Object]:
    """The ClusterRoles. An aggregated one starts empty, as upstream's: a controller fills it."""
    made: dict[str, Object] = {}
    for name, (labels, rules) in ROLES.items():
        made[name] = _role(name, labels, [rule.as_dict() for rule in rules])
    for name, (own, label) in AGGREGATED.items():
        made[name] = _role(name, own, [])
        made[name]["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}
    return list(made.values())


def _role(name: str, labels: Sequence[str], rules: list[dict[str, Any]]) -> Object:
    return {
        "kind": "ClusterRole",
        "apiVersion": f"{_RBAC}/v1",
        "metadata": _rbac_metadata(name, labels),
        "rules": copy.deepcopy(rules),
    }


def _rbac_metadata(name: str, labels: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {**_LABELS, **dict.fromkeys(labels, "true")},
        "annotations": {_AUTOUPDATE: "true"},
    }


def _bindings() -> list[Object]:
    return [
        {
            "kind": "ClusterRoleBinding",
            "apiVersion": f"{_RBAC}/v1",
            "metadata": _rbac_metadata(name),
            "subjects": [{"kind": kind, "apiGroup": _RBAC, "name": subject} for kind, subject in subjects],
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
        }
        for name, subjects in BINDINGS.items()
    ]


def _service_cidr(config: ApiServerConfig) -> Object:
    """The range that cluster addresses come from, under the name that upstream gives it."""
    return {
        "kind": "ServiceCIDR",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": list(config.service_cidrs)},
    }


def _ingress_class() -> Object:
    """The class of the Ingresses that the door serves; the default one until an administrator says otherwise."""
    return {
        "kind": "IngressClass",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "portway", "annotations": {DEFAULT_ANNOTATION: "true"}},
        "spec": {"controller": CONTROLLER},
    }


def _kubernetes(config: ApiServerConfig) -> Object:
    """The service default/kubernetes on the first address of the range; its endpoints are `masterendpoints`'."""
    port = config.advertise_address.rpartition(":")[2]
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address_range(config.service_cidrs[0]).first,
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": int(port)}],
        },
    }
