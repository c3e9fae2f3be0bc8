"""Identity on the way to a backend: nothing that a client sends may pass for somebody, or for the door itself."""

import pytest

from portway.testing.conversation import OK, Backend, RunningDoor, get, request

NAMES = [
    "Authorization",
    "Proxy-Authorization",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Uid",
    "X-Remote-Extra-Scopes",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Uri",
    "Forwarded",
    "Remote-User",
    "X-Forwarded-User",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Auth-Request-Email",
    "X-WEBAUTH-USER",
    "X-SSL-Client-S-DN",
    "X-Real-IP",
    "X-Original-URL",
    "X-Auth-User",
    "X-Authentik-Username",
    "X-Pomerium-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "X-Goog-Authenticated-User-Email",
    "X-Amzn-Oidc-Identity",
    "X-Ms-Client-Principal-Name",
]

LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def spellings(name: str) -> list[str]:
    """Names that some backend or another takes for the same."""
    found = {name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "_").upper()}
    first, _, rest = name.partition("-")
    return sorted({*found, f"{first}-{rest.replace('-', '_')}", f"{first}_{rest}"} if rest else found)


CASES = [(name, spelling) for name in NAMES for spelling in spellings(name)]


def heads(door: RunningDoor, web: Backend, *raw: bytes) -> bytes:
    """What a backend hears of one request."""
    client = door.client()
    for part in raw:
        client.send(part)
    backend = web.accept()
    heard = backend.until(b"\r\n\r\n")
    if b"chunked" in heard:
        heard += backend.until(b"0\r\n") + backend.until(b"\r\n")
        while not heard.endswith(b"\r\n\r\n"):
            heard += backend.until(b"\r\n")
    backend.send(LAST)
    assert client.response()[0] == 200
    return heard.lower().replace(b"_", b"-")


def lines(*fields: str) -> bytes:
    head = get("/x")[:-2]
    return head + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


@pytest.mark.parametrize(("name", "spelling"), CASES, ids=[f"{i}-{s}" for i, (_, s) in enumerate(CASES)])
def test_no_field_names_a_user_to_a_backend(door: RunningDoor, web: Backend, name: str, spelling: str) -> None:
    own = {"x-forwarded-uri": 1}.get(name.lower(), 0)
    key = b"\r\n" + name.lower().encode() + b":"
    if spelling.lower() != "authorization":  # twice the real one is refused
        heard = heads(door, web, lines(f"{spelling}: evil", f"{spelling}: evil"))
        assert heard.count(key) == own
        assert b"evil" not in heard
    if spelling.lower() != "authorization":
        heard = heads(door, web, lines(f"Connection: {spelling}", f"{spelling}: evil"))
        assert heard.count(key) == own
        assert b"evil" not in heard
    chunked = request("POST", "/x", Transfer_Encoding="chunked", Trailer=spelling, TE="trailers")
    heard = heads(door, web, chunked + f"0\r\n{spelling}: evil\r\nX-Sum: 1\r\n\r\n".encode())
    assert heard.count(key) == own
    assert b"evil" not in heard
    assert b"x-sum: 1" in heard


@pytest.mark.parametrize("spelling", ["Impersonate_User", "impersonate_group", "IMPERSONATE_EXTRA_SCOPES"])
def test_impersonation_in_another_spelling_is_nothing(door: RunningDoor, web: Backend, spelling: str) -> None:
    assert b"impersonate" not in heads(door, web, lines(f"{spelling}: evil"))


def test_impersonation_is_not_passed_on(door: RunningDoor, web: Backend) -> None:
    door.allow("reader")
    heard = heads(door, web, lines("Impersonate-User: reader", "Impersonate-Group: a", "Impersonate-Extra-X: b"))
    assert b"impersonate" not in heard
    client = door.client()
    client.send(lines("Impersonate-User: nobody"))
    assert client.response()[0] == 403


@pytest.mark.parametrize(
    "header", ["Bearer admin-token", "bearer admin-token", "Bearer  admin-token", "Basic YTpi", "Digest x", "x"]
)
def test_no_credential_reaches_a_backend(door: RunningDoor, web: Backend, header: str) -> None:
    door.allow("system:anonymous")
    raw = get("/x", token="").replace(b"\r\n\r\n", f"\r\nAuthorization: {header}\r\n\r\n".encode())
    heard = heads(door, web, raw)
    assert b"authorization" not in heard
    assert b"admin-token" not in heard


