"""What several verbs share: the wanted representation, a decoded body, the answer to a write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, islice

from portway.apiserver import body, metadata, render, table
from portway.apiserver.body import Expected
from portway.apiserver.fields import message_for
from portway.apiserver.http import Request, Response
from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.negotiation import Offer, Representation, negotiate
from portway.apiserver.options import WriteOptions
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube import errors
from portway.kube.attributes import Attributes
from portway.kube.errors import BadRequest
from portway.kube.objects import Object

_TOTAL, _EACH, _MOST = 4096, 256, 50
"""Characters of all warnings of one answer and of one of many; how many there are at most."""


def representation(request: Request, offer: Offer) -> Representation:
    """Returns how the client wants its answer; raises NotAcceptable."""
    return negotiate(request.headers(b"accept"), request.params.get("pretty"), request.header(b"user-agent"), offer)


def offer(kind: Kind, *, listing: bool = False, stream: bool = False) -> Offer:
    """Returns what answers about a kind can be made as."""
    return Offer(message_for(kind.api_version, kind.kind) is not None, listing, stream)


def expected(kind: Kind) -> Expected:
    """Returns what the body of a write to `kind` holds."""
    return Expected(kind.api_version, kind.kind)


async def decoded(request: Request, what: Expected, options: WriteOptions, ctx: Context) -> Object:
    """Returns the object in the request's body, having dealt with unknown and repeated fields as the client asks."""
    strict = options.validation != "Ignore"
    found = await body.decode(await request.body(), request.header(b"content-type"), what, strict=strict)
    if options.validation == "Strict" and found.problems:
        raise body.cannot_be_handled(what, body.refuse_strictly(found.problems))
    if options.validation == "Warn":
        ctx.warnings.extend(body.told(found.problems))
    return found.obj


def context(server: Server, request: Request, route: Route, options: WriteOptions, verb: str) -> Context:
    """Returns the context of a create or an update (patches too)."""
    name, subresource = ("", "") if verb == "create" else (route.name, route.subresource)
    return server.context(
        request.user, verb, route.namespace, name, subresource, dry_run=options.dry_run, manager=options.manager
    )


def check_may_create(server: Server, request: Request, route: Route) -> None:
    """Refuses a write that would create where the door, which saw an update, had not asked whether the caller may."""
    kind = route.kind
    attributes = Attributes("create", kind.group, kind.version, kind.plural, "", route.namespace, route.name)
    decision = server.rbac.decide(request.user, attributes)
    if not decision.allowed:
        raise errors.forbidden(attributes, request.user, decision.reason)


def check_place(obj: Object, route: Route) -> None:
    """Refuses an object that is another than the URL's."""
    given = obj.setdefault("metadata", {})
    if not given.get("name"):
        raise BadRequest("name must be provided")
    if given["name"] != route.name:
        raise BadRequest(f"the name of the object ({given['name']}) does not match the name on the URL ({route.name})")
    metadata.place(given, route.kind, route.namespace)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants to be answered to a write: settled before anything is written."""

    representation: Representation
    include: str


def wanted(request: Request, kind: Kind) -> Wanted:
    """Returns how a client wants the answer to a write; raises NotAcceptable or BadRequest."""
    include = table.include_of(request.params.get("includeObject", ""))
    return Wanted(representation(request, offer(kind)), include)


def written(status: int, kind: Kind, obj: Object, answer_as: Wanted, ctx: Context) -> Response:
    """Returns the answer to a write."""
    answer = render.one(status, kind, obj, answer_as.representation, answer_as.include)
    answer.headers += warnings(ctx.warnings)
    return answer


def warnings(texts: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Returns Warning headers for the texts, each once and no more than a client's HTTP library takes.

    Once they have more than _TOTAL characters, each is cut to _EACH and those beyond the total are left out. Source:
    k8s.io/apiserver/pkg/endpoints/filters/warning.go; the limit of their number is ours.
    """
    said = list(islice(dict.fromkeys(texts), _MOST))
    if sum(map(len, said)) > _TOTAL:
        said = [text[:_EACH] for text in said]
        written = [0, *accumulate(map(len, said))]
        said = [text for text, before in zip(said, written, strict=False) if before < _TOTAL]
    return [warning(text) for text in said]


def warning(text: str) -> tuple[bytes, bytes]:
    """Returns a Warning header (RFC 7234, section 5.5; code 299, as upstream)."""
    clean = "".join(c for c in text if c.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    return b"warning", f'299 - "{clean}"'.encode()
