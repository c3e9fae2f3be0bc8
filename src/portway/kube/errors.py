"""What a client is told when something went wrong: ``metav1.Status``, as one tree of exceptions.

    StatusError
    ├── BadRequest 400                  ├── Expired, Gone 410
    ├── Unauthorized 401                ├── RequestEntityTooLarge 413
    ├── Forbidden 403                   ├── UnsupportedMediaType 415
    ├── NotFound 404                    ├── Invalid 422
    ├── MethodNotAllowed 405            ├── TooManyRequests 429
    ├── NotAcceptable 406               ├── RequestHeaderFieldsTooLarge 431
    ├── RequestTimeout 408              ├── InternalError, ServerTimeout 500
    ├── AlreadyExists 409               ├── ServiceUnavailable 503
    └── Conflict 409                    └── Timeout 504

Only the values: nothing here writes a response. The gateway and the API server turn ``status()`` into one, and the
client turns one back with ``from_status``. Upstream: ``k8s.io/apimachinery/pkg/api/errors``.
"""

# The classes are called as Kubernetes calls the reasons.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from portway.kube.causes import Cause as Cause
from portway.kube.causes import duplicate as duplicate
from portway.kube.causes import forbidden_field as forbidden_field
from portway.kube.causes import invalid_type as invalid_type
from portway.kube.causes import invalid_value as invalid_value
from portway.kube.causes import not_found_value as not_found_value
from portway.kube.causes import not_supported as not_supported
from portway.kube.causes import required as required
from portway.kube.causes import too_long as too_long
from portway.kube.causes import too_many as too_many
from portway.kube.quoting import quote

if TYPE_CHECKING:
    from portway.kube.attributes import Attributes
    from portway.kube.identity import User

STALE = "the object has been modified; please apply your changes to the latest version and try again"


class StatusError(Exception):
    """An error that becomes a ``metav1.Status``.

    ``code`` and ``reason`` come from the class unless given; an empty reason is left out of the Status.
    ``details`` None leaves ``details`` out, an empty dict writes ``{}`` (upstream does either, case by case).
    ``retry_after`` (seconds) goes into the details; whoever answers over HTTP adds the header of that name.
    ``metadata`` is the Status's own ListMeta (an expired list carries a continue token there).
    """

    code: int = 500
    reason: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason
        self.details: dict[str, Any] | None = None if details is None else dict(details)
        self.retry_after = retry_after
        self.metadata: dict[str, Any] = dict(metadata or {})

    def status(self) -> dict[str, Any]:
        """The ``metav1.Status``, its keys in upstream's order."""
        status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": dict(self.metadata)}
        status |= {"status": "Failure", "message": self.message}
        if self.reason:
            status["reason"] = self.reason
        details = self.details
        if self.retry_after is not None:
            details = {**(details or {}), "retryAfterSeconds": self.retry_after}
        if details is not None:
            status["details"] = dict(details)
        status["code"] = self.code
        return status


class BadRequest(StatusError):
    """The request makes no sense, whoever sends it."""

    code = 400
    reason = "BadRequest"


class Unauthorized(StatusError):
    """Nobody acceptable sent the request. Upstream never says why."""

    code = 401
    reason = "Unauthorized"

    def __init__(self, message: str = "Unauthorized", **more: Any) -> None:
        super().__init__(message, **more)


class Forbidden(StatusError):
    """The user may not do this; made by ``forbidden``."""

    code = 403
    reason = "Forbidden"


class NotFound(StatusError):
    """No such object (``not_found``), or no such route (``no_route``)."""

    code = 404
    reason = "NotFound"


class MethodNotAllowed(StatusError):
    """The path exists, for other methods."""

    code = 405
    reason = "MethodNotAllowed"


class NotAcceptable(StatusError):
    """None of the media types that the client accepts can be produced."""

    code = 406
    reason = "NotAcceptable"


class RequestTimeout(StatusError):
    """The client was too slow to send its request (RFC 9110 §15.5.9; upstream just closes)."""

    code = 408
    reason = "Timeout"


class AlreadyExists(StatusError):
    """Create of a name that is taken."""

    code = 409
    reason = "AlreadyExists"


class Conflict(StatusError):
    """The object is not in the state that the request presupposes."""

    code = 409
    reason = "Conflict"


class Gone(StatusError):
    """What was asked for is no longer there, for good."""

    code = 410
    reason = "Gone"


class Expired(StatusError):
    """A resource version or a continue token that is too old."""

    code = 410
    reason = "Expired"


class RequestEntityTooLarge(StatusError):
    """The request's body is over the limit."""

    code = 413
    reason = "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """The request's body is in a format that is not understood."""

    code = 415
    reason = "UnsupportedMediaType"


class Invalid(StatusError):
    """The object is well-formed and wrong; made by ``invalid``."""

    code = 422
    reason = "Invalid"


class TooManyRequests(StatusError):
    """Come back later."""

    code = 429
    reason = "TooManyRequests"


class RequestHeaderFieldsTooLarge(StatusError):
    """Too many header fields, or too large ones (RFC 6585 §5)."""

    code = 431
    reason = "RequestHeaderFieldsTooLarge"


