"""Audit events: the shape that audit.k8s.io/v1 has, whatever the client sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication import Identity
from portway.gateway.record import Record
from portway.gateway.record.audit import CACHED, AuditFormatter, source_ips
from portway.gateway.record.policy import parse_policy
from portway.kube.attributes import Attributes, parse
from portway.kube.identity import User

READER = Identity(User("reader", "u2", ("system:authenticated",)), "token")
PROXY = parse("GET", "/api/v1/namespaces/demo/services/web:http/proxy/a")
REASON = 'RBAC: allowed by RoleBinding "reader/demo" of Role "reader" to User "reader"'
STARTED = 1767366245.015625  # exactly what a float can hold


def record(
    *,
    started: float = STARTED,
    duration: float = 0.25,
    audit_id: str = "id-1",
    stage: str = "ResponseComplete",
    identity: Identity = READER,
    impersonated: User | None = None,
    attributes: Attributes = PROXY,
    uri: bytes = b"/api/v1/namespaces/demo/services/web:http/proxy/a?q=1",
    status: int = 200,
    peer: str = "10.0.0.1",
    forwarded_for: bytes | None = None,
    user_agent: bytes | None = b"curl/8.1",
    decision: str = "allow",
    reason: str = REASON,
    message: str = "",
) -> Record:
    return (
        started,
        duration,
        audit_id,
        stage,
        identity,
        impersonated,
        attributes,
        "GET",
        uri,
        status,
        0,
        12,
        peer,
        forwarded_for,
        user_agent,
        decision,
        reason,
        "10.77.0.2:9200",
        "1.1",
        None,
        message,
    )


def event(item: Record) -> dict[str, Any]:
    (line,) = AuditFormatter().lines([item])
    assert line.endswith("}\n")
    assert line.isascii()
    assert line.count("\n") == 1
    value: dict[str, Any] = json.loads(line)
    return value


def test_the_whole_event() -> None:
    found = event(record())
    assert found == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "id-1",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/demo/services/web:http/proxy/a?q=1",
        "verb": "get",
        "user": {"username": "reader", "uid": "u2", "groups": ["system:authenticated"]},
        "sourceIPs": ["10.0.0.1"],
        "userAgent": "curl/8.1",
        "objectRef": {
            "resource": "services",
            "namespace": "demo",
            "name": "web:http",
            "apiVersion": "v1",
            "subresource": "proxy",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-01-02T15:04:05.015625Z",
        "stageTimestamp": "2026-01-02T15:04:05.265625Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": REASON},
    }
    assert list(found)[:7] == ["kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb"]


def test_a_second_later_and_the_same_formatter() -> None:
    first, second = AuditFormatter().lines([record(), record(started=STARTED + 1, duration=61.5, audit_id="id-2")])
    assert json.loads(first)["requestReceivedTimestamp"] == "2026-01-02T15:04:05.015625Z"
    assert json.loads(second)["requestReceivedTimestamp"] == "2026-01-02T15:04:06.015625Z"
    assert json.loads(second)["stageTimestamp"] == "2026-01-02T15:05:07.515625Z"


def test_a_request_that_names_no_object() -> None:
    found = event(record(attributes=parse("GET", "/healthz"), decision="", reason=""))
    assert "objectRef" not in found
    assert "annotations" not in found
    assert found["verb"] == "get"


def test_a_refusal() -> None:
    found = event(record(status=403, decision="forbid", reason="", message='services "web" is forbidden: "<x>"'))
    assert found["responseStatus"] == {
        "metadata": {},
        "status": "Failure",
        "message": 'services "web" is forbidden: "<x>"',
        "reason": "Forbidden",
        "code": 403,
    }
    assert found["annotations"] == {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""}


def test_impersonation_shows_both() -> None:
    formatter = AuditFormatter()
    jane, joe = (User(name, groups=("g",), extra={"scope": ("a",)}) for name in ("jane", "joe"))
    lines = formatter.lines([record(impersonated=jane), record(impersonated=joe), record()])
    found = [json.loads(line) for line in lines]
    assert [e["user"]["username"] for e in found] == ["reader"] * 3
    assert found[0]["impersonatedUser"] == {"username": "jane", "groups": ["g"], "extra": {"scope": ["a"]}}
    assert found[1]["impersonatedUser"]["username"] == "joe"
    assert "impersonatedUser" not in found[2]


def test_secrets_in_the_uri_are_gone() -> None:
    assert "hunter2" not in AuditFormatter().lines([record(uri=b"/a?password=hunter2")])[0]


@pytest.mark.parametrize(
    ("forwarded_for", "addresses"),
    [
        (None, ["10.0.0.1"]),
        (b"1.2.3.4", ["1.2.3.4", "10.0.0.1"]),
        (b"1.2.3.4, 2001:DB8::1,10.0.0.1", ["1.2.3.4", "2001:db8::1", "10.0.0.1"]),
        (b'"evil", unknown, 1.2.3.4:80', ["10.0.0.1"]),
        (b"\xff,,", ["10.0.0.1"]),
    ],
)
def test_source_addresses(forwarded_for: bytes | None, addresses: list[str]) -> None:
    assert source_ips(forwarded_for, "10.0.0.1") == addresses


def test_a_long_user_agent_is_cut() -> None:
    assert event(record(user_agent=b"x" * 5000))["userAgent"] == "x" * 1024 + "...TRUNCATED"


@given(st.text(), st.binary(), st.binary(), st.binary(), st.text(), st.text())
def test_whatever_a_client_sends_it_is_one_line_of_json(
    audit_id: str, uri: bytes, forwarded_for: bytes, agent: bytes, name: str, message: str
) -> None:
    attributes = Attributes("get", resource="services", namespace="demo", name=name, subresource="proxy")
    found = event(
        record(
            audit_id=audit_id,
            uri=uri,
            forwarded_for=forwarded_for,
            user_agent=agent,
            attributes=attributes,
            message=message,
        )
    )
    assert found["auditID"] == audit_id
    assert found["objectRef"].get("name", "") == name


def test_caches_are_bounded() -> None:
    formatter = AuditFormatter()
    for n in range(CACHED + 10):
        attributes = Attributes("get", resource="services", name=f"s{n}")
        formatter.lines([record(attributes=attributes, peer=f"peer {n}", reason=f"reason {n}")])
    big = b"x" * 2000
    formatter.lines([record(user_agent=big, forwarded_for=big, message="x" * 2000)])
    for cache in (formatter._callers, formatter._objects, formatter._outcomes):
        assert 0 < len(cache) <= CACHED
        assert not any(big.decode() in str(value) for value in cache.values())


def test_the_policy_decides() -> None:
    policy = parse_policy(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["ResponseStarted"],
            "rules": [{"level": "None", "nonResourceURLs": ["/healthz*"]}, {"level": "RequestResponse"}],
        }
    )
    items = [
        record(attributes=parse("GET", "/healthz"), audit_id="1"),
        record(audit_id="2"),
        record(stage="ResponseStarted", audit_id="3"),
        record(stage="Panic", audit_id="4"),
    ]
    found = [json.loads(line) for line in AuditFormatter(policy).lines(items)]
    assert [(e["auditID"], e["stage"], e["level"]) for e in found] == [
        ("2", "ResponseComplete", "Metadata"),
        ("4", "Panic", "Metadata"),
    ]
