"""HTML rewritten in a stream: the golden page, tokenizer cases, and what must hold for any bytes in any pieces."""

import tracemalloc
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.rewrite import HtmlRewriter, Links
from portway.gateway.rewrite.html import LINKS, TAG_LIMIT

PREFIX = "/api/v1/namespaces/demo/services/web:http/proxy"
P = PREFIX.encode()


def rewriter() -> HtmlRewriter:
    return HtmlRewriter(Links(PREFIX, "10.77.0.2:9200", "127.0.0.1:6443"))


def rewrite(*pieces: bytes) -> bytes:
    html = rewriter()
    return b"".join([*map(html.feed, pieces), html.close()])


def rewrite_bytewise(page: bytes) -> bytes:
    return rewrite(*(page[i : i + 1] for i in range(len(page))))


# What kube-apiserver was recorded to make of such a page: link kinds in one document.
PAGE = b"""<!DOCTYPE html><html><head><title>app</title>
<link rel="stylesheet" href="@/static/app.css"><script src="@/static/app.js"></script>
<base href="@/"></head><body background="@/bg.png"><a href="@/absolute">a</a> <a href="relative">r</a>
<a href="//other.example/x">o</a> <a href="http://other.example/y">h</a> <a href="#frag">f</a>
<img src="@/logo.png" srcset="/a.png 1x, /b.png 2x"><form action="@/submit" method="post"></form>
<iframe src="@/frame"></iframe><div data-src="/data">/not/a/link</div></body></html>
"""


def test_page_as_kube_apiserver() -> None:
    assert rewrite(PAGE.replace(b"@", b"")) == PAGE.replace(b"@", P)


