"""Ingresses at the door, on sockets: host and path choose the service, RBAC decides, and the API's own names stay."""

import json
import select
from collections.abc import Callable
from typing import Any

import pytest

from portway.gateway.localanswers import Answer
from portway.kube.htpasswd import hash_password
from portway.kube.identity import User
from portway.kube.ingresses import CONTROLLER
from portway.kube.ingresshosts import IngressHosts
from portway.testing.conversation import OK, TIMEOUT, RunningDoor, Wire

Make = Callable[..., RunningDoor]
GONE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
ALLOWED = IngressHosts(own=("door.example",))
WITHIN = IngressHosts(own=("door.example", "door.shop.test", "*.shop.test"), domains=("shop.test", "localhost"))
CLASS = {"metadata": {"name": "portway"}, "spec": {"controller": CONTROLLER}}
PROXY = "/api/v1/namespaces/demo/services/web/proxy"
SECRETS = "/api/v1/namespaces/demo/secrets"
ANN = "Basic YW5uOnNlY3JldA=="
PAGE = b"the door's own"
HTPASSWD = f"ann:{hash_password('secret', 4)}\n"


def backend(service: str) -> dict[str, Any]:
    return {"service": {"name": service, "port": {"number": 80}}}


def rule(host: str, **paths: str) -> dict[str, Any]:
    """Paths "/KEYWORD" of services; `root` is "/"."""
    return {
        **({"host": host} if host else {}),
        "http": {
            "paths": [
                {
                    "path": "/" if path == "root" else f"/{path}",
                    "pathType": "Prefix",
                    "backend": backend(service),
                }
                for path, service in paths.items()
            ]
        },
    }


def raw(target: str, host: str, token: str = "admin-token", more: str = "", method: str = "GET") -> bytes:
    credential = f"Authorization: {token if ' ' in token else f'Bearer {token}'}\r\n" if token else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{credential}{more}\r\n".encode()


class Page:
    """The door's own pages: one."""

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | None:
        del query, page, host, user
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(PAGE)
        return (200, head, PAGE) if path == "/portway/" else None


class Shop:
    """A door with services web and admin, an API, and what each of them hears."""

    def __init__(self, door: RunningDoor) -> None:
        self.door = door
        self.backends = {"web": door.backend(), "admin": door.backend(), "api": door.api()}
        for name in ("web", "admin"):
            door.service(name, self.backends[name])
        door.apply("ingressclasses", CLASS)

    def ingress(
        self, *rules: dict[str, Any], name: str = "shop", event: str = "ADDED", namespace: str = "demo", **spec: Any
    ) -> None:
        metadata = {"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.door.apply(
            "ingresses",
            {"metadata": metadata, "spec": {"ingressClassName": "portway", "rules": list(rules)} | spec},
            event,
        )

    def ask(self, request: bytes, client: Wire | None = None) -> tuple[str, str, int]:
        """(who heard it, request line, code); on a connection of its own unless one is given."""
        wire = client or self.door.client()
        wire.send(request)
        listeners = {backend.listener: name for name, backend in self.backends.items()}
        ready, _, _ = select.select([wire.sock, *listeners], [], [], TIMEOUT)
        assert ready
        for listener, name in listeners.items():
            if listener in ready:
                upstream = self.backends[name].accept()
                start, self.fields = upstream.head()
                upstream.send(GONE)
                _, self.answered, self.body = wire.response()
                return name, start.removesuffix(" HTTP/1.1"), 200
        code, self.answered, self.body = wire.response()
        return "nobody", "", code


@pytest.fixture
def shop(make_door: Make) -> Shop:
    made = Shop(make_door(ingress=ALLOWED, basic=HTPASSWD))
    made.ingress(rule("shop.test", root="web", admin="admin"), rule("*.wild.test", root="web"))
    return made


@pytest.mark.parametrize(
    ("target", "host", "who"),
    [
        ("/", "shop.test", "web"),
        ("/x?a=/admin", "shop.test", "web"),
        ("/admin", "shop.test", "admin"),
        ("/admin/x?q", "SHOP.test.:99", "admin"),
        ("http://shop.test/admin/x", "elsewhere.test", "admin"),
        ("/administrator", "shop.test", "web"),
        (SECRETS, "shop.test", "web"),
        (f"{PROXY}/x", "shop.test", "web"),
        ("/livez", "shop.test", "web"),
        ("/x", "a.wild.test", "web"),
    ],
)
def test_who_hears_it(shop: Shop, target: str, host: str, who: str) -> None:
    assert shop.ask(raw(target, host)) == (who, f"GET {target.removeprefix('http://shop.test')}", 200)
    assert "authorization" not in shop.fields
    assert "x-forwarded-uri" not in shop.fields
    assert shop.fields["x-forwarded-host"] == shop.fields["host"]
    assert shop.fields["x-forwarded-proto"] == "http"


