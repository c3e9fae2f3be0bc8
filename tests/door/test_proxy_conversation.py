"""`portway proxy` on raw sockets: what a browser or program sends, and what the API server hears of it."""

import base64
import itertools
import json
import select
from collections.abc import Callable

import pytest

from portway.client.view import Service
from portway.gateway.filter import FilterRules
from portway.gateway.settings import Limits
from portway.testing.conversation import OK, TIMEOUT, Backend, RunningDoor, Wire

Proxy = tuple[RunningDoor, Backend]
MakeProxy = Callable[..., Proxy]
GONE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
WEB = "/api/v1/namespaces/demo/services/web/proxy"
TWO = "/api/v1/namespaces/demo/services/two"
SITE = "web.demo.localhost:8001"
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "x", "Sec_WebSocket_Version": "13"}
LINK = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document", "Accept": HTML}


def line(method: str, target: str, host: str | None = "localhost:8001", *body: bytes, **more: str) -> bytes:
    """A request, its field names with underscores for dashes; a `body` makes it one with a length."""
    lines = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    lines += [f"Content-Length: {len(content)}" for content in body]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + b"".join(body)


def get(target: str, host: str | None = "localhost:8001", **more: str) -> bytes:
    return line("GET", target, host, **more)


Heard = tuple[str, dict[str, str]]


def asked(proxy: Proxy, raw: bytes, answer: bytes = GONE) -> tuple[Heard | None, int, dict[str, str], bytes]:
    """What the API server heard, if anything, and what the client was answered with."""
    door, api = proxy
    client = door.client()
    client.send(raw)
    ready, _, _ = select.select([client.sock, api.listener], [], [], TIMEOUT)
    assert ready
    heard = upstream = None
    if api.listener in ready:
        upstream = api.accept()
        heard = upstream.head()
        upstream.send(answer)
    if raw.startswith(b"HEAD "):
        start, fields = client.head()
        code, body = int(start.split(" ")[1]), b""
    else:
        code, fields, body = client.response()
    for wire in (client, upstream):
        if wire is not None:
            wire.close()
    return heard, code, fields, body


def reaches(proxy: Proxy, raw: bytes) -> str:
    """The request line that the API server hears."""
    heard, code, _, _ = asked(proxy, raw)
    assert heard is not None
    assert code == 200
    assert heard[1]["host"] == f"127.0.0.1:{proxy[1].port}"
    return heard[0].removesuffix(" HTTP/1.1")


def refused(proxy: Proxy, raw: bytes) -> str:
    """The message of the 403 that the door answers with."""
    heard, code, _, body = asked(proxy, raw)
    assert (heard, code) == (None, 403)
    return str(json.loads(body)["message"])


# what the API server hears


