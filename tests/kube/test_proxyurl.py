"""The grammar of the proxy verb: upstream's tables (port_split_test.go), and what must hold for any URL."""

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.errors import BadRequest
from portway.kube.proxyurl import (
    ProxyURL,
    TargetId,
    backend_path,
    equivalent_ids,
    forwarded_uri,
    join_id,
    match,
    parse_id,
    plain_prefix,
    split_id,
)

BASE = b"/api/v1/namespaces/demo/services/web/proxy"
DOT = re.compile(rb"(?:\.|%2[eE]){1,2}\Z")
LEGAL = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*\Z")

words = st.text(alphabet="abz09-._~+!", min_size=1, max_size=8).filter(lambda w: w not in (".", ".."))
targets = st.builds(TargetId, st.sampled_from(["", "http", "https"]), words, st.one_of(st.just(""), words))
pieces = st.sampled_from(
    [
        b"a",
        b"b.c",
        b".",
        b"..",
        b"...",
        b"",
        b"%2e",
        b"%2E.",
        b"%2f",
        b"%5c",
        b"%252e",
        b"\\",
        b";x",
        b"%00",
        b"*",
        b"%C3",
    ]
)
paths = st.one_of(st.lists(pieces, max_size=8).map(lambda p: b"/" + b"/".join(p)), st.binary(max_size=30))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aoeu", TargetId("", "aoeu", "")),
        ("aoeu:", TargetId("", "aoeu", "")),
        ("aoeu:asdf", TargetId("", "aoeu", "asdf")),
        ("http:aoeu:asdf", TargetId("http", "aoeu", "asdf")),
        ("https:aoeu:asdf", TargetId("https", "aoeu", "asdf")),
        ("https:aoeu:", TargetId("https", "aoeu", "")),
        (":aoeu:", TargetId("", "aoeu", "")),
        ("https:aoeu", TargetId("", "https", "aoeu")),
        (":asdf", None),
        ("aoeu:asdf:htns", None),
        ("http::asdf", None),
        ("http::", None),
        ("", None),
        ("a:b:c:d", None),
        ("HTTP:web:80", None),
        (" http:web:80", None),
    ],
)
def test_ids_are_split_as_upstream_splits_them(text: str, expected: TargetId | None) -> None:
    assert split_id(text) == expected


@given(targets)
def test_what_is_joined_splits_again(target: TargetId) -> None:
    assert split_id(join_id(target)) == target


@given(st.text(max_size=12))
def test_any_text_splits_or_does_not(text: str) -> None:
    target = split_id(text)
    if target is not None:
        assert target.name
        assert split_id(join_id(target)) == target


@given(st.sampled_from(["services", "pods", "nodes"]), st.text(max_size=12))
def test_an_id_parses_or_is_a_bad_request(resource: str, text: str) -> None:
    try:
        target = parse_id(resource, text)
    except BadRequest:
        assert not text or text in (".", "..") or "/" in text or "%" in text or split_id(text) is None
    else:
        assert "/" not in target.name
        assert "%" not in target.name