@pytest.mark.parametrize(
    "host", ["elsewhere.test", "wild.test", "a.b.wild.test", "shop.test.evil.test", "xshop.test", "", "127.0.0.1"]
)
def test_every_other_host_stays_the_apis(shop: Shop, host: str) -> None:
    assert shop.ask(raw(SECRETS, host)) == ("api", f"GET {SECRETS}", 200)
    assert shop.ask(raw(f"{PROXY}/x", host)) == ("web", "GET /x", 200)
    assert shop.ask(raw("/admin", host))[0] == "api"


OWN = [
    "localhost",
    "web.demo.localhost",
    "127.0.0.1",
    "127.1",
    "door.example",
    "kubernetes",
    "kubernetes.default.svc",
    "",
]


@pytest.mark.parametrize("host", OWN)
def test_nobody_takes_over_the_doors_own_names(shop: Shop, host: str) -> None:
    wildcard = f"*.{host.partition('.')[2]}" if "." in host else "*.localhost"
    rules = rule(host, root="web", api="web"), rule(wildcard, root="web")
    shop.ingress(*rules, name="evil", defaultBackend=backend("web"))
    shop.ingress(name="worse", defaultBackend=backend("web"))
    for target in (SECRETS, "/", "/api/x"):
        assert shop.ask(raw(target, host or "elsewhere.test"))[0] == "api"
    assert shop.ask(raw(SECRETS, f"{host}.:6443" if host else "door"))[0] == "api"


@pytest.fixture
def wide(make_door: Make) -> Shop:
    """Web answers for what nothing else has."""
    made = Shop(make_door(ingress=WITHIN, answers=lambda _view: Page()))
    made.ingress(rule("a.shop.test", admin="admin"), rule("*.wild.shop.test", admin="admin"), name="named")
    made.ingress(rule("theirs.shop.test", x="other"), name="theirs", namespace="other")
    made.ingress(name="all", defaultBackend=backend("web"))
    return made


@pytest.mark.parametrize(
    ("target", "host", "who"),
    [
        ("/", "b.shop.test", "web"),
        ("/x?a=/admin", "x.y.shop.test:6443", "web"),
        (SECRETS, "SHOP.test.", "web"),
        (f"{PROXY}/x", "b.shop.test", "web"),
        ("/portway/", "b.shop.test", "web"),
        ("/livez", "b.shop.test", "web"),
        ("/admin", "a.shop.test", "admin"),
        ("/admin", "x.wild.shop.test", "admin"),
        # A host that is somebody's has none of it.
        ("/", "a.shop.test", "404"),
        ("/", "x.wild.shop.test", "404"),
        ("/", "theirs.shop.test", "404"),
    ],
)
def test_a_default_backend_alone_answers_where_nothing_else_does(wide: Shop, target: str, host: str, who: str) -> None:
    heard = wide.ask(raw(target, host))
    assert heard == (("nobody", "", 404) if who == "404" else (who, f"GET {target}", 200))
    if who == "web":
        assert "authorization" not in wide.fields


@pytest.mark.parametrize(
    "host",
    [
        *OWN,
        "door.shop.test",
        "DOOR.shop.test.:443",
        "shop.test.evil.test",
        "xshop.test",
        "elsewhere.test",
        "shop",
        "[::1]:6443",
        "192.0.2.1",
        "10.0.0.1:6443",
        "0x7f.1",
        "a.b.localhost",
        ".",
        ":6443",
    ],
)
def test_the_door_stays_the_door_behind_a_default_backend(wide: Shop, host: str) -> None:
    wide.ingress(rule("", root="web"), name="worse")
    client = wide.door.client()
    for _ in range(2):
        assert wide.ask(raw(SECRETS, host), client) == ("api", f"GET {SECRETS}", 200)
        assert wide.ask(raw(f"{PROXY}/x", host), client)[:2] == ("web", "GET /x")
        assert wide.ask(raw("/portway/", host), client) == ("nobody", "", 200)
        assert wide.body == PAGE


def test_a_default_backend_is_authorised_as_its_service(wide: Shop) -> None:
    wide.door.allow("carol", name="web")
    client = wide.door.client()
    assert wide.ask(raw("/a", "b.shop.test", "named-token"), client)[0] == "web"
    wide.ingress(name="all", event="MODIFIED", defaultBackend=backend("admin"))
    assert wide.ask(raw("/a", "b.shop.test", "named-token"), client) == ("nobody", "", 403)
    assert 'services "admin" is forbidden' in json.loads(wide.body)["message"]
    assert wide.ask(raw("/a", "b.shop.test", ""))[2] == 403
    assert wide.ask(raw("/a", "b.shop.test", "wrong"))[2] == 401


