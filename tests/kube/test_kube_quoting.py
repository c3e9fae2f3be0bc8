"""Go's quoting, on the values that messages are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.quoting import go_value, quote, quote_list


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("web:http", '"web:http"'),
        ("", '""'),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nb\tc\rd\ae\bf\fg\vh", r'"a\nb\tc\rd\ae\bf\fg\vh"'),
        ("\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        ("한글 é", '"한글 é"'),
        ("\u00a0\u200b\u2028", r'"\u00a0\u200b\u2028"'),
        ("\U0001f600\U000e0001", '"\U0001f600' + r'\U000e0001"'),
        (b"\xff\xfe".decode(errors="surrogateescape"), r'"\xff\xfe"'),
    ],
)
def test_quotes_as_go_does(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_a_list_has_spaces_between() -> None:
    assert quote_list(["a", 'b"']) == r'["a" "b\""]'
    assert quote_list([]) == "[]"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"b": None, "a": {"x": "1 2"}, "c": [1, 2.5, True, False]}, "map[a:map[x:1 2] b:<nil> c:[1 2.5 true false]]"),
        ({}, "map[]"),
        ([], "[]"),
    ],
)
def test_shows_documents_as_go_does(value: object, shown: str) -> None:
    assert go_value(value) == shown


@given(st.text())
def test_no_control_character_and_no_bare_quote_is_left(text: str) -> None:
    inner = quote(text)[1:-1]
    assert inner.isprintable()
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")
