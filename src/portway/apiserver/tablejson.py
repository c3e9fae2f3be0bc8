"""A Table's rows and metadata-only objects as JSON, entry by entry, of what entries keep. `render` puts them together.

Cells are made of the decoded object once; what is kept of them is their JSON, and when the object was created, for its
age. Where cells depend on the time they are made at each look.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from portway.apiserver.entries import Entry
from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Kind
from portway.apiserver.negotiation import PARTIAL
from portway.kube.objects import Object, from_rfc3339, human_duration


class Cells(NamedTuple):
    """The JSON around the cell of the age, and of when that is: Unix seconds, None when the object doesn't say."""

    before: bytes
    created: float | None
    behind: bytes


def row(kind: Kind, entry: Entry, now: float, include: str, version: str) -> bytes:
    """Returns one row of a kind's Table; `now` is Unix time in seconds."""
    shown = b"null"
    if include == "Metadata":
        shown = partial(kind, entry, version)
    elif include == "Object":
        shown = entry.json(kind)
    return b'{"cells":%b,"object":%b}' % (_cells(kind, entry, now), shown)


def partial(kind: Kind, entry: Entry, version: str) -> bytes:
    """Returns an object's PartialObjectMetadata."""
    head = b'{"kind":"%b","apiVersion":"meta.k8s.io/%b","metadata":' % (PARTIAL.encode(), version.encode())
    return b"%b%b}" % (head, entry.metadata(kind))


def _cells(kind: Kind, entry: Entry, now: float) -> bytes:
    known = entry.cells
    if known is None or kind.from_storage:
        obj = entry.peek(kind)
        known = _keepable(kind, obj)
        if known is None:
            return orjson.dumps(kind.columns.cells(obj, now))
        if not kind.from_storage:
            entry.cells = known
    age = "<unknown>" if known.created is None else human_duration(now - known.created)
    return b'%b"%b"%b' % (known.before, age.encode(), known.behind)


def _keepable(kind: Kind, obj: Object) -> Cells | None:
    """What can be kept of an object's cells; None when they depend on the time."""
    found = kind.columns.timeless(obj) if kind.columns.timeless else None
    if found is None:
        return None
    before, behind = found
    created = obj["metadata"].get(common.CREATED)
    tail = b",%b" % orjson.dumps(behind)[1:] if behind else b"]"
    return Cells(orjson.dumps(before)[:-1] + b",", from_rfc3339(created) if created else None, tail)
