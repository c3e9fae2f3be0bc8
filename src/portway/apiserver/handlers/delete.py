"""DELETE of one object."""

from __future__ import annotations

from portway.apiserver import render
from portway.apiserver.handlers.common import representation, wanted, written
from portway.apiserver.handlers.deleteoptions import delete_options
from portway.apiserver.http import Request, Response
from portway.apiserver.kinds.base import Kind
from portway.apiserver.negotiation import Offer
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube.objects import Object


async def delete(server: Server, request: Request, route: Route) -> Response:
    """Answers with a Status, or with the object where finalizers hold it or the kind's clients expect it."""
    kind = route.kind
    answer_as = wanted(request, kind)
    options = await delete_options(request)
    ctx = server.context(request.user, "delete", route.namespace, route.name, dry_run=options.dry_run)
    obj, gone = await server.registry.delete(kind, ctx, options.preconditions, options.policy)
    if gone and not kind.returns_deleted:
        return render.answer(200, _success(kind, obj), representation(request, Offer(targets="ignored")))
    return written(200, kind, obj, answer_as, ctx)


def _success(kind: Kind, obj: Object) -> Object:
    metadata = obj["metadata"]
    details = {"name": metadata["name"], "group": kind.group, "kind": kind.plural, "uid": metadata["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {name: value for name, value in details.items() if value},
    }
