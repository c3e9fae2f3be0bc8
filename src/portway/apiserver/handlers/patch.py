"""PATCH of an object or its status: JSON patch, merge patch, strategic merge patch; an apply patch is `apply`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from portway.apiserver import body as bodies
from portway.apiserver.handlers.apply import MEDIA_TYPE, apply
from portway.apiserver.handlers.common import check_place, context, expected, wanted, written
from portway.apiserver.http import Request, Response
from portway.apiserver.jsonbody import limited, repeated_fields, too_deep
from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.options import WriteOptions, write_options
from portway.apiserver.patch import MalformedPatchError, PatchError, PatchTooLargeError, json_patch, merge_patch
from portway.apiserver.registry import copied
from portway.apiserver.routing import Route
from portway.apiserver.schema import merge_key
from portway.apiserver.server import Server
from portway.apiserver.strategic import strategic_merge
from portway.kube import errors
from portway.kube.errors import BadRequest, Invalid, RequestEntityTooLarge, StatusError, UnsupportedMediaType
from portway.kube.objects import Object
from portway.kube.quoting import go_value

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
ACCEPTED = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, MEDIA_TYPE)

Engine = Callable[[Object], Any]


async def patch(server: Server, request: Request, route: Route) -> Response:
    """Answers with the object as stored."""
    media = request.header(b"content-type").split(";", 1)[0].strip().lower()
    if media not in ACCEPTED:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(ACCEPTED)}"
        )
    if media == MEDIA_TYPE:
        return await apply(server, request, route)
    answer_as = wanted(request, route.kind)
    options = write_options(request.params, "PatchOptions", request.header(b"user-agent"))
    ctx = context(server, request, route, options, "update")
    raw = await request.body()
    document, problems = await asyncio.to_thread(_parsed, raw, strict=options.validation != "Ignore")
    shown = partial(go_value, document) if media == STRATEGIC_PATCH else raw.decode
    change = _Change(_engine(media, document, route.kind), route, shown, options, ctx, problems)
    stored = await server.registry.update(route.kind, change, ctx)
    return written(200, route.kind, stored, answer_as, ctx)


def _parsed(raw: bytes, *, strict: bool) -> tuple[Any, list[str]]:
    """Returns the patch, and what a strict decoder would refuse about it."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    if too_deep(document):
        raise BadRequest("error decoding patch: exceeded max depth")
    return document, repeated_fields(raw) if strict else []


def _engine(media: str, document: Any, kind: Kind) -> Engine:
    """Returns the function that applies the patch; raises BadRequest when the patch has no form for its type."""
    if media == JSON_PATCH:
        return lambda old: json_patch(old, document)
    if not isinstance(document, dict):
        raise BadRequest("error decoding patch: a JSON object is expected")
    if media == MERGE_PATCH:
        return lambda old: merge_patch(old, document)
    return lambda old: strategic_merge(old, document, lambda path: merge_key(kind.kind, path))


class _Change:
    """A patch as the registry applies it: stored object in, successor out.

    Off the loop: a small patch can have much to do with a large object.
    """

    def __init__(
        self,
        engine: Engine,
        route: Route,
        shown: Callable[[], str],
        options: WriteOptions,
        ctx: Context,
        problems: list[str],
    ) -> None:
        self._engine = engine
        self._route = route
        self._shown = shown
        self._options = options
        self._ctx = ctx
        self._problems = problems

    async def __call__(self, old: Object) -> Object:
        """Raises StatusErrors in upstream's words."""
        return await asyncio.to_thread(self._applied, old)

    def _applied(self, old: Object) -> Object:
        try:
            new = self._engine(copied(old))
        except PatchError as error:
            raise _refusal(error) from error
        if not isinstance(new, dict):
            raise BadRequest("the patched document is not an object")
        problems = limited(bodies.conformed(new, expected(self._route.kind)) + self._problems)
        check_place(new, self._route)
        if problems and self._options.validation == "Strict":
            text = bodies.refuse_strictly(problems)
            raise errors.invalid("", "", [errors.invalid_value("patch", self._shown(), text)])
        if self._options.validation == "Warn":
            self._ctx.warnings.extend(problems)
        return new


def _refusal(error: PatchError) -> StatusError:
    """Upstream's answer to a patch that can't be applied; it says nothing of why where the document is to blame."""
    if isinstance(error, MalformedPatchError):
        return BadRequest(str(error))
    if isinstance(error, PatchTooLargeError):
        return RequestEntityTooLarge(str(error))
    return Invalid("the server rejected our request due to an error in our request", details={})
