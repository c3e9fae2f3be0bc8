"""Request bodies: what is read, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.body import Decoded, Expected, decode
from portway.apiserver.jsonbody import repeated_fields, too_deep
from portway.apiserver.yamlbody import MAX_VALUES
from portway.kube.errors import BadRequest, RequestEntityTooLarge, StatusError, UnsupportedMediaType

SERVICE = Expected("v1", "Service")
YAML = "application/yaml"


def read(body: bytes, content_type: str = "application/json", expected: Expected = SERVICE) -> Decoded:
    return asyncio.run(decode(body, content_type, expected))


def refusal(body: bytes, content_type: str = "application/json") -> str:
    with pytest.raises(BadRequest) as caught:
        read(body, content_type)
    return caught.value.message


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", ""])
def test_json_gets_kind_and_version_where_they_are_missing(content_type: str) -> None:
    found = read(b'{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}', content_type)
    assert found.obj == {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 80}]},
    }
    assert found.problems == []


def test_yaml_is_read_as_the_json_it_stands_for() -> None:
    labels = b"{date: 2020-01-01, time: 12:30, second: 12:30:15.5}"
    text = b"metadata: {name: a, labels: %b}\nspec: {ports: [{port: 80}], clusterIP: None}\n" % labels
    found = read(text, "application/yaml").obj
    assert found["metadata"]["labels"] == {"date": "2020-01-01", "time": "12:30", "second": "12:30:15.5"}
    assert found["spec"] == {"ports": [{"port": 80}], "clusterIP": "None"}


def test_json_under_yaml_s_name_is_read_as_json() -> None:
    """Numbers are JSON's (PyYAML takes 1e3 for text), and there may be more values than YAML may have."""
    spec = {"ports": [{"port": 80}]}
    labels = {f"l{i}": "v" for i in range(MAX_VALUES)}
    found = read(b'{"spec":{"healthCheckNodePort":1e3},%b' % orjson.dumps({"metadata": {"labels": labels}})[1:], YAML)
    assert found.obj["spec"] == {"healthCheckNodePort": 1000}
    assert found.obj["metadata"]["labels"] == labels
    assert found.problems == []
    assert read(orjson.dumps({"spec": spec}), YAML).obj["spec"] == spec


def test_repeated_keys_of_yaml_are_told_by_their_lines_also_in_json() -> None:
    for body in (
        b"spec:\n  type: NodePort\n  type: ClusterIP\n",
        b'{"spec":\n{"type":"NodePort",\n"type":"ClusterIP"}}',
    ):
        found = read(body, YAML)
        assert found.obj["spec"] == {"type": "ClusterIP"}
        assert found.problems == ['yaml: unmarshal errors:\n  line 3: key "type" already set in map']