class InternalError(StatusError):
    """The server's own fault. ``reason=""`` is what upstream's proxy answers, for instance for a dead backend."""

    code = 500
    reason = "InternalError"


class ServerTimeout(StatusError):
    """The server could not finish in time, and the request may be repeated."""

    code = 500
    reason = "ServerTimeout"


class ServiceUnavailable(StatusError):
    """What is behind the door cannot be reached now."""

    code = 503
    reason = "ServiceUnavailable"


class Timeout(StatusError):
    """The request's own time limit passed."""

    code = 504
    reason = "Timeout"


def qualified(resource: str, group: str) -> str:
    """``deployments.apps``; just the resource in the core group."""
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, name: str, group: str = "") -> NotFound:
    """404 for an object: ``services "x" not found``."""
    message = f"{qualified(resource, group)} {quote(name)} not found"
    return NotFound(message, details=_details(name, group, resource))


def already_exists(resource: str, name: str, group: str = "") -> AlreadyExists:
    """409 for a create: ``services "x" already exists``."""
    message = f"{qualified(resource, group)} {quote(name)} already exists"
    return AlreadyExists(message, details=_details(name, group, resource))


def conflict(resource: str, name: str, why: str = STALE, group: str = "") -> Conflict:
    """409 for a write; the default is upstream's sentence for a stale resource version."""
    message = f"Operation cannot be fulfilled on {qualified(resource, group)} {quote(name)}: {why}"
    return Conflict(message, details=_details(name, group, resource))


def invalid(kind: str, name: str, causes: Iterable[Cause], group: str = "") -> Invalid:
    """422 for an object: the kind (not the resource), and every cause. Repeated causes are said once."""
    listed = list(causes)
    said = list(dict.fromkeys(map(str, listed)))
    summary = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    details = _details(name, group, kind)
    if listed:
        details["causes"] = [cause.to_dict() for cause in listed]
    return Invalid(f"{qualified(kind, group)} {quote(name)} is invalid: {summary}", details=details)


def forbidden(attributes: Attributes, user: User, reason: str = "") -> Forbidden:
    """403 in upstream's words. ``reason`` is what the authoriser said, if anything."""
    # Upstream escapes what it says about the request, not the resource and name in front, nor the reason behind.
    text = _attempt(attributes, user).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if reason:
        text = f"{text}: {reason}"
    return Forbidden(f"{_subject(attributes)}: {text}", details=_forbidden_details(attributes))


def no_route(why: str = "") -> NotFound:
    """404 for a path or a resource type that is not served; `why`, when upstream would serve it."""
    return NotFound(why or "the server could not find the requested resource", details={})


def method_not_allowed() -> MethodNotAllowed:
    """405 for a method that a served path does not have."""
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def too_large_resource_version(requested: int, current: int) -> Timeout:
    """504 for a list or watch at a revision that does not exist yet."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Too large resource version: {requested}, current: {current}"
    return Timeout(message, details={"causes": [cause]}, retry_after=1)


def from_status(status: Mapping[str, Any]) -> StatusError:
    """The error that a received ``metav1.Status`` stands for; never raises, whatever the server sent."""
    code, reason = status.get("code"), status.get("reason")
    details, metadata, message = status.get("details"), status.get("metadata"), status.get("message")
    known_code = code if isinstance(code, int) else 500
    known_reason = reason if isinstance(reason, str) else ""
    details = dict(details) if isinstance(details, Mapping) else None
    retry_after = details.pop("retryAfterSeconds", None) if details else None
    return _class_of(known_code, known_reason)(
        message if isinstance(message, str) else "",
        code=known_code,
        reason=known_reason,
        details=details,
        retry_after=retry_after if isinstance(retry_after, int) else None,
        metadata=metadata if isinstance(metadata, Mapping) else None,
    )


def _class_of(code: int, reason: str) -> type[StatusError]:
    return _BY_REASON.get((code, reason)) or _BY_CODE.get(code, StatusError)


def _attempt(attributes: Attributes, user: User) -> str:
    name = quote(user.name)
    if not attributes.resource_request:
        return f"User {name} cannot {attributes.verb} path {quote(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    text = f"User {name} cannot {attributes.verb} resource {quote(resource)} in API group {quote(attributes.group)}"
    if attributes.namespace:
        return f"{text} in the namespace {quote(attributes.namespace)}"
    return f"{text} at the cluster scope"


def _subject(attributes: Attributes) -> str:
    if not attributes.resource:
        return "forbidden"
    resource = qualified(attributes.resource, attributes.group)
    return f"{resource} {quote(attributes.name)} is forbidden" if attributes.name else f"{resource} is forbidden"


def _forbidden_details(attributes: Attributes) -> dict[str, Any]:
    return _details(attributes.name, attributes.group, attributes.resource)


def _details(name: str, group: str, kind: str) -> dict[str, Any]:
    parts = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in parts.items() if value}


# The tree above, by what a Status says; the first class of a code stands for the code.
_BY_REASON = {(leaf.code, leaf.reason): leaf for leaf in StatusError.__subclasses__()}
_BY_CODE = {leaf.code: leaf for leaf in reversed(StatusError.__subclasses__())}