ROUTES = [
    ("GET", "/api/v1/namespaces?limit=1", "localhost:8001", "/api/v1/namespaces?limit=1"),
    (
        "GET",
        "/api/test?fields=ID%3Dfoo&labels=key%3Dvalue",
        "localhost",
        "/api/test?fields=ID%3Dfoo&labels=key%3Dvalue",
    ),
    ("DELETE", "/apis/x/v1/y", "127.0.0.1:8001", "/apis/x/v1/y"),
    ("OPTIONS", "/api", "localhost:8001", "/api"),
    ("HEAD", "/api", "localhost:8001", "/api"),
    ("GET", "/", "localhost:8001", "/"),
    ("GET", f"{WEB}/a/b?q=1", "localhost:8001", f"{WEB}/a/b?q=1"),
    ("POST", WEB, "localhost:8001", WEB),
    ("GET", f"{WEB}/a//b%2Fc%20", "[::1]:8001", f"{WEB}/a//b%2Fc%20"),
    ("GET", f"{WEB}/a/../../../x", "localhost:8001", f"{WEB}/x"),
    ("GET", f"http://localhost:8001{WEB}/x", "evil.example", f"{WEB}/x"),
    # at a service's own host
    ("GET", "/", SITE, f"{WEB}/"),
    ("HEAD", "/x", SITE, f"{WEB}/x"),
    ("OPTIONS", "/x", SITE, f"{WEB}/x"),
    ("DELETE", "/x", SITE, f"{WEB}/x"),
    ("GET", "/x?q=%00&/proxy", SITE, f"{WEB}/x?q=%00&/proxy"),
    ("GET", "/x", "WEB.Demo.localhost.:1", f"{WEB}/x"),
    ("GET", "/x", "two.demo.localhost", f"{TWO}:http/proxy/x"),
    ("GET", "/x", "http.two.demo.localhost", f"{TWO}:http/proxy/x"),
    ("GET", "/x", "80.two.demo.localhost", f"{TWO}:http/proxy/x"),
    ("GET", "/x", "443.two.demo.localhost", "/api/v1/namespaces/demo/services/https:two:https/proxy/x"),
    ("GET", "/x", "https.two.demo.localhost", "/api/v1/namespaces/demo/services/https:two:https/proxy/x"),
    ("GET", "/x", "nothing.two.demo.localhost", f"{TWO}:nothing/proxy/x"),
    ("GET", f"http://{SITE}/x", "localhost:8001", f"{WEB}/x"),
    ("GET", f"http://{SITE}/x", "two.demo.localhost", f"{WEB}/x"),
    ("GET", f"HTTP://{SITE}", "localhost:8001", f"{WEB}/"),
    # whatever the path is called there, it is the service's
    ("GET", "/api/v1/namespaces", SITE, f"{WEB}/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/kube-system/secrets", SITE, f"{WEB}/api/v1/namespaces/kube-system/secrets"),
    ("GET", f"{TWO}/proxy/x", SITE, f"{WEB}{TWO}/proxy/x"),
    ("GET", WEB, SITE, f"{WEB}{WEB}"),
    ("GET", "/portway/services", SITE, f"{WEB}/portway/services"),
    ("GET", f"http://{SITE}/api/v1/namespaces", "localhost:8001", f"{WEB}/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/demo/pods/p/exec", SITE, f"{WEB}/api/v1/namespaces/demo/pods/p/exec"),
    # and never leads out of it
    ("GET", "/../../../../../secrets", SITE, f"{WEB}/secrets"),
    ("GET", "/%2e%2e/%2E%2e/secrets", SITE, f"{WEB}/secrets"),
    ("GET", "/a/../../b", SITE, f"{WEB}/b"),
    ("GET", "/a/b/..%2fc", SITE, f"{WEB}/a/b/..%2fc"),
    ("GET", "//evil.example/x", SITE, f"{WEB}//evil.example/x"),
]


@pytest.mark.parametrize(("method", "target", "host", "expected"), ROUTES)
def test_routes(proxy: Proxy, method: str, target: str, host: str, expected: str) -> None:
    assert reaches(proxy, line(method, target, host)) == f"{method} {expected}"


@pytest.mark.parametrize(
    "target",
    [
        "/..%2f..%2f..%2fsecrets",
        "/%2e%2e%2f..%2fx",
        "/a%2f..%2f..%2f..%2fx",
        "/a/..%5c..%5cx",
        "/%2f..%2f..%2fx",
        "/%zz",
    ],
)
def test_what_could_lead_out_of_a_service_is_not_sent(proxy: Proxy, target: str) -> None:
    heard, code, _, body = asked(proxy, get(target, SITE))
    assert (heard, code, json.loads(body)["reason"]) == (None, 400, "BadRequest")


@pytest.mark.parametrize("raw", [line("OPTIONS", "*", SITE), line("CONNECT", "web.demo.localhost:80", SITE)], ids=str)
def test_targets_that_are_no_paths(proxy: Proxy, raw: bytes) -> None:
    for _ in range(2):
        heard, code, _, _ = asked(proxy, raw)
        assert heard is None
        assert code in (400, 405)
        reaches(proxy, line("OPTIONS", "/", SITE))  # decided now, and remembered


def test_a_body_and_its_fields_come_through(proxy: Proxy) -> None:
    door, api = proxy
    for target, host in (("/api/v1/namespaces", "localhost"), (f"{WEB}/x", "localhost"), ("/x", SITE)):
        client = door.client()
        client.send(line("POST", target, host, b"body", Content_Type="application/x-y", X_Own="1"))
        upstream = api.accept()
        _, fields = upstream.head()
        assert upstream.exactly(4) == b"body"
        assert (fields["content-type"], fields["content-length"], fields["x-own"]) == ("application/x-y", "4", "1")
        upstream.send(GONE)
        assert client.response()[2] == b"ok"


# as whom