def test_a_default_backend_has_what_no_path_of_its_hosts_matches(shop: Shop) -> None:
    shop.ingress(rule("shop.test", admin="admin"), event="MODIFIED", defaultBackend=backend("web"))
    for target, who in (("/admin/x", "admin"), ("/", "web"), (SECRETS, "web"), ("/administrator", "web")):
        assert shop.ask(raw(target, "shop.test")) == (who, f"GET {target}", 200)
    assert shop.ask(raw("/%61dmin", "shop.test"))[2] == 400
    assert shop.ask(raw(SECRETS, "elsewhere.test"))[0] == "api"


def test_a_name_is_the_apis_until_there_is_a_default_backend_and_again_after_it(make_door: Make) -> None:
    shop = Shop(make_door(ingress=WITHIN))
    client, path = shop.door.client(), f"{PROXY}/x"
    for _ in range(3):
        assert shop.ask(raw(path, "b.shop.test"), client)[:2] == ("web", "GET /x")
    shop.ingress(defaultBackend=backend("admin"))
    assert shop.ask(raw(path, "b.shop.test"), client)[:2] == ("admin", f"GET {path}")
    assert shop.ask(raw(path, "door.shop.test"), client)[:2] == ("web", "GET /x")
    shop.ingress(rule("b.shop.test", root="web"), name="named")
    assert shop.ask(raw(path, "b.shop.test"), client)[:2] == ("web", f"GET {path}")
    shop.ingress(name="named", event="DELETED")
    assert shop.ask(raw(path, "b.shop.test"), client)[:2] == ("admin", f"GET {path}")
    shop.ingress(event="DELETED")
    assert shop.ask(raw(path, "b.shop.test"), client)[:2] == ("web", "GET /x")


def test_paths_alternate_on_one_connection(shop: Shop) -> None:
    client = shop.door.client()
    for _ in range(3):
        for target, who in (("/a", "web"), ("/admin/b", "admin"), ("/admin/b", "admin"), ("/a", "web"), ("/a", "web")):
            assert shop.ask(raw(target, "shop.test"), client) == (who, f"GET {target}", 200)
        assert shop.ask(raw(SECRETS, "door.example"), client)[0] == "api"
        assert shop.ask(raw(f"{PROXY}/x", "door.example"), client)[:2] == ("web", "GET /x")


def test_each_service_is_authorised_as_itself(shop: Shop) -> None:
    shop.door.allow("carol", name="web")
    client = shop.door.client()
    for _ in range(2):
        assert shop.ask(raw("/a", "shop.test", "named-token"), client)[0] == "web"
        assert shop.ask(raw("/admin", "shop.test", "named-token"), client) == ("nobody", "", 403)
        assert 'cannot get resource "services/proxy"' in json.loads(shop.body)["message"]
        assert 'services "admin" is forbidden' in json.loads(shop.body)["message"]
    assert shop.ask(raw("/a", "shop.test", "wrong"))[2] == 401
    assert shop.ask(raw("/a", "shop.test", ""))[2] == 403
    assert shop.ask(raw("/a", "shop.test", "nobody-token"))[2] == 403
    shop.door.allow("carol", name="web", event="DELETED")
    assert shop.ask(raw("/a", "shop.test", "named-token"), client)[2] == 403


def test_a_path_of_no_ingress_is_not_the_apis(shop: Shop) -> None:
    shop.ingress(rule("shop.test", shop="web"), event="MODIFIED")
    for target in (SECRETS, f"{PROXY}/x", "/livez", "/", "/shopx"):
        assert shop.ask(raw(target, "shop.test")) == ("nobody", "", 404)
        assert json.loads(shop.body)["reason"] == "NotFound"


@pytest.mark.parametrize(
    "target", ["/%61dmin", "/x/..%2fadmin", "/admin%2fx", "//admin", "/admin/..%5cx", "/admin%zz", "*"]
)
def test_what_two_servers_would_read_differently_is_refused(shop: Shop, target: str) -> None:
    method = "OPTIONS" if target == "*" else "GET"
    assert shop.ask(raw(target, "shop.test", method=method)) == ("nobody", "", 400)


def test_dots_are_resolved_before_anything_is_decided(shop: Shop) -> None:
    shop.door.allow("carol", name="web")
    assert shop.ask(raw("/x/../admin/y", "shop.test", "named-token"))[2] == 403
    assert shop.ask(raw("/x/../admin/y", "shop.test"))[:2] == ("admin", "GET /admin/y")
    assert shop.ask(raw("/admin/%2e%2E/y", "shop.test", "named-token"))[:2] == ("web", "GET /y")


