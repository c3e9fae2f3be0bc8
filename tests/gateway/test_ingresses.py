"""Which service a path means at an Ingress's host: precedence, escapes, and what is refused because it is doubtful."""

from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.hosts import Site
from portway.gateway.ingresses import PathTable
from portway.kube.errors import BadRequest, NotFound
from portway.kube.ingresses import Ingress, IngressPath
from portway.kube.proxyurl import backend_path

INGRESS = Ingress("demo", "web", "", None, (), (), (), ())


def table(*paths: str) -> PathTable:
    """A table of paths as "/x" (Prefix) or "=/x" (Exact); each leads to a service of the path's own name."""
    return PathTable(
        (INGRESS, IngressPath("shop.test", path.removeprefix("="), path.startswith("="), path, "80")) for path in paths
    )


def found(paths: Iterable[str], path: bytes) -> str:
    try:
        site = table(*paths).find(path)
    except NotFound:
        return "404"
    except BadRequest:
        return "400"
    assert site == Site("", "demo", site.name, "80")
    return site.name


@pytest.mark.parametrize(
    ("paths", "path", "expected"),
    [
        # The API reference's own table of matches.
        (["/"], b"/any/path", "/"),
        (["=/foo"], b"/foo", "=/foo"),
        (["=/foo"], b"/bar", "404"),
        (["=/foo"], b"/foo/", "404"),
        (["=/foo/"], b"/foo", "404"),
        (["/foo"], b"/foo", "/foo"),
        (["/foo"], b"/foo/", "/foo"),
        (["/foo/"], b"/foo", "/foo/"),
        (["/foo/"], b"/foo/", "/foo/"),
        (["/aaa/bb"], b"/aaa/bbb", "404"),
        (["/aaa/bbb"], b"/aaa/bbb", "/aaa/bbb"),
        (["/aaa/bbb/"], b"/aaa/bbb", "/aaa/bbb/"),
        (["/aaa/bbb"], b"/aaa/bbb/", "/aaa/bbb"),
        (["/aaa/bbb"], b"/aaa/bbb/ccc", "/aaa/bbb"),
        (["/aaa/bbb"], b"/aaa/bbbxyz", "404"),
        (["/", "/aaa"], b"/aaa/ccc", "/aaa"),
        (["/", "/aaa"], b"/ccc", "/"),
        (["/aaa"], b"/ccc", "404"),
        (["/foo", "=/foo"], b"/foo", "=/foo"),
        # The longest first, whatever the order; of two alike the first.
        (["/a", "/a/b/c", "/a/b"], b"/a/b/x", "/a/b"),
        (["/a/", "/a"], b"/a", "/a/"),
        ([], b"/", "404"),
        # Dot segments are resolved, as they are on the way to the backend.
        (["/", "/admin"], b"/a/../admin/x", "/admin"),
        (["/", "/admin"], b"/admin/../x", "/"),
        (["/", "/admin"], b"/admin/%2e%2e/x", "/"),
        (["/", "/admin"], b"/%2E%2E/admin", "/admin"),
        # Escapes: what means the same service either way goes as it is, what doesn't is refused.
        (["/"], b"/a%2Fb//c%5c", "/"),
        (["/a"], b"/a/%41%2f", "/a"),
        (["/", "/admin"], b"/%61dmin", "400"),
        (["/", "/admin"], b"/admin%2Fx", "400"),
        (["/", "/admin"], b"/x%2F..%2Fadmin", "400"),
        (["/", "/admin"], b"/admin/..%2Fx", "400"),
        (["/", "/admin"], b"/admin%5Cx", "400"),
        (["/", "/admin"], b"/admin\\x", "400"),
        (["/", "/admin"], b"//admin", "400"),
        (["/", "/admin"], b"/admin%2F%2F..", "400"),
        (["/", "/admin"], b"/admin//..", "/admin"),
        (["/", "/admin"], b"/x/%2F..%2F..%2Fadmin", "400"),
        (["/", "/admin/x"], b"/admin//x", "400"),
        (["/", "/admin"], b"/.//admin", "400"),
        (["/admin"], b"/%61dmin", "400"),
        (["=/admin"], b"/admin%2F", "404"),
        (["/caf\u00e9"], b"/caf%C3%A9/x", "/caf\u00e9"),
        (["/caf%C3%A9"], b"/caf%c3%a9", "/caf%C3%A9"),
        (["/", "/caf%c3%a9"], b"/caf\xc3\xa9", "/caf%c3%a9"),
        (["/"], b"/%zz", "400"),
        (["/"], b"/%", "400"),
        (["/%zz", "/"], b"/x", "/"),
        (["/"], b"*", "400"),
        (["/"], b"", "400"),
    ],
)
def test_paths(paths: list[str], path: bytes, expected: str) -> None:
    assert found(paths, path) == expected


SEGMENTS = st.sampled_from(["", "a", "b", "ab", ".", "..", "A"])
WRITTEN = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
RULES = st.lists(st.tuples(st.sampled_from(["", "="]), WRITTEN, st.sampled_from(["", "/"])).map("".join), unique=True)


def elements(path: str) -> list[str]:
    return path.removesuffix("/").split("/")


def by_the_book(rules: list[str], path: str) -> str:
    """Slow and obvious."""
    if f"={path}" in rules:
        return f"={path}"
    fitting = [
        rule for rule in rules if rule[0] != "=" and elements(path)[: len(elements(rule))] == elements(rule)
    ]  # of two alike ("/a", "/a/") the first
    return max(fitting, key=lambda rule: len(elements(rule)), default="404")


@given(RULES, WRITTEN, st.sampled_from(["", "/"]))
def test_plain_paths_go_by_the_book(rules: list[str], path: str, end: str) -> None:
    rules = [rule.replace("//", "/") for rule in rules]
    path = (path + end).replace("//", "/")
    assert found(rules, path.encode()) == by_the_book(rules, path)


ESCAPED = st.lists(
    st.sampled_from([b"/", b"..", b"%2F", b"%2f", b"\\", b"%5C", b"a", b"%61", b"b", b".", b"%2e", b"%2E", b"//"]),
    max_size=8,
).map(lambda parts: b"/" + b"".join(parts))


def readings(path: bytes) -> Iterable[bytes]:
    """How a server may read what it gets: as it is, decoded, with slashes merged, and dots resolved before or after."""
    sent = backend_path(path)
    for decoded in (sent, unquote_to_bytes(sent), unquote_to_bytes(sent).replace(b"\\", b"/")):
        yield decoded
        yield backend_path(quote_from_bytes(decoded, safe="/").encode())


@given(st.lists(WRITTEN, unique=True), ESCAPED)
def test_no_server_reads_another_services_path_from_what_it_gets(rules: list[str], path: bytes) -> None:
    name = found(rules, path)
    if name in ("400", "404"):
        return
    for reading in readings(path):
        merged = b"/" + b"/".join(part for part in reading.split(b"/") if part not in (b"", b"."))
        if b".." not in merged.split(b"/"):
            assert by_the_book(rules, merged.decode()) == name, reading


@given(st.lists(WRITTEN), st.binary(max_size=30))
def test_every_path_has_an_answer(rules: list[str], path: bytes) -> None:
    assert found(rules, b"/" + path)
