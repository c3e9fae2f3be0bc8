"""Request bodies → objects of the expected kind: JSON, YAML and Kubernetes protobuf.

What comes out has every field of its declared type (`conform`), the kind's apiVersion and kind, and no unknown fields;
what was dropped is a list of problems in upstream's words, for `fieldValidation`. Defaults and rules come later
(`registry`). Source: k8s.io/apiserver/pkg/endpoints/handlers/{create,rest}.go, sigs.k8s.io/json and yaml.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from portway.apiserver import protobuf, yamlbody
from portway.apiserver.conform import MismatchError, conform
from portway.kube.errors import BadRequest, UnsupportedMediaType
from portway.kube.objects import Object

ACCEPTED = ("application/json", "application/yaml", protobuf.MEDIA_TYPE)
_IN_THREAD = 128 * 1024
"""Bodies beyond this many bytes are decoded off the loop."""
_SUMMARY = 30
MAX_PROBLEMS = 100
"""What a strict decoder says of one body at most, upstream's limit."""
_MAX_PATH = 1024
"""Characters of a path that are shown: field names are the client's, and as long as it likes."""
MAX_DEPTH = 200
"""Nesting of a body; orjson reads 1024 levels and writes 254."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a body should hold."""

    api_version: str
    kind: str
    any_version: bool = False
    """Whether the apiVersion doesn't matter (DeleteOptions are sent with any)."""


@dataclass(slots=True)
class Decoded:
    """An object, and what a strict decoder would refuse about it ('unknown field "spec.x"')."""

    obj: Object
    problems: list[str] = field(default_factory=list)


class _Unreadable(Exception):  # noqa: N818 - a carrier of text within this module
    """The body is not of its format; the text is Go's where that is feasible."""


async def decode(body: bytes, content_type: str, expected: Expected, *, strict: bool = True) -> Decoded:
    """Returns the object in `body`; raises UnsupportedMediaType or BadRequest.

    `strict` also looks for problems that cost time to find (fields given twice).
    """
    media = content_type.split(";", 1)[0].strip().lower() or "application/json"
    if len(body) > _IN_THREAD or media == "application/yaml":
        return await asyncio.to_thread(_decode, body, media, expected, strict)
    return _decode(body, media, expected, strict)


def _decode(body: bytes, media: str, expected: Expected, strict: bool) -> Decoded:
    parsers: Mapping[str, Callable[[bytes], Any]] = {
        "application/json": _json,
        "application/yaml": _yaml,
        protobuf.MEDIA_TYPE: lambda raw: _protobuf(raw, expected),
    }
    parse = parsers.get(media)
    if parse is None:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(ACCEPTED)}"
        )
    obj = _parse(parse, body, expected)
    unknown = conformed(obj, expected)
    if strict and media == "application/yaml":
        return Decoded(obj, limited(yamlbody.repeated_keys(body, MAX_PROBLEMS) + unknown))
    return Decoded(obj, limited(unknown + (repeated_fields(body) if strict and media == "application/json" else [])))


def limited(problems: Iterable[str]) -> list[str]:
    """Returns what is said of the problems: each once, and the first of many."""
    return list(islice(dict.fromkeys(problems), MAX_PROBLEMS))


def _parse(parse: Callable[[bytes], Any], body: bytes, expected: Expected) -> Object:
    try:
        value = parse(body)
        if not isinstance(value, dict):
            raise _Unreadable(f"cannot unmarshal {_go_kind(value)} into Go value of type struct")
        if too_deep(value):
            raise _Unreadable("exceeded max depth")
    except _Unreadable as error:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {expected.kind}): "
            f"couldn't get version/kind; json parse error: {error} ({_summary(body)})"
        ) from error
    return value


