"""Request bodies → objects of the expected kind: JSON, YAML and Kubernetes protobuf.

What comes out has every field of its declared type (`conform`), the kind's apiVersion and kind, and no unknown fields;
what was dropped is a list of problems in upstream's words, for `fieldValidation`. Defaults and rules come later
(`registry`). Source: k8s.io/apiserver/pkg/endpoints/handlers/{create,rest}.go, sigs.k8s.io/json and yaml.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from portway.apiserver import protobuf, yamlbody
from portway.apiserver.conform import MismatchError, conform
from portway.apiserver.jsonbody import MAX_PATH, MAX_PROBLEMS, limited, repeated_fields, too_deep
from portway.kube.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from portway.kube.objects import Object

_T = TypeVar("_T")

ACCEPTED = ("application/json", "application/yaml", protobuf.MEDIA_TYPE)
_IN_THREAD = 128 * 1024
"""Bodies beyond this many bytes are decoded off the loop."""
_SUMMARY = 30
_YAML = ThreadPoolExecutor(max_workers=1, thread_name_prefix="portway-yaml")


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
    """Returns the object in `body`; raises UnsupportedMediaType, RequestEntityTooLarge or BadRequest.

    `strict` also looks for problems that cost time to find (fields given twice).
    """
    media = content_type.split(";", 1)[0].strip().lower() or "application/json"
    if media == "application/yaml":
        return await one_at_a_time(_decode, body, media, expected, strict)
    if len(body) > _IN_THREAD:
        return await asyncio.to_thread(_decode, body, media, expected, strict)
    return _decode(body, media, expected, strict)


async def one_at_a_time(work: Callable[..., _T], *args: Any) -> _T:
    """Runs what reads YAML in the one thread there is for it.

    PyYAML keeps the interpreter busy: every thread more that does so is one more that the loop waits for at each turn.
    """
    return await asyncio.get_running_loop().run_in_executor(_YAML, work, *args)


def _decode(body: bytes, media: str, expected: Expected, strict: bool) -> Decoded:
    parsers: Mapping[str, Callable[[bytes], tuple[Any, list[str]]]] = {
        "application/json": _json,
        "application/yaml": _yaml,
        protobuf.MEDIA_TYPE: lambda raw: (_protobuf(raw, expected), []),
    }
    parse = parsers.get(media)
    if parse is None:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(ACCEPTED)}"
        )
    obj, problems = _parse(parse, body, expected)
    problems = (problems if strict else []) + conformed(obj, expected)
    if strict and media == "application/json":
        problems += repeated_fields(body)
    return Decoded(obj, limited(problems))


def _parse(
    parse: Callable[[bytes], tuple[Any, list[str]]], body: bytes, expected: Expected
) -> tuple[Object, list[str]]:
    """Returns the object, and the problems that came up while it was read."""
    try:
        value, problems = parse(body)
        if not isinstance(value, dict):
            raise _Unreadable(f"cannot unmarshal {_go_kind(value)} into Go value of type struct")
        if too_deep(value):
            raise _Unreadable("exceeded max depth")
    except _Unreadable as error:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {expected.kind}): "
            f"couldn't get version/kind; json parse error: {error} ({_summary(body)})"
        ) from error
    return value, problems


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
    return limited(f'unknown field "{path[:MAX_PATH]}"' for path in unknown)


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


def _yaml(body: bytes) -> tuple[Any, list[str]]:
    try:
        return yamlbody.document(body, MAX_PROBLEMS)
    except yamlbody.TooManyValues as error:
        raise RequestEntityTooLarge(str(error)) from error
    except yamlbody.YamlError as error:
        raise _Unreadable(str(error)) from error


def _json(body: bytes) -> tuple[Any, list[str]]:
    try:
        return orjson.loads(body), []
    except orjson.JSONDecodeError as error:
        raise _Unreadable(str(error) if body else "unexpected end of JSON input") from error


def _protobuf(body: bytes, expected: Expected) -> Any:
    try:
        return protobuf.decode(body, (expected.api_version, expected.kind))
    except protobuf.ProtobufError as error:
        raise BadRequest(str(error)) from error


def yaml_document(body: bytes) -> tuple[Any, list[str]]:
    """Returns what a YAML document holds, as JSON has it, and the problem of keys that it gives twice.

    Raises RequestEntityTooLarge and BadRequest.
    """
    try:
        return _yaml(body)
    except _Unreadable as error:
        raise BadRequest(f"error decoding YAML: {error}") from error


def _go_kind(value: Any) -> str:
    return {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")


def _summary(body: bytes) -> str:
    """What a refusal shows of a body, as upstream: text when it looks like JSON, else hexadecimal."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > _SUMMARY else ""
    shown = body[:_SUMMARY]
    return (shown.decode("utf-8", "replace") if shown.startswith(b"{") else shown.hex()) + more
