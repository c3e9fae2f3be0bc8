"""From method, path and query to what is authorised: upstream's own table, and more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.attributes import Attributes, BadRequestInfo, parse

EXT = "/apis/extensions/v1beta3"


# method, path, query → verb, group, version, namespace, resource, subresource, name, parts
@pytest.mark.parametrize(
    ("method", "url", "expected", "parts"),
    [
        ("GET", "/api/v1/namespaces", ("list", "", "v1", "", "namespaces", "", ""), ("namespaces",)),
        (
            "GET",
            "/api/v1/namespaces/other",
            ("get", "", "v1", "other", "namespaces", "", "other"),
            ("namespaces", "other"),
        ),
        ("GET", "/api/v1/namespaces/other/pods", ("list", "", "v1", "other", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/namespaces/other/pods/foo", ("get", "", "v1", "other", "pods", "", "foo"), ("pods", "foo")),
        ("HEAD", "/api/v1/namespaces/other/pods/foo", ("get", "", "v1", "other", "pods", "", "foo"), ("pods", "foo")),
        ("GET", "/api/v1/pods", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        ("HEAD", "/api/v1/pods", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        ("POST", "/api/v1/pods", ("create", "", "v1", "", "pods", "", ""), ("pods",)),
        (
            "GET",
            "/api/v1/proxy/namespaces/other/pods/foo",
            ("proxy", "", "v1", "other", "pods", "", "foo"),
            ("pods", "foo"),
        ),
        (
            "GET",
            "/api/v1/proxy/namespaces/other/pods/foo/subpath/not/a/subresource",
            ("proxy", "", "v1", "other", "pods", "", "foo"),
            ("pods", "foo", "subpath", "not", "a", "subresource"),
        ),
        ("GET", "/api/v1/watch/pods", ("watch", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch=true", ("watch", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch", ("watch", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch=1&watch=0", ("watch", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch=false", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch=FALSE", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1/pods?watch=0&watch=1", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        (
            "GET",
            "/api/v1/watch/namespaces/other/pods",
            ("watch", "", "v1", "other", "pods", "", ""),
            ("pods",),
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods?watch=1",
            ("watch", "", "v1", "other", "pods", "", ""),
            ("pods",),
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods/foo/status",
            ("get", "", "v1", "other", "pods", "status", "foo"),
            ("pods", "foo", "status"),
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods/foo/proxy/subpath",
            ("get", "", "v1", "other", "pods", "proxy", "foo"),
            ("pods", "foo", "proxy", "subpath"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/other/finalize",
            ("update", "", "v1", "other", "namespaces", "finalize", "other"),
            ("namespaces", "other", "finalize"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/other/status",
            ("update", "", "v1", "other", "namespaces", "status", "other"),
            ("namespaces", "other", "status"),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/other/pods/foo",
            ("patch", "", "v1", "other", "pods", "", "foo"),
            ("pods", "foo"),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/other/pods/foo",
            ("delete", "", "v1", "other", "pods", "", "foo"),
            ("pods", "foo"),
        ),
        ("POST", "/api/v1/namespaces/other/pods", ("create", "", "v1", "other", "pods", "", ""), ("pods",)),
        ("DELETE", "/api/v1/nodes", ("deletecollection", "", "v1", "", "nodes", "", ""), ("nodes",)),
        ("DELETE", "/api/v1/namespaces", ("deletecollection", "", "v1", "", "namespaces", "", ""), ("namespaces",)),
        (
            "DELETE",
            "/api/v1/namespaces/other/pods",
            ("deletecollection", "", "v1", "other", "pods", "", ""),
            ("pods",),
        ),
        (
            "DELETE",
            "/apis/extensions/v1/namespaces/other/pods",
            ("deletecollection", "extensions", "v1", "other", "pods", "", ""),
            ("pods",),
        ),
        (
            "POST",
            f"{EXT}/namespaces/other/pods",
            ("create", "extensions", "v1beta3", "other", "pods", "", ""),
            ("pods",),
        ),
        (
            "GET",
            "/api/v1/namespaces/n/services/https:s:p/proxy/x",
            ("get", "", "v1", "n", "services", "proxy", "https:s:p"),
            ("services", "https:s:p", "proxy", "x"),
        ),
        (
            "OPTIONS",
            "/api/v1/namespaces/n/services/https:s:p/proxy/x",
            ("", "", "v1", "n", "services", "proxy", "https:s:p"),
            ("services", "https:s:p", "proxy", "x"),
        ),
        (
            "GET",
            "/api/v1/nodes/n1:10255/proxy/metrics",
            ("get", "", "v1", "", "nodes", "proxy", "n1:10255"),
            ("nodes", "n1:10255", "proxy", "metrics"),
        ),
        # Methods are case-sensitive (RFC 9110 §9.1): this one is not GET.
        ("get", "/api/v1/pods", ("", "", "v1", "", "pods", "", ""), ("pods",)),
        # A trailing slash changes nothing, an empty segment does.
        ("GET", "/api/v1/pods/", ("list", "", "v1", "", "pods", "", ""), ("pods",)),
        ("GET", "/api/v1//pods", ("get", "", "v1", "", "", "", "pods"), ("", "pods")),
    ],
)
def test_resource_requests(method: str, url: str, expected: tuple[str, ...], parts: tuple[str, ...]) -> None:
    path, _, query = url.partition("?")
    got = parse(method, path, query)
    assert (got.verb, got.group, got.version, got.namespace, got.resource, got.subresource, got.name) == expected
    assert (got.parts, got.path, got.resource_request) == (parts, path, True)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/api",
        "/apis",
        "/api/version/",
        "/apis/group/version/",
        "/badprefix/version/resource",
        "/apis/version/resource",
        "/not-api/version/resource/name",
        "/apis/extensions/v1beta1",
        "/apis/extensions/v1beta1/",
        "/version",
        "/openapi/v3/apis/apps",
    ],
)
def test_other_requests_are_a_method_and_a_path(path: str) -> None:
    assert parse("POST", path, "watch=1") == Attributes("post", path=path, resource_request=False)


@pytest.mark.parametrize("path", ["/api/v1/watch", "/api/v1/proxy/", "/apis/apps/v1/watch"])
def test_a_legacy_verb_with_nothing_behind_it_is_refused(path: str) -> None:
    with pytest.raises(BadRequestInfo) as raised:
        parse("GET", path)
    assert raised.value.message == f"unable to determine kind and namespace from url: {path}"
    assert raised.value.code == 400


# method, path and query → verb, name, label selector, field selector
@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("GET", "/pods?fieldSelector=metadata.name%3Dname1", ("list", "name1", "", "metadata.name=name1")),
        ("GET", "/pods?watch=1&fieldSelector=metadata.name=name1", ("watch", "name1", "", "metadata.name=name1")),
        ("GET", "/pods?fieldSelector=metadata.name==name1,a=b", ("list", "name1", "", "metadata.name==name1,a=b")),
        ("GET", "/pods?fieldSelector=foo%3Dbar", ("list", "", "", "foo=bar")),
        ("GET", "/pods?fieldSelector=metadata.name!=x", ("list", "", "", "metadata.name!=x")),
        ("GET", "/pods?fieldSelector=metadata.name=a%252Fb", ("list", "", "", "metadata.name=a%2Fb")),
        ("GET", "/pods?fieldSelector=metadata.name=a%2Fb", ("list", "", "", "metadata.name=a/b")),
        ("GET", "/pods?fieldSelector=metadata.name=..", ("list", "", "", "metadata.name=..")),
        ("GET", "/pods?fieldSelector=metadata.name=name1,foo", ("list", "", "", "metadata.name=name1,foo")),
        ("GET", "/pods?watch=1&fieldSelector=metadata.name=name1,foo", ("watch", "", "", "metadata.name=name1,foo")),
        ("GET", "/pods?watch=false&fieldSelector=metadata.name=n,foo", ("list", "", "", "metadata.name=n,foo")),
        ("GET", "/pods?limit=x&fieldSelector=metadata.name=n", ("list", "", "", "metadata.name=n")),
        ("GET", "/pods?limit=5&fieldSelector=metadata.name=n", ("list", "n", "", "metadata.name=n")),
        ("GET", "/pods?labelSelector=!!&fieldSelector=metadata.name=n", ("list", "", "!!", "metadata.name=n")),
        ("GET", "/pods?labelSelector=a%3Db&labelSelector=c", ("list", "", "a=b", "")),
        ("GET", "/pods?fieldSelector=a=b&fieldSelector=metadata.name=n", ("list", "", "", "a=b")),
        (
            "DELETE",
            "/pods?labelSelector=a&fieldSelector=metadata.name=n",
            ("deletecollection", "", "a", "metadata.name=n"),
        ),
        ("DELETE", "/pods?labelSelector=!!", ("deletecollection", "", "!!", "")),
        ("GET", "/pods/p?labelSelector=a&fieldSelector=b=c", ("get", "p", "", "")),
        ("POST", "/pods?labelSelector=a", ("create", "", "", "")),
        ("GET", "/watch/pods?labelSelector=a&fieldSelector=metadata.name=n", ("watch", "", "", "")),
        # Go drops a pair with a semicolon or a broken escape, and so do we: what is authorised is what is served.
        ("GET", "/pods?fieldSelector=metadata.name=n;a", ("list", "", "", "")),
        ("GET", "/pods?fieldSelector=metadata.name=n%zz&watch=1", ("watch", "", "", "")),
        ("GET", "/pods?labelSelector=a+in+(b)", ("list", "", "a in (b)", "")),
    ],
)
def test_queries_of_collections(method: str, url: str, expected: tuple[str, str, str, str]) -> None:
    path, _, query = url.partition("?")
    got = parse(method, f"/api/v1/namespaces/ns{path}" if "watch/" not in path else f"/api/v1{path}", query)
    assert (got.verb, got.name, got.label_selector, got.field_selector) == expected


PIECES = st.sampled_from(["api", "apis", "v1", "", "namespaces", "n", "pods", "status", "watch", "proxy", "..", "x:80"])
PATHS = st.lists(PIECES, max_size=9).map(lambda pieces: "/" + "/".join(pieces)) | st.text()
QUERY_PIECES = st.sampled_from(
    ["watch", "=", "&", "fieldSelector", "metadata.name", "labelSelector", "limit", "%3D", "%", ",", "!", "1"]
)
QUERIES = st.lists(QUERY_PIECES, max_size=12).map("".join) | st.text()
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", ""]) | st.text(max_size=5)


@given(METHODS, PATHS, QUERIES)
def test_nothing_but_its_own_error_is_raised(method: str, path: str, query: str) -> None:
    try:
        attributes = parse(method, path, query)
    except BadRequestInfo:
        return
    assert attributes.path == path
    if attributes.resource_request:
        assert attributes.parts[0] == attributes.resource
    else:
        assert (attributes.verb, attributes.resource, attributes.name) == (method.lower(), "", "")


@given(METHODS, PATHS, QUERIES)
def test_the_query_never_changes_what_a_named_request_is_for(method: str, path: str, query: str) -> None:
    try:
        plain = parse(method, path)
    except BadRequestInfo:
        return
    if plain.name or not plain.resource_request:
        assert parse(method, path, query) == plain
