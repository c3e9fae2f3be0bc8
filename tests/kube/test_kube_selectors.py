"""Selectors: upstream's grammar, its matching, and its sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.labelgrammar import requirement
from portway.kube.selectors import (
    FieldRequirement,
    FieldSelector,
    LabelSelector,
    Requirement,
    SelectorError,
    from_label_selector_object,
    parse_field_selector,
    parse_label_selector,
)

NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", []),
        ("  ", []),
        ("x", [("x", "exists", ())]),
        ("!x", [("x", "!", ())]),
        ("! x , y", [("x", "!", ()), ("y", "exists", ())]),
        ("x=a", [("x", "=", ("a",))]),
        ("x==a", [("x", "==", ("a",))]),
        ("x!=a", [("x", "!=", ("a",))]),
        ("x=", [("x", "=", ("",))]),
        ("x=,z= ", [("x", "=", ("",)), ("z", "=", ("",))]),
        ("x= ,z!=", [("x", "=", ("",)), ("z", "!=", ("",))]),
        ("x>1", [("x", ">", ("1",))]),
        ("x < 7", [("x", "<", ("7",))]),
        ("x in (a)", [("x", "in", ("a",))]),
        ("x in (b,a,b)", [("x", "in", ("a", "b"))]),
        ("x notin (a , b)", [("x", "notin", ("a", "b"))]),
        ("x in (,)", [("x", "in", ("",))]),
        ("x in (a,)", [("x", "in", ("", "a"))]),
        ("x in (,a)", [("x", "in", ("", "a"))]),
        ("x in (a,,b)", [("x", "in", ("", "a", "b"))]),
        ("in in (in,notin)", [("in", "in", ("in", "notin"))]),
        ("notin=in", [("notin", "=", ("in",))]),
        ("z,a.io/b=c", [("a.io/b", "=", ("c",)), ("z", "exists", ())]),
        ("\tx\r\n=\ta,", None),
        ("x=a,,y=b", None),
    ],
)
def test_label_grammar(text: str, requirements: list[tuple[str, str, tuple[str, ...]]] | None) -> None:
    if requirements is None:
        with pytest.raises(SelectorError, match="identifier after ','"):
            parse_label_selector(text)
        return
    assert [(r.key, r.operator, r.values) for r in parse_label_selector(text).requirements] == requirements


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!", "unable to parse requirement: found '!', expected: identifier"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x,=", "found '=', expected: identifier after ','"),
        ("x=a b", "found 'b', expected: ',' or 'end of string'"),
        ("x=a=b", "found '=', expected: ',' or 'end of string'"),
        ("!x=a", "found '=', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("x==!a", "unable to parse requirement: found '!', expected: identifier"),
        ("x===a", "unable to parse requirement: found '=', expected: identifier"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("x (a)", "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("x in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("x in (a,", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("x in (a,,)", "unable to parse requirement: found ')', expected: ',', or identifier"),
        (
            "x in ()",
            (
                "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't "
                "be empty"
            ),
        ),
        (
            "x>a",
            (
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value "
                "must be an integer"
            ),
        ),
        ("-x=a", f'unable to parse requirement: <nil>: Invalid value: "-x": {NAME}'),
        ("x=-a", f'unable to parse requirement: values[0][x]: Invalid value: "-a": {VALUE}'),
    ],
)
def test_label_errors_are_upstreams(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as raised:
        parse_label_selector(text)
    assert raised.value.message == message
    assert (raised.value.code, raised.value.reason) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("x=a", {"x": "a"}, True),
        ("x=a", {"x": "b"}, False),
        ("x=a", {}, False),
        ("x=", {"x": ""}, True),
        ("x=", {}, False),
        ("x!=a", {"x": "b"}, True),
        ("x!=a", {}, True),
        ("x!=a", {"x": "a"}, False),
        ("x in (a,b)", {"x": "b"}, True),
        ("x in (a,b)", {}, False),
        ("x notin (a,b)", {"x": "c"}, True),
        ("x notin (a,b)", {}, True),
        ("x notin (a,b)", {"x": "a"}, False),
        ("x", {"x": ""}, True),
        ("x", {"y": ""}, False),
        ("!x", {}, True),
        ("!x", {"x": "a"}, False),
        ("x>1", {"x": "2"}, True),
        ("x>1", {"x": "1"}, False),
        ("x<1", {"x": "0"}, True),
        ("x<1", {"x": "1"}, False),
        ("x>1", {"x": "many"}, False),
        ("x>1", {"x": "1_000"}, False),
        ("x>1", {}, False),
        ("x=a,y", {"x": "a", "y": ""}, True),
        ("x=a,y", {"x": "a"}, False),
    ],
)
def test_label_matching(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse_label_selector(text).matches(labels) is matches


def test_objects_select_as_their_text_does() -> None:
    selector = from_label_selector_object(
        {
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["y", "x"]},
                {"key": "d", "operator": "NotIn", "values": ["z"]},
                {"key": "e", "operator": "Exists"},
                {"key": "f", "operator": "DoesNotExist", "values": []},
            ],
        }
    )
    assert str(selector) == "a=2,b=1,c in (x,y),d notin (z),e,!f"


def test_no_object_selects_nothing_and_an_empty_one_everything() -> None:
    assert not from_label_selector_object(None).matches({})
    assert from_label_selector_object({}).matches({"x": "y"})
    assert from_label_selector_object({"matchLabels": None, "matchExpressions": None}).matches({})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "x", "operator": "Near"}, '"Near" is not a valid label selector operator'),
        (
            {"key": "x", "operator": "In", "values": []},
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
        (
            {"key": "x", "operator": "Exists", "values": ["a"]},
            'values: Invalid value: ["a"]: values set must be empty for exists and does not exist',
        ),
        ({"key": "-", "operator": "Exists"}, f'key: Invalid value: "-": {NAME}'),
    ],
)
def test_objects_that_are_wrong(expression: dict[str, object], message: str) -> None:
    with pytest.raises(SelectorError) as raised:
        from_label_selector_object({"matchExpressions": [expression]})
    assert raised.value.message == message


WORDS = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,5}[A-Za-z0-9])?", fullmatch=True) | st.sampled_from(
    ["in", "notin"]
)
VALUES = WORDS | st.just("")
NUMBERS = st.integers(0, 2**63 - 1).map(str)
REQUIREMENTS = (
    st.builds(requirement, WORDS, st.sampled_from(["in", "notin"]), st.sets(VALUES, min_size=1, max_size=4))
    | st.builds(requirement, WORDS, st.sampled_from(["=", "==", "!="]), st.tuples(VALUES))
    | st.builds(requirement, WORDS, st.sampled_from([">", "<"]), st.tuples(NUMBERS))
    | st.builds(requirement, WORDS, st.sampled_from(["exists", "!"]), st.just(()))
)


@given(st.lists(REQUIREMENTS, max_size=4))
def test_label_selectors_survive_being_written(requirements: list[Requirement]) -> None:
    selector = LabelSelector(tuple(sorted(requirements, key=lambda one: one.key)))
    assert parse_label_selector(str(selector)) == selector


SCRAPS = st.sampled_from(
    ["a", "b.c/d", "in", "notin", "=", "!", "(", ")", ",", "<", ">", " ", "\t", "-", "\0", "é", "7"]
)
TEXTS = st.lists(SCRAPS, max_size=14).map("".join) | st.text()


@given(TEXTS)
def test_label_parsing_raises_its_own_error_only(text: str) -> None:
    try:
        selector = parse_label_selector(text)
    except SelectorError:
        return
    assert parse_label_selector(str(selector)) == selector


@given(TEXTS, st.dictionaries(WORDS, VALUES, max_size=3))
def test_a_requirement_and_its_opposite_split_the_world(text: str, labels: dict[str, str]) -> None:
    opposite = {"=": "!=", "==": "!=", "!=": "=", "in": "notin", "notin": "in", "exists": "!", "!": "exists"}
    try:
        requirements = parse_label_selector(text).requirements
    except SelectorError:
        return
    for one in requirements:
        if one.operator in opposite:
            other = Requirement(one.key, opposite[one.operator], one.values)
            assert one.matches(labels) is not other.matches(labels)


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", []),
        (",,", []),
        ("metadata.name=a", [("metadata.name", "=", "a")]),
        ("metadata.name==a", [("metadata.name", "=", "a")]),
        ("metadata.name!=a", [("metadata.name", "!=", "a")]),
        ("status.phase!=Running,a=b", [("a", "=", "b"), ("status.phase", "!=", "Running")]),
        ("a=", [("a", "=", "")]),
        ("=a", [("", "=", "a")]),
        (r"a=x\,y", [("a", "=", "x,y")]),
        (r"a=x\=y\\z", [("a", "=", "x=y\\z")]),
        ("a= b ", [("a", "=", " b ")]),
        ("a!b=c", [("a!b", "=", "c")]),
    ],
)
def test_field_grammar(text: str, requirements: list[tuple[str, str, str]]) -> None:
    assert list(parse_field_selector(text).requirements) == requirements


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("metadata.name=b,foo", "invalid selector: 'metadata.name=b,foo'; can't understand 'foo'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a===b", "invalid field selector: unescaped character in value: 61"),
        (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_field_errors_are_upstreams(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as raised:
        parse_field_selector(text)
    assert raised.value.message == message


def test_a_missing_field_is_an_empty_one() -> None:
    assert parse_field_selector("spec.nodeName=").matches({})
    assert not parse_field_selector("spec.nodeName!=").matches({})
    assert parse_field_selector("a=1,b!=2").matches({"a": "1", "b": "3"})
    assert not parse_field_selector("a=1,b!=2").matches({"a": "1", "b": "2"})


def test_exact_finds_what_is_pinned() -> None:
    selector = parse_field_selector("metadata.name=a,status.phase!=b")
    assert selector.exact("metadata.name") == "a"
    assert selector.exact("status.phase") is None


FIELD_TEXT = st.text(alphabet="ab=,\\! .", max_size=8)
FIELD_NAMES = st.text(alphabet="ab. ", min_size=1, max_size=5)


@given(st.lists(st.tuples(FIELD_NAMES, st.sampled_from(["=", "!="]), FIELD_TEXT), max_size=4))
def test_field_selectors_survive_being_written(terms: list[tuple[str, str, str]]) -> None:
    written = str(FieldSelector(tuple(FieldRequirement(*term) for term in terms)))
    assert sorted(parse_field_selector(written).requirements) == sorted(terms)


@given(TEXTS | FIELD_TEXT)
def test_field_parsing_raises_its_own_error_only(text: str) -> None:
    try:
        selector = parse_field_selector(text)
    except SelectorError:
        return
    assert sorted(parse_field_selector(str(selector)).requirements) == sorted(selector.requirements)