def test_requests_are_the_kubeconfigs_users(make_proxy: MakeProxy) -> None:
    proxy = make_proxy(tls=True)
    proxy[0].service("web")
    for raw in (get("/api"), get(f"{WEB}/x"), get("/x", SITE)):
        heard, _, fields, _ = asked(proxy, raw)
        assert heard is not None
        assert heard[1]["authorization"] == "Bearer kubeconfig-token"
        assert "kubeconfig-token" not in str(fields)


def test_a_credential_of_ones_own_goes_to_the_api_but_a_services_is_the_services(make_proxy: MakeProxy) -> None:
    proxy = make_proxy(tls=True)
    proxy[0].service("web")
    own = "Basic " + base64.b64encode(b"ann:secret").decode()
    for target in ("/api", f"{WEB}/x"):
        heard, _, _, _ = asked(proxy, get(target, Authorization=own, Impersonate_User="bob"))
        assert heard is not None
        assert (heard[1]["authorization"], heard[1]["impersonate-user"]) == (own, "bob")
    heard, _, _, _ = asked(proxy, get("/x", SITE, Authorization=own, Impersonate_User="bob", Impersonate_Group="x"))
    assert heard is not None
    assert heard[1]["authorization"] == "Bearer kubeconfig-token"
    assert not [name for name in heard[1] if name.startswith("impersonate")]


def test_no_identity_can_be_smuggled_in(proxy: Proxy) -> None:
    forged = {"X_Remote_User": "root", "X_Remote_Group": "system:masters", "X_Forwarded_Host": "evil.example"}
    for raw in (get("/api", **forged), get("/x", SITE, **forged)):
        heard, _, _, _ = asked(proxy, raw)
        assert heard is not None
        assert not [name for name in heard[1] if name.startswith(("x-remote", "x-forwarded-host"))]


# two sites on one connection


def test_hosts_alternate_on_one_connection(proxy: Proxy) -> None:
    door, api = proxy
    client = door.client()
    upstream: Wire | None = None
    hosts = {
        SITE: f"{WEB}/same",
        "http.two.demo.localhost:8001": f"{TWO}:http/proxy/same",
        "localhost:8001": "/same",
        "[::1]:8001": "/same",
    }
    for host in [*hosts, *reversed(hosts), SITE, SITE]:
        client.send(get("/same", host))
        upstream = upstream or api.accept()
        assert upstream.head()[0] == f"GET {hosts[host]} HTTP/1.1"
        upstream.send(OK)
        assert client.response()[0] == 200
    client.send(get("/same", "evil.example"))
    assert client.response()[0] == 403
    client.send(get("/same", SITE))
    assert upstream is not None
    assert upstream.head()[0] == f"GET {WEB}/same HTTP/1.1"


# redirects


@pytest.mark.parametrize(
    ("target", "to"),
    [
        (WEB, "http://web.demo.localhost:8001/"),
        (f"{WEB}/", "http://web.demo.localhost:8001/"),
        (f"{WEB}?a=1", "http://web.demo.localhost:8001/?a=1"),
        (f"{WEB}/a/b/?q=1&r=%2F", "http://web.demo.localhost:8001/a/b/?q=1&r=%2F"),
        (f"{WEB}/a%2Fb//c", "http://web.demo.localhost:8001/a%2Fb//c"),
        (f"{WEB}//evil.example/x", "http://web.demo.localhost:8001//evil.example/x"),
        (f"{WEB}/../../x", "http://web.demo.localhost:8001/x"),
        (f"{TWO}:http/proxy/x", "http://http.two.demo.localhost:8001/x"),
        (f"{TWO}:80/proxy/x", "http://80.two.demo.localhost:8001/x"),
        ("/api/v1/namespaces/demo/services/https:two:https/proxy/", "http://https.two.demo.localhost:8001/"),
        ("/api/v1/namespaces/demo/services/http:two:http/proxy/", "http://http.two.demo.localhost:8001/"),
        ("/api/v1/namespaces/demo/services/%77eb/proxy/x", "http://web.demo.localhost:8001/x"),
    ],
)
def test_a_link_moves_to_the_services_own_host(proxy: Proxy, target: str, to: str) -> None:
    heard, code, fields, _ = asked(proxy, get(target, Sec_Fetch_Site="none", **LINK))
    assert (heard, code, fields["location"], fields["cache-control"]) == (None, 307, to, "no-store")


