"""ObjectMeta: what the server sets, what a client may change, what is valid. Pure.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go and k8s.io/apiserver/pkg/registry/rest/{create,update}.go.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from portway.apiserver import propagation
from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Kind
from portway.kube import errors, names
from portway.kube.errors import BadRequest, Cause
from portway.kube.objects import Object

_STANDARD_FINALIZERS = ("kubernetes", propagation.ORPHAN, propagation.FOREGROUND)
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of one object together, upstream's limit."""
MAX_MANAGER = 128
"""Bytes of the name of an owner of fields, and `_MAX_SUBRESOURCE` of what it wrote through; upstream's limits."""
_MAX_SUBRESOURCE = 256
_SERVER_OWNED = ("selfLink", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "uid")


def prepare_create(obj: Object, kind: Kind, namespace: str, now: str) -> None:
    """Sets what a new object gets from the server, in place; raises BadRequest for what contradicts the URL."""
    metadata: dict[str, Any] = obj.setdefault("metadata", {})
    if metadata.get("resourceVersion"):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    place(metadata, kind, namespace)
    for name in _SERVER_OWNED:
        metadata.pop(name, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now
    metadata.pop("generation", None)
    if kind.has_generation:
        metadata["generation"] = 1
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = names.generate_name(metadata["generateName"])


def place(metadata: dict[str, Any], kind: Kind, namespace: str) -> None:
    """Puts the URL's namespace into an object that names none; raises BadRequest when it names another."""
    if not kind.namespaced:
        if metadata.get("namespace"):
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        return
    if metadata.setdefault("namespace", namespace) != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


def carry_over(new: Object, old: Object) -> None:
    """Gives `new` what the server owns of `old`'s metadata, in place."""
    metadata, known = new.setdefault("metadata", {}), old["metadata"]
    for name in ("name", "namespace"):
        if name in known:
            metadata.setdefault(name, known[name])
    for name in ("creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"):
        if name in known:
            metadata[name] = known[name]
        else:
            metadata.pop(name, None)
    metadata.setdefault("uid", known["uid"])
    metadata.pop("selfLink", None)


def validate(obj: Object, name_errors: Callable[[str], list[str]]) -> list[Cause]:
    """Returns the faults of an object's metadata, in upstream's order."""
    metadata = obj["metadata"]
    return common.first(
        _name_causes(metadata, name_errors),
        label_causes(metadata.get("labels") or {}, "metadata.labels"),
        _annotation_causes(metadata.get("annotations") or {}),
        _owner_causes(metadata.get("ownerReferences") or []),
        _finalizer_causes(metadata.get("finalizers") or []),
        _managed_causes(metadata.get("managedFields") or []),
    )


def _name_causes(metadata: dict[str, Any], name_errors: Callable[[str], list[str]]) -> Iterator[Cause]:
    if metadata.get("generateName"):
        # What is valid as a prefix need not end as a name does: the suffix comes behind it.
        prefix = metadata["generateName"].rstrip("-.") or "-"
        yield from common.bad("metadata.generateName", metadata["generateName"], name_errors(prefix[:58]))
    if not metadata.get("name"):
        yield errors.required("metadata.name", "name or generateName is required")
    else:
        yield from common.bad("metadata.name", metadata["name"], name_errors(metadata["name"]))


def label_causes(labels: dict[str, str], field: str) -> Iterator[Cause]:
    """Yields the faults of a map of labels."""
    for key, value in sorted(labels.items()):
        yield from common.bad(field, key, names.is_qualified_name(key))
        yield from common.bad(field, value, names.is_label_value(value))


def _annotation_causes(annotations: dict[str, str]) -> Iterator[Cause]:
    field = "metadata.annotations"
    for key in sorted(annotations):
        yield from common.bad(field, key, names.is_qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        yield errors.too_long(field, MAX_ANNOTATIONS)


def _finalizer_causes(finalizers: list[str]) -> Iterator[Cause]:
    """Names are the standard ones or have a domain; the garbage collector can't follow two of its own at once."""
    field = "metadata.finalizers"
    for finalizer in finalizers:
        yield from common.bad(field, finalizer, names.is_qualified_name(finalizer))
    if set(finalizers) >= {propagation.ORPHAN, propagation.FOREGROUND}:
        text = f"finalizer {propagation.ORPHAN} and {propagation.FOREGROUND} cannot be both set"
        yield errors.invalid_value(field, finalizers, text)
    for where, finalizer in common.each(finalizers, field):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            yield errors.invalid_value(
                where, finalizer, "name is neither a standard finalizer name nor is it fully qualified"
            )


def _managed_causes(entries: list[dict[str, Any]]) -> Iterator[Cause]:
    """What else is wrong with an entry is not read as one (`ownership`). Refusals name owners, once for each field."""
    for where, entry in common.each(entries, "metadata.managedFields"):
        yield from manager_causes(f"{where}.manager", entry.get("manager", ""))
        if len(entry.get("subresource", "").encode()) > _MAX_SUBRESOURCE:
            yield errors.too_long(f"{where}.subresource", _MAX_SUBRESOURCE)


def manager_causes(field: str, manager: str) -> Iterator[Cause]:
    """Yields the faults of the name of an owner of fields."""
    if len(manager.encode()) > MAX_MANAGER:
        yield errors.too_long(field, MAX_MANAGER)
    elif not manager.isprintable():
        yield errors.invalid_value(field, manager, "should not contain non-printable characters")


def _owner_causes(owners: list[dict[str, Any]]) -> Iterator[Cause]:
    field = "metadata.ownerReferences"
    for where, owner in common.each(owners, field):
        for name, what in _WHAT.items():
            if not owner.get(name):
                yield errors.invalid_value(f"{where}.{name}", "", f"{what} must not be empty")
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield errors.invalid_value(field, owner, "/v1, Kind=Event is disallowed from being an owner")
    controllers = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        yield errors.invalid_value(
            field,
            owners,
            "Only one reference can have Controller set to true. Found "
            f'"true" in references for {" and ".join(controllers[:2])}',
        )


_WHAT = {"apiVersion": "version", "kind": "kind", "name": "name", "uid": "uid"}


def validate_update(new: Object, old: Object) -> list[Cause]:
    """Returns the faults of changed metadata: what is immutable, and finalizers that come too late."""
    metadata, known = new["metadata"], old["metadata"]
    causes = [
        errors.invalid_value(f"metadata.{name}", metadata.get(name, ""), "field is immutable")
        for name in ("name", "namespace", "uid")
        if metadata.get(name, "") != known.get(name, "")
    ]
    added = sorted(set(metadata.get("finalizers") or []) - set(known.get("finalizers") or []))
    if known.get("deletionTimestamp") and added:
        listed = ", ".join(f'"{name}"' for name in added)
        causes.append(
            errors.forbidden_field(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}",
            )
        )
    return causes


def tidy(obj: Object) -> None:
    """Leaves out what upstream never writes: empty maps and lists."""
    metadata = obj["metadata"]
    for name in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
        if name in metadata and not metadata[name]:
            del metadata[name]