def test_forwarded_for_is_appended_to(door: RunningDoor, web: Backend) -> None:
    heard = heads(door, web, lines("X-Forwarded-For: 1.2.3.4", "x-forwarded-for: 5.6.7.8"))
    assert heard.count(b"x-forwarded-for") == 1
    assert b"\r\nx-forwarded-for: 1.2.3.4, 5.6.7.8, 127.0.0.1\r\n" in heard
    heard = heads(door, web, lines("X_Forwarded_For: 1.2.3.4"))
    assert b"\r\nx-forwarded-for: 127.0.0.1\r\n" in heard
    assert b"1.2.3.4" not in heard


def test_the_connection_list_cannot_take_away_what_the_door_adds(door: RunningDoor, web: Backend) -> None:
    heard = heads(door, web, lines("Connection: X-Forwarded-For, X-Forwarded-Uri, X-Mine, Host", "X-Mine: 1"))
    assert b"\r\nx-forwarded-for: 127.0.0.1\r\n" in heard
    assert b"\r\nx-forwarded-uri: " in heard
    assert b"\r\nhost: door.example\r\n" in heard
    assert b"x-mine" not in heard


@pytest.mark.parametrize(
    "name", ["Connection", "Proxy-Connection", "Keep-Alive", "Trailer", "Upgrade", "TE", "HTTP2-Settings"]
)
def test_what_is_between_client_and_door_stays_there(door: RunningDoor, web: Backend, name: str) -> None:
    heard = heads(door, web, lines(f"{name}: keep-alive"))
    assert b"\r\n" + name.lower().encode() not in heard


def test_what_is_for_the_backend_reaches_it(door: RunningDoor, web: Backend) -> None:
    fields = (
        *("Cookie: a=b; c=d", "Referer: http://x/", "Origin: http://x", "Accept-Encoding: br", "User-Agent: me"),
        *(
            "X-Custom: 1",
            "X-Custom: 2",
            "X_Other: 3",
            "If-None-Match: *",
            "Range: bytes=0-1",
            "Accept: a/b",
            "TE: gzip",
        ),
    )
    heard = heads(door, web, lines(*fields))
    for field in fields[:-1]:
        assert b"\r\n" + field.lower().replace("_", "-").encode() + b"\r\n" in heard
    assert b"\r\nte:" not in heard


def test_an_empty_user_agent_is_none(door: RunningDoor, web: Backend) -> None:
    assert b"user-agent" not in heads(door, web, lines("User-Agent: "))
    assert b"user-agent" not in heads(door, web, lines())


SPOOFS = ["X-Remote-User", "x_remote_user", "X-Remote-Group", "X-Remote-Uid", "X-Remote-Extra-a", "X_REMOTE_EXTRA_A"]


@pytest.mark.parametrize("name", SPOOFS)
def test_only_the_door_tells_the_api_who_it_is(door: RunningDoor, name: str) -> None:
    api = door.api()
    client = door.client()
    client.send(request("GET", "/api/v1/pods", "admin-token", None, **{name: "evil"}))
    backend = api.accept()
    heard = backend.until(b"\r\n\r\n")
    assert b"evil" not in heard
    assert heard.endswith(
        b"X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nX-Remote-Group: system:authenticated\r\n"
        b"X-Remote-Uid: u1\r\n\r\n"
    )
    backend.send(OK)
    assert client.response()[0] == 200
    client.send(request("POST", "/api/v1/pods", Transfer_Encoding="chunked", TE="trailers"))
    backend.head()
    client.send(f"2\r\n{{}}\r\n0\r\n{name}: evil\r\nX-Remote-User: evil\r\n\r\n".encode())
    assert backend.until(b"0\r\n\r\n") == b"2\r\n{}\r\n0\r\n\r\n"


def test_the_api_hears_the_impersonated_user(door: RunningDoor) -> None:
    api = door.api()
    client = door.client()
    fields = {"Impersonate_User": "jane", "Impersonate_Group": "system:masters", "Impersonate_Extra_Dept": "q a"}
    client.send(request("GET", "/api/v1/pods", "admin-token", None, **fields))
    _, heard = api.accept().head()
    assert heard["x-remote-user"] == "jane"
    assert heard["x-remote-group"].split("\n") == ["system:masters", "system:authenticated"]
    assert heard["x-remote-extra-dept"] == "q a"
    assert "x-remote-uid" not in heard
    assert not [name for name in heard if name.startswith("impersonate")]


@pytest.mark.parametrize(
    "name", ["Alt-Svc", "Clear-Site-Data", "NEL", "Report-To", "Strict-Transport-Security", "Service-Worker-Allowed"]
)
def test_a_service_does_not_speak_for_the_doors_origin(door: RunningDoor, web: Backend, name: str) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(OK.replace(b"\r\n\r\n", f"\r\n{name}: evil\r\nX-Own: 1\r\n\r\n".encode()))
    fields = client.response()[1]
    assert name.lower() not in fields
    assert fields["x-own"] == "1"
