"""Tables and metadata-only forms of objects: what `kubectl get` prints. Pure, over the kinds' columns.

The bytes around them (lists, watch events) are `render`'s. Source: k8s.io/apiserver/pkg/endpoints/handlers/response.go.
"""

from __future__ import annotations

from typing import Any

from portway.apiserver.kinds.base import Kind
from portway.apiserver.negotiation import PARTIAL
from portway.kube import errors
from portway.kube.objects import Object

INCLUDES = ("None", "Metadata", "Object")


def include_of(value: str) -> str:
    """Returns the parameter includeObject, Metadata when it was not given; raises Invalid."""
    if value and value not in INCLUDES:
        raise errors.invalid(
            "TableOptions", "", [errors.not_supported("includeObject", value, list(INCLUDES))], "meta.k8s.io"
        )
    return value or "Metadata"


def definitions(kind: Kind) -> list[dict[str, Any]]:
    """Returns the columnDefinitions of a kind's Table."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in kind.columns.definitions
    ]


def row(kind: Kind, obj: Object, now: float, include: str, version: str) -> dict[str, Any]:
    """Returns one row of a kind's Table; `now` is Unix time in seconds."""
    shown: Object | None = None
    if include == "Metadata":
        shown = partial(obj, version)
    elif include == "Object":
        shown = obj
    return {"cells": kind.columns.cells(obj, now), "object": shown}


def table(version: str, metadata: dict[str, Any], columns: list[dict[str, Any]], rows: list[Any]) -> dict[str, Any]:
    """Returns a Table."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def partial(obj: Object, version: str) -> Object:
    """Returns an object's PartialObjectMetadata."""
    return {"kind": PARTIAL, "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}
