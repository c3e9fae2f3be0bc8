"""PUT of an object, its status, or a namespace's finalize."""

from __future__ import annotations

from portway.apiserver.handlers.common import (
    Wanted,
    check_may_create,
    check_place,
    context,
    decoded,
    expected,
    wanted,
    written,
)
from portway.apiserver.http import Request, Response
from portway.apiserver.options import WriteOptions, write_options
from portway.apiserver.registry import copied
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube import errors
from portway.kube.errors import NotFound
from portway.kube.objects import Object


async def update(server: Server, request: Request, route: Route) -> Response:
    """Answers with the object as stored; 201 where the kind allows that a PUT creates."""
    kind = route.kind
    answer_as = wanted(request, kind)
    options = write_options(request.params, "UpdateOptions", request.header(b"user-agent"))
    ctx = context(server, request, route, options, "update")
    obj = await decoded(request, expected(kind), options, ctx)
    check_place(obj, route)

    async def replacement(_: Object) -> Object:
        if not kind.unconditional_update and not obj["metadata"].get("resourceVersion"):
            causes = [errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")]
            raise errors.invalid(kind.kind, route.name, causes, kind.group)
        new: Object = copied(obj)
        return new

    try:
        stored = await server.registry.update(kind, replacement, ctx)
    except NotFound:
        if not kind.create_on_update or route.subresource or obj["metadata"].get("resourceVersion"):
            raise
        return await _create(server, request, route, obj, options, answer_as)
    return written(200, kind, stored, answer_as, ctx)


async def _create(
    server: Server, request: Request, route: Route, obj: Object, options: WriteOptions, answer_as: Wanted
) -> Response:
    """Creates what a PUT did not find."""
    check_may_create(server, request, route)
    ctx = context(server, request, route, options, "create")
    return written(201, route.kind, await server.registry.create(route.kind, obj, ctx), answer_as, ctx)