@pytest.mark.parametrize(
    ("host", "to"),
    [
        ("localhost", "http://web.demo.localhost/"),
        ("127.0.0.1:99", "http://web.demo.localhost:99/"),
        ("[::1]", "http://web.demo.localhost/"),
    ],
)
def test_a_link_keeps_the_port_that_was_asked(proxy: Proxy, host: str, to: str) -> None:
    assert asked(proxy, get(f"{WEB}/", host, **LINK))[2]["location"] == to


@pytest.mark.parametrize(
    "raw",
    [
        get(f"{WEB}/"),
        get(f"{WEB}/", Accept=HTML),
        get(f"{WEB}/", **(LINK | {"Accept": "*/*"})),
        get(f"{WEB}/", **(LINK | {"Sec_Fetch_Dest": "iframe"})),
        get(f"{WEB}/", **(LINK | {"Sec_Fetch_Mode": "no-cors"})),
        line("HEAD", f"{WEB}/", **LINK),
        line("DELETE", f"{WEB}/", **LINK),
        get("/api/v1/namespaces/demo/pods/web/proxy/", **LINK),
        get("/api/v1/nodes/n/proxy/", **LINK),
        get("/api/v1/namespaces/demo/services/web:HTTP/proxy/", **LINK),
        get("/api/v1/namespaces", **LINK),
        # TLS at a port that doesn't say so: its host name would mean plain HTTP
        get("/api/v1/namespaces/demo/services/https:web:80/proxy/", **LINK),
        get("/api/v1/namespaces/demo/services/https:two:/proxy/", **LINK),
        get("/api/v1/namespaces/demo/services/https:gone:/proxy/", **LINK),
        get("/x", SITE, **LINK),
    ],
    ids=range(15),
)
def test_everything_else_stays(proxy: Proxy, raw: bytes) -> None:
    assert asked(proxy, raw)[1] == 200


def test_a_link_of_a_service_comes_out_at_the_root(proxy: Proxy) -> None:
    moved = (
        "HTTP/1.1 302 Found\r\nLocation: {}/login?next=%2F\r\nSet-Cookie: a=b; Path={}/app; Domain=localhost\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    there = f"https://127.0.0.1:{proxy[1].port}{WEB}"
    for location in (WEB, there):
        _, _, fields, _ = asked(proxy, get("/", SITE), moved.format(location, WEB).encode())
        assert (fields["location"], fields["set-cookie"]) == ("/login?next=%2F", "a=b; Path=/app")
    _, _, fields, _ = asked(proxy, get(f"{WEB}/"), moved.format(WEB, WEB).encode())
    assert (fields["location"], fields["set-cookie"]) == (f"{WEB}/login?next=%2F", f"a=b; Path={WEB}/app")


def test_a_page_of_a_service_comes_out_at_the_root_and_is_no_sandbox(proxy: Proxy) -> None:
    page = f'<a href="{WEB}/x">x</a><img src="/{"y"}"><a href="http://other.example{WEB}/">z</a>'.encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    _, _, fields, body = asked(proxy, get("/", SITE), answer % (len(page), page))
    assert body == page.replace(b'"' + WEB.encode() + b'/x"', b'"/x"')
    assert "content-security-policy" not in fields
    _, _, fields, body = asked(proxy, get(f"{WEB}/", Accept=HTML), answer % (len(page), page))
    assert body == page
    assert fields["content-security-policy"].startswith("sandbox ")
    _, _, fields, _ = asked(proxy, get("/api", Accept=HTML), answer % (len(page), page))
    assert "content-security-policy" not in fields


# who may ask


SITES = ("same-origin", "same-site", "cross-site", "none", None)
HOW = {
    "document": ("navigate", "document"),
    "iframe": ("navigate", "iframe"),
    "object": ("navigate", "object"),
    "script": ("no-cors", "script"),
    "image": ("no-cors", "image"),
    "fetch": ("cors", "empty"),
    "own fetch": ("same-origin", "empty"),
    "websocket": ("websocket", "websocket"),
    "program": (None, None),
}
PLACES = {"API": ("/api/v1/pods", "localhost:8001"), "path": (f"{WEB}/x", "localhost:8001"), "site": ("/x", SITE)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "WebSocket"])
def test_what_other_origins_may_send(proxy: Proxy, place: str, method: str) -> None:
    """No foreign page may change anything, open a WebSocket, or load anything but a document that it links to; from a
    service's path pictures and scripts may be loaded, because a sandboxed page's own are "cross-site" too.
    """
    target, host = PLACES[place]
    for site, how in itertools.product(SITES, HOW):
        mode, dest = HOW[how]
        said = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
        fields = {name: value for name, value in said.items() if value is not None}
        if method == "WebSocket":
            raw = line("GET", target, host, **fields, **WEBSOCKET)
        else:
            raw = line(method, target, host, *([b""] if method[0] == "P" else []), **fields)
        own = site in ("same-origin", "none", None)
        reading = method in ("GET", "HEAD", "OPTIONS")
        expected = own or (reading and (place == "path" or how == "document"))
        heard, code, _, _ = asked(proxy, raw)
        assert (heard is not None) == expected, (site, how)
        assert (code == 403) != expected, (site, how)