@pytest.mark.parametrize(
    ("resource", "text", "message"),
    [
        ("services", "a:b:c", 'invalid service request "a:b:c"'),
        ("pods", "a:b:c", 'invalid pod request "a:b:c"'),
        ("nodes", "a:b:c", 'invalid node request "a:b:c"'),
        ("services", 'a":b:c', 'invalid service request "a\\":b:c"'),
        ("services", "a/b", "Name parameter invalid: \"a/b\": may not contain '/'"),
        ("services", "a%2f", "Name parameter invalid: \"a%2f\": may not contain '%'"),
        ("services", "..", "Name parameter invalid: \"..\": may not be '..'"),
        ("services", ".", "Name parameter invalid: \".\": may not be '.'"),
    ],
)
def test_what_is_said_of_a_bad_id(resource: str, text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_id(resource, text)
    assert caught.value.message == message


@given(targets, st.lists(st.one_of(st.just(""), words), max_size=3).map(tuple))
def test_every_spelling_is_the_same_target(target: TargetId, ports: tuple[str, ...]) -> None:
    for spelling in equivalent_ids(target, ports):
        found = parse_id("services", spelling)
        assert found.name == target.name
        assert found.port in ports
        assert (found.scheme == "https") == (target.scheme == "https")


@given(targets)
def test_a_target_is_among_its_own_spellings(target: TargetId) -> None:
    found = {parse_id("services", s) for s in equivalent_ids(target, (target.port,))}
    assert target in found
    assert join_id(target) in equivalent_ids(target, (target.port,))


def test_the_spellings_of_a_default_port() -> None:
    assert set(equivalent_ids(TargetId("", "web", "80"), ("80", "http", ""))) == {
        *("web", "web:", ":web:", "http:web:"),
        *("web:80", ":web:80", "http:web:80"),
        *("web:http", ":web:http", "http:web:http"),
    }
    assert set(equivalent_ids(TargetId("https", "web", ""), ("443", ""))) == {"https:web:", "https:web:443"}


# targets of requests


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (BASE, ProxyURL("services", "demo", "web", BASE, b"", b"")),
        (BASE + b"/", ProxyURL("services", "demo", "web", BASE, b"/", b"")),
        (BASE + b"?q=/x", ProxyURL("services", "demo", "web", BASE, b"", b"?q=/x")),
        (BASE + b"/a//b?", ProxyURL("services", "demo", "web", BASE, b"/a//b", b"?")),
        (
            b"/api/v1/nodes/n:10250/proxy/x",
            ProxyURL("nodes", "", "n:10250", b"/api/v1/nodes/n:10250/proxy", b"/x", b""),
        ),
        (
            b"/api/v1/namespaces/d/pods/https:p:/proxy",
            ProxyURL("pods", "d", "https:p:", b"/api/v1/namespaces/d/pods/https:p:/proxy", b"", b""),
        ),
        (
            b"/api/v1/namespaces/demo/services/https%3Aweb%3A/proxy/%2e",
            ProxyURL("services", "demo", "https:web:", BASE.replace(b"web", b"https:web:"), b"/%2e", b""),
        ),
        (
            b"/api/v1/namespaces/demo/services/a%2fb/proxy/",
            ProxyURL("services", "demo", "a/b", BASE.replace(b"web", b"a%2Fb"), b"/", b""),
        ),
        (b"/%61pi/v1/namespaces/demo/services/web/proxy", ProxyURL("services", "demo", "web", BASE, b"", b"")),
        (BASE[:-5] + b"pr%6Fxy/x?y", ProxyURL("services", "demo", "web", BASE, b"/x", b"?y")),
        (BASE + b"x", None),
        (BASE + b"%2f", None),
        (BASE + b"%2fx", None),
        (BASE[:-1], None),
        (b"/" + BASE, None),
        (b"/api/v1/namespaces//demo/services/web/proxy", None),
        (
            b"/api/v1/namespaces/demo/services//proxy",
            ProxyURL("services", "demo", "", BASE.replace(b"web", b""), b"", b""),
        ),
        (b"/api/v1/namespaces//services/web/proxy", None),
        (b"/api/v1/namespaces/demo/nodes/web/proxy", None),
        (b"/api/v1/services/web/proxy", None),
        (b"/api/v1/namespaces/demo/services/web/proxy;x", None),
        (b"/api%2fv1/namespaces/demo/services/web/proxy", None),
        (b"/api/v1/x/../namespaces/demo/services/web/proxy", None),
        (b"/api/v1/%2e/namespaces/demo/services/web/proxy", None),
        (b"/API/v1/namespaces/demo/services/web/proxy", None),
        (b"http://h" + BASE, None),
        (b"*", None),
        (b"", None),
    ],
)
def test_which_targets_are_proxy_urls(target: bytes, expected: ProxyURL | None) -> None:
    assert match(target) == expected


def percent(text: bytes, chosen: list[bool]) -> bytes:
    """`text` with the chosen bytes percent-encoded, slashes never."""
    return b"".join(b"%%%02X" % c if c != 0x2F and pick else bytes([c]) for c, pick in zip(text, chosen, strict=True))


segments = st.text(alphabet="abcxyz019:.-_~!$&'()*+,;=@", min_size=1, max_size=10).map(str.encode)


