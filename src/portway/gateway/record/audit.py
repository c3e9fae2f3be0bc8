"""Audit events (audit.k8s.io/v1, level Metadata) from records: JSON lines, a batch at a time.

What repeats is made once and kept with the circumstances that requests share: the caller with its addresses, the
object, the decision. What is new in every request (id, URI, times) is escaped by the C encoder. Which events are
wanted is `policy`'s; who writes them `writer`'s.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from json.encoder import encode_basestring_ascii as quoted

from portway.gateway.authentication.identity import user_json
from portway.gateway.record.fields import Circumstances, Record
from portway.gateway.record.policy import AuditPolicy
from portway.gateway.record.redact import redacted
from portway.gateway.record.timestamps import Seconds
from portway.kube.attributes import Attributes

CLAIMS = 64
"""Addresses of X-Forwarded-For that are looked at, the last ones."""

TARGETS = 1024
TARGET_LIMIT = 512
"""How many request targets are remembered as the log has them, and how long they may be."""

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


class Targets(dict[bytes, str]):
    """Request targets as JSON, secrets redacted. Index it; it keeps short ones, and forgets now and then."""

    def __missing__(self, uri: bytes) -> str:
        text = quoted(redacted(uri))
        if len(uri) <= TARGET_LIMIT:
            if len(self) >= TARGETS:
                self.clear()
            self[uri] = text
        return text


class AuditFormatter:
    """Turns records into lines."""

    def __init__(self, policy: AuditPolicy | None = None) -> None:
        """Without a policy every event is wanted."""
        self._policy = policy
        self._seconds = Seconds()
        self._targets = Targets()

    def lines(self, batch: Iterable[Record]) -> list[str]:
        """One line for each record that the policy wants, ASCII, each ending in a newline."""
        seconds, targets, policy = self._seconds, self._targets, self._policy
        lines = []
        for who, started, duration, audit_id, stage, uri, status, _received, _sent, _upstream, message in batch:
            if policy is not None and not policy.wants(who.identity, who.attributes, stage):
                continue
            common = who.audit
            if common is None:
                common = who.audit = _common(who)
            ended = started + duration
            first, last = int(started), int(ended)
            lines.append(
                f'{_HEAD}"{audit_id}","stage":"{stage}","requestURI":{targets[uri]}{common}'
                f',"responseStatus":{{"metadata":{{}}{_failure(status, message) if message else ""},"code":{status}}}'
                # Microseconds in six digits: cheaper than a format with leading zeros.
                f',"requestReceivedTimestamp":"{seconds[first]}{str(int((started - first) * 1e6) + 1000000)[1:]}Z"'
                f',"stageTimestamp":"{seconds[last]}{str(int((ended - last) * 1e6) + 1000000)[1:]}Z"}}\n'
            )
        return lines


def _common(who: Circumstances) -> str:
    text = f',"verb":{quoted(who.attributes.verb)},"user":{who.identity.audit.decode()}'
    if who.impersonated is not None:
        text += f',"impersonatedUser":{user_json(who.impersonated).decode()}'
    addresses = ",".join(map(quoted, source_ips(who.forwarded_for, who.peer)))
    text += f',"sourceIPs":[{addresses}]'
    if who.agent:
        text += f',"userAgent":{quoted(_shortened(who.agent.decode("utf-8", "backslashreplace")))}'
    text += _object(who.attributes)
    if who.decision:
        text += (
            f',"annotations":{{"authorization.k8s.io/decision":{quoted(who.decision)}'
            f',"authorization.k8s.io/reason":{quoted(who.reason)}}}'
        )
    return text


def _object(attributes: Attributes) -> str:
    if not attributes.resource:
        return ""
    members = {
        "resource": attributes.resource,
        "namespace": attributes.namespace,
        "name": attributes.name,
        "apiGroup": attributes.group,
        "apiVersion": attributes.version,
        "subresource": attributes.subresource,
    }
    text = ",".join(f'"{member}":{quoted(value)}' for member, value in members.items() if value)
    return f',"objectRef":{{{text}}}'


def source_ips(forwarded_for: bytes | None, peer: str) -> list[str]:
    """Addresses of X-Forwarded-For that are addresses, then the peer, each once: all but the last are mere claims.

    Those with a scope are none: what stands behind the percent sign may be anything.
    """
    addresses = []
    for part in forwarded_for.decode("ascii", "replace").rsplit(",", CLAIMS)[-CLAIMS:] if forwarded_for else ():
        try:
            address = ip_address(part.strip())
        except ValueError:
            continue
        if getattr(address, "scope_id", None) is None:
            addresses.append(str(address))
    return list(dict.fromkeys([*addresses, *([peer] if peer else [])]))


def _shortened(agent: str) -> str:
    return agent if len(agent) <= USER_AGENT_LIMIT else agent[:USER_AGENT_LIMIT] + "...TRUNCATED"


def _failure(status: int, message: str) -> str:
    reason = f',"reason":"{REASONS[status]}"' if status in REASONS else ""
    return f',"status":"Failure","message":{quoted(message)}{reason}'
