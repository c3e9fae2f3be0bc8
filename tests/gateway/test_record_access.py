"""Access log lines: both formats, and nothing in them that ends a line early or tells a secret."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication import ConfigurationError, Identity
from portway.gateway.record import Record
from portway.gateway.record.access import formatter
from portway.kube.attributes import parse
from portway.kube.identity import ANONYMOUS_USER, User

READER = Identity(User("reader", "u2", ("system:authenticated",)), "token")
PROXY = parse("GET", "/api/v1/namespaces/demo/services/web:http/proxy/a")


def record(
    *,
    stage: str = "ResponseComplete",
    identity: Identity = READER,
    impersonated: User | None = None,
    method: str = "GET",
    uri: bytes = b"/a?q=1",
    user_agent: bytes | None = b"curl/8.1",
    referer: bytes | None = None,
    upstream: str = "10.77.0.2:9200",
    message: str = "",
) -> Record:
    return (
        1767366245.25,
        0.5,
        "id-1",
        stage,
        identity,
        impersonated,
        PROXY,
        method,
        uri,
        200,
        7,
        12,
        "10.0.0.1",
        b"1.2.3.4",
        user_agent,
        "allow",
        "why",
        upstream,
        "1.1",
        referer,
        message,
    )


def line(kind: str, item: Record) -> str:
    make = formatter(kind)
    assert make is not None
    (found,) = make([item])
    assert found.endswith("\n")
    assert found.isascii()
    assert found.count("\n") == 1
    return found


def test_json() -> None:
    found = json.loads(line("json", record(impersonated=User("jane"), referer=b"https://x/?token=abc")))
    assert found == {
        "time": "2026-01-02T15:04:05.250000Z",
        "client": "10.0.0.1",
        "user": "reader",
        "method": "GET",
        "uri": "/a?q=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "requestBytes": 7,
        "responseBytes": 12,
        "duration": 0.5,
        "auditID": "id-1",
        "impersonated": "jane",
        "namespace": "demo",
        "resource": "services",
        "name": "web:http",
        "upstream": "10.77.0.2:9200",
        "userAgent": "curl/8.1",
        "referer": "https://x/?token=REDACTED",
    }


def test_json_leaves_out_what_there_is_not() -> None:
    found = json.loads(line("json", record(user_agent=None, upstream="")))
    assert not {"referer", "userAgent", "upstream", "impersonated", "message"} & set(found)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            record(),
            '10.0.0.1 - reader [02/Jan/2026:15:04:05 +0000] "GET /a?q=1 HTTP/1.1" 200 12 "-" "curl/8.1" 0.500000\n',
        ),
        (
            record(identity=Identity(ANONYMOUS_USER, "anonymous"), user_agent=None, referer=b"https://x/?password=p"),
            (
                '10.0.0.1 - - [02/Jan/2026:15:04:05 +0000] "GET /a?q=1 HTTP/1.1" 200 12 '
                '"https://x/?password=REDACTED" "-" 0.500000\n'
            ),
        ),
        (
            record(user_agent=b'"\n\x1b[31m\\', identity=Identity(User('a b"'), "basic")),
            (
                '10.0.0.1 - a\\x20b\\" [02/Jan/2026:15:04:05 +0000] "GET /a?q=1 HTTP/1.1" 200 12 "-" '
                '"\\"\\n\\u001b[31m\\\\" 0.500000\n'
            ),
        ),
    ],
)
def test_combined(item: Record, expected: str) -> None:
    assert line("combined", item) == expected


@pytest.mark.parametrize("kind", ["json", "combined"])
def test_an_upgrade_is_logged_once(kind: str) -> None:
    make = formatter(kind)
    assert make is not None
    assert len(make([record(stage="ResponseStarted"), record(stage="ResponseComplete"), record(stage="Panic")])) == 2


def test_off_and_a_word_that_is_no_format() -> None:
    assert formatter("off") is None
    with pytest.raises(ConfigurationError, match="must be off, json or combined"):
        formatter("xml")


@given(st.text(), st.binary(), st.binary(), st.binary(), st.text(), st.text())
def test_whatever_a_client_sends_it_stays_one_line(
    method: str, uri: bytes, agent: bytes, referer: bytes, user: str, message: str
) -> None:
    item = record(
        method=method,
        uri=uri,
        user_agent=agent,
        referer=referer,
        identity=Identity(User(user.encode("utf-8", "replace").decode()), "token"),
        message=message,
    )
    assert json.loads(line("json", item))["method"] == method
    quotation = r'"(?:[^"\\]|\\.)*"'
    assert re.fullmatch(
        rf"10\.0\.0\.1 - \S+ \[[^]]+] {quotation} 200 12 {quotation} {quotation} 0\.500000\n", line("combined", item)
    )
