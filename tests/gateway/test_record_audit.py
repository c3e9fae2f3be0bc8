"""Audit events: the shape that audit.k8s.io/v1 has, whatever the client sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.record import Record
from portway.gateway.record.audit import CLAIMS, TARGET_LIMIT, TARGETS, AuditFormatter, Targets, source_ips
from portway.gateway.record.policy import parse_policy
from portway.kube.attributes import Attributes, parse
from portway.kube.identity import User
from portway.testing.records import STARTED, record

REASON = 'RBAC: allowed by RoleBinding "reader/demo" of Role "reader" to User "reader"'


def event(item: Record) -> dict[str, Any]:
    (line,) = AuditFormatter().lines([item])
    assert line.endswith("}\n")
    assert line.isascii()
    assert line.count("\n") == 1
    value: dict[str, Any] = json.loads(line)
    return value


def test_the_whole_event() -> None:
    found = event(record(uri=b"/api/v1/namespaces/demo/services/web:http/proxy/a?q=1", reason=REASON))
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


def test_an_address_with_a_quotation_mark_does_not_end_the_line() -> None:
    found = event(record(forwarded_for=b'::1%"]}', peer='fe80::1%"]}'))
    assert found["sourceIPs"] == ['fe80::1%"]}']
    assert found["responseStatus"]["code"] == 200


def test_targets_are_remembered_without_their_secrets_and_not_without_bound() -> None:
    targets = Targets()
    for n in range(TARGETS + 10):
        assert targets[b"/%d?token=a" % n] == f'"/{n}?token=REDACTED"'
    assert 0 < len(targets) <= TARGETS
    long = b"/" + b"x" * TARGET_LIMIT
    assert targets[long] == f'"{long.decode()}"'
    assert long not in targets


@pytest.mark.parametrize(
    ("forwarded_for", "addresses"),
    [
        (None, ["10.0.0.1"]),
        (b"1.2.3.4", ["1.2.3.4", "10.0.0.1"]),
        (b"1.2.3.4, 2001:DB8::1,10.0.0.1", ["1.2.3.4", "2001:db8::1", "10.0.0.1"]),
        (b'"evil", unknown, 1.2.3.4:80', ["10.0.0.1"]),
        (b"\xff,,", ["10.0.0.1"]),
        (b'::1%", ::2%"]}, ::3%eth0, ::4', ["::4", "10.0.0.1"]),
        (b"1.1.1.1," + b",".join([b"2.2.2.2"] * CLAIMS), ["2.2.2.2", "10.0.0.1"]),
    ],
)
def test_source_addresses(forwarded_for: bytes | None, addresses: list[str]) -> None:
    assert source_ips(forwarded_for, "10.0.0.1") == addresses


def test_a_long_user_agent_is_cut() -> None:
    assert event(record(agent=b"x" * 5000))["userAgent"] == "x" * 1024 + "...TRUNCATED"


@given(st.binary(), st.binary(), st.binary(), st.text(), st.text())
def test_whatever_a_client_sends_it_is_one_line_of_json(
    uri: bytes, forwarded_for: bytes, agent: bytes, name: str, message: str
) -> None:
    attributes = Attributes("get", resource="services", namespace="demo", name=name, subresource="proxy")
    found = event(
        record(
            uri=uri,
            forwarded_for=forwarded_for,
            agent=agent,
            attributes=attributes,
            message=message,
        )
    )
    assert found["objectRef"].get("name", "") == name


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
