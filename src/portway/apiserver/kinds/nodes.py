"""Nodes.

Source: pkg/apis/core/validation (ValidateNode, ValidateNodeUpdate), pkg/printers/internalversion, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from portway.kube.objects import Object

_ROLE_PREFIX, _ROLE = "node-role.kubernetes.io/", "kubernetes.io/role"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NODE_INFO = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)


class NodeStrategy(Strategy):
    """What is particular to Nodes."""

    def defaults(self, obj: Object) -> None:
        """Parts that upstream prints even when they say nothing."""
        spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
        _mirror_ranges(spec)
        status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
        info = status.setdefault("nodeInfo", {})
        for key in _NODE_INFO:
            info.setdefault(key, "")
        if status.get("capacity"):
            status.setdefault("allocatable", dict(status["capacity"]))
        for condition in status.get("conditions") or ():
            for time in ("lastHeartbeatTime", "lastTransitionTime"):
                condition.setdefault(time, None)

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Taints and pod ranges."""
        return common.first(_causes(obj))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same; pod ranges and the provider's id may not change."""
        return common.first(_causes(new), _addresses(new), _changes(new.get("spec") or {}, old.get("spec") or {}))


def _mirror_ranges(spec: dict[str, Any]) -> None:
    """Makes podCIDR the first of podCIDRs, whichever was given."""
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def _causes(node: Object) -> Iterator[Cause]:
    seen: set[tuple[str, str]] = set()
    for field, taint in common.each(common.items(node, "spec", "taints"), "spec.taints"):
        key, effect = taint.get("key", ""), taint.get("effect", "")
        yield from common.bad(f"{field}.key", key, names.is_qualified_name(key))
        yield from common.bad(f"{field}.value", taint.get("value", ""), names.is_label_value(taint.get("value", "")))
        if not effect:
            yield required(f"{field}.effect")
        elif effect not in _EFFECTS:
            yield not_supported(f"{field}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            yield duplicate(field, taint)
        seen.add((key, effect))
    for field, text in common.each(common.items(node, "spec", "podCIDRs"), "spec.podCIDRs"):
        if not common.is_cidr(text):
            yield invalid_value(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def _addresses(node: Object) -> Iterator[Cause]:
    seen: set[tuple[str, str]] = set()
    for field, address in common.each(common.items(node, "status", "addresses"), "status.addresses"):
        key = (address.get("type", ""), address.get("address", ""))
        if key in seen:
            yield duplicate(field, address)
        seen.add(key)


def _changes(new: dict[str, Any], old: dict[str, Any]) -> Iterator[Cause]:
    if old.get("podCIDRs") and new.get("podCIDRs") != old["podCIDRs"]:
        yield forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if old.get("providerID") and new.get("providerID") != old["providerID"]:
        yield forbidden_field("spec.providerID", 'node updates may not change providerID except from "" to valid')


def _cells(node: Object, _now: float) -> Iterable[Any]:
    info = common.part(node, "status", "nodeInfo")
    yield _status(node)
    yield ",".join(_roles(node)) or "<none>"
    yield info.get("kubeletVersion", "")
    yield _address(node, "InternalIP")
    yield _address(node, "ExternalIP")
    for key in ("osImage", "kernelVersion", "containerRuntimeVersion"):
        yield info.get(key) or "<unknown>"


def _status(node: Object) -> str:
    ready = [c for c in common.items(node, "status", "conditions") if c.get("type") == "Ready"]
    shown = ["Ready" if condition.get("status") == "True" else "NotReady" for condition in ready] or ["Unknown"]
    if common.part(node, "spec").get("unschedulable"):
        shown.append("SchedulingDisabled")
    return ",".join(shown)


def _roles(node: Object) -> list[str]:
    labels = common.part(node, "metadata", "labels")
    found = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    return sorted(role for role in found | {labels.get(_ROLE, "")} if role)


def _address(node: Object, kind: str) -> str:
    addresses = common.items(node, "status", "addresses")
    return next((one.get("address", "") for one in addresses if one.get("type") == kind), "<none>")


def _fields(node: Object) -> Mapping[str, str]:
    return {"spec.unschedulable": "true" if common.part(node, "spec").get("unschedulable") else "false"}


NODE = Kind(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    singular="node",
    namespaced=False,
    short_names=("no",),
    has_status=True,
    strategy=NodeStrategy(),
    subresources=(("proxy", "NodeProxyOptions", "", "", ("create", "delete", "get", "patch", "update")),),
    selectable=("spec.unschedulable",),
    selectable_fields=_fields,
    columns=common.columns(
        _cells,
        Column("Status", description="Whether the node is ready, and takes new pods."),
        Column("Roles", description="What the node is for, by its labels."),
        # Version stands after Age.
        after=(
            Column("Version", description="The version of its agent."),
            common.wide("Internal-IP"),
            common.wide("External-IP"),
            common.wide("OS-Image"),
            common.wide("Kernel-Version"),
            common.wide("Container-Runtime"),
        ),
    ),
)