def conformed(obj: Object, expected: Expected) -> list[str]:
    """Checks that `obj` is of the expected kind and makes it conform, in place; returns the problems.

    A missing kind and apiVersion are filled in. Raises BadRequest.
    """
    kind, version = obj.get("kind") or expected.kind, obj.get("apiVersion") or expected.api_version
    if not isinstance(kind, str) or not isinstance(version, str):
        raise BadRequest("the object's kind and apiVersion must be strings")
    _check_kind(kind, version, expected)
    obj["kind"], obj["apiVersion"] = expected.kind, expected.api_version
    try:
        unknown = conform(expected.api_version, expected.kind, obj)
    except MismatchError as error:
        raise cannot_be_handled(expected, str(error)) from error
    return limited(f'unknown field "{path[:_MAX_PATH]}"' for path in unknown)


def _check_kind(kind: str, version: str, expected: Expected) -> None:
    if kind != expected.kind:
        group, _, short = version.rpartition("/")
        package = f"{(group or 'core').split('.')[0]}.{kind}"
        raise BadRequest(
            f'{kind} in version "{short}" cannot be handled as a {expected.kind}: '
            f"converting ({package}) to ({expected.kind}): unknown conversion"
        )
    if version != expected.api_version and not expected.any_version:
        raise BadRequest(
            f"the API version in the data ({version}) does not match the expected API version ({expected.api_version})"
        )


def cannot_be_handled(expected: Expected, why: str) -> BadRequest:
    """Upstream's refusal of an object whose kind is known and whose fields don't fit."""
    version = expected.api_version.rpartition("/")[2]
    return BadRequest(f'{expected.kind} in version "{version}" cannot be handled as a {expected.kind}: {why}')


def refuse_strictly(problems: list[str]) -> str:
    """The text of a strict decoder's refusal."""
    return f"strict decoding error: {', '.join(problems)}"


def told(problems: list[str]) -> list[str]:
    """Returns the problems as warnings: those of a YAML body one by one."""
    lines = (problem.removeprefix(yamlbody.PROBLEMS).split("\n") for problem in problems)
    return [line.strip() for found in lines for line in found]


def _yaml(body: bytes) -> Any:
    try:
        return yamlbody.document(body)
    except yamlbody.YamlError as error:
        raise _Unreadable(str(error)) from error


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Unreadable(str(error) if body else "unexpected end of JSON input") from error


def _protobuf(body: bytes, expected: Expected) -> Any:
    try:
        return protobuf.decode(body, (expected.api_version, expected.kind))
    except protobuf.ProtobufError as error:
        raise BadRequest(str(error)) from error


def yaml_document(body: bytes) -> Any:
    """Returns what a YAML document holds, as JSON has it; raises BadRequest."""
    try:
        return yamlbody.document(body)
    except yamlbody.YamlError as error:
        raise BadRequest(f"error decoding YAML: {error}") from error


def too_deep(value: Any) -> bool:
    """Says whether a document is nested deeper than MAX_DEPTH."""
    level, nested = [value] if isinstance(value, dict | list) else [], 0
    while level:
        nested += 1
        if nested > MAX_DEPTH:
            return True
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return False


class _Pairs(dict[str, Any]):
    """An object that remembers which of its fields were given more than once."""

    repeated: list[str]


def repeated_fields(body: bytes) -> list[str]:
    """Returns a problem for each field that a JSON body gives twice in one object."""
    found = False

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        found = True
        marked = _Pairs(plain)
        marked.repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        return marked

    value = json.loads(body, object_pairs_hook=remember)
    if not found:
        return []
    paths = ("".join(steps).removeprefix(".")[:_MAX_PATH] for steps in _repeated(value, ()))
    return limited(f'duplicate field "{path}"' for path in islice(paths, MAX_PROBLEMS))


def _repeated(value: Any, steps: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yields the ways to fields that were given more than once, as steps: only those that are told are joined."""
    if isinstance(value, _Pairs):
        yield from ((*steps, ".", name) for name in value.repeated)
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _repeated(inner, (*steps, ".", name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if isinstance(inner, dict | list):
                yield from _repeated(inner, (*steps, f"[{i}]"))


def _go_kind(value: Any) -> str:
    return {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")


def _summary(body: bytes) -> str:
    """What a refusal shows of a body, as upstream: text when it looks like JSON, else hexadecimal."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > _SUMMARY else ""
    shown = body[:_SUMMARY]
    return (shown.decode("utf-8", "replace") if shown.startswith(b"{") else shown.hex()) + more
