"""kubectl proxy's filter: kubectl's own cases (pkg/proxy/proxy_server_test.go), and every other way to spell a path."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.filter import KEPT, LONGEST, Filter, FilterRules
from portway.kube.errors import Forbidden

POD = "/api/v1/namespaces/default/pods/foo"


def passes(rules: FilterRules | Filter, target: str, method: str = "GET", host: str = "localhost") -> bool:
    made = rules if isinstance(rules, Filter) else Filter(rules)

    def check() -> str:
        try:
            made.check(method.encode(), host.encode("latin-1"), target.encode("latin-1"), own_host=False)
        except Forbidden as error:
            return error.message
        return ""

    decided, remembered = check(), check()
    assert decided == remembered
    assert not decided or decided.startswith("Forbidden: ")
    return not decided


DEFAULTS = [
    ("", "GET", "127.0.0.1", True),
    ("/", "GET", "localhost", True),
    ("/", "GET", "localhost:8001", True),
    ("/", "GET", "127.0.0.1:8001", True),
    ("/", "GET", "[::1]", True),
    ("/", "GET", "[::1]:8001", True),  # kubectl's own default never matches this one
    ("/api/v1/pods", "GET", "127.0.0.1", True),
    ("/api/v1/pods", "GET", "evil.com", False),
    ("/api/v1/pods", "GET", "localhost.evil.com", False),
    ("/api/v1/pods", "GET", "evil.com:8001", False),
    ("/api/v1/pods", "GET", "127a0b0c1", False),
    ("/api/v1/pods", "GET", "127.0.0.10", False),
    ("/api/v1/pods", "GET", "127.0.0.2", False),
    ("/api/v1/pods", "GET", "evil.localhost", False),
    ("/api/v1/pods", "GET", "localhost.", False),
    ("/api/v1/pods", "GET", "xlocalhost", False),
    ("/api/v1/pods", "GET", "0.0.0.0", False),
    ("/api/v1/pods", "GET", "", False),
    ("/api/v1/pods", "GET", "[::1", True),
    ("/api/v1/pods", "GET", "[::2]", False),
    ("/api/v1/pods", "GET", "[::1].evil.com", True),  # no such name can be looked up
    (f"{POD}", "GET", "localhost", True),
    (f"{POD}/exec", "GET", "localhost", False),
    (f"{POD}/exec", "POST", "localhost", False),
    (f"{POD}/attach", "GET", "localhost", False),
    (f"{POD}/attach", "POST", "localhost", False),
    ("/api/v1/namespaces/default/pods/attachfoo", "GET", "localhost", True),
    ("/api/v1/namespaces/default/pods/execfoo", "GET", "localhost", True),
    ("/api/v1/namespaces/default/pods/execfoo/log", "GET", "localhost", True),
    (f"{POD}/portforward", "POST", "localhost", True),
    ("/ui", "GET", "localhost", True),
    ("/api/v1/namespaces/default/pods", "POST", "localhost", True),
    (POD, "PUT", "localhost", True),
    (POD, "PATCH", "localhost", True),
    (POD, "DELETE", "localhost", True),
]


@pytest.mark.parametrize(("target", "method", "host", "accepted"), DEFAULTS)
def test_defaults(target: str, method: str, host: str, accepted: bool) -> None:
    assert passes(FilterRules(), target, method, host) is accepted


SPELLINGS = [
    "/api/v1/namespaces/default/pods/foo/%65xec",
    "/api/v1/namespaces/default/pods/foo/%65%78%65%63",
    "/api/v1/namespaces/default/%70ods/foo/exec",
    "/%61pi/v1/namespaces/default/pods/foo/exec",
    "/api/v1/namespaces/default/pods/foo/exec/",
    "/api/v1/namespaces/default/pods/foo//exec",
    "/api/v1/namespaces/default/pods//foo/exec",
    "/api//v1/namespaces/default/pods/foo/exec",
    "//api/v1/namespaces/default/pods/foo/exec",
    "///api///v1/namespaces/default/pods/foo/exec",
    "/%2fapi/v1/namespaces/default/pods/foo/exec",
    "/./api/v1/namespaces/default/pods/foo/exec",
    "/%2e/api/v1/namespaces/default/pods/foo/exec",
    "/x/../api/v1/namespaces/default/pods/foo/exec",
    "/x/%2e%2E/api/v1/namespaces/default/pods/foo/exec",
    "/x/..%2fapi/v1/namespaces/default/pods/foo/exec",
    "/../api/v1/namespaces/default/pods/foo/exec",
    "/apis/../api/v1/namespaces/default/pods/foo/exec",
    "/api/v1/namespaces/default/pods/foo/exec?command=id",
    "/api/v1/namespaces/default/pods/foo/exec?",
    "/api/v1/namespaces/default/pods/foo%2fexec",
    "/api/v1/namespaces/default/pods%2Ffoo%2Fexec",
    "/api/v1/namespaces/default/pods/foo/x/../exec",
    "/api/v1/namespaces/default/pods/foo/./exec",
    "/api/v1/namespaces/default/pods/f\xffo/exec",
    "/api/v1/namespaces/d%0Aefault/pods/f%0Aoo/exec",
    "/api/v1/namespaces/default/pods/foo/exec%0A",
]


@pytest.mark.parametrize("word", ["exec", "attach"])
@pytest.mark.parametrize("target", SPELLINGS)
def test_exec_and_attach_are_refused_in_every_spelling(target: str, word: str) -> None:
    other = target.replace("%65xec", "%61ttach").replace("%65%78%65%63", "%61%74%74%61%63%68").replace("exec", "attach")
    spelled = target if word == "exec" else other
    assert not passes(FilterRules(), spelled)
    assert not passes(FilterRules(), spelled, "POST")
    assert passes(FilterRules(reject_paths=()), spelled)


@given(st.data())
def test_no_escape_hides_a_rejected_path(data: st.DataObject) -> None:
    plain = f"{POD}/exec"
    spelled = "".join(
        data.draw(st.sampled_from((c, f"%{ord(c):02x}", f"%{ord(c):02X}"))) if c != "/" else c for c in plain
    )
    padded = spelled.replace("/", "/" * data.draw(st.integers(1, 3)))
    assert not passes(FilterRules(), padded + data.draw(st.sampled_from(("", "/", "?a=b", "/?a"))))


RULES = [
    # kubectl's: precedence, empty lists, methods
    (FilterRules(reject_paths=()), f"{POD}/exec", "GET", True),
    (FilterRules(accept_paths=()), "/api", "GET", False),
    (FilterRules(accept_hosts=()), "/api", "GET", False),
    (FilterRules(reject_methods=()), "/api", "DELETE", True),
    (FilterRules(reject_methods=("POST", "PUT", "PATCH")), "/api", "GET", True),
    (FilterRules(reject_methods=("POST", "PUT", "PATCH")), "/api", "POST", False),
    (FilterRules(reject_methods=("POST", "PUT", "PATCH")), "/api", "PUT", False),
    (FilterRules(reject_methods=("POST", "PUT", "PATCH")), "/api", "PATCH", False),
    (FilterRules(accept_paths=("^/api",), reject_paths=("^/api",)), "/api", "GET", False),
    (FilterRules(accept_paths=("bar", "fo.*")), "/foo", "GET", True),
    (FilterRules(accept_paths=("bar", "fo.*")), "/xbarx", "GET", True),
    (FilterRules(accept_paths=("bar", "fo.*")), "/baz", "GET", False),
    (FilterRules(accept_paths=("^/api/v1/pods$",)), "/api/v1/pods", "GET", True),
    (FilterRules(accept_paths=("^/api/v1/pods$",)), "/api/v1/pods?watch=1", "GET", True),
    (FilterRules(accept_paths=("^/api/v1/pods$",)), "/api/v1/pods/", "GET", False),
    (FilterRules(accept_paths=("^/api/v1/pods$",)), "/api/v1/pods%0A", "GET", False),
    (FilterRules(accept_paths=("^/ok/",)), "/ok/../api/v1/secrets", "GET", False),
    (FilterRules(accept_paths=("^/ok/",)), "/ok/%2e%2e/api/v1/secrets", "GET", False),
    (FilterRules(accept_paths=("^/ok/",)), "/ok/x", "GET", True),
    (FilterRules(accept_paths=("secret",)), "/api?secret", "GET", False),
    (FilterRules(accept_paths=("^/$",)), "/", "GET", True),
]


@pytest.mark.parametrize(("rules", "target", "method", "accepted"), RULES, ids=range(len(RULES)))
def test_rules(rules: FilterRules, target: str, method: str, accepted: bool) -> None:
    assert passes(rules, target, method) is accepted


STATIC = FilterRules(accept_paths=("^/api",), reject_methods=("GET",), static_prefix="/static/")


@pytest.mark.parametrize(
    ("target", "accepted"),
    [
        ("/static/", True),
        ("/static/a/b.js?x", True),
        ("/static", False),
        ("/staticx", False),
        ("/api", False),
        ("/static/../api", False),
        ("/static/%2e%2e/api", False),
        ("/%73tatic/../api", False),
        ("/%73tatic/x", False),  # the files are not there either
        ("//static/x", False),
    ],
)
def test_files_are_under_no_rule_but_that_of_hosts(target: str, accepted: bool) -> None:
    assert passes(STATIC, target) is accepted
    assert not passes(STATIC, target, host="evil.com")


def test_which_rule_is_said() -> None:
    made = Filter(FilterRules(reject_methods=("DELETE",)))
    cases = {
        (b"GET", b"localhost", f"{POD}/exec".encode()): "--reject-paths",
        (b"DELETE", b"localhost", b"/"): "DELETE is rejected (--reject-methods)",
        (b"GET", b"evil.com:8001", b"/"): 'the host "evil.com" is not accepted (--accept-hosts)',
    }
    for arguments, words in cases.items():
        with pytest.raises(Forbidden, match=re.escape(words)):
            made.check(*arguments, own_host=False)
    with pytest.raises(Forbidden, match="--accept-paths"):
        Filter(FilterRules(accept_paths=())).check(b"GET", b"localhost", b"/", own_host=False)


def test_a_services_own_host_needs_no_accepting_but_all_else_holds() -> None:
    site = b"/api/v1/namespaces/demo/services/web/proxy"
    made = Filter(FilterRules(accept_hosts=(), accept_paths=("/demo/",), reject_paths=("/admin",)))
    made.check(b"GET", b"web.demo.localhost", site + b"/x", own_host=True)
    with pytest.raises(Forbidden, match="--reject-paths"):
        made.check(b"GET", b"web.demo.localhost", site + b"/admin", own_host=True)
    with pytest.raises(Forbidden, match="--accept-paths"):
        made.check(b"GET", b"web.other.localhost", site.replace(b"demo", b"other"), own_host=True)


def test_a_services_own_pods_may_be_called_exec() -> None:
    """The default rules are about the API's pods; those that somebody added hold everywhere."""
    path = f"/api/v1/namespaces/demo/services/web/proxy{POD}/exec".encode()
    Filter(FilterRules()).check(b"GET", b"web.demo.localhost", path, own_host=True)
    with pytest.raises(Forbidden):
        Filter(FilterRules()).check(b"GET", b"localhost", path, own_host=False)
    more = (*FilterRules().reject_paths, "^/api/.*/pods/.*/[e]xec")
    with pytest.raises(Forbidden):
        Filter(FilterRules(reject_paths=more)).check(b"GET", b"web.demo.localhost", path, own_host=True)


@pytest.mark.parametrize("pattern", ["(", "*", "[", "a{2,1}", "(?P<a>x)(?P<a>y)"])
def test_what_is_no_regular_expression(pattern: str) -> None:
    for rules in (FilterRules(accept_paths=(pattern,)), FilterRules(reject_methods=("x", pattern))):
        with pytest.raises(re.error):
            Filter(rules)


def test_memory_is_bounded() -> None:
    made = Filter(FilterRules())
    for i in range(KEPT + 10):
        made.check(b"GET", b"localhost", b"/%d" % i, own_host=False)
    made.check(b"GET", b"localhost", b"/" + b"x" * LONGEST, own_host=False)
    made.check(b"GET", b"web.demo.localhost:" + b"0" * LONGEST, b"/", own_host=True)
    assert len(made._known) <= KEPT
    assert all(sum(map(len, request)) <= LONGEST for request in made._known)


@given(st.text(max_size=60), st.text(max_size=20), st.sampled_from(("GET", "DELETE", "X")))
def test_anything_may_be_checked(path: str, host: str, method: str) -> None:
    passes(FilterRules(), "/" + quote(path, safe="/.%?"), method, quote(host))
