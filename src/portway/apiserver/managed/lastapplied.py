"""kubectl's annotation of what it applied last on its own side, where it goes over to server-side apply. Pure.

What stands in the annotation as it stands in the object was kubectl's, and is no conflict when kubectl (under that very
name) applies it now. As long as an object has the annotation, kubectl's applies keep it up to date.
Source: lastappliedmanager.go and lastappliedupdater.go in k8s.io/apimachinery/pkg/util/managedfields/internal.
"""

from __future__ import annotations

from typing import Any

import orjson

from portway.apiserver.managed import fieldset
from portway.apiserver.managed.applying import applied
from portway.apiserver.managed.compare import compare
from portway.apiserver.managed.conflicts import ConflictsError
from portway.apiserver.managed.entries import Owners
from portway.apiserver.managed.extract import fields_of
from portway.apiserver.managed.fieldset import FieldSet
from portway.apiserver.managed.tracking import Scope, Writer
from portway.kube.objects import Object

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
_ESCAPES = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e"}


def apply(
    owners: Owners, live: Object, config: Object, scope: Scope, writer: Writer, *, force: bool
) -> tuple[Object, Owners]:
    """Applies as `applying.applied`, with what kubectl has a right to by the annotation; raises ConflictsError."""
    if writer.manager != KUBECTL:
        return applied(owners, live, config, scope, writer, force=force)
    try:
        merged, after = applied(owners, live, config, scope, writer, force=force)
    except ConflictsError as conflicts:
        allowed = _allowed(live, scope)
        left = {owner: fieldset.difference(fields, allowed) for owner, fields in conflicts.found.items()}
        if any(left.values()):
            raise ConflictsError({owner: fields for owner, fields in left.items() if fields}) from None
        merged, after = applied(owners, live, config, scope, writer, force=True)
    return _annotated(merged, config), after


def _annotation(obj: Object) -> Any:
    return (obj.get("metadata", {}).get("annotations") or {}).get(ANNOTATION)


def _allowed(live: Object, scope: Scope) -> FieldSet:
    """The fields that the annotation has as the live object has them."""
    try:
        last = orjson.loads(_annotation(live) or "")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != scope.version:
        return {}
    try:
        fields, differs = fields_of(last, scope.type), compare(last, live, scope.type)
    except (AttributeError, TypeError, RecursionError):
        return {}  # the annotation is the client's, and of any form
    for part in (differs.added, differs.modified, differs.removed):
        fields = fieldset.difference(fields, part)
    return fields


def _annotated(obj: Object, config: Object) -> Object:
    """Returns the object with the annotation brought up to date, if it has one."""
    if not _annotation(obj):
        return obj
    metadata = {**config.get("metadata", {})}
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != ANNOTATION}
    if "annotations" in metadata:
        metadata["annotations"] = annotations
    text = orjson.dumps({**config, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    for plain, escaped in _ESCAPES.items():
        text = text.replace(plain, escaped)
    kept = {**obj["metadata"], "annotations": {**obj["metadata"]["annotations"], ANNOTATION: text}}
    return {**obj, "metadata": kept}
