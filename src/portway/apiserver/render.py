"""Entries → the bytes of an answer, in the representation that the client asked for.

A plain JSON list is put together from the JSON that each entry keeps; everything else is made in slices, so that a long
list lets other requests through. Watch events are rendered once for all watchers that want the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import yaml

from portway.apiserver import table, tablejson
from portway.apiserver.cache import Change, Entry
from portway.apiserver.http import Response
from portway.apiserver.kinds.base import Kind
from portway.apiserver.negotiation import PARTIAL_LIST, Representation
from portway.kube.errors import InternalError
from portway.kube.objects import Object

_SLICE = 250
"""Objects that are rendered before other tasks may run."""


def dump(value: Any, representation: Representation) -> bytes:
    """Returns any JSON value in the answer's format."""
    if representation.media == "yaml":
        return yaml.dump(value, Dumper=yaml.CSafeDumper, allow_unicode=True, default_flow_style=False).encode()
    try:
        if representation.pretty:
            return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise InternalError(f"Internal error occurred: the answer can't be written: {error}") from error


def answer(status: int, obj: Object, representation: Representation) -> Response:
    """Returns an answer that is one object as it is."""
    return Response(status, dump(obj, representation), representation.content_type)


def one(status: int, kind: Kind, obj: Object, representation: Representation, include: str) -> Response:
    """Returns an answer that is one object of a kind, or its Table or metadata."""
    if not representation.target:
        return answer(status, obj, representation)
    if representation.target != "Table":
        return answer(status, table.partial(obj, representation.version), representation)
    metadata = {name: obj["metadata"][name] for name in ("resourceVersion",) if name in obj["metadata"]}
    rows = [table.row(kind, obj, time.time(), include, representation.version)]
    return answer(status, table.table(representation.version, metadata, table.definitions(kind), rows), representation)


async def many(
    kind: Kind, entries: Sequence[Entry], metadata: Object, representation: Representation, include: str
) -> Response:
    """Returns an answer that is a list of a kind."""
    if representation == Representation():
        return Response(200, await _plain_list(kind, entries, metadata))
    if representation.media == "json" and representation.target and not representation.pretty:
        return Response(200, await _spliced_list(kind, entries, metadata, representation, include))
    value: Object
    if representation.target == "Table":
        rows = await _rows(kind, entries, include, representation.version)
        value = table.table(representation.version, metadata, table.definitions(kind), rows)
    elif representation.target:
        items = [table.partial(entry.view(kind), representation.version) for entry in entries]
        value = {
            "kind": PARTIAL_LIST,
            "apiVersion": f"meta.k8s.io/{representation.version}",
            "metadata": metadata,
            "items": items,
        }
    else:
        bare = [
            {name: part for name, part in entry.view(kind).items() if name not in ("kind", "apiVersion")}
            for entry in entries
        ]
        value = {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": bare}
    if representation.media == "yaml" and len(entries) > _SLICE:
        return Response(200, await asyncio.to_thread(dump, value, representation), representation.content_type)
    return answer(200, value, representation)


async def _plain_list(kind: Kind, entries: Sequence[Entry], metadata: Object) -> bytes:
    head = orjson.dumps({"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata})
    parts: list[bytes | memoryview] = [b'%b,"items":[' % head[:-1]]
    for start in range(0, len(entries), _SLICE):
        for entry in entries[start : start + _SLICE]:
            parts += entry.item(kind)
            parts.append(b",")
        await asyncio.sleep(0)
    if entries:
        parts.pop()
    parts.append(b"]}\n")
    return b"".join(parts)


async def _spliced_list(
    kind: Kind, entries: Sequence[Entry], metadata: Object, representation: Representation, include: str
) -> bytes:
    """A Table, or a list of metadata only: what repeats around JSON that is made entry by entry."""
    version = representation.version
    if representation.target == "Table":
        value = table.table(version, metadata, table.definitions(kind), [])
    else:
        value = {"kind": PARTIAL_LIST, "apiVersion": f"meta.k8s.io/{version}", "metadata": metadata, "items": []}
    items: list[bytes] = []
    now = time.time()
    for start in range(0, len(entries), _SLICE):
        batch = entries[start : start + _SLICE]
        if representation.target == "Table":
            items += [tablejson.row(kind, entry, now, include, version) for entry in batch]
        else:
            items += [tablejson.partial(kind, entry, version) for entry in batch]
        await asyncio.sleep(0)
    return b"%b%b]}\n" % (orjson.dumps(value)[:-2], b",".join(items))


async def _rows(kind: Kind, entries: Sequence[Entry], include: str, version: str) -> list[Any]:
    rows: list[Any] = []
    now = time.time()
    for start in range(0, len(entries), _SLICE):
        rows += [table.row(kind, entry.view(kind), now, include, version) for entry in entries[start : start + _SLICE]]
        await asyncio.sleep(0)
    return rows


def event(
    kind: Kind, change: Change, type_: str, representation: Representation, include: str, *, first: bool
) -> bytes:
    """Returns a change as a line of a watch. `type_` is what it is to this watcher; `first` adds a Table's columns."""
    key = (kind.group, type_, representation, include, first)
    line = change.rendered.get(key)
    if line is None:
        line = change.rendered[key] = _event(kind, change, type_, representation, include, first)
    return line


def _event(kind: Kind, change: Change, type_: str, representation: Representation, include: str, first: bool) -> bytes:
    entry = change.entry
    if type_ == "DELETED" and change.type != "DELETED" and change.previous is not None:
        # It left the selection: the state that was selected, at the revision of the change that took it out.
        entry = change.previous.at(entry.revision)
    return line(kind, type_, entry, representation, include, first=first)


def line(kind: Kind, type_: str, entry: Entry, representation: Representation, include: str, *, first: bool) -> bytes:
    """Returns one line of a watch that shows an entry."""
    if not representation.target:
        shown = entry.json(kind)
    elif representation.target == "Table":
        rows = [table.row(kind, entry.view(kind), time.time(), include, representation.version)]
        columns = table.definitions(kind) if first else []
        metadata = {"resourceVersion": str(entry.revision)}
        shown = orjson.dumps(table.table(representation.version, metadata, columns, rows))
    else:
        shown = tablejson.partial(kind, entry, representation.version)
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), shown)


def bookmark(kind: Kind, revision: int, representation: Representation, *, initial: bool) -> bytes:
    """Returns a BOOKMARK: nothing has been left out up to `revision` (`initial`: the initial events are complete)."""
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    obj: Object = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if representation.target == "Table":
        rows = [{"cells": [None] * len(kind.columns.definitions), "object": table.partial(obj, representation.version)}]
        obj = table.table(representation.version, {"resourceVersion": str(revision)}, [], rows)
    elif representation.target:
        obj = table.partial(obj, representation.version)
    return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"


def error(status: Object) -> bytes:
    """Returns an ERROR, the last line of a watch that can't go on."""
    return orjson.dumps({"type": "ERROR", "object": status}) + b"\n"