# "@/x" is "/x" in the input and under the prefix in the output; input without "@" must come out as it is.
CASES = {
    "self-closing": b'<img src="@/k.jpg"/>',
    "single quotes": b"<a href='@/x'>",
    "attribute names in capitals": b'<A HREF="@/x">',
    "spaces around =": b'<a href\n = \t"@/x" >',
    "no space between attributes": b'<a class="b"href="@/x"id=c>',
    "slashes between attributes": b'<a/class=b/ href="@/x">',
    "attribute without a value": b'<input disabled formaction="@/x">',
    "missing value": b"<a href=>/x</a>",
    "missing value, then space": b"<a href= >/x</a>",
    "a name that begins with =": b'<a =href="/x" ="/y>">/z',
    "several links in one tag": b'<video poster="@/p" src="@/v" id=x>',
    "not this element's attribute": b'<a src="/x"><div href="/x">',
    "not an attribute we rewrite": b'<img srcset="/x 2x" style="background:url(/y)" data-src="/z" ping="/w">',
    "a longer name": b'<article href="/x"><base2 href="/x"><a:b href="/x">',
    "end tag": b'</a href="/x"><a href="@/x">',
    "> in a quoted value": b'<div title=">"><a title=">" href="@/x">',
    "a tag in a quoted value": b"<div title=\"<a href='/x'>\"></div>",
    "a quote that opens nothing": b'<div a="b"c"d><a href="@/x">',
    "< in a tag": b'<div <a href="/x">',
    "text": b'1 < 2 << 3 <3 <> < a href="/x"> & <a href="@/x">',
    "unfinished tag": b'<a href="/x"',
    "unfinished value": b'<a href="x><a href=/y> <a href=/z>',
    "comment": b'<!-- <a href="/x"> --><a href="@/x">',
    "comment, dashes": b'<!-- -- > - -> --- <a href="/x"> ---><a href="@/x">',
    "comment, bang": b'<!-- <a href="/x"> --!><a href="@/x">',
    "comment, at once": b'<!--><a href="@/x"><!---><a href="@/y">-->',
    "comment, not at once": b'<!--!><a href="/x">--><a href="@/x"><!---!><a href="/x">--><a href="@/y">',
    "unfinished comment": b'<!-- <a href="/x"> --',
    "bogus comments": b'<?a href="><a href="@/x"></ a href="><a href="@/y"><! <a href="/z"><a href="@/w">',
    "doctype": b'<!DOCTYPE html PUBLIC "a>b"><a href="@/x">',
    "CDATA in HTML": b'<![CDATA[ <a href="/x"> <a href="@/y"> ]]>',
    "CDATA in SVG": b'<svg><![CDATA[ <a href="/x"> ]]><a href="@/x"></svg><![CDATA[<a href="/x"><a href="@/y">]]>',
    "CDATA in SVG that is empty": b'<svg/><![CDATA[><a href="@/x">]]>',
    "script": b'<script>a="<a href=\'/x\'>" </scripty> < /script> </script ><a href="@/x">',
    "script with a source": b'<SCRIPT src="@/x">"<a href=\'/x\'>"</Script/><a href="@/x">',
    "script, escaped": b'<script><!-- <a href="/x"> </script><a href="@/x">',
    "script, double escaped": b'<script><!--<script></script><a href="/x"></script><a href="@/x">',
    "script, escape ended": b'<script><!--<script>--></script><a href="@/x">',
    "script, escape ended at once": b'<script><!--><script></script><a href="@/x">',
    "style": b'<style>a:after{content:"<a href=\'/x\'>"}</style><a href="@/x">',
    "style in SVG, empty": b'<svg><style/><a href="@/x"></svg>',
    "style in HTML, never empty": b'<style/><a href="/x"></style><a href="@/x">',
    "title and textarea": b'<title><a href="/x"></title><textarea><a href="/x"></textarea><a href="@/x">',
    "iframe": b'<iframe src="@/x"><a href="/x"></iframe><a href="@/x">',
    "noscript is markup": b'<noscript><img src="@/x"></noscript>',
    "another's end tag": b'<title></textarea><a href="/x"></title><a href="@/x">',
    "plaintext": b'<a href="@/x"><plaintext></plaintext><a href="/x">',
    "unfinished script": b'<script><a href="/x"></scrip',
    "not UTF-8": b'\xff\xfe<a href="@/\xe4\xf6" title="\xa0">\x00</a>',
    "UTF-16": '<a href="/x">é</a>'.encode("utf-16"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_case(case: bytes) -> None:
    assert rewrite(case.replace(b"@", b"")) == case.replace(b"@", P)


def test_unquoted_values_get_quotes_when_they_change() -> None:
    assert rewrite(b"<a href=/x><a href=x><a class=b href=/x/>") == (
        b'<a href="%b/x"><a href=x><a class=b href="%b/x/">' % (P, P)
    )


def test_every_listed_attribute() -> None:
    for element, attributes in LINKS.items():
        for attribute in attributes:
            assert rewrite(b'<%b x %b="/y">' % (element, attribute)) == b'<%b x %b="%b/y">' % (element, attribute, P)


FRAGMENTS = st.sampled_from(
    [
        *b"< > </ /> <! <!-- --> --!> - -- ! = \" ' / & ; ? # . .. <a <A <img <base <script </script> </script".split(),
        *b"<style </style> <title> </title> <svg> </svg <![CDATA[ ]]> <plaintext> <iframe </iframe> href src".split(),
        *b'HREF= href="/x" href=\'/y\' src=/z href=" /x /y //other/ &amp; &#47; &quest; &copy=1 x data-y'.split(),
        *b"http://10.77.0.2:9200/q https://127.0.0.1:6443/r".split(),
        *(b" ", b"\n", b"\t", b"\xff", P),
    ]
)
MARKUP = st.lists(FRAGMENTS | st.binary(max_size=3), max_size=40).map(b"".join)


@given(MARKUP, st.integers(1, 7))
def test_pieces_make_no_difference(page: bytes, size: int) -> None:
    whole = rewrite(page)
    assert rewrite_bytewise(page) == whole
    assert rewrite(*(page[i : i + size] for i in range(0, len(page), size))) == whole


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_split_in_two(case: bytes) -> None:
    page = case.replace(b"@", b"")
    for at in range(len(page)):
        assert rewrite(page[:at], page[at:]) == case.replace(b"@", P)
    assert rewrite_bytewise(page) == case.replace(b"@", P)


@given(MARKUP)
def test_rewriting_is_idempotent(page: bytes) -> None:
    once = rewrite(page)
    assert rewrite(once) == once


@given(MARKUP.map(lambda page: page.replace(b"/", b"").replace(b"&", b"")))
def test_without_a_rooted_link_nothing_changes(page: bytes) -> None:
    assert rewrite(page) == page


class Attributes(HTMLParser):
    """The attributes of start tags as the standard library reads them: a second opinion."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [(tag, name, value) for name, value in attrs]


VALUES = st.text("/ab.&;?#=x1-_ <>é", max_size=12)
TAGS = st.tuples(st.sampled_from(["a", "img", "div", "video"]), st.sampled_from(["href", "src", "title"]), VALUES)


@given(st.lists(TAGS, max_size=6))
def test_a_browser_sees_the_same_page_with_other_links(tags: list[tuple[str, str, str]]) -> None:
    def escape(value: str) -> str:
        return value.replace("&", "&amp;").replace('"', "&quot;")

    page = "text<br>".join(f'<{tag} id=1 {name}="{escape(value)}">' for tag, name, value in tags)
    seen = Attributes(rewrite(page.encode()).decode()).seen
    before = Attributes(page).seen
    assert [(tag, name) for tag, name, _ in seen] == [(tag, name) for tag, name, _ in before]
    for (tag, name, new), (_, _, old) in zip(seen, before, strict=True):
        linked = name.encode() in LINKS.get(tag.encode(), ())
        rooted = (old or "").startswith("/") and not (old or "").startswith("//") and linked
        if not rooted and new != old:
            assert linked  # "///x", " /x": other spellings of a rooted path
            assert (old or "").strip().startswith(("/", "//"))
        if rooted:
            assert (new or "").startswith(PREFIX + "/")
            for mark in "?#":
                assert (mark in (new or "")) == (mark in (old or ""))


def test_a_tag_at_the_limit_is_rewritten_and_a_longer_one_is_not() -> None:
    fill = b"x" * (TAG_LIMIT - len(b'<a href="/x" title="">'))
    at_limit, over = b'<a href="/x" title="%b">' % fill, b'<a href="/x" title="%bx">' % fill
    follower = b'<a href="/y">'
    assert rewrite(at_limit + follower) == (at_limit + follower).replace(b'="/', b'="%b/' % P)
    assert rewrite(over + follower) == over + b'<a href="%b/y">' % P
    for size in (1000, TAG_LIMIT - 1, TAG_LIMIT, TAG_LIMIT + 1):
        for page in (at_limit + follower, over + follower):
            assert rewrite(*(page[i : i + size] for i in range(0, len(page), size))) == rewrite(page)


def test_a_long_script_tag_still_opens_a_script() -> None:
    page = b"<script src='/x' title='%b'>\"<a href='/y'>\"</script><a href='/z'>" % (b">" * TAG_LIMIT)
    expected = page.replace(b"'/z'", b"'%b/z'" % P)
    assert rewrite(page) == expected
    assert rewrite(*(page[i : i + 999] for i in range(0, len(page), 999))) == expected


FILLERS = [
    b"text ",
    b"<!--",
    b"<script>",
    b'<img src="data:',
    b"<",
    b"<a ",
    b"</title",
    b"-",
    b"<a" * 3,
    b'<a href="/x">',
]


@pytest.mark.parametrize("filler", FILLERS)
def test_memory_is_bounded(filler: bytes) -> None:
    """Tens of megabytes of anything go through in little memory, though the document never ends a thing it began."""
    chunk = filler * (65536 // len(filler))
    chunks = 16 if filler in (b"<script>", b'<a href="/x">') else 320  # much to count: slow under tracemalloc
    html = rewriter()
    html.feed(filler)
    tracemalloc.start()
    try:
        passed = sum(len(html.feed(chunk)) for _ in range(chunks))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert passed >= chunks * len(chunk) - 2 * TAG_LIMIT
    assert peak < 2_000_000