@pytest.mark.parametrize("more", ["Host: door.example\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"])
def test_a_head_that_means_two_things_reaches_nobody(shop: Shop, more: str) -> None:
    assert shop.ask(raw("/x", "shop.test", more=more)) == ("nobody", "", 400)


def test_pipelined_requests_go_where_each_belongs(shop: Shop) -> None:
    client = shop.door.client()
    shop.ask(raw("/a", "shop.test"), client)
    client.send(raw("/b", "shop.test") + raw("/admin/c", "shop.test") + raw(SECRETS, "door.example"))
    for who, line in (("web", "GET /b"), ("admin", "GET /admin/c"), ("api", f"GET {SECRETS}")):
        upstream = shop.backends[who].accept()
        assert upstream.head()[0] == f"{line} HTTP/1.1"
        upstream.send(GONE)
        assert client.response()[0] == 200


def test_what_connections_remember_ends_when_ingresses_change(make_door: Make) -> None:
    """A host that was the API's: its path URLs were remembered, and from one moment to the next are an Ingress's."""
    shop = Shop(make_door(ingress=ALLOWED))
    client, path = shop.door.client(), f"{PROXY}/x"
    for _ in range(3):
        assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", "GET /x")
    shop.ingress(rule("shop.test", root="admin"))
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("admin", f"GET {path}")
    assert shop.ask(raw(path, "door.example"), client)[:2] == ("web", "GET /x")
    shop.ingress(rule("shop.test", root="web"), event="MODIFIED")
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", f"GET {path}")
    shop.ingress(rule("shop.test", root="web"), event="MODIFIED", ingressClassName="other")
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", "GET /x")
    shop.ingress(rule("shop.test", root="web"), event="MODIFIED")
    shop.door.apply("ingressclasses", CLASS, "DELETED")
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", "GET /x")
    shop.door.apply("ingressclasses", CLASS)
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", f"GET {path}")
    assert shop.door.on_loop(lambda: shop.door.door.places.several)
    shop.ingress(event="DELETED")
    assert shop.ask(raw(path, "shop.test"), client)[:2] == ("web", "GET /x")
    assert not shop.door.on_loop(lambda: shop.door.door.places.several)  # no request is asked any more


def test_a_browser_at_an_ingress_is_at_an_origin_of_its_own(shop: Shop) -> None:
    shop.door.allow("ann", namespace="demo")
    page = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    assert shop.ask(raw("/", "shop.test", ANN, page))[0] == "web"
    assert "content-security-policy" not in shop.answered
    for origin in ("http://door.example", "http://evil.test", "null"):
        assert shop.ask(raw("/", "shop.test", ANN, f"Origin: {origin}\r\nContent-Length: 0\r\n", "POST"))[2] == 403
    assert shop.ask(raw("/", "shop.test", ANN, "Origin: http://shop.test\r\nContent-Length: 0\r\n", "POST"))[0] == "web"


def test_links_stay_and_cookies_are_the_hosts_own(shop: Shop) -> None:
    client = shop.door.client()
    client.send(raw("/admin/", "shop.test"))
    upstream = shop.backends["admin"].accept()
    upstream.head()
    upstream.send(
        b"HTTP/1.1 302 Found\r\nLocation: /admin/login\r\nSet-Cookie: a=b; Path=/admin; Domain=test\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    _, fields, _ = client.response()
    assert (fields["location"], fields["set-cookie"]) == ("/admin/login", "a=b; Path=/admin")


def test_a_websocket_at_an_ingress(shop: Shop) -> None:
    client = shop.door.client()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
    client.send(raw("/admin/ws", "shop.test", more=upgrade))
    upstream = shop.backends["admin"].accept()
    assert upstream.head()[0] == "GET /admin/ws HTTP/1.1"
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.response()[0] == 101
    client.send(b"ping")
    assert upstream.exactly(4) == b"ping"


def test_the_record_says_which_service_it_was(shop: Shop) -> None:
    shop.ask(raw("/admin/x", "shop.test"))
    lines = [json.loads(line) for line in shop.door.audit(1)]
    (line,) = [one for one in lines if one["stage"] == "ResponseComplete"]
    assert line["objectRef"] | {"apiVersion": ""} == {
        "resource": "services",
        "namespace": "demo",
        "name": "admin",
        "apiVersion": "",
        "subresource": "proxy",
    }
    assert line["requestURI"] == "/admin/x"


def test_a_door_that_serves_no_ingresses_has_none(make_door: Make) -> None:
    shop = Shop(make_door())
    shop.ingress(rule("shop.test", root="web"))
    assert shop.ask(raw("/x", "shop.test")) == ("api", "GET /x", 200)
