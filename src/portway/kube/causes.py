"""The causes of a 422: one per field that is wrong, in upstream's words.

Upstream: ``k8s.io/apimachinery/pkg/util/validation/field``. Nothing here decides whether a field is wrong; the
API server's strategies do, with ``names`` for the syntax of names, and hand the causes to ``errors.invalid``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from portway.kube.quoting import quote


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of ``details.causes``: a machine-readable reason, a message, a field path like ``spec.ports[0]``."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_dict(self) -> dict[str, str]:
        """The cause as ``metav1.StatusCause``; empty parts are left out, as upstream does."""
        parts = {"reason": self.reason, "message": self.message, "field": self.field}
        return {key: value for key, value in parts.items() if value}


def required(field: str, detail: str = "") -> Cause:
    """A value that has to be given and was not."""
    return Cause("FieldValueRequired", _with_detail("Required value", detail), field)


def invalid_value(field: str, value: object, detail: str = "") -> Cause:
    """A value that is malformed or out of range."""
    return Cause("FieldValueInvalid", _with_value("Invalid value", value, detail), field)


def invalid_type(field: str, value: object, detail: str = "") -> Cause:
    """A value of the wrong JSON type."""
    return Cause("FieldValueTypeInvalid", _with_value("Invalid value", value, detail), field)


def not_supported(field: str, value: object, supported: Iterable[str]) -> Cause:
    """A value outside an enumeration. The choices keep the given order; those of a set are sorted."""
    ordered = sorted(supported) if isinstance(supported, (set, frozenset)) else list(supported)
    detail = "supported values: " + ", ".join(map(quote, ordered)) if ordered else ""
    return Cause("FieldValueNotSupported", _with_value("Unsupported value", value, detail), field)


def not_found_value(field: str, value: object) -> Cause:
    """A value that refers to something that does not exist."""
    return Cause("FieldValueNotFound", _with_value("Not found", value, ""), field)


def duplicate(field: str, value: object) -> Cause:
    """A value that has to be unique and occurred before."""
    return Cause("FieldValueDuplicate", _with_value("Duplicate value", value, ""), field)


def forbidden_field(field: str, detail: str) -> Cause:
    """A value that may not be set or changed here."""
    return Cause("FieldValueForbidden", _with_detail("Forbidden", detail), field)


def too_long(field: str, limit: int) -> Cause:
    """A string of more than ``limit`` bytes."""
    unit = "byte" if limit == 1 else "bytes"
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} {unit}", field)


def too_many(field: str, actual: int, limit: int) -> Cause:
    """A list of more than ``limit`` items."""
    unit = "item" if limit == 1 else "items"
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {limit} {unit}", field)


def _with_detail(head: str, detail: str) -> str:
    return f"{head}: {detail}" if detail else head


def _with_value(head: str, value: object, detail: str) -> str:
    return _with_detail(f"{head}: {_shown(value)}", detail)


def _shown(value: Any) -> str:
    """A bad value as upstream prints it: strings quoted, ``null`` quoted too, numbers bare, the rest as JSON."""
    if value is None:
        return '"null"'
    if isinstance(value, str):
        return quote(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
