"""Why a namespace is still there: the conditions of one that is being deleted. Pure.

Each says False when that is not what keeps it. Types, reasons and messages are upstream's, so that `kubectl get ns -o
yaml` reads as everywhere. Source: pkg/controller/namespace/deletion/status_condition_utils.go, as facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from portway.apiserver.kinds.base import Kind
from portway.kube.objects import Object


class _Words(NamedTuple):
    """One type: what it says when all is well, and when it isn't."""

    type: str
    fine: tuple[str, str]
    reason: str
    message: str


_DISCOVERY = ("ResourcesDiscovered", "All resources successfully discovered")
_PARSED = ("ParsedGroupVersions", "All legacy kube types successfully parsed")
_DELETED = ("ContentDeleted", "All content successfully deleted, may be waiting on finalization")
_REMOVED = ("ContentRemoved", "All content successfully removed")
_FINISHED = ("ContentHasNoFinalizers", "All content-preserving finalizers finished")


def conditions(
    left: Sequence[tuple[Kind, Object]], failures: Iterable[str], known: Iterable[Mapping[str, Any]], now: str
) -> list[dict[str, Any]]:
    """Returns the namespace's conditions: `left` is what it still holds, `failures` what could not be deleted.

    `known` are its conditions so far; one whose status stays keeps its lastTransitionTime. Kinds are not discovered
    here, so the first two are always fine.
    """
    counts = Counter(f"{kind.plural}.{kind.group}" for kind, _ in left)
    finalizers = Counter(name for _, obj in left for name in obj["metadata"].get("finalizers") or ())
    failed = sorted(failures)
    words = [
        _Words("NamespaceDeletionDiscoveryFailure", _DISCOVERY, "", ""),
        _Words("NamespaceDeletionGroupVersionParsingFailure", _PARSED, "", ""),
        _Words(
            "NamespaceDeletionContentFailure",
            _DELETED,
            "ContentDeletionFailed",
            f"Failed to delete all resource types, {len(failed)} remaining: {', '.join(failed)}" if failed else "",
        ),
        _Words(
            "NamespaceContentRemaining",
            _REMOVED,
            "SomeResourcesRemain",
            _listed(
                "Some resources are remaining", (f"{name} has {n} resource instances" for name, n in counts.items())
            ),
        ),
        _Words(
            "NamespaceFinalizersRemaining",
            _FINISHED,
            "SomeFinalizersRemain",
            _listed(
                "Some content in the namespace has finalizers remaining",
                (f"{name} in {n} resource instances" for name, n in finalizers.items()),
            ),
        ),
    ]
    before = {one.get("type"): one for one in known}
    made = [_condition(one, before.get(one.type, {}), now) for one in words]
    types = {one["type"] for one in made}
    return [*made, *(dict(one) for one in before.values() if one.get("type") not in types)]


def _listed(head: str, parts: Iterable[str]) -> str:
    text = ", ".join(sorted(parts))
    return f"{head}: {text}" if text else ""


def _condition(words: _Words, known: Mapping[str, Any], now: str) -> dict[str, Any]:
    status = "True" if words.message else "False"
    reason, message = (words.reason, words.message) if words.message else words.fine
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    return {
        "type": words.type,
        "status": status,
        "lastTransitionTime": since or now,
        "reason": reason,
        "message": message,
    }
