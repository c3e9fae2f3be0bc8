"""Names: upstream's rules and sentences."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import names

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


@pytest.mark.parametrize("value", ["a", "0", "my-name", "a" * 63, "1-2"])
def test_labels(value: str) -> None:
    assert names.is_dns1123_label(value) == []


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "a.b", "a_b", "é", "a\n", " a"])
def test_what_is_no_label(value: str) -> None:
    assert names.is_dns1123_label(value) == [LABEL]


def test_length_counts_bytes_and_is_said_first() -> None:
    assert names.is_dns1123_label("a" * 64) == ["must be no more than 63 bytes"]
    assert names.is_dns1123_label("é" * 32) == ["must be no more than 63 bytes", LABEL]
    assert names.is_dns1123_subdomain("a" * 254) == ["must be no more than 253 bytes"]


@pytest.mark.parametrize(
    ("value", "fine"),
    [("a.b-c.d0", True), ("a", True), ("a..b", False), (".a", False), ("a.-b", False), ("A.b", False), ("", False)],
)
def test_subdomains(value: str, fine: bool) -> None:
    assert (names.is_dns1123_subdomain(value) == []) is fine


@pytest.mark.parametrize(("value", "fine"), [("a1", True), ("1a", False), ("a-", False)])
def test_rfc_1035_labels_start_with_a_letter(value: str, fine: bool) -> None:
    assert (names.is_dns1035_label(value) == []) is fine


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ("simple", ""),
        ("A.b_c-1", ""),
        ("example.com/Name", ""),
        ("/name", "prefix part must be non-empty"),
        ("Example.com/name", "prefix part a lowercase RFC 1123 subdomain must consist"),
        ("example.com/", "name part must be non-empty"),
        ("", "name part must be non-empty"),
        ("a/b/c", "a qualified name must consist"),
        ("-a", "name part must consist"),
        ("a" * 64, "name part must be no more than 63 bytes"),
    ],
)
def test_qualified_names(value: str, start: str) -> None:
    problems = names.is_qualified_name(value)
    assert problems[0].startswith(start) if start else problems == []


def test_label_values_may_be_empty() -> None:
    assert names.is_label_value("") == []
    assert names.is_label_value("a_B.9") == []
    assert names.is_label_value("a ")[0].startswith("a valid label must be an empty string")
    assert names.is_label_value("a" * 64) == ["must be no more than 63 bytes"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("key.name", None),
        ("..data", "must not start with '..'"),
        (".", "must not be '.'"),
        ("..", "must not be '..'"),
        ("a/b", "a valid config key must consist of"),
    ],
)
def test_config_map_keys(value: str, problem: str | None) -> None:
    problems = names.is_config_map_key(value)
    assert problems[0].startswith(problem) if problem else problems == []


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ("system:node", []),
        (".", ["may not be '.'"]),
        ("..", ["may not be '..'"]),
        ("a/b%", ["may not contain '/'", "may not contain '%'"]),
    ],
)
def test_path_segments(value: str, problems: list[str]) -> None:
    assert names.is_path_segment_name(value) == problems


@pytest.mark.parametrize(("number", "fine"), [(1, True), (65535, True), (0, False), (-1, False), (65536, False)])
def test_port_numbers(number: int, fine: bool) -> None:
    assert names.is_port_number(number) == ([] if fine else ["must be between 1 and 65535, inclusive"])


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ("http", []),
        ("h2c-1", []),
        ("80", ["must contain at least one letter (a-z)"]),
        ("a--b", ["must not contain consecutive hyphens"]),
        ("-a", ["must not begin or end with a hyphen"]),
        ("a" * 16, ["must be no more than 15 bytes"]),
        ("HTTPa", ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]),
    ],
)
def test_port_names(value: str, problems: list[str]) -> None:
    assert names.is_port_name(value) == problems


@given(st.from_regex("[a-z]([-a-z0-9]*[a-z0-9])?-?", fullmatch=True))
def test_generated_names_are_names(base: str) -> None:
    name = names.generate_name(base)
    assert names.is_dns1123_label(name) == []
    assert re.fullmatch("[bcdfghjklmnpqrstvwxz2456789]{5}", name[-5:])
    assert base.startswith(name[:-5])
    assert len(name) == min(len(base), 58) + 5


def test_generated_names_differ() -> None:
    assert len({names.generate_name("web-") for _ in range(50)}) > 45


@given(st.text())
def test_no_text_breaks_a_check(text: str) -> None:
    checks = (
        names.is_dns1123_label,
        names.is_dns1123_subdomain,
        names.is_dns1035_label,
        names.is_qualified_name,
        names.is_label_value,
        names.is_config_map_key,
        names.is_path_segment_name,
        names.is_port_name,
    )
    assert all(isinstance(problem, str) for check in checks for problem in check(text))
