"""One stored object at one revision, and one step of it: what is kept of them, and the forms that are asked for.

`cache` holds them; nothing here knows of others or of the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from portway.apiserver import protobufwriter, storedform
from portway.apiserver.kinds.base import Kind
from portway.kube.objects import Object

if TYPE_CHECKING:
    from portway.apiserver.tablejson import Cells


class Entry:
    """One stored object at one revision. It is decoded when somebody asks for it; most are only ever passed on."""

    __slots__ = ("_message", "_obj", "_stored", "cells", "key", "revision")

    def __init__(self, key: str, stored: bytes, revision: int) -> None:
        """`stored` is the object's JSON as the store has it, without a resourceVersion."""
        self.key = key
        self.revision = revision
        self._stored = stored
        self._obj: Object | None = None
        self._message: bytes | None = None
        self.cells: Cells | None = None
        """What `tablejson` keeps of the object's row in a Table."""

    @property
    def name(self) -> str:
        """The object's metadata.name."""
        return self.key.rpartition("/")[2]

    @property
    def namespace(self) -> str:
        """The object's metadata.namespace; "" for what has none."""
        return self.key[len(prefix_of(self.key)) :].rpartition("/")[0]

    @property
    def obj(self) -> Object:
        """The object. It is shared by all readers and never changed."""
        if self._obj is None:
            self._obj = self._decoded()
        return self._obj

    def _decoded(self) -> Object:
        obj: Object = orjson.loads(self._stored)
        obj["metadata"]["resourceVersion"] = str(self.revision)
        return obj

    def at(self, revision: int) -> Entry:
        """The same state, as of another revision."""
        return Entry(self.key, self._stored, revision)

    def mentions(self, text: bytes) -> bool:
        """Whether `text`, as `orjson` writes it, stands in the object's JSON."""
        return text in self._stored

    def view(self, kind: Kind) -> Object:
        """The object as `kind` shows it (another kind may share the storage)."""
        return kind.from_storage(self.obj) if kind.from_storage else self.obj

    def peek(self, kind: Kind) -> Object:
        """The same, for a look that need not be remembered: it isn't kept decoded for that."""
        obj = self._decoded() if self._obj is None else self._obj
        return kind.from_storage(obj) if kind.from_storage else obj

    def item(self, kind: Kind) -> tuple[bytes | memoryview, ...]:
        """The object's JSON as it stands in a list, without kind and apiVersion; in parts, to be joined."""
        found = None
        if not kind.from_storage:
            found = storedform.item(self._stored, kind.api_version, kind.kind, self.revision)
        return found or (_item(self.peek(kind)),)

    def json(self, kind: Kind) -> bytes:
        """The object's JSON as it stands alone."""
        found = None
        if not kind.from_storage:
            found = storedform.whole(self._stored, kind.api_version, kind.kind, self.revision)
        return found or orjson.dumps({"kind": kind.kind, "apiVersion": kind.api_version} | self.peek(kind))

    def metadata(self, kind: Kind) -> bytes:
        """The JSON of the object's metadata."""
        found = None
        if self._obj is None and not kind.from_storage:
            found = storedform.metadata(self._stored, kind.api_version, kind.kind, self.revision)
        return found or orjson.dumps(self.peek(kind)["metadata"])

    def message(self, kind: Kind) -> bytes:
        """The object's protobuf as it stands in a list: without envelope. Made once."""
        if kind.from_storage:
            return _message(kind, kind.from_storage(self.obj))
        if self._message is None:
            # What is passed on as bytes from now on need not be kept decoded too.
            self._message = _message(kind, self._decoded() if self._obj is None else self._obj)
        return self._message

    def protobuf(self, kind: Kind) -> bytes:
        """The object's protobuf as it stands alone: in its envelope."""
        return protobufwriter.envelope(kind.api_version, kind.kind, self.message(kind))


class Change:
    """One step of one object. `entry` is the new state; of a deletion the last one, at the deletion's revision.

    `rendered` keeps what was made of it for watchers, by representation, so that each is made once.
    """

    __slots__ = ("entry", "previous", "rendered", "revision", "type")

    def __init__(self, type_: str, entry: Entry, previous: Entry | None) -> None:
        self.type = type_
        self.entry = entry
        self.previous = previous
        self.revision = entry.revision
        self.rendered: dict[tuple[Any, ...], bytes] = {}


def prefix_of(key: str) -> str:
    """Returns the prefix of the kind that a key is of: "/registry/core/pods/ns/name" → "/registry/core/pods/"."""
    return "/".join(key.split("/", 4)[:4]) + "/"


def _message(kind: Kind, obj: Object) -> bytes:
    return protobufwriter.write(protobufwriter.message_name(kind.api_version, kind.kind), obj)


def _item(obj: Object) -> bytes:
    return orjson.dumps({name: value for name, value in obj.items() if name not in ("kind", "apiVersion")})
