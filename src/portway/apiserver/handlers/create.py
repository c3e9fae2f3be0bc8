"""POST to a collection."""

from __future__ import annotations

from portway.apiserver.handlers.common import context, decoded, expected, wanted, written
from portway.apiserver.http import Request, Response
from portway.apiserver.options import write_options
from portway.apiserver.routing import Route
from portway.apiserver.server import Server


async def create(server: Server, request: Request, route: Route) -> Response:
    """Answers 201 with the object as stored."""
    answer_as = wanted(request, route.kind)
    options = write_options(request.params, "CreateOptions", request.header(b"user-agent"))
    ctx = context(server, request, route, options, "create")
    obj = await decoded(request, expected(route.kind), options, ctx)
    stored = await server.registry.create(route.kind, obj, ctx)
    return written(201, route.kind, stored, answer_as, ctx)
