"""GET of one object, or of its status (which is the object too)."""

from __future__ import annotations

from portway.apiserver import render, table
from portway.apiserver.handlers.common import representation
from portway.apiserver.http import Request, Response
from portway.apiserver.negotiation import Representation
from portway.apiserver.options import revision
from portway.apiserver.routing import Route
from portway.apiserver.server import Server


async def get(server: Server, request: Request, route: Route) -> Response:
    """Answers with the object as of now: a resourceVersion only says how old it may be, and it never is old."""
    wanted = representation(request)
    await server.cache.wait(revision(request.params.get("resourceVersion", "")) or 0)
    ctx = server.context(request.user, "get", route.namespace, route.name)
    entry = await server.registry.entry(route.kind, ctx)
    if wanted == Representation():
        return Response(200, entry.json(route.kind) + b"\n")
    include = table.include_of(request.params.get("includeObject", ""))
    return render.one(200, route.kind, entry.view(route.kind), wanted, include)
