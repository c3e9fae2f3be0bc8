"""Browsers: who is asked to log in, what ambient credentials may not be made to do, and pages that can't be turned
against their reader.
"""

import base64
import json
from collections.abc import Callable
from functools import cache

import pytest

from portway.client.view import Service
from portway.kube.htpasswd import hash_password
from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

Make = Callable[..., RunningDoor]
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"


@cache
def htpasswd() -> str:
    return f"ann:{hash_password('secret', 4)}:system:masters\n"


def basic(user: str = "ann", password: str = "secret") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def site(make_door: Make) -> tuple[RunningDoor, Backend]:
    door = make_door(basic=htpasswd())
    web = door.backend()
    door.service("web", web)
    return door, web


def asked(door: RunningDoor, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    client = door.client()
    client.send(raw)
    return client.response()


def served(door: RunningDoor, web: Backend, raw: bytes, answer: bytes = OK) -> dict[str, str]:
    """The fields of an answer that came from the backend."""
    client = door.client()
    client.send(raw)
    backend = web.accept()
    backend.head()
    backend.send(answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    code, fields, _ = client.response()
    assert code == int(answer[9:12])
    return fields


def test_a_person_without_a_credential_is_asked_for_one(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    code, fields, body = asked(door, get("/", token="", Accept=HTML))
    assert (code, fields["www-authenticate"]) == (401, 'Basic realm="Portway", charset="UTF-8"')
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in fields["content-security-policy"]
    assert b"Please log in" in body
    assert not web.is_dialled()


def test_a_miss_is_confirmed_also_when_the_password_had_to_be_verified_first(
    site: tuple[RunningDoor, Backend],
) -> None:
    door, _ = site
    asked_for: list[tuple[str, str]] = []
    confirm = door.view.confirm_service

    async def noted(namespace: str, name: str) -> Service | None:
        asked_for.append((namespace, name))
        return await confirm(namespace, name)

    door.view.confirm_service = noted  # type: ignore[method-assign]
    code, _, _ = asked(door, get("/api/v1/namespaces/demo/services/fresh/proxy/", token="", Authorization=basic()))
    assert (code, asked_for) == (404, [("demo", "fresh")])


def test_a_program_without_a_credential_is_told_what_it_lacks(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    for accept in ("*/*", "application/json", "text/plain"):
        code, fields, body = asked(door, get("/", token="", Accept=accept))
        assert (code, fields["content-type"]) == (403, "application/json")
        assert "www-authenticate" not in fields
        assert json.loads(body)["message"].startswith('services "web" is forbidden: User "system:anonymous"')
    assert not web.is_dialled()


def test_a_wrong_password(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    for header in (basic(password="wrong"), basic(user="nobody"), "Basic !!!"):
        code, fields, _ = asked(door, get("/", token="", Accept=HTML, Authorization=header))
        assert (code, "www-authenticate" in fields, fields["content-type"]) == (401, True, "text/html; charset=utf-8")
        code, fields, body = asked(door, get("/", token="", Authorization=header))
        assert (code, "www-authenticate" in fields) == (401, False)
        assert json.loads(body)["reason"] == "Unauthorized"
    assert not web.is_dialled()


def test_somebody_who_may_not_is_told_so_and_not_asked_again(site: tuple[RunningDoor, Backend]) -> None:
    door, _ = site
    code, fields, body = asked(door, get("/", token="nobody-token", Accept=HTML))
    assert (code, "www-authenticate" in fields) == (403, False)
    assert b"You may not open this" in body


def test_without_passwords_nobody_is_asked_for_one(door: RunningDoor, web: Backend) -> None:
    code, fields, _ = asked(door, get("/", token="", Accept=HTML))
    assert (code, "www-authenticate" in fields) == (403, False)


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>hi</p>"


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        PAGE,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ],
    ids=["text", "HTML", "404", "redirect", "SVG in chunks", "304"],
)
def test_a_services_pages_get_an_origin_of_their_own(site: tuple[RunningDoor, Backend], answer: bytes) -> None:
    door, web = site
    for _ in range(2):  # read, then known by heart
        fields = served(door, web, get("/", token="", Authorization=basic()), answer)
        assert fields["content-security-policy"] == SANDBOX
    assert "content-security-policy" not in served(door, web, get("/"), answer)
    fields = served(door, web, get("/", token="", Authorization=basic()), answer)
    assert fields["content-security-policy"] == SANDBOX


def test_a_backends_own_policy_stands_beside_it(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    answer = OK.replace(
        b"\r\n\r\n", b"\r\nContent-Security-Policy: default-src 'self'; sandbox allow-same-origin\r\n\r\n"
    )
    fields = served(door, web, get("/", token="", Authorization=basic()), answer)
    own, added = fields["content-security-policy"].split("\n")
    assert (own, added) == ("default-src 'self'; sandbox allow-same-origin", SANDBOX)


def test_the_sandbox_can_be_turned_off(make_door: Make) -> None:
    door = make_door(basic=htpasswd(), html_sandbox=False)
    web = door.backend()
    door.service("web", web)
    fields = served(door, web, get("/", token="", Authorization=basic()), PAGE)
    assert "content-security-policy" not in fields


def test_the_api_is_not_sandboxed(site: tuple[RunningDoor, Backend]) -> None:
    door, _ = site
    api = door.api()
    fields = served(door, api, request("GET", "/api/v1/pods", "", None, Authorization=basic()))
    assert "content-security-policy" not in fields


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://door.example.evil"},
    {"Origin": "http://door.example:81"},
    {"Origin": "http://door.example, http://evil.example"},
    {"Origin": ""},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Origin": "http://door.example"},
    {"Origin": "https://DOOR.example"},
    {"Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
]
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "x"}
ids = str


def by(method: str, fields: dict[str, str], **more: str) -> bytes:
    return request(method, "/x", "", None, **(fields | {"Authorization": basic()} | more))


@pytest.mark.parametrize("fields", FOREIGN, ids=ids)
def test_pages_of_other_origins_cannot_use_an_ambient_credential(
    site: tuple[RunningDoor, Backend], fields: dict[str, str]
) -> None:
    door, web = site
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for _ in range(2):  # decided, then remembered
            code, _, body = asked(door, by(method, fields))
            assert (code, json.loads(body)["reason"]) == (403, "Forbidden")
    code, _, _ = asked(door, by("GET", fields, **WEBSOCKET))
    assert code == 403
    api = door.api()
    code, _, _ = asked(door, request("POST", "/api/v1/namespaces", "", b"{}", **(fields | {"Authorization": basic()})))
    assert code == 403
    assert not web.is_dialled(0.05)
    assert not api.is_dialled(0.05)


def test_what_was_allowed_before_is_refused_to_pages_of_other_origins(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    client = door.client()
    client.send(by("POST", {}))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[0] == 200
    for _ in range(2):
        client.send(by("POST", {"Origin": "http://evil.example"}))
        assert client.response()[0] == 403
    client.send(by("POST", {}))
    assert backend.head()[0] == "POST /x HTTP/1.1"


def test_no_host_is_nobodys_origin(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    for host in (b"Host: \r\n", b""):
        raw = by("POST", {"Origin": "null"}).replace(b"Host: door.example\r\n", host).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert asked(door, raw)[0] == 403
    assert not web.is_dialled(0.01)


def test_what_was_read_without_guard_is_not_deleted_without(site: tuple[RunningDoor, Backend]) -> None:
    """The guard depends on the method, so fields that passed with one are no pass for another."""
    door, web = site
    served(door, web, by("DELETE", {}))
    client = door.client()
    fields = {"Origin": "http://evil.example"}
    client.send(by("GET", fields))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[0] == 200
    client.send(by("DELETE", fields))
    assert client.response()[0] == 403


@pytest.mark.parametrize("fields", OWN, ids=ids)
def test_own_pages_and_programs_can(site: tuple[RunningDoor, Backend], fields: dict[str, str]) -> None:
    door, web = site
    for method in ("POST", "DELETE"):
        served(door, web, by(method, fields))
    client = door.client()
    client.send(by("GET", fields, **WEBSOCKET))
    web.accept().head()


def test_reading_is_not_guarded_and_tokens_are_nobodys_by_accident(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    for method in ("GET", "OPTIONS"):
        served(door, web, by(method, {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"}))
    served(door, web, request("POST", "/x", Origin="http://evil.example", Sec_Fetch_Site="cross-site"))


def test_a_page_escapes_what_it_shows(site: tuple[RunningDoor, Backend]) -> None:
    door, _ = site
    evil = "<script>alert(1)</script>"
    for path in (
        f"/api/v1/namespaces/demo/services/{evil.replace('/', '%2f')}/proxy/".replace("<", "%3C").replace(">", "%3E"),
        "/api/v1/namespaces/demo/services/%22%27%26%3Cimg%20src=x%20onerror=alert(1)%3E/proxy/",
        "/api/v1/namespaces/%3Cb%3E/pods/%3Cb%3E:%3Cb%3E:%3Cb%3E/proxy/",
        "/api/v1/nodes/%7Bcode%7D%7B0.__class__%7D%3Cb%3E/proxy/",
    ):
        for token in ("admin-token", "nobody-token"):
            code, fields, body = asked(door, request("GET", path, token, None, Accept=HTML))
            assert code in (400, 403, 404)
            assert fields["content-type"] == "text/html; charset=utf-8"
            assert fields["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in fields["content-security-policy"]
            main = body.partition(b"<main>")[2]
            assert b"<script" not in main
            assert b"<img" not in main
            assert b"<b>" not in main


def test_a_page_of_an_unreachable_service(site: tuple[RunningDoor, Backend]) -> None:
    door, web = site
    web.close()
    code, fields, body = asked(door, get("/", Accept=HTML))
    assert (code, fields["content-type"]) == (503, "text/html; charset=utf-8")
    assert b"The service cannot be reached" in body


def test_an_answer_of_the_doors_own_to_head_has_no_body(site: tuple[RunningDoor, Backend]) -> None:
    door, _ = site
    client: Wire = door.client()
    client.send(request("HEAD", "/", "nobody-token", None, Accept=HTML))
    start, fields = client.head()
    assert start == "HTTP/1.1 403 Forbidden"
    assert int(fields["content-length"]) > 0
    client.send(get("/", token="nobody-token"))
    assert client.head()[0] == "HTTP/1.1 403 Forbidden"
