"""GET of a collection: selectors, pages, and lists at an earlier revision.

The latest state comes from memory. A page of a list that began earlier does too, unless the kind has changed since;
then, and for resourceVersionMatch=Exact, the store's history is read.
"""

from __future__ import annotations

import asyncio

from portway.apiserver import continuation, render, table
from portway.apiserver.continuation import INCONSISTENT, Continuation
from portway.apiserver.entries import Entry
from portway.apiserver.handlers.common import offer, representation
from portway.apiserver.handlers.selection import Selection
from portway.apiserver.http import Request, Response
from portway.apiserver.options import ListOptions, list_options
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube.errors import BadRequest, Expired, too_large_resource_version
from portway.kube.objects import Object
from portway.storage import Compacted, FutureRevision

_SLICE = 1000


async def list_objects(server: Server, request: Request, route: Route) -> Response:
    """Answers with the selected objects in key order."""
    options = list_options(request.params, watch=False)
    wanted = representation(request, offer(route.kind, listing=True))
    include = table.include_of(request.params.get("includeObject", ""))
    selection = Selection(route, options)
    entries, metadata = await select(server, selection, options)
    return await render.many(route.kind, entries, metadata, wanted, include)


async def select(server: Server, selection: Selection, options: ListOptions) -> tuple[list[Entry], Object]:
    """Returns one page of the selected entries, and the list's metadata."""
    start = _start(options)
    revision = await _revision(server, options, start)
    after = f"{selection.kind.prefix}{start.after}" if start else ""
    if revision > server.cache.revision:
        raise too_large_resource_version(revision, server.cache.revision)
    shelf = server.cache.shelf(selection.kind.prefix)
    if revision < shelf.revision:
        candidates = await _history(server, selection, revision, after, start)
    elif selection.everything and options.limit:
        # A page costs what it shows, not what comes behind it.
        page = list(shelf.scan(selection.prefix, after, options.limit))
        return page, _metadata(selection, page, shelf.count(selection.prefix, after) - len(page), revision)
    else:
        candidates = list(shelf.scan(selection.prefix, after))
    return await _page(selection, candidates, options.limit, revision)


async def _revision(server: Server, options: ListOptions, start: Continuation | None) -> int:
    """The revision to list at. Only a list that says no resourceVersion is of what is now, on whichever server."""
    known = options.resource_version
    wanted = start.revision if start is not None and start.revision != INCONSISTENT else 0
    if options.match == "Exact":
        wanted = known or 0
    if wanted:
        if wanted > server.cache.revision:
            await server.cache.current()
        return wanted
    return await (server.cache.current() if known is None else server.cache.not_older(known))


def _start(options: ListOptions) -> Continuation | None:
    if not options.continuation:
        return None
    if options.resource_version:
        raise BadRequest("specifying resource version is not allowed when using continue")
    return continuation.parse(options.continuation)


async def _history(
    server: Server, selection: Selection, revision: int, after: str, start: Continuation | None
) -> list[Entry]:
    """The entries under the selection's prefix as they were at `revision`."""
    try:
        page = await server.store.list(selection.prefix, revision=revision, after=after)
    except Compacted:
        if start is not None:
            raise continuation.expired(start.after) from None
        raise Expired("The resourceVersion for the provided list is too old.") from None
    except FutureRevision as error:
        raise too_large_resource_version(revision, error.current) from None
    return [Entry(kv.key, kv.value, kv.mod_revision) for kv in page.items]


async def _page(selection: Selection, candidates: list[Entry], limit: int, revision: int) -> tuple[list[Entry], Object]:
    """Cuts the selected ones of the candidates at the limit; other tasks run meanwhile."""
    metadata: Object = {"resourceVersion": str(revision)}
    if selection.everything:
        page = candidates[:limit] if limit else candidates
        return page, _metadata(selection, page, len(candidates) - len(page), revision)
    found: list[Entry] = []
    for start in range(0, len(candidates), _SLICE):
        found += [entry for entry in candidates[start : start + _SLICE] if selection.matches(entry)]
        if limit and len(found) > limit:
            return found[:limit], metadata | {"continue": _token(selection, found[limit - 1], revision)}
        await asyncio.sleep(0)
    return found, metadata


def _metadata(selection: Selection, page: list[Entry], remaining: int, revision: int) -> Object:
    """The metadata of a page of everything, when so many come behind it."""
    metadata: Object = {"resourceVersion": str(revision)}
    if remaining:
        metadata |= {"continue": _token(selection, page[-1], revision), "remainingItemCount": remaining}
    return metadata


def _token(selection: Selection, last: Entry, revision: int) -> str:
    return Continuation(revision, last.key.removeprefix(selection.kind.prefix)).token()
