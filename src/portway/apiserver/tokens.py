"""serviceaccounts/token: a new token for a service account, bound to a pod, secret or node if the request says so.

Signing is `portway.kube.serviceaccount`'s. Upstream extends tokens of 3607 seconds to a year behind the client's back;
here a token lives as long as was asked for.
Source: pkg/registry/core/serviceaccount/storage/token.go, pkg/apis/authentication/validation, as facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from portway.apiserver.kinds.base import Context
from portway.kube.errors import BadRequest, Cause, conflict, invalid, invalid_value, not_found
from portway.kube.objects import Object, rfc3339
from portway.kube.serviceaccount import Reference

_GROUP = "authentication.k8s.io"
_DEFAULT_SECONDS, _MIN_SECONDS, _MAX_SECONDS = 3600, 600, 1 << 32
_PLURALS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class _Bound(NamedTuple):
    """What a token will be bound to."""

    pod: Reference | None = None
    secret: Reference | None = None
    node: Reference | None = None


async def create_token(body: Object, ctx: Context) -> tuple[int, Object]:
    """Answers a TokenRequest for the service account that the URL names: (201, the request with its status)."""
    account = ctx.services.lookup.find("", "serviceaccounts", ctx.namespace, ctx.name)
    if account is None:
        raise not_found("serviceaccounts", ctx.name)
    metadata = body.get("metadata") or {}
    if metadata.get("name", ctx.name) != ctx.name:
        raise BadRequest("name in URL does not match name in TokenRequest object")
    spec = dict(body.get("spec") or {})
    spec["audiences"] = spec.get("audiences") or list(ctx.services.config.api_audiences)
    spec.setdefault("expirationSeconds", _DEFAULT_SECONDS)
    if causes := list(_causes(spec)):
        raise invalid("TokenRequest", ctx.name, causes, _GROUP)
    bound = _bound(spec.get("boundObjectRef") or {}, ctx)
    status = _sign(account, spec, bound, ctx)
    made = {"name": ctx.name, "namespace": ctx.namespace, "creationTimestamp": ctx.now}
    head = {"kind": "TokenRequest", "apiVersion": f"{_GROUP}/v1"}
    return 201, {**head, "metadata": {**metadata, **made}, "spec": spec, "status": status}


def _causes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    seconds = spec["expirationSeconds"]
    if seconds < _MIN_SECONDS:
        text = "may not specify a duration less than 10 minutes"
        yield invalid_value("spec.expirationSeconds", seconds, text)
    if seconds > _MAX_SECONDS:
        text = "may not specify a duration larger than 2^32 seconds"
        yield invalid_value("spec.expirationSeconds", seconds, text)


def _sign(account: Object, spec: Mapping[str, Any], bound: _Bound, ctx: Context) -> dict[str, Any]:
    """Returns the TokenRequest's status; a dry run gets no token."""
    signed = ctx.services.config.signer.sign(
        namespace=ctx.namespace,
        name=ctx.name,
        uid=account["metadata"]["uid"],
        audiences=spec["audiences"],
        expires_in=spec["expirationSeconds"],
        **bound._asdict(),
    )
    token = "" if ctx.dry_run else signed.token
    return {"token": token, "expirationTimestamp": rfc3339(signed.expires)}


def _bound(reference: Mapping[str, str], ctx: Context) -> _Bound:
    """Finds what the token shall be bound to; raises BadRequest, NotFound or Conflict."""
    if not reference:
        return _Bound()
    kind, name, version = (reference.get(key, "") for key in ("kind", "name", "apiVersion"))
    plural = _PLURALS.get(kind)
    if plural is None or version not in ("", "v1"):
        group, _, short = version.rpartition("/")
        raise BadRequest(f"cannot bind token to object of type {group}/{short}, Kind={kind}")
    found = ctx.services.lookup.find("", plural, "" if kind == "Node" else ctx.namespace, name)
    if found is None:
        raise not_found(plural, name)
    uid = found["metadata"]["uid"]
    if reference.get("uid", uid) != uid:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record."
            " The object might have been deleted and then recreated"
        )
        raise conflict(plural, name, why)
    if kind == "Pod":
        return _pod(found, ctx)
    return _Bound(**{kind.lower(): Reference(name, uid)})


def _pod(pod: Object, ctx: Context) -> _Bound:
    """A pod of this account, and the node it runs on."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if spec.get("serviceAccountName", "") != ctx.name:
        raise BadRequest(
            f'cannot bind token for serviceaccount "{ctx.name}" to pod running with different serviceaccount name.'
        )
    node = ctx.services.lookup.find("", "nodes", "", spec.get("nodeName", "")) if spec.get("nodeName") else None
    return _Bound(
        pod=Reference(metadata["name"], metadata["uid"]),
        node=Reference(node["metadata"]["name"], node["metadata"]["uid"]) if node else None,
    )
