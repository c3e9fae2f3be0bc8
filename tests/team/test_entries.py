"""Every way in × every credential, at a real `portway gateway` in front of a real API: one table, no side doors."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from portway.client.permissions import VERBS
from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.demo import admin_token
from portway.testing.demo import ask as get
from portway.testing.recording import Backend, Seen, backend, secrets_in
from portway.testing.teamdoor import (
    account,
    ask,
    bind,
    connect,
    door_account,
    expired_token,
    gateway,
    make,
    pod_addresses,
    request_bytes,
    token,
    upgrade_lines,
    whoami,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SERVICE = "/api/v1/namespaces/default/services/web/proxy"
PORT_FORWARD = "/api/v1/namespaces/default/pods/hello-0/portforward"
EVERYTHING = [
    {
        "apiGroups": [""],
        "resources": ["services", "pods"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": [""], "resources": ["services/proxy", "pods/portforward"], "verbs": ["*"]},
    {"nonResourceURLs": ["/metrics", "/portway/*"], "verbs": ["get", "head"]},
]


@dataclass(frozen=True)
class Team:
    """The cluster, the door in front of it, what is behind both, and who comes."""

    cluster: Cluster
    door: Cluster
    web: Backend
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    directory = tmp_path_factory.mktemp("entries")
    audit = directory / "audit.log"
    with started(directory, "--demo", "--insecure-port=0", f"--audit-log-path={audit}", workers=1) as cluster:
        tokens = {"right": token(cluster, "ann"), "other": token(cluster, "bob"), "gone": token(cluster, "gone")}
        tokens |= {"bad": "no-token-at-all", "expired": expired_token(cluster, "ann")}
        gone = "/api/v1/namespaces/default/serviceaccounts/gone"
        assert cluster.request("DELETE", gone, admin_token(cluster))[0] == 200
        bind(cluster, "everything", EVERYTHING, account("ann"))
        kubeconfig = door_account(cluster, directory)
        with backend(pod_addresses(cluster, "hello-0", "hello-1")) as web:
            spec = {
                "selector": {"app.kubernetes.io/name": "hello"},
                "ports": [{"port": 80, "targetPort": web.port}],
            }
            make(cluster, "/api/v1/namespaces/default/services", "web", spec=spec)
            flags = ("--via=direct", "--domain=localhost")
            with gateway(directory / "door", kubeconfig, *flags) as door:
                wait_until(
                    lambda: ask(door, "GET", f"{SERVICE}/", tokens["right"])[0][":status"] == "200", "not reachable"
                )
                yield Team(cluster, door, web, tokens)


class Entry(NamedTuple):
    """A way in. `open`: nobody is asked who they are, but a wrong credential is still wrong."""

    method: str
    target: str
    host: str = ""
    lines: tuple[str, ...] = ()
    granted: int = 200
    open: bool = False


ENTRIES = {
    "path": Entry("GET", f"{SERVICE}/page"),
    "path, another spelling": Entry("GET", "/api/v1/namespaces/default/services/http:web:80/proxy/page"),
    "path, moved": Entry("GET", SERVICE, granted=301),
    "pod": Entry("GET", "/api/v1/namespaces/default/pods/hello-0:8080/proxy/", granted=403),
    "host": Entry("GET", "/page", "web.default.localhost"),
    "host with a port": Entry("GET", "/page", "80.web.default.localhost:1"),
    "host, upper case": Entry("GET", "/page", "WEB.Default.localhost."),
    "absolute target": Entry("GET", "http://web.default.localhost/page", "elsewhere"),
    "HEAD": Entry("HEAD", f"{SERVICE}/page"),
    "HEAD of a host": Entry("HEAD", "/page", "web.default.localhost"),
    "OPTIONS": Entry("OPTIONS", f"{SERVICE}/page", lines=("Origin: https://elsewhere.example",)),
    "OPTIONS of a host": Entry("OPTIONS", "/page", "web.default.localhost", ("Origin: https://elsewhere.example",)),
    "preflight": Entry("OPTIONS", f"{SERVICE}/page", lines=("Access-Control-Request-Method: DELETE", "Origin: null")),
    "POST": Entry("POST", f"{SERVICE}/page"),
    "WebSocket": Entry("GET", f"{SERVICE}/ws", lines=upgrade_lines(), granted=101),
    "WebSocket of a host": Entry("GET", "/ws", "web.default.localhost", upgrade_lines(), granted=101),
    "API": Entry("GET", "/api/v1/namespaces/default/services"),
    "API object": Entry("GET", "/api/v1/namespaces/default/services/web"),
    "API watch": Entry("GET", "/api/v1/namespaces/default/services?watch=true&timeoutSeconds=1"),
    "API HEAD": Entry("HEAD", "/api/v1/namespaces/default/services/web"),
    "port-forward": Entry("GET", PORT_FORWARD, lines=upgrade_lines("SPDY/3.1+portforward.k8s.io"), granted=101),
    "port-forward, SPDY": Entry(
        "POST", PORT_FORWARD, lines=upgrade_lines("portforward.k8s.io", "SPDY/3.1"), granted=101
    ),
    "metrics": Entry("GET", "/metrics"),
    "metrics, HEAD": Entry("HEAD", "/metrics"),
    "catalogue": Entry("GET", "/portway/services"),
    "page": Entry("GET", "/portway/", lines=("Accept: text/html",)),
    "livez": Entry("GET", "/livez", open=True),
    "readyz": Entry("GET", "/readyz", open=True),
    "livez of a host": Entry("GET", "/livez", "web.default.localhost"),
    "nothing there": Entry("GET", "/nothing", granted=403),
}
EXPECTED = {"none": 403, "bad": 401, "expired": 401, "gone": 401, "other": 403, "right": 0}


def answered(team: Team, entry: Entry, credential: str) -> int:
    bearer = team.tokens.get(credential, "")
    fields, _ = ask(team.door, entry.method, entry.target, bearer, host=entry.host, lines=entry.lines)
    return int(fields[":status"])


def expected(entry: Entry, credential: str) -> int:
    if entry.open and EXPECTED[credential] != 401:
        return 200
    return EXPECTED[credential] or entry.granted


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_for_everybody(team: Team, name: str) -> None:
    entry = ENTRIES[name]
    before = len(team.web.seen)
    refused = [credential for credential in EXPECTED if credential != "right"]
    found = {credential: answered(team, entry, credential) for credential in refused}
    assert found == {credential: expected(entry, credential) for credential in refused}
    assert team.web.seen[before:] == [], "somebody without a right got to the backend"
    assert answered(team, entry, "right") == expected(entry, "right")


def test_the_catalogue_says_what_each_caller_may_do(team: Team) -> None:
    """The two share the right to read it, and no more: what it says is of whoever asks, not of the door."""
    reader = [{"nonResourceURLs": ["/portway/*"], "verbs": ["get"]}]
    bind(team.cluster, "reader", reader, account("carl"))
    for credential, may in (("right", list(VERBS)), (token(team.cluster, "carl"), [])):
        _, body = ask(team.door, "GET", "/portway/services", team.tokens.get(credential, credential))
        (web,) = [entry for entry in json.loads(body)["services"] if entry["name"] == "web"]
        assert (web["may"], web["endpoints"]["ready"]) == (may, 2)


@pytest.mark.parametrize("credential", EXPECTED)
def test_a_token_in_the_subprotocol_is_a_token_like_any_other(team: Team, credential: str) -> None:
    bearer = team.tokens.get(credential, "x")
    encoded = base64.urlsafe_b64encode(bearer.encode()).decode().rstrip("=")
    lines = upgrade_lines(f"chat, base64url.bearer.authorization.k8s.io.{encoded}")
    before = len(team.web.seen)
    wire = connect(team.door)
    wire.send(request_bytes(team.door, "GET", f"{SERVICE}/ws?q=1", lines=lines))
    status, fields, _ = wire.response()
    wire.sock.close()
    assert status == {"none": 401, "right": 101}.get(credential, EXPECTED[credential])
    if credential == "right":
        (seen,) = team.web.seen[before:]
        assert (seen.target, seen.fields["sec-websocket-protocol"]) == ("/ws?q=1", "chat")
        assert fields["sec-websocket-protocol"] == "chat"
    else:
        assert team.web.seen[before:] == []


FORGED = (
    "X-Remote-User: admin",
    "X-Remote-Group: system:masters",
    "X-Remote-Extra-Scopes: all",
    "x_remote_user: admin",
    "X-Forwarded-User: admin",
    "X-Forwarded-For: 10.0.0.1",
    "Proxy-Authorization: Basic YTpi",
    "Impersonate_User: admin",
    "X-Auth-Request-User: admin",
)


@pytest.mark.parametrize("target", [f"{SERVICE}/forged", "/forged"])
def test_nothing_of_callers_or_the_doors_credentials_reaches_a_backend(team: Team, target: str) -> None:
    host = "" if target.startswith("/api") else "web.default.localhost"
    before = len(team.web.seen)
    for lines in (FORGED, (*FORGED, "Connection: X-Remote-User, Authorization")):
        fields, _ = ask(team.door, "GET", target, team.tokens["right"], host=host, lines=lines)
        assert fields[":status"] == "200"
    seen = team.web.seen[before:]
    assert len(seen) == 2
    for one in seen:
        assert not re.search(r"authorization|impersonate|remote[-_](user|group|extra)|auth-request", str([*one.fields]))
        assert "admin" not in str(one)
    door = json.loads(team.door.kubeconfig.read_text())["users"][0]["user"]["token"]
    assert secrets_in(team.web.seen, door, *team.tokens.values(), "YTpi") == []


def test_forged_identity_says_nothing_to_the_api_server(team: Team) -> None:
    for lines in (FORGED, (*FORGED, "Connection: Impersonate-User")):
        found = whoami(team.door, team.tokens["other"], lines=lines)
        assert found["username"] == "system:serviceaccount:default:bob"
        assert set(found["groups"]) == {
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
        }
    assert whoami(team.door, lines=FORGED)["reason"] == "Forbidden"  # anonymous, and no more than that


def test_the_api_server_sees_who_asks_and_no_credential_but_the_doors(team: Team) -> None:
    audit = team.door.data_dir.parent / "audit.log"
    path = "/api/v1/namespaces/default/services?labelSelector=audited"
    assert ask(team.door, "GET", path, team.tokens["right"])[0][":status"] == "200"

    def events() -> list[dict[str, dict[str, str]]]:
        return [json.loads(line) for line in audit.read_text().splitlines() if "labelSelector=audited" in line]

    wait_until(lambda: bool(events()), "not in the audit log")
    for event in events():
        assert event["user"]["username"] == "system:serviceaccount:portway-door:door"
        assert event["impersonatedUser"]["username"] == "system:serviceaccount:default:ann"
    # And that nobody but ann was let near the API: every request of the door's own is a review, a list or a watch.
    for line in audit.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"].endswith(":door") and "impersonatedUser" not in event:
            assert re.search(
                r"/(tokenreviews|subjectaccessreviews|services|pods|endpointslices)\b", event["requestURI"]
            )
    assert secrets_in([Seen("", audit.read_text(), {})], *team.tokens.values()) == []


def test_a_connection_is_not_its_first_callers(team: Team) -> None:
    wire = connect(team.door)
    for credential, status in (("right", 200), ("other", 403), ("right", 200), ("gone", 401), ("none", 403)):
        wire.send(request_bytes(team.door, "GET", f"{SERVICE}/page", team.tokens.get(credential, "")))
        assert wire.response()[0] == status, credential
    wire.sock.close()


def test_the_same_on_the_plain_port(team: Team, tmp_path: Path) -> None:
    """It serves probes and sidecars; it is no way around anything."""
    port = free_port()

    def status(path: str, bearer: str = "") -> int:
        return get(f"http://127.0.0.1:{port}{path}", token=bearer)[0]

    flags = (f"--insecure-port={port}", "--anonymous-auth=false")
    with gateway(tmp_path / "plain", team.door.kubeconfig, *flags, ready=lambda status: status == 401):
        assert status("/livez") == 401  # nobody is anonymous there
        assert status(f"{SERVICE}/page") == 401
        assert status(f"{SERVICE}/page", team.tokens["other"]) == 403
        assert status(f"{SERVICE}/page", team.tokens["right"]) == 200
