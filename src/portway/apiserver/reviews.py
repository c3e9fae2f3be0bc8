"""Questions to the API server: whose token is this, may they, what may I, who am I.

Each is a POST that stores nothing and answers 201 with the question and its status. `VIRTUAL` is the table that the
router reads; serviceaccounts/token is in it, its handler is in `tokens`.
Source: pkg/registry/{authentication,authorization}, pkg/apis/authorization/validation, as facts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from portway.apiserver.kinds.base import Context, VirtualResource
from portway.apiserver.tokenauth import authenticate
from portway.apiserver.tokens import create_token
from portway.kube.attributes import Attributes
from portway.kube.errors import BadRequest, Cause, invalid, invalid_value
from portway.kube.identity import User, user_info
from portway.kube.objects import Object

_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"

Answer = tuple[int, Object]


def _answer(body: Object, group: str, kind: str, status: Mapping[str, Any], **parts: Any) -> Answer:
    head = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": body.get("metadata") or {}}
    return 201, {**head, **parts, "status": dict(status)}


async def token_review(body: Object, ctx: Context) -> Answer:
    """Answers whose token `spec.token` is."""
    spec = body.get("spec") or {}
    if not spec.get("token"):
        raise BadRequest("token is required for TokenReview in authentication")
    found = authenticate(spec["token"], spec.get("audiences") or (), ctx.services)
    if found is None:
        status: dict[str, Any] = {"user": {}, "error": "invalid bearer token"}
    else:
        user, audiences = found
        status = {"authenticated": True, "user": user_info(user), "audiences": list(audiences)}
    return _answer(body, _AUTHENTICATION, "TokenReview", status, spec=spec)


async def self_subject_review(body: Object, ctx: Context) -> Answer:
    """Answers who asks."""
    metadata = {**(body.get("metadata") or {}), "creationTimestamp": ctx.now}
    status = {"userInfo": user_info(ctx.user)}
    return _answer({"metadata": metadata}, _AUTHENTICATION, "SelfSubjectReview", status)


async def early_self_subject_review(body: Object, ctx: Context) -> Answer:
    """Answers who asks, in the version before v1."""
    status, answer = await self_subject_review(body, ctx)
    return status, {**answer, "apiVersion": f"{_AUTHENTICATION}/v1beta1"}


async def subject_access_review(body: Object, ctx: Context) -> Answer:
    """Answers whether the user in the spec may."""
    return _review(body, ctx, "SubjectAccessReview", _subject_causes)


async def local_subject_access_review(body: Object, ctx: Context) -> Answer:
    """Answers whether the user in the spec may, in the namespace of the URL."""
    asked = (body.get("spec") or {}).get("resourceAttributes")
    if asked is not None and asked.get("namespace", "") != ctx.namespace:
        raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {ctx.namespace}")
    return _review(body, ctx, "LocalSubjectAccessReview", _local_causes)


async def self_subject_access_review(body: Object, ctx: Context) -> Answer:
    """Answers whether the asker may."""
    return _review(body, ctx, "SelfSubjectAccessReview", _attribute_causes, ctx.user)


Causes = Callable[[Mapping[str, Any]], Iterator[Cause]]


def _review(body: Object, ctx: Context, kind: str, causes: Causes, user: User | None = None) -> Answer:
    spec = body.get("spec") or {}
    if found := [*causes(spec), *_metadata_causes(body, ctx)]:
        raise invalid(kind, "", found, _AUTHORIZATION)
    decision = ctx.services.rbac.decide(user or _subject(spec), _attributes(spec))
    status: dict[str, Any] = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return _answer(body, _AUTHORIZATION, kind, status, spec=spec)


def _metadata_causes(body: Object, ctx: Context) -> Iterator[Cause]:
    """A question has no name; a local one has the namespace of the URL."""
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if value}
    metadata.pop("managedFields", None)
    if metadata.get("namespace") == ctx.namespace:
        del metadata["namespace"]
    if metadata:
        yield invalid_value("metadata", metadata, "must be empty")


def _attribute_causes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        text = "cannot be specified in combination with resourceAttributes"
        yield invalid_value("spec.nonResourceAttributes", other, text)
    if resource is None and other is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        yield invalid_value("spec.resourceAttributes", None, text)


def _subject_causes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _attribute_causes(spec)
    if not spec.get("user") and not spec.get("groups"):
        yield invalid_value("spec.user", "", "at least one of user or group must be specified")


def _local_causes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _subject_causes(spec)
    if "nonResourceAttributes" in spec:
        text = "disallowed on this kind of request"
        yield invalid_value("spec.nonResourceAttributes", spec["nonResourceAttributes"], text)


def _subject(spec: Mapping[str, Any]) -> User:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _attributes(spec: Mapping[str, Any]) -> Attributes:
    asked = spec.get("resourceAttributes")
    if asked is None:
        other = spec["nonResourceAttributes"]
        return Attributes(other.get("verb", ""), path=other.get("path", ""), resource_request=False)
    names = ("group", "version", "resource", "subresource", "namespace", "name")
    return Attributes(asked.get("verb", ""), **{name: asked.get(name, "") for name in names})


async def self_subject_rules_review(body: Object, ctx: Context) -> Answer:
    """Answers all that the asker may in a namespace."""
    namespace = (body.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request")
    resource_rules, other_rules = ctx.services.rbac.rules(ctx.user, namespace)
    status = {
        "resourceRules": [rule.to_object() for rule in resource_rules],
        "nonResourceRules": [rule.to_object() for rule in other_rules],
        "incomplete": False,
    }
    missing = ctx.services.rbac.missing_roles(ctx.user, namespace)
    if missing:
        status["evaluationError"] = ", ".join(missing)
    return _answer(body, _AUTHORIZATION, "SelfSubjectRulesReview", status, spec={})


Handler = Callable[[Object, Context], Awaitable[Answer]]


def _resource(
    group: str, kind: str, handler: Handler, *, namespaced: bool = False, version: str = "v1"
) -> VirtualResource:
    singular = kind.lower()
    return VirtualResource(group, version, kind, f"{singular}s", singular, namespaced, handler)


_REVIEWS = (
    _resource(_AUTHENTICATION, "TokenReview", token_review),
    _resource(_AUTHENTICATION, "SelfSubjectReview", self_subject_review),
    # kubectl 1.27 asks `auth whoami` in this version only.
    _resource(_AUTHENTICATION, "SelfSubjectReview", early_self_subject_review, version="v1beta1"),
    _resource(_AUTHORIZATION, "SubjectAccessReview", subject_access_review),
    _resource(_AUTHORIZATION, "LocalSubjectAccessReview", local_subject_access_review, namespaced=True),
    _resource(_AUTHORIZATION, "SelfSubjectAccessReview", self_subject_access_review),
    _resource(_AUTHORIZATION, "SelfSubjectRulesReview", self_subject_rules_review),
)

_TOKEN = VirtualResource(
    _AUTHENTICATION, "v1", "TokenRequest", "serviceaccounts", "", True, create_token, subresource="token"
)

VIRTUAL: Mapping[tuple[str, str, str, str], VirtualResource] = {
    **{(review.group, review.version, review.plural, ""): review for review in _REVIEWS},
    ("", "v1", "serviceaccounts", "token"): _TOKEN,
}
"""(group, version, plural, subresource) of the URL → what answers it."""
