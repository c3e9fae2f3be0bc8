"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386). Pure: values in, new values out, inputs untouched.

Strategic merge patch is in `portway.apiserver.strategic`. Which content type asks for which, and what happens with the
result, is `portway.apiserver.handlers.patch`'s affair.

    PatchError              the base of what is wrong with a patch
    ├── MalformedPatchError    the patch itself makes no sense (400)
    ├── PatchTooLargeError     more operations or copies than a patch may have (413)
    └── PatchDoesNotApplyError the patch makes sense, but not for this document (422)
"""

from __future__ import annotations

import copy
from typing import Any

import orjson

MAX_OPERATIONS = 10_000
"""The most operations of one JSON patch, upstream's limit."""
MAX_COPIED = 3 * 1024 * 1024
"""The most bytes that the copy operations of one JSON patch may make, upstream's limit (the size of a request)."""
MAX_DEPTH = 200
"""The deepest patch or document; orjson writes none deeper than 254."""


class PatchError(Exception):
    """Something is wrong with a patch."""


class MalformedPatchError(PatchError):
    """The patch is no patch of its type."""


class PatchTooLargeError(PatchError):
    """The patch asks for more than a patch may."""


class PatchDoesNotApplyError(PatchError):
    """The document is not one that the patch can change: a missing path, a failed test."""


def merge_patch(document: Any, patch: Any, depth: int = 0) -> Any:
    """Returns `document` as `patch` changes it (RFC 7386, section 2)."""
    if depth > MAX_DEPTH:
        raise MalformedPatchError("the patch is nested too deeply")
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)  # the result is changed in place, and the patch may be applied again
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value, depth + 1)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """Returns `document` after all `operations`, in order (RFC 6902); raises before changing anything of it."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise MalformedPatchError("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise PatchTooLargeError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    try:
        return _operated(copy.deepcopy(document), operations)
    except (RecursionError, orjson.JSONEncodeError) as error:
        # Each operation is nested within bounds; many of them can still stack what they add.
        raise MalformedPatchError("the patch nests too deeply") from error


def _operated(patched: Any, operations: list[dict[str, Any]]) -> Any:
    copied = 0
    for operation in operations:
        if operation.get("op") == "copy":
            copied += len(orjson.dumps(_get(patched, _pointer(operation, "from"))))
            if copied > MAX_COPIED:
                raise PatchTooLargeError(f"the copies of a JSON patch may add {MAX_COPIED} bytes at most")
        patched = _apply(patched, operation)
    return patched


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            return _add(document, path, copy.deepcopy(_value(operation)))
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            return _add(_remove(document, path), path, copy.deepcopy(_value(operation)))
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise PatchDoesNotApplyError("a value can't be moved into itself")
            value = _get(document, source)
            return _add(_remove(document, source), path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_get(document, _pointer(operation, "from"))))
        case "test":
            if not _same(_get(document, path), _value(operation)):
                raise PatchDoesNotApplyError(f"testing value {operation['path']} failed")
            return document
        case other:
            raise MalformedPatchError(f"unexpected kind of operation: {other}")


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise MalformedPatchError(f"the operation {operation['op']} needs a value")
    return operation["value"]


def _pointer(operation: dict[str, Any], member: str) -> list[str]:
    """Returns the reference tokens of a JSON pointer (RFC 6901); "" is the whole document, no tokens."""
    text = operation.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise MalformedPatchError(f"{member} is no JSON pointer: {text!r}")
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]
    if len(tokens) > MAX_DEPTH:
        raise MalformedPatchError(f"{member} is nested too deeply")
    return tokens


def _index(token: str, length: int) -> int:
    """Returns the place that a token names in a list of `length` (RFC 6901, section 4: no sign, no leading zero)."""
    if not (token.isascii() and token.isdigit()) or (len(token) > 1 and token[0] == "0") or len(token) > 9:
        raise PatchDoesNotApplyError(f"{token!r} is no index of a list")
    if int(token) >= length:
        raise PatchDoesNotApplyError(f"unable to access invalid index: {token}")
    return int(token)


def _get(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document))]
        else:
            raise PatchDoesNotApplyError(f"the path /{'/'.join(path)} does not exist")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    else:
        raise PatchDoesNotApplyError(f"nothing can be added at /{'/'.join(path)}")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _get(document, path)
    if not path:
        return None
    parent, last = _get(document, path[:-1]), path[-1]
    del parent[_index(last, len(parent)) if isinstance(parent, list) else last]
    return document


def _same(one: Any, other: Any) -> bool:
    """Compares as JSON does: numbers by value, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
