"""Access log lines: both formats, and nothing in them that ends a line early or tells a secret."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication import ConfigurationError, Identity
from portway.gateway.record import Record
from portway.gateway.record.access import formatter
from portway.kube.identity import ANONYMOUS_USER, User
from portway.testing.records import record


def line(kind: str, item: Record) -> str:
    make = formatter(kind)
    assert make is not None
    (found,) = make([item])
    assert found.endswith("\n")
    assert found.isascii()
    assert found.count("\n") == 1
    return found


def test_json() -> None:
    found = json.loads(
        line("json", record(impersonated=User("jane"), referer=b"https://x/?token=abc", received=7, sent=12))
    )
    assert found == {
        "time": "2026-01-02T15:04:05.015625Z",
        "client": "10.0.0.1",
        "user": "reader",
        "method": "GET",
        "uri": "/a?token=REDACTED",
        "protocol": "HTTP/1.1",
        "status": 200,
        "requestBytes": 7,
        "responseBytes": 12,
        "duration": 0.25,
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
    found = json.loads(line("json", record(agent=None, upstream="")))
    assert not {"referer", "userAgent", "upstream", "impersonated", "message"} & set(found)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            record(),
            (
                '10.0.0.1 - reader [02/Jan/2026:15:04:05 +0000] "GET /a?token=REDACTED HTTP/1.1" 200 0 "-" "curl/8.1" '
                "0.250000\n"
            ),
        ),
        (
            record(identity=Identity(ANONYMOUS_USER, "anonymous"), agent=None, referer=b"https://x/?password=p"),
            (
                '10.0.0.1 - - [02/Jan/2026:15:04:05 +0000] "GET /a?token=REDACTED HTTP/1.1" 200 0 '
                '"https://x/?password=REDACTED" "-" 0.250000\n'
            ),
        ),
        (
            record(agent=b'"\n\x1b[31m\\', identity=Identity(User('a b"'), "basic")),
            (
                '10.0.0.1 - a\\x20b\\" [02/Jan/2026:15:04:05 +0000] "GET /a?token=REDACTED HTTP/1.1" 200 0 "-" '
                '"\\"\\n\\u001b[31m\\\\" 0.250000\n'
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
        agent=agent,
        referer=referer,
        identity=Identity(User(user.encode("utf-8", "replace").decode()), "token"),
        message=message,
    )
    assert json.loads(line("json", item))["method"] == method
    quotation = r'"(?:[^"\\]|\\.)*"'
    assert re.fullmatch(
        rf"10\.0\.0\.1 - \S+ \[[^]]+] {quotation} 200 0 {quotation} {quotation} 0\.250000\n", line("combined", item)
    )
