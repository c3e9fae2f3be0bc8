"""Entries → the bytes of an answer, in the representation that the client asked for.

A plain list is put together from the JSON or the protobuf that each entry keeps; everything else is made in slices, so
that a long list lets other requests through. Watch events are rendered once for all watchers that want the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import yaml

from portway.apiserver import protobufwriter, table, tablejson
from portway.apiserver.entries import Change, Entry
from portway.apiserver.http import Response
from portway.apiserver.kinds.base import Kind
from portway.apiserver.negotiation import PARTIAL, PARTIAL_LIST, Representation
from portway.apiserver.protobuf import ProtobufError
from portway.kube.errors import InternalError
from portway.kube.objects import Object

_PARTIAL = f"meta.v1.{PARTIAL}"
_SLICE = 250
"""Objects that are rendered before other tasks may run."""


def dump(value: Any, representation: Representation) -> bytes:
    """Returns any JSON value in the answer's format; for protobuf it must be an object of a kind that has a message."""
    if representation.media == "protobuf":
        return _protobuf(value)
    if representation.media == "yaml":
        return yaml.dump(value, Dumper=yaml.CSafeDumper, allow_unicode=True, default_flow_style=False).encode()
    try:
        if representation.pretty:
            return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise InternalError(f"Internal error occurred: the answer can't be written: {error}") from error


def _protobuf(obj: Object) -> bytes:
    try:
        return protobufwriter.encode(obj)
    except ProtobufError as error:
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
    if representation.media == "protobuf":
        return Response(200, await _protobuf_list(kind, entries, metadata, representation), representation.content_type)
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


async def _protobuf_list(
    kind: Kind, entries: Sequence[Entry], metadata: Object, representation: Representation
) -> bytes:
    items: list[bytes] = []
    for start in range(0, len(entries), _SLICE):
        batch = entries[start : start + _SLICE]
        if representation.target:
            items += [protobufwriter.write(_PARTIAL, {"metadata": entry.view(kind)["metadata"]}) for entry in batch]
        else:
            items += [entry.message(kind) for entry in batch]
        await asyncio.sleep(0)
    raw = protobufwriter.list_of(metadata, items)
    if representation.target:
        return protobufwriter.envelope(f"meta.k8s.io/{representation.version}", PARTIAL_LIST, raw)
    return protobufwriter.envelope(kind.api_version, kind.list_kind, raw)


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
    """Returns a change as a watch's event. `type_` is what it is to this watcher; `first` adds a Table's columns."""
    key = (kind.group, type_, representation, include, first)
    rendered = change.rendered.get(key)
    if rendered is None:
        rendered = change.rendered[key] = _event(kind, change, type_, representation, include, first)
    return rendered


def _event(kind: Kind, change: Change, type_: str, representation: Representation, include: str, first: bool) -> bytes:
    entry = change.entry
    if type_ == "DELETED" and change.type != "DELETED" and change.previous is not None:
        # It left the selection: the state that was selected, at the revision of the change that took it out.
        entry = change.previous.at(entry.revision)
    return shown(kind, type_, entry, representation, include, first=first)


def shown(kind: Kind, type_: str, entry: Entry, representation: Representation, include: str, *, first: bool) -> bytes:
    """Returns one event of a watch that shows an entry."""
    if representation.media == "protobuf":
        whole = not representation.target
        obj = entry.protobuf(kind) if whole else _protobuf(table.partial(entry.view(kind), representation.version))
        return protobufwriter.frame(type_, obj)
    if not representation.target:
        text = entry.json(kind)
    elif representation.target == "Table":
        rows = [table.row(kind, entry.view(kind), time.time(), include, representation.version)]
        columns = table.definitions(kind) if first else []
        metadata = {"resourceVersion": str(entry.revision)}
        text = orjson.dumps(table.table(representation.version, metadata, columns, rows))
    else:
        text = tablejson.partial(kind, entry, representation.version)
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), text)


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
    return _made("BOOKMARK", obj, representation)


def error(status: Object, representation: Representation) -> bytes:
    """Returns an ERROR, the last event of a watch that can't go on."""
    return _made("ERROR", status, representation)


def _made(type_: str, obj: Object, representation: Representation) -> bytes:
    if representation.media == "protobuf":
        return protobufwriter.frame(type_, _protobuf(obj))
    return orjson.dumps({"type": type_, "object": obj}) + b"\n"
