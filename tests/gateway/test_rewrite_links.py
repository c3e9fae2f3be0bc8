"""Location, Set-Cookie and attribute values behind a prefix."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.rewrite import Links, RewriteError

PREFIX = "/api/v1/namespaces/demo/services/web:http/proxy"
BACKEND = "10.0.0.1:80"
DOOR = "api:6443"
LINKS = Links(PREFIX, BACKEND, DOOR)

LOCATIONS = [
    # as kube-apiserver
    ("/x/", PREFIX + "/x/"),
    ("/", PREFIX + "/"),
    ("/there", PREFIX + "/there"),
    ("/a#b", PREFIX + "/a#b"),
    ("x", "x"),
    ("there?x=1", "there?x=1"),
    ("../x", "../x"),
    ("", ""),
    ("?a=1", "?a=1"),
    ("#top", "#top"),
    ("mailto:someone@example.com", "mailto:someone@example.com"),
    ("//10.0.0.1:80/x", PREFIX + "/x"),
    ("http://10.0.0.1:80/x?q#f", PREFIX + "/x?q#f"),
    ("https://10.0.0.1:80/x", PREFIX + "/x"),
    ("http://10.0.0.1/x", "http://10.0.0.1/x"),
    ("http://10.0.0.1:81/x", "http://10.0.0.1:81/x"),
    ("http://svc.ns.svc/x", "http://svc.ns.svc/x"),
    ("//example.com/x", "//example.com/x"),
    ("https://api:6443/x", f"https://api:6443{PREFIX}/x"),
    ("//api:6443/x", f"//api:6443{PREFIX}/x"),
    (PREFIX + "/x", PREFIX + "/x"),
    (PREFIX, PREFIX),
    (f"https://api:6443{PREFIX}/x", f"https://api:6443{PREFIX}/x"),
    (f"http://10.0.0.1:80{PREFIX}/x", PREFIX + "/x"),
    ("/redirected/target/", PREFIX + "/redirected/target/"),
    ("/%00<script>alert(1)</script>/", PREFIX + "/%00%3Cscript%3Ealert%281%29%3C/script%3E/"),
    (
        "http://10.0.0.1:80/%00<script>alert(1)</script>/",
        PREFIX + "/%00%3Cscript%3Ealert%281%29%3C/script%3E/",
    ),
    (
        "https://api:6443/%00<script>alert(1)</script>/",
        f"https://api:6443{PREFIX}/%00%3Cscript%3Ealert%281%29%3C/script%3E/",
    ),
    (
        "http://example.com/%00<script>alert(1)</script>/",
        "http://example.com/%00%3Cscript%3Ealert%281%29%3C/script%3E/",
    ),
    ("there now", "there%20now"),
    ("/caf\xc3\xa9", PREFIX + "/caf%C3%A9"),
    # ours
    ("/a%2Fb//c(1)'*", PREFIX + "/a%2Fb//c(1)'*"),
    ("/100%", PREFIX + "/100%"),
    ("///x", PREFIX + "///x"),
    ("/\\example.com/x", PREFIX + "/%5Cexample.com/x"),
    ("/../../secrets", PREFIX + "/secrets"),
    ("/a/./b/../c/..", PREFIX + "/a/"),
    ("/a/%2e%2E/.%2e/b", PREFIX + "/b"),
    (PREFIX + "/../x", PREFIX + PREFIX.removesuffix("/proxy") + "/x"),
    (PREFIX + "y", PREFIX + PREFIX + "y"),
    ("http://10.0.0.1:80", PREFIX + "/"),
    ("http://10.0.0.1:80?x", PREFIX + "/?x"),
    ("http://user:pw@10.0.0.1:80/x", PREFIX + "/x"),
    ("HTTP://API:6443/x", f"HTTP://API:6443{PREFIX}/x"),
    ("javascript:/x", "javascript:/x"),
    ("ftp://10.0.0.1:80/x", "ftp://10.0.0.1:80/x"),
]


@pytest.mark.parametrize(("location", "expected"), LOCATIONS)
def test_location(location: str, expected: str) -> None:
    assert LINKS.location(location) == expected


@pytest.mark.parametrize("location", ["/x\r\nSet-Cookie: a=1", "/\x00", "http://example.com/\x7f", "a\tb"])
def test_location_with_a_control_character_is_refused(location: str) -> None:
    with pytest.raises(RewriteError, match="control character"):
        LINKS.location(location)


def test_without_a_host_header_nothing_is_taken_for_the_door() -> None:
    assert Links(PREFIX, BACKEND, "").location("http://user@/x") == "http://user@/x"


URL_PARTS = st.lists(
    st.sampled_from(
        ["/", "//", "..", ".", "%2e", "x", "?", "#", "http:", "https:", BACKEND, DOOR, PREFIX, "@", ":", "\\", " ", "<"]
    )
    | st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_characters="\x7f"),
    max_size=8,
).map("".join)


@given(URL_PARTS)
def test_location_is_idempotent(url: str) -> None:
    once = LINKS.location(url)
    assert LINKS.location(once) == once


@given(st.text())
def test_location_raises_nothing_else(url: str) -> None:
    try:
        LINKS.location(url)
    except RewriteError:
        pass


@given(URL_PARTS.map(lambda path: "/" + path.lstrip("/")))
def test_absolute_paths_stay_under_the_prefix(path: str) -> None:
    location = re.split("[?#]", LINKS.location(path))[0]
    assert location.startswith(PREFIX + "/") or location == PREFIX
    assert ".." not in location.lower().replace("%2e", ".").split("/")


COOKIES = [
    ("a=1", "a=1"),
    ("b=2; Path=/; HttpOnly", f"b=2; Path={PREFIX}/; HttpOnly"),
    ("c=3; Path=/x; Domain=x.example", f"c=3; Path={PREFIX}/x"),
    ("d=4;path = /x ;SECURE", f"d=4;path ={PREFIX}/x;SECURE"),
    (f"e=5; Path={PREFIX}", f"e=5; Path={PREFIX}"),
    (f"f=6; Path={PREFIX}/app", f"f=6; Path={PREFIX}/app"),
    (f"g=7; Path={PREFIX}2", f"g=7; Path={PREFIX}{PREFIX}2"),
    ("h=Path=/; Path=", "h=Path=/; Path="),
    ("i=9; Path=relative", "i=9; Path=relative"),
    ("__Host-j=1; Secure; Path=/", f"__Host-j=1; Secure; Path={PREFIX}/"),
    ("k=\xff; DOMAIN=a; Domain=b; Path=/a; Path=/b", f"k=\xff; Path={PREFIX}/a; Path={PREFIX}/b"),
    ("", ""),
    (";;Path=/;", f";;Path={PREFIX}/;"),
]


@pytest.mark.parametrize(("cookie", "expected"), COOKIES)
def test_cookie(cookie: str, expected: str) -> None:
    assert LINKS.cookie(cookie.encode("latin-1")) == expected.encode("latin-1")


COOKIE_TEXT = st.lists(st.sampled_from([b";", b"=", b" ", b"path", b"Domain", b"/", b"x", PREFIX.encode()])).map(
    b"".join
)


@given(st.binary() | COOKIE_TEXT)
def test_cookie_is_idempotent_and_never_wider_than_the_prefix(cookie: bytes) -> None:
    scoped = LINKS.cookie(cookie)
    assert LINKS.cookie(scoped) == scoped
    for attribute in scoped.split(b";")[1:]:
        name, _, value = attribute.partition(b"=")
        assert name.strip().lower() != b"domain"
        if name.strip().lower() == b"path" and value.strip().startswith(b"/"):
            assert (value.strip() + b"/").startswith(PREFIX.encode() + b"/")


ATTRIBUTES = [
    (b"/x", b'"', b'"P/x"'),
    (b"/x", b"'", b"'P/x'"),
    (b"/x/", b"", b'"P/x/"'),
    (b" \n/x\t ", b'"', b'"P/x"'),
    (b"/\n/example.com/x", b'"', None),
    (b"/a?b=1&amp;c=2&copy=3#f", b'"', b'"P/a?b=1&amp;c=2&copy=3#f"'),
    (b'/a?b="c"', b"", b'"P/a?b=&#34;c&#34;"'),
    (b"/a&b", b'"', b'"P/a&amp;b"'),
    (b"/a&amp;b", b'"', b'"P/a&amp;b"'),
    (b"/a&copy=1", b'"', b'"P/a&amp;copy=1"'),
    (b"/a&copy;", b'"', b'"P/a%C2%A9"'),
    (b"/a&copy", b'"', b'"P/a%C2%A9"'),
    (b"/a&copyx", b'"', b'"P/a&amp;copyx"'),
    (b"&#47;x", b'"', b'"P/x"'),
    (b"&#x2F;&sol;example.com", b'"', None),
    (b"/x&quest;y=/z", b'"', b'"P/x&quest;y=/z"'),
    (b"/x&num;y", b'"', b'"P/x&num;y"'),
    (b"/x&quot;y", b'"', b'"P/x%22y"'),
    (b"/x&apos;y", b"'", b"'P/x&#39;y'"),
    (b"/caf\xe9", b'"', b'"P/caf\xe9"'),
    (b"/<b>", b'"', b'"P/%3Cb%3E"'),
    (b"http://10.0.0.1:80/x", b'"', b'"P/x"'),
    (b"http&colon;//10.0.0.1&#58;80/x", b'"', b'"P/x"'),
    (b"//other.example/x", b'"', None),
    (b"relative&amp;x", b'"', None),
    (b"", b'"', None),
    (b"#frag", b'"', None),
    (b"data:image/png;base64,//////", b'"', None),
    (PREFIX.encode() + b"/x?a&amp;b", b'"', None),
    (PREFIX.encode() + b"/&#x78;", b"", None),
]


@pytest.mark.parametrize(("raw", "quote", "expected"), ATTRIBUTES)
def test_attribute(raw: bytes, quote: bytes, expected: bytes | None) -> None:
    assert LINKS.attribute(raw, quote) == (expected and expected.replace(b"P/", PREFIX.encode() + b"/"))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (f"http://{BACKEND}//evil.example/x", "/.//evil.example/x"),
        (f"http://{BACKEND}/x", "/x"),
        (f"//{BACKEND}//evil.example", "/.//evil.example"),
        ("/a/..//evil.example/x", "/.//evil.example/x"),
        ("/x//y", "/x//y"),
        ("//evil.example/x", "//evil.example/x"),
    ],
)
def test_at_the_root_of_a_host_name_no_path_becomes_another_host(location: str, expected: str) -> None:
    assert Links("", BACKEND, "web.demo.localhost:8001").location(location) == expected
