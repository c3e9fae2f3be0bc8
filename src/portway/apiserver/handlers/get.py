"""GET of one object, or of its status (which is the object too)."""

from __future__ import annotations

from portway.apiserver import render, table
from portway.apiserver.handlers.common import offer, representation
from portway.apiserver.http import Request, Response
from portway.apiserver.negotiation import PROTOBUF, Representation
from portway.apiserver.options import revision
from portway.apiserver.routing import Route
from portway.apiserver.server import Server


async def get(server: Server, request: Request, route: Route) -> Response:
    """Answers with the object as of now, or as this server knows it, if that is no older than a resourceVersion."""
    wanted = representation(request, offer(route.kind))
    known = revision(request.params.get("resourceVersion", ""))
    await (server.cache.current() if known is None else server.cache.not_older(known))
    ctx = server.context(request.user, "get", route.namespace, route.name)
    entry = server.registry.known(route.kind, ctx)
    if wanted == Representation():
        return Response(200, entry.json(route.kind) + b"\n")
    if wanted == PROTOBUF:
        return Response(200, entry.protobuf(route.kind), wanted.content_type)
    include = table.include_of(request.params.get("includeObject", ""))
    return render.one(200, route.kind, entry.view(route.kind), wanted, include)
