"""What a delete does with the dependents of an object: the finalizers by which the garbage collector is told. Pure.

`orphan` and `foregroundDeletion` are put on, or taken off, by the options of the delete; the object then stays until
the garbage collector (`portway.controllers.garbage`) has done its part and removed them. Background deletion needs no
finalizer: the object goes, and what names it as owner follows.
Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go (deletionFinalizersForGarbageCollection), as facts.
"""

from __future__ import annotations

from portway.apiserver.kinds.base import Kind
from portway.kube.objects import Object

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
POLICIES = ("Foreground", "Background", "Orphan")


def finalizers(kind: Kind, obj: Object, policy: str) -> list[str]:
    """Returns the finalizers of an object that is being deleted under `policy`, one of POLICIES, or "" for none given.

    Without a policy, a finalizer that the object has already says which; with none, it is Background.
    """
    held: list[str] = list(obj["metadata"].get("finalizers") or ())
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(policy) if kind.has_dependents else None
    if not policy and kind.has_dependents:
        return held
    rest = [name for name in held if name == wanted or name not in (ORPHAN, FOREGROUND)]
    return [*rest, wanted] if wanted and wanted not in rest else rest
