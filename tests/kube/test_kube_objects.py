"""Objects, times, ages and quantities."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import objects
from portway.kube.objects import QuantityError, format_quantity, human_duration, parse_quantity
from portway.kube.quantity import parse_int64

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-0",
        "namespace": "demo",
        "uid": "u-1",
        "resourceVersion": "7",
        "labels": {"app": "web"},
        "annotations": {"a": "b"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"name": "x"}, {"name": "rs", "controller": True}],
    },
}


def test_the_questions_everybody_asks() -> None:
    assert (objects.name(POD), objects.namespace(POD), objects.uid(POD)) == ("web-0", "demo", "u-1")
    assert (objects.key(POD), objects.resource_version(POD)) == (("demo", "web-0"), "7")
    assert (objects.labels(POD), objects.annotations(POD)) == ({"app": "web"}, {"a": "b"})
    assert objects.deleting(POD)
    assert objects.controller_of(POD) == {"name": "rs", "controller": True}


@pytest.mark.parametrize("empty", [{}, {"metadata": None}, {"metadata": {"labels": None, "name": None}}])
def test_what_is_missing_reads_as_empty(empty: objects.Object) -> None:
    assert (objects.name(empty), objects.namespace(empty), objects.uid(empty)) == ("", "", "")
    assert (objects.labels(empty), objects.annotations(empty), objects.owner_references(empty)) == ({}, {}, [])
    assert objects.controller_of(empty) is None
    assert not objects.deleting(empty)


def test_owner_references() -> None:
    plain = {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "u-1"}
    assert objects.owner_reference(POD, controller=False) == plain
    assert objects.owner_reference(POD) == {**plain, "controller": True, "blockOwnerDeletion": True}


def test_times_are_written_and_read() -> None:
    assert objects.rfc3339(0) == "1970-01-01T00:00:00Z"
    assert objects.micro_time(1.5) == "1970-01-01T00:00:01.500000Z"
    assert objects.from_rfc3339("1970-01-01T01:00:01.25+01:00") == 1.25
    assert abs(objects.from_rfc3339(objects.now_micro()) - objects.from_rfc3339(objects.now_rfc3339())) < 5
    with pytest.raises(ValueError, match="time zone"):
        objects.from_rfc3339("1970-01-01T00:00:00")


@given(st.integers(0, 4_000_000_000))
def test_times_survive_being_written(seconds: int) -> None:
    assert objects.from_rfc3339(objects.rfc3339(seconds)) == seconds


MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (1.9, "1s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (3 * MINUTE + 20, "3m20s"),
        (10 * MINUTE, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (5 * HOUR + 30 * MINUTE + 59, "5h30m"),
        (8 * HOUR, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 4 * HOUR, "2d4h"),
        (8 * DAY + 4 * HOUR, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (3 * YEAR + 20 * DAY, "3y20d"),
        (8 * YEAR + 20 * DAY, "8y"),
    ],
)
def test_ages_read_as_in_kubectl(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "value", "canonical"),
    [
        ("0", "0", "0"),
        ("100m", "0.1", "100m"),
        ("0.1", "0.1", "100m"),
        ("1", "1", "1"),
        ("+1.50", "1.5", "1500m"),
        ("-3", "-3", "-3"),
        ("1000", "1000", "1k"),
        ("1024Ki", "1048576", "1Mi"),
        ("1.5Gi", "1610612736", "1536Mi"),
        ("512", "512", "512"),
        ("0.5Ki", "512", "512"),
        ("1e3", "1000", "1e3"),
        ("12E-1", "1.2", "1200e-3"),
        ("1E", "1e18", "1E"),
        (".5", "0.5", "500m"),
        ("5.", "5", "5"),
        ("1n", "1e-9", "1n"),
        ("0.1n", "1e-9", "1n"),
        ("1u", "1e-6", "1u"),
        ("10E", "9223372036854775807", "9223372036854775807"),
    ],
)
def test_quantities(text: str, value: str, canonical: str) -> None:
    assert parse_quantity(text) == Decimal(value)
    assert format_quantity(text) == canonical


@pytest.mark.parametrize("text", ["", "1.2.3", "Ki", "1KI", "1ki", "1 ", "1e", "--1", "1e3m", "NaN", "١", "1e99999"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError, match="quantities must match"):
        parse_quantity(text)


SUFFIXES = st.sampled_from(
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2"]
)
NUMBERS = st.decimals(-(10**6), 10**6, places=3).map(str)


@given(NUMBERS, SUFFIXES)
def test_the_canonical_form_means_the_same(number: str, suffix: str) -> None:
    canonical = format_quantity(number + suffix)
    assert parse_quantity(canonical) == parse_quantity(number + suffix)
    assert format_quantity(canonical) == canonical


@given(st.text(alphabet="0123456789.+-eEinumkKMGTPE ", max_size=12) | st.text())
def test_quantities_raise_their_own_error_only(text: str) -> None:
    try:
        canonical = format_quantity(text)
    except QuantityError:
        return
    assert parse_quantity(canonical) == parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-5", -5),
        ("+5", 5),
        ("007", 7),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
        (str(2**63), None),
        ("", None),
        ("1_0", None),
        (" 1", None),
        ("١", None),
        ("9" * 5000, None),
    ],
)
def test_integers_are_read_as_go_reads_them(text: str, number: int | None) -> None:
    assert parse_int64(text) == number
