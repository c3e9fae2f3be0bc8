"""An apply that would change what others own, and its refusal in upstream's words. Pure.

Source: k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from portway.apiserver.managed.entries import UPDATE, Owner
from portway.apiserver.managed.fieldset import FieldSet, path_text, paths
from portway.kube.errors import Conflict
from portway.kube.quoting import quote


class ConflictsError(Exception):
    """Fields that an apply would change and others own: for each owner those of its fields."""

    def __init__(self, found: Mapping[Owner, FieldSet]) -> None:
        super().__init__(f"{len(found)} owners")
        self.found = found


def refusal(conflicts: ConflictsError) -> Conflict:
    """Returns the 409."""
    causes: list[dict[str, str]] = []
    lines: list[str] = []
    for owner in sorted(conflicts.found, key=lambda owner: owner.key):
        who = _named(owner)
        lines.append(f"conflicts with {who}:")
        for path in map(path_text, paths(conflicts.found[owner])):
            causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path})
            lines.append(f"- {path}")
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return Conflict(text, details={"causes": causes})


def _named(owner: Owner) -> str:
    shown = quote(owner.manager)
    if owner.subresource:
        shown += f" with subresource {quote(owner.subresource)}"
    return f"{shown} using {owner.version}" if owner.operation == UPDATE else shown
