"""Records of requests as a worker's recorder gets them: `record()` is one of an ordinary GET, keywords change it."""

from portway.gateway.authentication import Identity
from portway.gateway.record import Circumstances, Record
from portway.kube.attributes import Attributes, parse
from portway.kube.identity import User

READER = Identity(User("reader", "u2", ("system:authenticated",)), "token")
PROXY = parse("GET", "/api/v1/namespaces/demo/services/web:http/proxy/a")
STARTED = 1767366245.015625  # 2026-01-02T15:04:05, and exactly what a float can hold


def record(
    *,
    identity: Identity = READER,
    impersonated: User | None = None,
    attributes: Attributes = PROXY,
    method: str = "GET",
    peer: str = "10.0.0.1",
    forwarded_for: bytes | None = None,
    agent: bytes | None = b"curl/8.1",
    decision: str = "allow",
    reason: str = "why",
    referer: bytes | None = None,
    started: float = STARTED,
    duration: float = 0.25,
    audit_id: str = "id-1",
    stage: str = "ResponseComplete",
    uri: bytes = b"/a?token=secret",
    status: int = 200,
    received: int = 0,
    sent: int = 0,
    upstream: str = "10.77.0.2:9200",
    message: str = "",
) -> Record:
    """One request; see portway.gateway.record.fields."""
    who = Circumstances(
        identity, impersonated, attributes, method, peer, forwarded_for, agent, decision, reason, "1.1", referer
    )
    return who, started, duration, audit_id, stage, uri, status, received, sent, upstream, message
