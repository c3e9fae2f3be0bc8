"""Path confusion: what is decided on, what is recorded and what is forwarded are one thing, in every spelling
(CVE-2019-9901, CVE-2021-29492, CVE-2025-66490).
"""

import json

import pytest

from portway.testing.conversation import OK, Backend, RunningDoor, get, request

DEMO = "/api/v1/namespaces/demo/services/"
WEB = f"{DEMO}web/proxy"

BACKEND = [
    ("/", "/"),
    ("/a/../b", "/b"),
    ("/../../../x", "/x"),
    ("/a/./b/", "/a/b/"),
    ("/a//b", "/a//b"),
    ("//x", "//x"),
    ("/%2e%2e/x", "/x"),
    ("/%2E%2e/x", "/x"),
    ("/a/.%2e/x", "/x"),
    ("/a%2fb", "/a%2fb"),
    ("/..%2fx", "/..%2fx"),
    ("/%2e%2e%2fx", "/%2e%2e%2fx"),
    ("/a%5cb", "/a%5cb"),
    ("/a\\..\\b", "/a%5C..%5Cb"),
    ("/%252e%252e/x", "/%252e%252e/x"),
    ("/%252fx", "/%252fx"),
    ("/a;b=c/d", "/a;b=c/d"),
    ("/..;/x", "/..;/x"),
    ("/%00", "/%00"),
    ("/%3fq=1", "/%3fq=1"),
    ("/%23x", "/%23x"),
    ("/%ff", "/%ff"),
    ("/%0d%0aX-Evil:%201", "/%0d%0aX-Evil:%201"),
    ("/x.", "/x."),
    ("/x?a=../..&b=%2e%2e//", "/x?a=../..&b=%2e%2e//"),
    ("/x??", "/x??"),
    ("/x?", "/x?"),
    ("/?/../..", "/?/../.."),
]

CLIMBING = {
    "/../../../x": "/api/v1/namespaces/demo/x",
    "/%2e%2e/x": f"{DEMO}web/x",
    "/%2E%2e/x": f"{DEMO}web/x",
}
"""X-Forwarded-Uri as kube-apiserver makes it: the whole path, cleaned. Nothing is routed or decided by it."""


@pytest.mark.parametrize(("path", "sent"), BACKEND)
def test_the_path_that_the_backend_hears(door: RunningDoor, web: Backend, path: str, sent: str) -> None:
    client = door.client()
    for _ in range(2):  # parsed, then remembered
        client.send(get(path))
    backend = web.accept()
    for _ in range(2):
        start, fields = backend.head()
        assert start == f"GET {sent} HTTP/1.1"
        assert fields["x-forwarded-uri"] == CLIMBING.get(path, WEB + sent.partition("?")[0])
        backend.send(OK)
        assert client.response()[2] == b"ok"
    for line in door.audit(2):
        event = json.loads(line)
        assert event["requestURI"] == WEB + path
        assert event["objectRef"]["name"] == "web"


@pytest.mark.parametrize("path", ["/%", "/%2", "/%zz", "/a/%%", "/..%"])
def test_a_malformed_escape_reaches_nobody(door: RunningDoor, web: Backend, path: str) -> None:
    client = door.client()
    client.send(get(path))
    assert client.response()[0] == 400
    assert not web.is_dialled()


SPELLINGS = [
    # what is asked for, and either what service web hears or the answer
    (f"{WEB}/ok", "/ok"),
    (f"{DEMO}%77eb/proxy/ok", "/ok"),
    (f"{DEMO}web/pr%6fxy/ok", "/ok"),
    ("/%61pi/v1/namespaces/d%65mo/services/web/proxy/ok", "/ok"),
    (f"{DEMO}web:/proxy/ok", "/ok"),
    (f"{DEMO}:web:/proxy/ok", "/ok"),
    (f"{DEMO}http:web:80/proxy/ok", "/ok"),
    (f"{DEMO}http%3aweb%3A80/proxy/ok", "/ok"),
    (f"http://door.example{WEB}/ok", "/ok"),
    (f"HTTPS://elsewhere{WEB}/ok", "/ok"),
    (f"{WEB}/../../other/proxy/secret", "/other/proxy/secret"),
    (f"{WEB}/../../../../../../api/v1/secrets", "/api/v1/secrets"),
    (f"{WEB}/%2e%2e/%2e%2e/other/proxy/secret", "/other/proxy/secret"),
    (f"{DEMO}other/proxy/secret", 403),
    (f"http://door.example{DEMO}other/proxy/secret", 403),
    (f"{DEMO}%6fther/proxy/secret", 403),
    (f"{DEMO}web/../other/proxy/secret", 403),
    (f"{DEMO}web/%2e%2e/other/proxy/secret", 403),
    (f"{DEMO}web%2f..%2fother/proxy/secret", 403),
    (f"{DEMO}web%2fproxy%2f..%2f..%2fother/proxy/secret", 403),
    (f"{DEMO}web%252fproxy/secret", 403),
    (f"{DEMO}other%2f..%2fweb/proxy/secret", 403),
    (f"{DEMO}web;/proxy/secret", 403),
    (f"{DEMO}web./proxy/secret", 403),
    (f"{DEMO}web%20/proxy/secret", 403),
    (f"{DEMO}web%00/proxy/secret", 403),
    (f"{DEMO}web%0a/proxy/secret", 403),
    (f"{DEMO}Web/proxy/secret", 403),
    (f"{DEMO}web\\/proxy/secret", 403),
    (f"{DEMO}web%3f/proxy/secret", 403),
    (f"{DEMO}web%ff/proxy/secret", 403),
    (f"{DEMO}/web/proxy/secret", 403),
    (f"/x/..{WEB}/secret", 403),
    (f"{DEMO}.%2fweb/proxy/secret", 403),
    ("/api/v1/namespaces/demo%2f/services/web/proxy/secret", 403),
    ("/api/v1/namespaces/other/services/web/proxy/secret", 403),
    ("/api/v1/namespaces/demo/../other/services/web/proxy/secret", 403),
    ("/api/v1/namespaces//services/web/proxy/secret", 403),
    ("/api/v1/namespaces/demo/pods/web/proxy/secret", 403),
    ("/api/v1/nodes/web/proxy/secret", 403),
    (f"{DEMO}web/status#/proxy/x", 400),
    (f"{DEMO}web/status%23/proxy/x", 403),
    (f"{DEMO}web", 403),
    (f"{DEMO}web/proxyx/secret", 403),
    (f"{DEMO}web/proxy;x", 403),
    (f"{DEMO}web/Proxy/secret", 403),
    ("/api/v1/proxy/namespaces/demo/services/web/secret", 403),
    ("/apis/v1/namespaces/demo/services/web/proxy/secret", 403),
]


