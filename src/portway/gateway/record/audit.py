"""Audit events (audit.k8s.io/v1, level Metadata) from records: JSON lines, a batch at a time.

What repeats is made once and cached: the caller with its addresses, the object, the outcome. What is new in every
request (id, URI, times) is escaped by the C encoder. Which events are wanted is `policy`'s; who writes them `writer`'s.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from json.encoder import encode_basestring_ascii as quoted
from typing import TypeVar

from portway.gateway.authentication.identity import Identity, user_json
from portway.gateway.record.fields import Record
from portway.gateway.record.policy import AuditPolicy
from portway.gateway.record.redact import redacted
from portway.gateway.record.timestamps import Seconds
from portway.kube.identity import User

CACHED = 4096
"""Fragments of each sort that are kept; then all of that sort are forgotten."""

LONGEST = 1024
"""Longest part that a client chose (User-Agent, addresses, name) in something that is kept."""

USER_AGENT_LIMIT = 1024
"""Characters of User-Agent that are logged, as upstream."""

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""reason of the Status that the door answers with a code."""

_HEAD = '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":'

K = TypeVar("K")
V = TypeVar("V")


class AuditFormatter:
    """Turns records into lines. Keeps caches, so one per worker."""

    def __init__(self, policy: AuditPolicy | None = None) -> None:
        """Without a policy every event is wanted."""
        self._policy = policy
        self._seconds = Seconds()
        self._callers: dict[tuple[Identity, str, str, bytes | None, bytes | None], str] = {}
        self._objects: dict[tuple[str, str, str, str, str, str], str] = {}
        self._outcomes: dict[tuple[int, str, str, str], tuple[str, str]] = {}

    def lines(self, batch: Iterable[Record]) -> list[str]:
        """One line for each record that the policy wants, ASCII, each ending in a newline."""
        seconds, callers, objects, outcomes, policy = (
            self._seconds,
            self._callers,
            self._objects,
            self._outcomes,
            self._policy,
        )
        lines = []
        for (
            started, duration, audit_id, stage, identity, impersonated, attributes, _method, uri, status, _received,
            _sent, peer, forwarded_for, agent, decision, reason, _upstream, _version, _referer, message,
        ) in batch:  # fmt: skip
            if policy is not None and not policy.wants(identity, attributes, stage):
                continue
            verb = attributes.verb
            caller = callers.get((identity, verb, peer, forwarded_for, agent)) if impersonated is None else None
            if caller is None:
                caller = self._caller(identity, impersonated, verb, peer, forwarded_for, agent)
            key = (
                attributes.resource, attributes.namespace, attributes.name,
                attributes.subresource, attributes.group, attributes.version,
            )  # fmt: skip
            what = objects.get(key)
            if what is None:
                what = self._object(key)
            response, annotations = outcomes.get((status, decision, reason, message)) or self._outcome(
                status, decision, reason, message
            )
            ended = started + duration
            first, last = int(started), int(ended)
            lines.append(
                f'{_HEAD}{quoted(audit_id)},"stage":"{stage}","requestURI":{quoted(redacted(uri))}'
                f"{caller}{what}{response}"
                f',"requestReceivedTimestamp":"{seconds[first]}{int((started - first) * 1000000):06d}Z"'
                f',"stageTimestamp":"{seconds[last]}{int((ended - last) * 1000000):06d}Z"{annotations}}}\n'
            )
        return lines

    def _caller(
        self,
        identity: Identity,
        impersonated: User | None,
        verb: str,
        peer: str,
        forwarded_for: bytes | None,
        agent: bytes | None,
    ) -> str:
        text = f',"verb":{quoted(verb)},"user":{identity.audit.decode()}'
        if impersonated is not None:
            text += f',"impersonatedUser":{user_json(impersonated).decode()}'
        addresses = ",".join(f'"{address}"' for address in source_ips(forwarded_for, peer))
        text += f',"sourceIPs":[{addresses}]'
        if agent:
            text += f',"userAgent":{quoted(_shortened(agent.decode("utf-8", "backslashreplace")))}'
        if impersonated is None and len(forwarded_for or b"") + len(agent or b"") <= LONGEST:
            _keep(self._callers, (identity, verb, peer, forwarded_for, agent), text)
        return text

    def _object(self, key: tuple[str, str, str, str, str, str]) -> str:
        resource, namespace, name, subresource, group, version = key
        text = ""
        if resource:
            members = {
                "resource": resource,
                "namespace": namespace,
                "name": name,
                "apiGroup": group,
                "apiVersion": version,
                "subresource": subresource,
            }
            text = ",".join(f'"{member}":{quoted(value)}' for member, value in members.items() if value)
            text = f',"objectRef":{{{text}}}'
        if len(text) <= LONGEST:
            _keep(self._objects, key, text)
        return text

    def _outcome(self, status: int, decision: str, reason: str, message: str) -> tuple[str, str]:
        response = f',"responseStatus":{{"metadata":{{}}{_failure(status, message)},"code":{status}}}'
        annotations = ""
        if decision:
            annotations = (
                f',"annotations":{{"authorization.k8s.io/decision":{quoted(decision)}'
                f',"authorization.k8s.io/reason":{quoted(reason)}}}'
            )
        if len(reason) + len(message) <= LONGEST:
            _keep(self._outcomes, (status, decision, reason, message), (response, annotations))
        return response, annotations


def source_ips(forwarded_for: bytes | None, peer: str) -> list[str]:
    """Addresses of X-Forwarded-For that are addresses, then the peer, each once: all but the last are mere claims."""
    addresses = []
    for part in (forwarded_for or b"").decode("ascii", "replace").split(","):
        try:
            addresses.append(str(ip_address(part.strip())))
        except ValueError:
            continue
    return list(dict.fromkeys([*addresses, *([peer] if peer else [])]))


def _shortened(agent: str) -> str:
    return agent if len(agent) <= USER_AGENT_LIMIT else agent[:USER_AGENT_LIMIT] + "...TRUNCATED"


def _failure(status: int, message: str) -> str:
    if not message:
        return ""
    reason = f',"reason":"{REASONS[status]}"' if status in REASONS else ""
    return f',"status":"Failure","message":{quoted(message)}{reason}'


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    if len(cache) >= CACHED:
        cache.clear()
    cache[key] = value
