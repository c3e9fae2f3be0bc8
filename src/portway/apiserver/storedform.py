"""The stored JSON of an object, and what can be made of it without decoding it. Pure.

`registry` writes kind, apiVersion and metadata first, and leaves the resourceVersion to the store. So answers can be
cut out of the bytes: with the resourceVersion put in, or the metadata alone. Whatever looks different (another writer's
object) gets None, and `cache` decodes it.
"""

from __future__ import annotations

import re
from functools import cache

import orjson

from portway.apiserver.fields import message_for


@cache
def head(api_version: str, kind: str) -> bytes:
    """Returns how the stored JSON of a kind begins, up to the first field of its metadata."""
    return b'{"kind":"%b","apiVersion":"%b","metadata":{' % (kind.encode(), api_version.encode())


@cache
def _behind_metadata(api_version: str, kind: str) -> re.Pattern[bytes]:
    """What follows on the metadata: no field in there has a name of the object's own fields."""
    message = message_for(api_version, kind)
    names = sorted(message.by_name) if message is not None else []
    own = "|".join(re.escape(name) for name in names if name not in ("kind", "apiVersion", "metadata"))
    return re.compile(rb'\},"(?:%b)":' % own.encode())


def item(stored: bytes, api_version: str, kind: str, revision: int) -> tuple[bytes, memoryview] | None:
    """Returns the object as it stands in a list, without kind and apiVersion, in two parts; the longer is no copy."""
    start = head(api_version, kind)
    if not stored.startswith(start):
        return None
    return b'{"metadata":{"resourceVersion":"%d",' % revision, memoryview(stored)[len(start) :]


def whole(stored: bytes, api_version: str, kind: str, revision: int) -> bytes | None:
    """Returns the object as it stands alone."""
    start = head(api_version, kind)
    if not stored.startswith(start):
        return None
    return stored.replace(start, b'%b"resourceVersion":"%d",' % (start, revision), 1)


def metadata(stored: bytes, api_version: str, kind: str, revision: int) -> bytes | None:
    """Returns the object's metadata."""
    start = head(api_version, kind)
    if not stored.startswith(start):
        return None
    found = _behind_metadata(api_version, kind).search(stored, len(start))
    fields = stored[len(start) : found.start() if found else -2]
    try:
        # An object is never the beginning of another: what can be read as one is the metadata.
        orjson.loads(b"{%b}" % fields)
    except orjson.JSONDecodeError:
        return None
    return b'{"resourceVersion":"%d",%b}' % (revision, fields)
