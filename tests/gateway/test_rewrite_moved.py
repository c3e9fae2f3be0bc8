"""Links that an API server has put behind its own prefix, for a browser that has another one, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.rewrite import MovedLinks
from portway.gateway.rewrite.urls import split

THERE = "/api/v1/namespaces/demo/services/web:http/proxy"
SERVER = "10.0.0.9:6443"
HOST = "http.web.demo.localhost:8001"
RAW = THERE.encode()
CUSTOM = "/custom" + THERE
SITE = MovedLinks(THERE, SERVER, "", HOST)
BELOW = MovedLinks(THERE, SERVER, CUSTOM, "localhost:8001")
SAME = MovedLinks(THERE, SERVER, THERE, "localhost:8001")

LOCATIONS = [
    (THERE + "/x?q#f", "/x?q#f"),
    (THERE + "/x/", "/x/"),
    (THERE + "/", "/"),
    (THERE, "/"),
    (THERE + "?q=1", "/?q=1"),
    (THERE + "#f", "/#f"),
    (f"https://{SERVER}{THERE}/x", "/x"),
    (f"http://{SERVER}{THERE}", "/"),
    (f"//{SERVER}{THERE}/x", "/x"),
    (f"HTTPS://{SERVER}{THERE}/x", "/x"),
    (f"https://user:pw@{SERVER}{THERE}/x", "/x"),
    (f"http://{HOST}{THERE}/x", "/x"),
    (f"http://{HOST.upper()}{THERE}/x", "/x"),
    (THERE + "/a/../b", "/b"),
    (THERE + "/a/%2e%2E/b", "/b"),
    (THERE + "/../proxy/x", "/x"),
    (THERE + "/a%2Fb", "/a%2Fb"),
    (THERE + "/caf\xc3\xa9", "/caf%C3%A9"),
    (THERE + THERE + "/x", THERE + "/x"),
    # never another host's
    (THERE + "//evil.example/x", "/.//evil.example/x"),
    (THERE + "///evil.example/x", "/.///evil.example/x"),
    (f"https://{SERVER}{THERE}//evil.example", "/.//evil.example"),
    (THERE + "/.//evil.example/x", "/.//evil.example/x"),
    (THERE + "/a/..//evil.example/x", "/.//evil.example/x"),
    (THERE + "/\\evil.example/x", "/%5Cevil.example/x"),
    (THERE + "\\evil.example", THERE + "%5Cevil.example"),
    # others stay
    ("", ""),
    ("x", "x"),
    ("../../../x", "../../../x"),
    ("?q", "?q"),
    ("#f", "#f"),
    ("/x", "/x"),
    ("/", "/"),
    ("/api/v1/namespaces", "/api/v1/namespaces"),
    (THERE + "y/x", THERE + "y/x"),
    (THERE[:-1], THERE[:-1]),
    (THERE.replace("demo", "other") + "/x", THERE.replace("demo", "other") + "/x"),
    (f"http://other.example{THERE}/x", f"http://other.example{THERE}/x"),
    (f"//other.example{THERE}/x", f"//other.example{THERE}/x"),
    (f"https://{SERVER}/x", f"https://{SERVER}/x"),
    ("https://10.0.0.9:6444" + THERE, "https://10.0.0.9:6444" + THERE),
    ("mailto:someone@example.com", "mailto:someone@example.com"),
    (f"javascript:{THERE}/x", f"javascript:{THERE}/x"),
    (f"ftp://{SERVER}{THERE}/x", f"ftp://{SERVER}{THERE}/x"),
    # what leads out of the prefix at the API server is no link of the service's, and stays on this host
    (THERE + "/../x", THERE + "/../x"),
    (THERE + "/..", THERE + "/.."),
    (THERE + "/%2e%2e/x", THERE + "/%2e%2e/x"),
]


@pytest.mark.parametrize(("location", "expected"), LOCATIONS)
def test_at_a_host_name(location: str, expected: str) -> None:
    assert SITE.location(location) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (THERE + "/x?q", CUSTOM + "/x?q"),
        (THERE, CUSTOM + "/"),
        (THERE + "//evil.example/x", CUSTOM + "//evil.example/x"),
        (f"https://{SERVER}{THERE}/x", CUSTOM + "/x"),
        (THERE + "/../x", THERE + "/../x"),
        ("/x", "/x"),
        ("x", "x"),
        (CUSTOM + "/x", CUSTOM + "/x"),
    ],
)
def test_below_another_prefix(location: str, expected: str) -> None:
    assert BELOW.location(location) == expected


def test_what_has_the_same_prefix_needs_nothing() -> None:
    assert SAME.idle
    assert not SITE.idle
    assert not BELOW.idle
    for location in (THERE + "/x", "/x", THERE + "//x", "http://a.example/"):
        assert SAME.location(location) == location


def test_a_server_with_a_path_of_its_own() -> None:
    links = MovedLinks("/k8s/c1" + THERE, SERVER, "", HOST)
    assert links.location(f"/k8s/c1{THERE}/x") == "/x"
    assert links.location("/k8s/c1") == "/k8s/c1"


ATTRIBUTES = [
    (THERE.encode() + b"/x", b'"', b'"/x"'),
    (THERE.encode() + b"/x", b"'", b"'/x'"),
    (THERE.encode() + b"/x", b"", b'"/x"'),
    (THERE.encode() + b"/x?a=1&amp;b=2#f", b'"', b'"/x?a=1&amp;b=2#f"'),
    (THERE.encode() + b"/", b'"', b'"/"'),
    (THERE.encode(), b'"', b'"/"'),
    (THERE.encode() + b"?a", b'"', b'"/?a"'),
    (THERE.replace("/", "&#47;").encode() + b"&#47;x", b'"', b'"/x"'),
    (f"https://{SERVER}{THERE}/x".encode(), b'"', b'"/x"'),
    (f"//{SERVER}{THERE}/x".encode(), b'"', b'"/x"'),
    (THERE.encode() + b"//evil.example/x", b'"', b'"/.//evil.example/x"'),
    (THERE.encode() + b"/&#47;evil.example/x", b'"', b'"/.//evil.example/x"'),
    (THERE.encode() + b"/\\evil.example/x", b'"', b'"/%5Cevil.example/x"'),
    (THERE.encode() + b"/caf\xe9", b'"', b'"/caf\xe9"'),
    (THERE.encode() + b"/../x", b'"', None),
    (THERE.encode() + b"y", b'"', None),
    (b"/x", b'"', None),
    (b"//cdn.example/x", b'"', None),
    (b"x/y", b'"', None),
    (b"", b'"', None),
    (b"#f", b'"', None),
    (b"http://other.example" + THERE.encode() + b"/x", b'"', None),
    (b"data:image/png;base64,/api", b'"', None),
]


@pytest.mark.parametrize(("raw", "quote", "expected"), ATTRIBUTES)
def test_attribute(raw: bytes, quote: bytes, expected: bytes | None) -> None:
    assert SITE.attribute(raw, quote) == expected


def test_attribute_below_another_prefix() -> None:
    assert BELOW.attribute(THERE.encode() + b"/x", b'"') == b'"' + CUSTOM.encode() + b'/x"'
    assert BELOW.attribute(THERE.encode() + b"//x", b'"') == b'"' + CUSTOM.encode() + b'//x"'
    assert BELOW.attribute(CUSTOM.encode() + b"/x", b'"') is None


SUFFIX = st.text(st.sampled_from("ax/.\\%2eE?#@:~\xe9"), max_size=24)


@given(st.sampled_from((SITE, BELOW, SAME)), SUFFIX, st.sampled_from(("", f"https://{SERVER}", f"//{SERVER}")))
def test_the_services_own_links_stay_on_this_host(links: MovedLinks, suffix: str, before: str) -> None:
    url = split(links.location(before + THERE + "/" + suffix))
    if url.path.startswith(THERE) and url.authority is not None:
        return  # it leads out of the prefix: as it came
    assert url.scheme is None
    assert url.authority is None
    assert url.path.startswith("/")
    assert not url.path.startswith("//")
    assert "\\" not in url.path


@given(st.sampled_from((SITE, BELOW)), SUFFIX, st.sampled_from((b'"', b"'", b"")))
def test_attributes_agree_with_locations(links: MovedLinks, suffix: str, quote: bytes) -> None:
    link = THERE + "/" + suffix.replace("\xe9", "e")
    found = links.attribute(link.encode(), quote)
    expected = links.location(link)
    if found is not None:
        assert found[1:-1].decode() == expected
    else:
        assert expected == link or "\\" in suffix


COOKIES = [
    (b"a=b", b"a=b", b"a=b"),
    (b"a=b; Path=/", b"a=b; Path=/", b"a=b; Path=%b/"),
    (b"a=b; Path=/x; HttpOnly", b"a=b; Path=/x; HttpOnly", b"a=b; Path=%b/x; HttpOnly"),
    (b"a=b; Path=" + RAW + b"/x", b"a=b; Path=/x", b"a=b; Path=%b/x"),
    (b"a=b; path=" + RAW + b"/; Secure", b"a=b; path=/; Secure", b"a=b; path=%b/; Secure"),
    (b"a=b; Path=" + RAW, b"a=b; Path=/", b"a=b; Path=%b/"),
    (b"a=b; Path=" + RAW + b"y", b"a=b; Path=" + RAW + b"y", b"a=b; Path=%b" + RAW + b"y"),
    (b"a=b; Domain=localhost; Path=/", b"a=b; Path=/", b"a=b; Path=%b/"),
    (b"a=b; domain=.demo.localhost", b"a=b", b"a=b"),
    (b"__Host-a=b; Path=/; Secure", b"__Host-a=b; Path=/; Secure", b"__Host-a=b; Path=%b/; Secure"),
    (b"a=" + RAW + b"/x; Path=/", b"a=" + RAW + b"/x; Path=/", b"a=" + RAW + b"/x; Path=%b/"),
]


@pytest.mark.parametrize(("cookie", "at_site", "below"), COOKIES)
def test_cookie(cookie: bytes, at_site: bytes, below: bytes) -> None:
    assert SITE.cookie(cookie) == at_site
    assert BELOW.cookie(cookie) == below.replace(b"%b", CUSTOM.encode())


def test_cookie_at_the_same_prefix() -> None:
    for path in (THERE, THERE + "/", THERE + "/x"):
        assert SAME.cookie(b"a=b; Path=" + path.encode()) == b"a=b; Path=" + path.encode()
    assert SAME.cookie(b"a=b; Path=/") == b"a=b; Path=" + RAW + b"/"