@pytest.mark.parametrize(("target", "outcome"), SPELLINGS)
def test_a_grant_for_one_service_opens_only_that(
    door: RunningDoor, web: Backend, target: str, outcome: str | int
) -> None:
    """Carol may use service web, and nothing else, whatever the target looks like."""
    other, api = door.backend(), door.api()
    door.service("other", other)
    door.service("web", other, namespace="other")
    door.allow("carol", name="web")
    client = door.client()
    client.send(absolute(target))
    if isinstance(outcome, int):
        assert client.response()[0] == outcome
    else:
        backend = web.accept()
        assert backend.head()[0] == f"GET {outcome} HTTP/1.1"
        backend.send(OK)
        assert client.response()[0] == 200
    assert not other.is_dialled(0.02)
    assert not api.is_dialled(0.02)


def absolute(target: str) -> bytes:
    """A GET of carol's with exactly this target."""
    return f"GET {target} HTTP/1.1\r\nHost: door.example\r\nAuthorization: Bearer named-token\r\n\r\n".encode()


def test_the_host_of_an_absolute_target_is_the_host(door: RunningDoor, web: Backend) -> None:
    door.allow("carol", name="web")
    client = door.client()
    client.send(absolute(f"http://other.example:8080{WEB}/x"))
    backend = web.accept()
    start, fields = backend.head()
    assert (start, fields["host"]) == ("GET /x HTTP/1.1", "other.example:8080")


@pytest.mark.parametrize(
    "target", ["http://user@door.example/x", "http:///x", "http://a?b/x", "ftp://h/x", "http://%41/"]
)
def test_an_absolute_target_without_a_plain_host_is_refused(door: RunningDoor, target: str) -> None:
    client = door.client()
    client.send(absolute(target))
    assert client.response()[0] == 400


API = [
    "/",
    "/version",
    "/version/",
    "/api/v1/namespaces/demo/secrets",
    "//api/v1/secrets",
    "/api/v1/../v1/secrets",
    "/api/v1/namespaces/demo/pods/x%2fstatus",
    "/api/v1/%2e%2e/secrets",
    "/api/v1/pods?watch=true&x=%2f..%23",
    "/api/v1/pods;x",
    "/api/v1/namespaces/demo/services/web\\/proxy",
    "/x%00y",
    "/caf%c3%a9",
]


@pytest.mark.parametrize("target", API)
def test_what_the_api_hears_is_what_was_decided_on(door: RunningDoor, target: str) -> None:
    api = door.api()
    client = door.client()
    client.send(absolute(target).replace(b"named-token", b"admin-token"))
    backend = api.accept()
    start, fields = backend.head()
    assert start == f"GET {target} HTTP/1.1"
    assert (fields["x-remote-user"], fields["x-remote-group"]) == ("admin", "system:masters\nsystem:authenticated")
    assert "authorization" not in fields
    backend.send(OK)
    assert client.response()[2] == b"ok"
    [line] = door.audit(1)
    assert json.loads(line)["requestURI"] == target


def test_a_second_slash_in_front_is_the_apis_and_stays(door: RunningDoor, web: Backend) -> None:
    """As upstream it is authorised as the resource it looks like, and is no route: the API answers 404."""
    api = door.api()
    door.allow("carol", name="web")
    client = door.client()
    client.send(absolute(f"/{WEB}/x"))
    backend = api.accept()
    start, fields = backend.head()
    assert (start, fields["x-remote-user"]) == (f"GET /{WEB}/x HTTP/1.1", "carol")
    assert not web.is_dialled()


def test_options_for_the_server_as_a_whole(door: RunningDoor) -> None:
    api = door.api()
    client = door.client()
    client.send(request("OPTIONS", "*"))
    assert api.accept().head()[0] == "OPTIONS * HTTP/1.1"


def test_a_missing_slash_is_a_redirect_for_browsers_and_nothing_for_others(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    for method in ("GET", "HEAD"):
        client.send(request(method, "?a=b"))
        start, fields = client.head()
        assert (start, fields["location"]) == ("HTTP/1.1 301 Moved Permanently", f"{WEB}/?a=b")
    client.send(request("GET", "/"))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        client.send(request(method, "?a=b"))
        assert backend.head()[0] == f"{method} /?a=b HTTP/1.1"
        backend.send(OK)
        assert client.response()[2] == b"ok"


def test_a_redirect_is_of_the_canonical_prefix(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("GET", f"{DEMO}%77eb%3a/proxy"))
    _, fields = client.head()
    assert fields["location"] == f"{DEMO}web:/proxy/"
