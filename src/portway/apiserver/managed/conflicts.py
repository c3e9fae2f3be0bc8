"""An apply that would change what others own, and its refusal in upstream's words. Pure.

Source: k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from portway.apiserver.managed.entries import UPDATE, Owner
from portway.apiserver.managed.fieldset import FieldSet, path_text, paths
from portway.kube.errors import Conflict
from portway.kube.quoting import quote

MAX_TOLD = 100
"""Conflicts of one refusal that are told; upstream tells all."""
_MAX_PATH = 1024
"""Characters of a path that are shown: keys are the client's, and stand in every path below them."""


class ConflictsError(Exception):
    """Fields that an apply would change and others own: for each owner those of its fields."""

    def __init__(self, found: Mapping[Owner, FieldSet]) -> None:
        super().__init__(f"{len(found)} owners")
        self.found = found


def refusal(conflicts: ConflictsError) -> Conflict:
    """Returns the 409, which counts all conflicts and tells the first MAX_TOLD of them."""
    causes: list[dict[str, str]] = []
    lines: list[str] = []
    for owner in sorted(conflicts.found, key=lambda owner: owner.key):
        who = _named(owner)
        told = [path_text(path)[:_MAX_PATH] for path in islice(_paths(conflicts, owner), MAX_TOLD - len(causes))]
        causes += [{"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": it} for it in told]
        lines += [f"conflicts with {who}:", *(f"- {path}" for path in told)] if told else []
    number = sum(1 for owner in conflicts.found for _ in _paths(conflicts, owner))
    if number == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        text = f"Apply failed with {number} conflicts: " + "\n".join(lines)
    return Conflict(text, details={"causes": causes})


def _paths(conflicts: ConflictsError, owner: Owner) -> Iterator[tuple[str, ...]]:
    return paths(conflicts.found[owner])


def _named(owner: Owner) -> str:
    shown = quote(owner.manager)
    if owner.subresource:
        shown += f" with subresource {quote(owner.subresource)}"
    return f"{shown} using {owner.version}" if owner.operation == UPDATE else shown
