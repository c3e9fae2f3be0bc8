"""PATCH with an apply configuration: server-side apply, which creates what is not there.

The configuration is checked against the kind's fields here; what it does to the object and its owners is
`portway.apiserver.managed`'s affair. Source: k8s.io/apiserver/pkg/endpoints/handlers/patch.go (applyPatcher).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from portway.apiserver import body as bodies
from portway.apiserver.conform import MismatchError, conform
from portway.apiserver.handlers.common import check_may_create, check_place, context, expected, wanted, written
from portway.apiserver.http import Request, Response
from portway.apiserver.jsonbody import limited
from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.managed.extract import UntypedError, check
from portway.apiserver.managed.types import Type
from portway.apiserver.options import WriteOptions, write_options
from portway.apiserver.registry import copied
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube import errors
from portway.kube.errors import AlreadyExists, BadRequest, NotFound
from portway.kube.objects import Object

MEDIA_TYPE = "application/apply-patch+yaml"
_MAX_PATH = 1024
"""Characters of a path that are shown: field names are the client's."""
_ATTEMPTS = 5
"""How often an object may come and go between the look for it and the write."""


async def apply(server: Server, request: Request, route: Route) -> Response:
    """Answers 200 with the object as stored, 201 when there was none."""
    answer_as = wanted(request, route.kind)
    options = write_options(request.params, "PatchOptions", request.header(b"user-agent"), applies=True)
    ctx = replace(context(server, request, route, options, "update"), applies=True)
    raw = await request.body()
    config = await bodies.one_at_a_time(_configuration, raw, server, route, options, ctx)

    async def change(old: Object) -> Object:
        return await asyncio.to_thread(_merged, server, route, old, config, options, ctx)

    for _ in range(_ATTEMPTS):
        try:
            stored = await server.registry.update(route.kind, change, ctx)
            return written(200, route.kind, stored, answer_as, ctx)
        except NotFound:
            if route.subresource:
                raise
        try:
            creates = replace(ctx, verb="create", name="")
            stored = await _created(server, request, route, config, options, creates)
            return written(201, route.kind, stored, answer_as, creates)
        except AlreadyExists:
            continue
    raise errors.conflict(route.kind.plural, route.name, group=route.kind.group)


async def _created(
    server: Server, request: Request, route: Route, config: Object, options: WriteOptions, ctx: Context
) -> Object:
    check_may_create(server, request, route)
    if uid := config["metadata"].get("uid"):
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise errors.conflict(route.kind.plural, route.name, why, route.kind.group)
    obj = await asyncio.to_thread(_merged, server, route, {}, config, options, ctx)
    return await server.registry.create(route.kind, obj, ctx)


def _configuration(raw: bytes, server: Server, route: Route, options: WriteOptions, ctx: Context) -> Object:
    """Returns the configuration in a body; raises BadRequest for one that the kind has no form for."""
    config, repeated = bodies.yaml_document(raw)
    if not isinstance(config, dict):
        raise BadRequest("error decoding YAML: an object is expected")
    if repeated and options.validation == "Strict":
        raise BadRequest(f"error strict decoding YAML: error converting YAML to JSON: {repeated[0]}")
    if options.validation != "Ignore":
        ctx.warnings.extend(bodies.told(repeated))
    _check_kind(config, route.kind)
    metadata = config["metadata"] = {} if config.get("metadata") is None else config["metadata"]
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    scope = server.registry.ownership.scope(route.kind, ctx)
    if scope is not None:
        _check_fields(config, route, scope.type)
    return config


def _check_kind(config: Object, kind: Kind) -> None:
    version, name = config.get("apiVersion") or "", config.get("kind") or ""
    if (version, name) != (kind.api_version, kind.kind):
        raise BadRequest(f"invalid object type: {_group_version(str(version))}, Kind={name}")


def _group_version(version: str) -> str:
    return version if "/" in version else f"/{version}"


def _check_fields(config: Object, route: Route, type_: Type) -> None:
    kind = route.kind
    problems: list[str]
    try:
        problems = [f".{path[:_MAX_PATH]}: field not declared in schema" for path in _unknown(kind, config)]
        if not problems:
            check(config, type_)
    except (MismatchError, UntypedError) as error:
        problems = [str(error)]
    if problems:
        found = limited(problems)
        text = found[0] if len(found) == 1 else "\n  ".join(["errors:", *found])
        what = f"{route.namespace}/{route.name}; {_group_version(kind.api_version)}, Kind={kind.kind}"
        raise BadRequest(f"failed to create typed patch object ({what}): {text}")


def _unknown(kind: Kind, config: Object) -> list[str]:
    """Returns the unknown fields of a configuration, which stays as it is: null and zero mean something in it."""
    return conform(kind.api_version, kind.kind, copied(config))


def _merged(server: Server, route: Route, old: Object, config: Object, options: WriteOptions, ctx: Context) -> Object:
    """Returns the successor of an object ({} for none), which is the registry's to change."""
    found = server.registry.ownership.applied(route.kind, old, config, ctx, force=options.force)
    new: Object = copied(found)
    bodies.conformed(new, expected(route.kind))
    check_place(new, route)
    return new