@pytest.mark.parametrize("place", PLACES)
def test_who_the_origin_says(proxy: Proxy, place: str) -> None:
    target, host = PLACES[place]
    own = [f"http://{host}", f"https://{host}", f"http://{host.upper()}"]
    other = ["http://evil.example", "null", "", host, "http://localhost", "http://localhost:8002", f"http://x.{host}"]
    other += [f"http://{host}.evil.example", f"http://{host}, http://evil.example", "http://", f"http://{host}/"]
    other += [f"http://{name}" for _, name in PLACES.values() if name != host]
    for origin in own + other:
        for raw in (
            line("POST", target, host, b"", Origin=origin),
            line("DELETE", target, host, Origin=origin, Sec_Fetch_Site="same-origin"),
            line("GET", target, host, Origin=origin, **WEBSOCKET),
        ):
            assert (asked(proxy, raw)[0] is not None) == (origin in own), origin


def test_a_websocket_of_a_site_is_piped(proxy: Proxy) -> None:
    door, api = proxy
    client = door.client()
    client.send(get("/ws?a=1", SITE, Origin=f"http://{SITE}", **WEBSOCKET))
    upstream = api.accept()
    start, fields = upstream.head()
    assert start == f"GET {WEB}/ws?a=1 HTTP/1.1"
    assert (fields["connection"], fields["upgrade"]) == ("Upgrade", "websocket")
    assert "origin" not in fields  # it was ours to judge, and means nothing under the API server's name
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert client.response()[0] == 101
    assert client.exactly(5) == b"hello"
    client.send(b"to you")
    assert upstream.exactly(6) == b"to you"
    upstream.send(b"and back")
    assert client.exactly(8) == b"and back"
    upstream.close()
    assert client.rest() == b""