def test_a_merge_key_repeats_nothing() -> None:
    found = read(b"metadata: {labels: {<<: {a: b, c: d}, a: e}}", YAML)
    assert (found.obj["metadata"]["labels"], found.problems) == ({"a": "e", "c": "d"}, [])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"data: [%b]" % (b"a," * n), id="scalars"),
        pytest.param(lambda n: b"data:\n" + b"- a\n" * n, id="a block"),
        pytest.param(lambda n: b"data: [%b]" % (b"{}," * n), id="maps"),
        pytest.param(lambda n: b"data: {%b}" % b",".join(b"k%d: v" % i for i in range(n // 2)), id="keys"),
        pytest.param(lambda n: b'{"a":1,"a":2,"data":[%b]}' % b",".join([b"1"] * n), id="JSON with a key twice"),
    ],
)
def test_yaml_of_too_many_values_is_too_large(make: Callable[[int], bytes]) -> None:
    with pytest.raises(RequestEntityTooLarge, match=f"limit is {MAX_VALUES} values in YAML"):
        read(make(MAX_VALUES), YAML)
    with suppress(BadRequest):  # that no Service has such data is found out later
        read(make(MAX_VALUES - 10), YAML)


def test_unknown_and_repeated_fields_are_problems_by_path() -> None:
    body = b'{"spec":{"foo":{"x":1}},"bar":2,"spec":{"ports":[{"port":80,"port":8,"prot":1}]}}'
    problems = read(body).problems
    assert 'unknown field "bar"' in problems
    assert 'unknown field "spec.ports[0].prot"' in problems
    assert 'duplicate field "spec"' in problems
    assert 'duplicate field "spec.ports[0].port"' in problems


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", "application/json", "unexpected end of JSON input (<empty>)"),
        (b"{nope", "application/json", "the object provided is unrecognized (must be of type Service): "),
        (b"{" + b"n" * 40, "application/json", "({" + "n" * 29 + " ...)"),
        (b"nope", "application/json", "(6e6f7065)"),
        (b"[1]", "application/json", "cannot unmarshal array"),
        (b"a: [", "application/yaml", "error converting YAML to JSON"),
        (b"a: &x [1]\nb: [*x, *x]\n", "application/yaml", "aliases are not accepted"),
        (b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", "application/yaml", "aliases are not accepted"),
        (b"a: 1\n---\nb: 2\n", "application/yaml", "expected a single document in the stream"),
        (b"%TAG !e! tag:x\n--- {}\n", "application/yaml", "%TAG directives are not accepted"),
        (b"\xef\xbb\xbf%TAG !e! tag:x\n--- {}\n", "application/yaml", "%TAG directives are not accepted"),
        (b"# \xc2\x85%TAG !e! tag:x\n--- {}\n", "application/yaml", "%TAG directives are not accepted"),
        ("%TAG !e! tag:x\n--- {}\n".encode("utf-16"), "application/yaml", "yaml: invalid leading UTF-8 octet"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "application/yaml", "exceeded max depth"),
        (b"a: 2020-13-45\n? [1]\n: 2\n", "application/yaml", "error converting YAML to JSON"),
        (b'a: !!int ""\n', "application/yaml", "error converting YAML to JSON"),
        (b"a: !!bool maybe\n", "application/yaml", "error converting YAML to JSON"),
        (b"a: !!timestamp soon\n", "application/yaml", "error converting YAML to JSON"),
        (b"[" * 300, "application/yaml", "exceeded max depth"),
        (b"{" * 300, "application/json", "unrecognized"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "application/json", "exceeded max depth"),
        (b"nothing", "application/vnd.kubernetes.protobuf", "expected prefix 6b 38 73 00"),
        (b'{"kind":"Pod"}', "application/json", 'Pod in version "v1" cannot be handled as a Service'),
        (b'{"kind":"Service","apiVersion":"v2"}', "application/json", "does not match the expected API version (v1)"),
        (b'{"kind":1}', "application/json", "must be strings"),
        (
            b'{"spec":{"ports":[{"port":"80"}]}}',
            "application/json",
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_upstream_s_words(body: bytes, content_type: str, words: str) -> None:
    assert words in refusal(body, content_type)


def test_other_media_types_are_refused_with_the_accepted_ones() -> None:
    with pytest.raises(UnsupportedMediaType, match="types include: application/json, "):
        read(b"x", "text/plain")


def test_a_large_body_is_read_like_a_small_one() -> None:
    value = {"metadata": {"name": "a", "annotations": {"x": "y" * 200_000}}}
    assert read(orjson.dumps(value)).obj["metadata"] == value["metadata"]


def test_depth_is_counted_over_lists_and_objects() -> None:
    value: Any = 1
    for _ in range(100):
        value = [{"a": value}]
    assert not too_deep(value)
    assert too_deep([value])


@pytest.mark.parametrize("value", [None, 1, True, "x"])
def test_a_scalar_has_no_depth(value: Any) -> None:
    assert not too_deep(value)


def seconds_for(body: bytes, content_type: str = "application/json") -> float:
    """Processor time, so that a busy machine doesn't count."""
    began = time.process_time()
    try:
        read(body, content_type)
    except (BadRequest, RequestEntityTooLarge):
        pass
    return time.process_time() - began


@pytest.mark.parametrize(
    ("make", "content_type"),
    [
        pytest.param(
            lambda n: b'{"a":1,"a":2,%b}' % b",".join(b'"f%d":1' % i for i in range(n)),
            "application/json",
            id="fields beside a repeated one",
        ),
        pytest.param(
            lambda n: b'{"a":1,"a":2,"%b":{%b}}' % (b"n" * 5 * n, b",".join(b'"f%d":[]' % i for i in range(n))),
            "application/json",
            id="fields below one with a long name",
        ),
        pytest.param(lambda n: b"a: " + b"[" * 4 * n, "application/yaml", id="YAML nesting"),
        pytest.param(lambda n: b"a: [%b]" % (b"1," * 20 * n), "application/yaml", id="YAML values"),
        pytest.param(lambda n: b"---\n" * 10 * n, "application/yaml", id="YAML documents"),
        pytest.param(
            lambda n: b"".join(b"%%TAG !%d! x:y\n" % i for i in range(n)) + b"--- {}",
            "application/yaml",
            id="YAML tags",
        ),
        pytest.param(
            lambda n: b"%%TAG !e! tag:%b\n--- [%b]" % (b"x" * 20 * n, b"!e!a a," * (n // 2)),
            "application/yaml",
            id="tags that stand for long ones",
        ),
        pytest.param(lambda n: b"a: 1" + b":1" * 10 * n, "application/yaml", id="YAML in base 60"),
    ],
)
def test_a_body_takes_time_in_proportion_to_its_size(make: Callable[[int], bytes], content_type: str) -> None:
    # Quadratic, the longer ones take 20 s and more.
    assert seconds_for(make(60_000), content_type) < 3


def test_of_many_problems_the_first_hundred_are_told_and_of_long_paths_the_beginning() -> None:
    long = b'"%b":{"x":1,"x":2}' % (b"n" * 5000)
    body = b"{%b,%b}" % (long, b",".join(b'"f%d":1,"f%d":2' % (i, i) for i in range(500)))
    problems = read(body).problems
    assert len(set(problems)) == len(problems) == 100
    for told in (*problems, *repeated_fields(b"{%b}" % long)):
        assert len(told) < 1100


@pytest.mark.parametrize(("content_type", "at_once"), [("application/json", True), ("application/yaml", False)])
def test_what_is_slow_to_read_is_read_off_the_loop(content_type: str, at_once: bool) -> None:
    async def run() -> None:
        reading = asyncio.create_task(decode(b"{}", content_type, SERVICE), name="reading")
        await asyncio.sleep(0)
        assert reading.done() is at_once
        await reading

    asyncio.run(run())


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(documents)
def test_a_document_without_repetition_has_no_repeated_fields(document: Any) -> None:
    assert repeated_fields(orjson.dumps(document)) == []


@given(
    st.one_of(st.binary(max_size=60), documents.map(orjson.dumps)),
    st.sampled_from(["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]),
)
def test_any_bytes_are_read_or_refused_with_our_error(body: bytes, content_type: str) -> None:
    try:
        found = read(body, content_type)
    except StatusError:
        return
    assert found.obj["kind"] == "Service"
