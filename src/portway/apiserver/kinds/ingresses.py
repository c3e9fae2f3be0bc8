"""Ingresses and IngressClasses: host names and paths of a door, and who serves them. Validation is in `ingressrules`.

Source: pkg/registry/networking/{ingress,ingressclass}, pkg/printers, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.apiserver.kinds.ingressrules import (
    class_causes_of_new,
    ingress_causes,
    ingress_class_causes,
    status_causes,
)
from portway.kube.errors import Cause
from portway.kube.ingresses import CLASS_ANNOTATION, default_class, ingress_class
from portway.kube.objects import Object

_SHOWN = 3


class IngressStrategy(Strategy):
    """What is particular to Ingresses."""

    def defaults(self, obj: Object) -> None:
        """The spec and the status are always there."""
        obj.setdefault("spec", {})
        obj.setdefault("status", {}).setdefault("loadBalancer", {})

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """Drops the status: it is the controller's. Who names no class gets the default one (DefaultIngressClass)."""
        obj.pop("status", None)
        if "ingressClassName" in obj["spec"] or CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}):
            return
        classes = ctx.services.lookup.objects("networking.k8s.io", "ingressclasses")
        if (chosen := default_class(map(ingress_class, classes))) is not None:
            obj["spec"]["ingressClassName"] = chosen.name

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules, and one class at most."""
        return common.first(ingress_causes(obj), class_causes_of_new(obj))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same; everything may change."""
        return common.first(status_causes(new) if ctx.subresource == "status" else ingress_causes(new))

    def warnings(self, obj: Object) -> list[str]:
        """The annotation came before the field."""
        annotations = obj["metadata"].get("annotations") or {}
        if CLASS_ANNOTATION not in annotations or "ingressClassName" in (obj.get("spec") or {}):
            return []
        return [f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]


class IngressClassStrategy(Strategy):
    """What is particular to IngressClasses."""

    def defaults(self, obj: Object) -> None:
        """Parameters are cluster-scoped unless they say otherwise."""
        parameters = obj.setdefault("spec", {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules."""
        return common.first(ingress_class_causes(obj))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same; the controller stays."""
        controllers = [one["spec"].get("controller") for one in (new, old)]
        return common.first(common.unchanged("spec.controller", *controllers), ingress_class_causes(new))


def _ingress_cells(obj: Object, _now: float) -> Iterable[Any]:
    spec = obj.get("spec") or {}
    points = common.items(obj, "status", "loadBalancer", "ingress")
    addresses = {point.get("ip") or point.get("hostname", "") for point in points} - {""}
    ports = "80, 443" if spec.get("tls") else "80"
    return spec.get("ingressClassName") or "<none>", _hosts(spec), ",".join(sorted(addresses)), ports


def _hosts(spec: dict[str, Any]) -> str:
    rules = spec.get("rules") or []
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    shown = ",".join(hosts[:_SHOWN]) or "*"
    return f"{shown} + {len(rules) - _SHOWN} more..." if len(hosts) >= _SHOWN < len(rules) else shown


def _class_cells(obj: Object, _now: float) -> Iterable[Any]:
    spec = obj.get("spec") or {}
    found = spec.get("parameters")
    if not found:
        return spec.get("controller", ""), "<none>"
    group = f".{found['apiGroup']}" if "apiGroup" in found else ""
    return spec.get("controller", ""), f"{found.get('kind', '')}{group}/{found.get('name', '')}"


INGRESS = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="Ingress",
    plural="ingresses",
    singular="ingress",
    namespaced=True,
    short_names=("ing",),
    has_status=True,
    has_generation=True,
    strategy=IngressStrategy(),
    columns=common.columns(
        _ingress_cells,
        Column("Class", description="The IngressClass, which says who serves it."),
        Column("Hosts", description="The host names that requests are matched against."),
        Column("Address", description="Where it is served."),
        Column("Ports", description="80, and 443 where it has TLS."),
    ),
)
INGRESS_CLASS = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IngressClass",
    plural="ingressclasses",
    singular="ingressclass",
    namespaced=False,
    has_generation=True,
    strategy=IngressClassStrategy(),
    columns=common.columns(
        _class_cells,
        Column("Controller", description="Who serves Ingresses of this class."),
        Column("Parameters", description="An object with the controller's own settings."),
    ),
)