@pytest.mark.parametrize("host", ["localhost:8001", SITE])
def test_the_catalogue_is_no_foreign_pages(proxy: Proxy, host: str) -> None:
    if host != SITE:
        assert asked(proxy, get("/portway/services", host))[1] == 200
        refused(proxy, get("/portway/services", host, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors"))
        refused(proxy, get("/", host, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe"))


REBOUND = [
    "evil.example",
    "evil.example:8001",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
    "",
    "0.0.0.0:8001",
]
REBOUND += [
    "localhost.",
    "127.0.0.2",
    "10.0.0.1:8001",
    "web.demo.localhost.evil.example",
    "demo.localhost",
    "a.b.c.d.localhost",
    "[::2]",
]


@pytest.mark.parametrize("host", REBOUND)
def test_a_name_that_was_bound_to_this_machine_is_refused(proxy: Proxy, host: str) -> None:
    for target in ("/api/v1/secrets", f"{WEB}/x", "/", "/portway/services"):
        for method in ("GET", "POST"):
            assert "--accept-hosts" in refused(proxy, line(method, target, host, *([b""] if method == "POST" else [])))
        if host:
            assert "--accept-hosts" in refused(proxy, get(f"http://{host}{target}"))
    refused(proxy, get("/api", host, **WEBSOCKET))


def test_no_host_at_all(proxy: Proxy) -> None:
    heard, code, _, _ = asked(proxy, get("/api", None))
    assert (heard, code) == (None, 400)
    heard, code, _, _ = asked(proxy, get("/api", None).replace(b"1.1", b"1.0"))
    assert (heard, code) == (None, 403)
    heard, code, _, _ = asked(proxy, get("/api").replace(b"Host: ", b"Host: evil.example\r\nHost: "))
    assert (heard, code) == (None, 400)


EXEC = [
    "/api/v1/namespaces/d/pods/p/exec",
    "/api/v1/namespaces/d/pods/p/%65xec",
    "/api/v1/namespaces/d/pods/p/exec/",
    "/api/v1/namespaces/d/pods/p//exec",
    "//api/v1/namespaces/d/pods/p/exec",
    "/%61pi/v1/namespaces/d/%70ods/p/exec",
    "/x/../api/v1/namespaces/d/pods/p/exec",
    "/api/v1/namespaces/d/pods/p/exec?command=id&stdout=true",
    "http://localhost:8001/api/v1/namespaces/d/pods/p/exec",
    "http://localhost:8001//api/v1/namespaces/d/pods/p/exec",
    "/api/v1/namespaces/d/pods/p%2Fexec",
    f"{WEB}/../../../pods/p/exec",
    "/api/v1/namespaces/d/pods/p%0A/exec",
]


@pytest.mark.parametrize("target", EXEC)
def test_exec_and_attach_are_refused(proxy: Proxy, target: str) -> None:
    for spelled in (target, target.replace("%65xec", "%61ttach").replace("exec", "attach")):
        for raw in (get(spelled), line("POST", spelled, "localhost:8001", b""), get(spelled, **WEBSOCKET)):
            assert "--reject-paths" in refused(proxy, raw)


def test_the_filter_can_be_disabled(make_proxy: MakeProxy) -> None:
    proxy = make_proxy(filter=None)
    assert reaches(proxy, get("/api/v1/namespaces/d/pods/p/exec", "evil.example")).endswith("/exec")
    assert reaches(proxy, get("/x", SITE)) == f"GET {WEB}/x"


def test_rules_about_paths_hold_at_host_names_too(make_proxy: MakeProxy) -> None:
    rules = FilterRules(accept_paths=("^/api/v1/namespaces/demo/",), reject_paths=("/services/two[:/]",))
    proxy = make_proxy(filter=rules)
    for namespace in ("demo", "other"):
        proxy[0].service("web", namespace=namespace)
    proxy[0].service("two")
    assert reaches(proxy, get("/x", SITE)) == f"GET {WEB}/x"
    for host in ("web.other.localhost", "two.demo.localhost", "80.two.demo.localhost"):
        refused(proxy, get("/x", host))
        refused(proxy, get("/api/v1/namespaces/demo/x", host))


# --api-prefix


PREFIXED = [
    ("/custom/", "/custom/api/v1/pods?x=1", "/api/v1/pods?x=1"),
    ("/custom", "/custom/metrics", "/metrics"),
    ("/custom/", "/custom/custom/x", "/custom/x"),
    ("/a/b/", "/a/b/api", "/api"),
    ("/api/", "/api/metrics", "/api/metrics"),
    ("/api/", "/api/v1/pods", "/api/v1/pods"),
    ("/", "/metrics", "/metrics"),
    ("/custom/", f"/custom{WEB}/x", f"{WEB}/x"),
]
OUTSIDE = [
    ("/custom/", "/api/v1/pods"),
    ("/custom/", "/metrics"),
    ("/custom/", "/customx/api"),
    ("/custom/", "/"),
    ("/custom/", f"{WEB}/x"),
    ("/custom/", "/%63ustom/api"),
    ("/api/", "/metrics"),
    ("/api/", "/apis/apps"),
]


@pytest.mark.parametrize(("prefix", "target", "expected"), PREFIXED)
def test_below_an_api_prefix(make_proxy: MakeProxy, prefix: str, target: str, expected: str) -> None:
    proxy = make_proxy(api_prefix=prefix)
    for _ in range(2):  # the first one waits for the credential
        assert reaches(proxy, get(target)) == f"GET {expected}"


@pytest.mark.parametrize(("prefix", "target"), OUTSIDE)
def test_outside_an_api_prefix(make_proxy: MakeProxy, prefix: str, target: str) -> None:
    proxy = make_proxy(api_prefix=prefix)
    heard, code, _, body = asked(proxy, get(target))
    assert (heard, code, body) == (None, 404, b"404 page not found\n")


def test_an_api_prefix_and_what_is_beside_it(make_proxy: MakeProxy) -> None:
    proxy = make_proxy(api_prefix="/custom/")
    proxy[0].service("web")
    assert reaches(proxy, get("/x", SITE)) == f"GET {WEB}/x"
    assert reaches(proxy, get("/custom/x", SITE)) == f"GET {WEB}/custom/x"
    heard, code, fields, _ = asked(proxy, get("/custom?a=1"))
    assert (heard, code, fields["location"]) == (None, 301, "/custom/?a=1")
    heard, code, fields, _ = asked(proxy, get(f"/custom{WEB}?a=1"))
    assert (heard, code, fields["location"]) == (None, 301, f"/custom{WEB}/?a=1")
    moved = GONE.replace(b"200 OK", b"302 Found\r\nLocation: %b/x\r\nSet-Cookie: a=b; Path=/")
    _, _, fields, _ = asked(proxy, get(f"/custom{WEB}/"), moved % WEB.encode())
    assert fields["location"] == f"/custom{WEB}/x"
    assert fields["set-cookie"] == f"a=b; Path=/custom{WEB}/"
    assert "--reject-paths" in refused(proxy, get("/custom/api/v1/namespaces/d/pods/p/exec"))
    assert asked(proxy, get("/portway/services"))[1] == 200


def test_the_path_of_the_servers_url_stands_in_front(make_proxy: MakeProxy) -> None:
    proxy = make_proxy("/k8s/c1")
    proxy[0].service("web")
    assert reaches(proxy, get("/api")) == "GET /k8s/c1/api"
    assert reaches(proxy, get("/x", SITE)) == f"GET /k8s/c1{WEB}/x"
    assert reaches(make_proxy("/k8s/c1", append_server_path=False), get("/api")) == "GET /api"


# what the door answers itself


def test_answers_of_its_own(proxy: Proxy) -> None:
    heard, code, fields, body = asked(proxy, get("/", Accept=HTML, **{k: v for k, v in LINK.items() if k != "Accept"}))
    assert (heard, code, fields["content-type"]) == (None, 200, "text/html; charset=utf-8")
    assert b"http://web.demo.localhost:8001/" in body
    heard, code, fields, body = asked(proxy, get("/portway/services?namespace=demo"))
    assert (heard, code, len(json.loads(body)["services"])) == (None, 200, 2)
    client = proxy[0].client()
    client.send(line("HEAD", "/portway/services"))
    start, _ = client.head()
    assert start == "HTTP/1.1 200 OK"
    client.send(get("/portway/services"))
    assert client.response()[0] == 200
    assert asked(proxy, line("POST", "/portway/services", "localhost:8001", b""))[1] == 405


def test_a_service_that_nobody_knows_is_asked_for_once(proxy: Proxy) -> None:
    door, _ = proxy
    asked_for: list[tuple[str, str]] = []

    async def noted(namespace: str, name: str) -> Service | None:
        asked_for.append((namespace, name))
        return None

    door.view.confirm_service = noted  # type: ignore[method-assign]
    assert reaches(proxy, get("/x", "fresh.demo.localhost")) == "GET /api/v1/namespaces/demo/services/fresh/proxy/x"
    assert asked_for == [("demo", "fresh")]


def test_an_api_server_that_is_gone(make_proxy: MakeProxy) -> None:
    proxy = make_proxy(limits=Limits(connect_timeout=20))
    proxy[0].service("web")
    proxy[1].close()
    for raw in (get("/api"), get(f"{WEB}/x"), get("/x", SITE)):
        client = proxy[0].client()
        client.send(raw)
        code, _, body = client.response()
        assert (code, json.loads(body)["reason"]) == (503, "ServiceUnavailable")


def test_a_decision_that_was_never_followed_leads_nowhere_wrong(proxy: Proxy) -> None:
    """A redirect to the slash is answered before it is known where to go: the next to use its decision must look."""
    door, api = proxy
    warm, other = door.client(), door.client()
    warm.send(get(f"{WEB}/x"))
    upstream = api.accept()
    upstream.head()
    upstream.send(OK)
    assert warm.response()[0] == 200
    (identity,) = {down.active or down._last for down in door.door.crowd.connections if down._last is not None}
    assert identity.identity is not None
    door.on_loop(identity.identity.decisions.clear)
    other.send(get(WEB))
    assert other.response()[0] == 301
    warm.send(get(f"{WEB}/x"))
    upstream.head()
    upstream.send(GONE)
    assert warm.response()[0] == 200
    for wire in (warm, other, upstream):
        wire.close()
