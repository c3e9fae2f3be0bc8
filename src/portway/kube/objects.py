"""Kubernetes objects as plain dicts: the few questions everybody asks of them, times, ages and quantities.

An object is what JSON gives: nothing is copied or checked here, and a missing part reads as empty. What a kind's
parts mean is for the API server's ``kinds``, the controllers, and the client's view.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from portway.kube.quantity import QuantityError, format_quantity, parse_quantity

__all__ = [
    "Object",
    "QuantityError",
    "annotations",
    "controller_of",
    "deleting",
    "format_quantity",
    "from_rfc3339",
    "human_duration",
    "key",
    "labels",
    "micro_time",
    "name",
    "namespace",
    "now_micro",
    "now_rfc3339",
    "owner_reference",
    "owner_references",
    "parse_quantity",
    "resource_version",
    "rfc3339",
    "uid",
]

Object: TypeAlias = dict[str, Any]

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def name(obj: Mapping[str, Any]) -> str:
    """``metadata.name``, or ""."""
    return _metadata_text(obj, "name")


def namespace(obj: Mapping[str, Any]) -> str:
    """``metadata.namespace``, or "" for a cluster-scoped object."""
    return _metadata_text(obj, "namespace")


def uid(obj: Mapping[str, Any]) -> str:
    """``metadata.uid``, or ""."""
    return _metadata_text(obj, "uid")


def resource_version(obj: Mapping[str, Any]) -> str:
    """``metadata.resourceVersion``, or "". Opaque to clients."""
    return _metadata_text(obj, "resourceVersion")


def key(obj: Mapping[str, Any]) -> tuple[str, str]:
    """(namespace, name)."""
    return namespace(obj), name(obj)


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """``metadata.labels``; empty when there are none. Not to be written to."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """``metadata.annotations``; empty when there are none. Not to be written to."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def deleting(obj: Mapping[str, Any]) -> bool:
    """Whether the object has a deletion timestamp."""
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def owner_references(obj: Mapping[str, Any]) -> list[Object]:
    """``metadata.ownerReferences``; empty when there are none."""
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference that says ``controller: true``; an object has at most one."""
    return next((owner for owner in owner_references(obj) if owner.get("controller")), None)


def owner_reference(owner: Mapping[str, Any], *, controller: bool = True) -> Object:
    """A reference to ``owner``, as its controller unless told otherwise."""
    reference: Object = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner)}
    reference["uid"] = uid(owner)
    return {**reference, "controller": True, "blockOwnerDeletion": True} if controller else reference


def now_rfc3339() -> str:
    """Now as ``metav1.Time``: UTC, whole seconds."""
    return rfc3339(datetime.now(UTC).timestamp())


def now_micro() -> str:
    """Now as ``metav1.MicroTime``: UTC, microseconds."""
    return micro_time(datetime.now(UTC).timestamp())


def rfc3339(seconds: float) -> str:
    """Unix seconds as ``metav1.Time``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(seconds: float) -> str:
    """Unix seconds as ``metav1.MicroTime``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> float:
    """A Time or MicroTime (RFC 3339, any offset) as Unix seconds. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.timestamp()


def human_duration(seconds: float) -> str:
    """An age as kubectl prints it: ``5s`` ``3m20s`` ``12m`` ``5h30m`` ``2d4h`` ``400d`` ``3y20d`` ``<invalid>``.

    Upstream: ``k8s.io/apimachinery/pkg/util/duration.HumanDuration``; a clock that is off by a second reads ``0s``.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    head, rest = f"{seconds // large}{large_unit}", seconds % large // small
    return f"{head}{rest}{small_unit}" if rest else head


def _metadata_text(obj: Mapping[str, Any], field: str) -> str:
    return (obj.get("metadata") or {}).get(field) or ""
