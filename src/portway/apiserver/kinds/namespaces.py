"""Namespaces. How one is emptied and goes is `portway.apiserver.namespaces`'.

Source: pkg/registry/core/namespace/strategy.go, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, Forbidden, invalid_value
from portway.kube.objects import Object

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"
_UNDELETABLE = ("default", "kube-system", "kube-public")


class NamespaceStrategy(Strategy):
    """What is particular to Namespaces."""

    def name_errors(self, name: str) -> list[str]:
        """DNS-1123 labels."""
        return names.is_dns1123_label(name)

    def defaults(self, obj: Object) -> None:
        """The label with the name; nobody can take it off."""
        metadata = obj["metadata"]
        if metadata.get("name"):
            metadata["labels"] = {**(metadata.get("labels") or {}), NAME_LABEL: metadata["name"]}
        obj.setdefault("status", {}).setdefault("phase", "Active")

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """A new namespace is active, and held until it is empty."""
        obj["status"] = {"phase": "Active"}
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if FINALIZER not in finalizers:
            finalizers.append(FINALIZER)

    def prepare_update(self, new: Object, old: Object, ctx: Context) -> None:
        """Only the subresource finalize changes spec.finalizers."""
        if ctx.subresource != "finalize":
            new["spec"] = {**(new.get("spec") or {}), **(old.get("spec") or {})}

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The phase follows from whether it is being deleted."""
        phase = (new.get("status") or {}).get("phase")
        if new["metadata"].get("deletionTimestamp"):
            text = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [] if phase == "Terminating" else [invalid_value("status.phase", phase, text)]
        text = "may only be 'Active' if `deletionTimestamp` is empty"
        return [] if phase in ("Active", "", None) else [invalid_value("status.phase", phase, text)]

    def validate_delete(self, obj: Object, ctx: Context) -> None:
        """The namespaces that everything relies on stay (upstream's NamespaceLifecycle admission)."""
        name = obj["metadata"]["name"]
        if name in _UNDELETABLE:
            details = {"name": name, "kind": "namespaces"}
            raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted', details=details)


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    return ((obj.get("status") or {}).get("phase", ""),)


def _fields(obj: Object) -> Mapping[str, str]:
    return {"status.phase": (obj.get("status") or {}).get("phase", "")}


NAMESPACE = Kind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
    short_names=("ns",),
    has_status=True,
    strategy=NamespaceStrategy(),
    subresources=(("finalize", "Namespace", "", "v1", ("update",)),),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    selectable=("status.phase",),
    selectable_fields=_fields,
    columns=common.columns(_cells, Column("Status", description="Active, or Terminating while it is emptied.")),
)