@given(
    st.data(),
    segments,
    segments,
    st.sampled_from([b"services", b"pods", b"nodes"]),
    paths.filter(lambda p: b"?" not in p),
)
def test_a_target_means_the_same_however_it_is_encoded(
    data: st.DataObject, namespace: bytes, name: bytes, kind: bytes, path: bytes
) -> None:
    head = b"/api/v1/namespaces/%b/%b/%b/proxy" % (namespace, kind, name)
    if kind == b"nodes":
        head = b"/api/v1/nodes/%b/proxy" % name
    rest = b"/" + path.lstrip(b"/")
    chosen = data.draw(st.lists(st.booleans(), min_size=len(head), max_size=len(head)))
    plain = match(head + rest + b"?q")
    assert plain is not None
    assert plain == match(percent(head, chosen) + rest + b"?q")
    assert (plain.prefix, plain.path, plain.query) == (head, rest, b"?q")
    assert (plain.id, plain.resource) == (name.decode(), kind.decode())


@given(st.one_of(st.binary(max_size=60), paths.map(lambda p: BASE + p)))
def test_any_bytes_match_or_do_not(target: bytes) -> None:
    found = match(target)
    if found is not None:
        assert target.endswith(found.path + found.query)
        assert unquote_to_bytes(found.prefix).decode(errors="replace").endswith("/proxy")
        assert re.fullmatch(rb"[^%?#\\ ]*(?:%[0-9A-F]{2}[^%?#\\ ]*)*", found.prefix) or plain_prefix(target)
    end = plain_prefix(target)
    if end:
        assert found is not None
        assert found.prefix == target[:end]


def test_a_name_that_is_no_utf8_is_a_name_all_the_same() -> None:
    found = match(b"/api/v1/namespaces/demo/services/%ff%c3/proxy/")
    assert found is not None
    assert found.id == "��"
    assert found.id.encode()


# the path that the backend is sent


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"/a/b", b"/a/b"),
        (b"/a/b/", b"/a/b/"),
        (b"//", b"//"),
        (b"/a//b", b"/a//b"),
        (b"/.", b"/"),
        (b"/..", b"/"),
        (b"/../../etc/passwd", b"/etc/passwd"),
        (b"/a/../b", b"/b"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/./b/.", b"/a/b/"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a/%2E./b", b"/b"),
        (b"/a/.%2e", b"/"),
        (b"/%2e", b"/"),
        (b"/a/...", b"/a/..."),
        (b"/a/..%2fb", b"/a/..%2fb"),
        (b"/a%2fb", b"/a%2fb"),
        (b"/a%5cb", b"/a%5cb"),
        (b"/a\\..\\b", b"/a%5C..%5Cb"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
        (b"/a;b=..;/c", b"/a;b=..;/c"),
        (b"/..;/a", b"/..;/a"),
        (b"/%00", b"/%00"),
        (b"/%3f%23", b"/%3f%23"),
        (b'/a b"<>^`{|}', b"/a%20b%22%3C%3E%5E%60%7B%7C%7D"),
        (b"/caf\xc3\xa9", b"/caf%C3%A9"),
    ],
)
def test_what_the_backend_is_sent(raw: bytes, sent: bytes) -> None:
    assert backend_path(raw) == sent


@pytest.mark.parametrize("raw", [b"/%", b"/%2", b"/%zz", b"/a%2gb", b"/%%41", b"/a/../%"])
def test_a_malformed_escape_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        backend_path(raw)


@given(paths)
def test_the_backend_path_is_legal_never_climbs_and_stays(path: bytes) -> None:
    raw = path if path.startswith(b"/") or not path else b"/" + path
    try:
        sent = backend_path(raw)
    except BadRequest:
        assert re.search(rb"%(?![0-9A-Fa-f]{2})", raw)
        return
    assert LEGAL.match(sent)
    assert not any(DOT.match(s) for s in sent.split(b"/"))
    assert backend_path(sent) == sent


@given(st.lists(pieces.filter(lambda p: not DOT.match(p)), max_size=8))
def test_without_dots_the_backend_path_says_what_was_said(parts: list[bytes]) -> None:
    raw = b"/" + b"/".join(parts)
    assert backend_path(raw) == quote_from_bytes(raw, safe=b"!$&'()*+,;=:@/%~").encode()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", BASE + b"/"),
        (b"/a/b/", BASE + b"/a/b/"),
        (b"/a b", BASE + b"/a%20b"),
        (b"/a/../b", BASE + b"/b"),
        (b"/a/./b/", BASE + b"/a/b/"),
    ],
)
def test_the_forwarded_uri(raw: bytes, shown: bytes) -> None:
    assert forwarded_uri(BASE, raw, backend_path(raw)) == shown
