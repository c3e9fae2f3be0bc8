"""POST to what is answered and never stored: reviews and token requests."""

from __future__ import annotations

from portway.apiserver import render
from portway.apiserver.body import Expected
from portway.apiserver.fields import message_for
from portway.apiserver.handlers.common import decoded, representation, warnings
from portway.apiserver.http import Request, Response
from portway.apiserver.negotiation import Offer
from portway.apiserver.options import write_options
from portway.apiserver.routing import VirtualRoute
from portway.apiserver.server import Server


async def virtual(server: Server, request: Request, route: VirtualRoute) -> Response:
    """Answers with what the resource's handler makes of the body."""
    resource = route.resource
    api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    has_message = message_for(api_version, resource.kind) is not None
    wanted = representation(request, Offer(has_message, targets="ignored"))
    options = write_options(request.params, "CreateOptions")
    ctx = server.context(
        request.user, "create", route.namespace, route.name, resource.subresource, dry_run=options.dry_run
    )
    body = await decoded(request, Expected(api_version, resource.kind), options, ctx)
    await server.cache.recent()
    status, obj = await resource.handler(body, ctx)
    answer = render.answer(status, obj, wanted)
    answer.headers += warnings(ctx.warnings)
    return answer
