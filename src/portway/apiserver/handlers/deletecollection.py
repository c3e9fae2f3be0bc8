"""DELETE of a collection: whatever a list with the same selectors would show."""

from __future__ import annotations

from contextlib import suppress

from portway.apiserver import render, table
from portway.apiserver.entries import Entry
from portway.apiserver.handlers.common import offer, representation
from portway.apiserver.handlers.deleteoptions import delete_options
from portway.apiserver.handlers.list import select
from portway.apiserver.handlers.selection import Selection
from portway.apiserver.http import Request, Response
from portway.apiserver.options import list_options
from portway.apiserver.registry import Preconditions
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube.errors import Conflict, NotFound


async def delete_collection(server: Server, request: Request, route: Route) -> Response:
    """Answers with the list of what was deleted; an object that was replaced meanwhile is left alone."""
    wanted = representation(request, offer(route.kind, listing=True))
    include = table.include_of(request.params.get("includeObject", ""))
    options = await delete_options(request)
    listing = list_options(request.params, watch=False)
    entries, metadata = await select(server, Selection(route, listing), listing)
    deleted: list[Entry] = []
    for entry in entries:
        ctx = server.context(request.user, "delete", entry.namespace, entry.name, dry_run=options.dry_run)
        with suppress(NotFound, Conflict):
            conditions = Preconditions(uid=entry.obj["metadata"]["uid"])
            await server.registry.delete(route.kind, ctx, conditions, options.policy)
            deleted.append(entry)
    return await render.many(route.kind, deleted, metadata, wanted, include)
