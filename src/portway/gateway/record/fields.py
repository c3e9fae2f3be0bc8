"""The record of one request: a plain tuple, since making it is all that a request pays for being recorded.

Every consumer unpacks all the fields by name, in this order, so that a change of the order breaks loudly.
"""

from typing import TypeAlias

from portway.gateway.authentication.identity import Identity
from portway.kube.attributes import Attributes
from portway.kube.identity import User

PROXIED = frozenset(("services", "pods", "nodes"))


class Circumstances:
    """Who asked for what, and how: the part of a record that stays while a connection repeats its requests.

    One object for all of them, on which consumers keep what they made of it.
    """

    __slots__ = (
        "agent",
        "attributes",
        "audit",
        "decision",
        "forwarded_for",
        "identity",
        "impersonated",
        "label",
        "method",
        "peer",
        "reason",
        "referer",
        "version",
    )

    def __init__(
        self,
        identity: Identity,
        impersonated: User | None,
        attributes: Attributes,
        method: str,
        peer: str,
        forwarded_for: bytes | None,
        agent: bytes | None,
        decision: str,
        reason: str,
        version: str,
        referer: bytes | None,
    ) -> None:
        """`impersonated`: as whom, if somebody else. `peer`: the client's address, without port. `forwarded_for`:
        X-Forwarded-For as the client sent it. `decision`: allow, forbid, or "" when it did not come to one; `reason`:
        the authoriser's. `version`: of HTTP, "1.1".
        """
        self.identity = identity
        self.impersonated = impersonated
        self.attributes = attributes
        self.method = method
        self.peer = peer
        self.forwarded_for = forwarded_for
        self.agent = agent
        self.decision = decision
        self.reason = reason
        self.version = version
        self.referer = referer
        self.label = _label(attributes)
        """The resource as metrics call it."""
        self.audit: str | None = None
        """What audit lines say of them; the audit log's."""


Record: TypeAlias = tuple[
    Circumstances,
    float,  # started: unix time at which the request's headers were complete
    float,  # duration: seconds from there to the stage
    str,  # audit_id: ours, so that it needs no escapes
    str,  # stage: "ResponseComplete", "ResponseStarted" or "Panic" (audit.k8s.io's)
    bytes,  # uri: the request target as it came
    int,  # status: the response's code; 101 for an upgrade
    int,  # received: bytes of the request's body
    int,  # sent: bytes of the response's body
    str,  # upstream: "ip:port", or "" when none was chosen
    str,  # message: of a Status that the door itself answered, else ""
]


def _label(attributes: Attributes) -> str:
    if attributes.subresource == "proxy" and attributes.resource in PROXIED:
        return attributes.resource
    return "api" if attributes.resource_request else "other"
