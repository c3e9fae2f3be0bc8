"""Who somebody is, by everything that they may have, as the API server behind the door sees it."""

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token
from portway.testing.issuer import TestIssuer
from portway.testing.recording import Backend, backend
from portway.testing.teamdoor import (
    account,
    ask,
    bind,
    connect,
    door_account,
    gateway,
    group,
    make,
    pod_addresses,
    request_bytes,
    token,
    upgrade_lines,
    user,
    whoami,
)
from portway.up import certificates, users

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SERVICE = "/api/v1/namespaces/default/services/web/proxy"
TTL = 2
NAMES = (
    "jürgen", "ann@example.com", "two words", "a:b:c", "per%cent%2F", "日本語", "back\\slash", "semi;colon", "a/b/../c",
    "<b>&amp;", "O'Brien", "system:admin", "system:serviceaccount:kube-system:x", "*", "~", "-", "{}", "a=b",
)  # fmt: skip
UNSENDABLE = ("tab\tinside", "line\x0bbreak", "nul\x7f")
SEES = [
    {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list"]},
]


class Issuer:
    """A TestIssuer in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.made = TestIssuer()
        asyncio.run_coroutine_threadsafe(self.made.start(), self.loop).result(20)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.made.stop(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


@dataclass(frozen=True)
class Team:
    cluster: Cluster
    door: Cluster
    web: Backend
    issuer: TestIssuer
    directory: Path


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    directory = tmp_path_factory.mktemp("identity")
    issuer = Issuer()
    try:
        with started(directory, "--demo", "--insecure-port=0", workers=1) as cluster:
            kubeconfig = door_account(cluster, directory)
            bind(cluster, "sees", SEES, group("oidc:devs"), user("carol"), user("dave"), account("robot"))
            with backend(pod_addresses(cluster, "hello-0")) as web:
                spec = {
                    "selector": {"app.kubernetes.io/name": "hello"},
                    "ports": [{"port": 80, "targetPort": web.port}],
                }
                make(cluster, "/api/v1/namespaces/default/services", "web", spec=spec)
                with gateway(directory / "door", kubeconfig, *flags(directory, issuer.made)) as door:
                    yield Team(cluster, door, web, issuer.made, directory)
    finally:
        issuer.close()


def flags(directory: Path, issuer: TestIssuer) -> list[str]:
    """Everything that somebody may log in with."""
    files = {name: directory / name for name in ("tokens.csv", "htpasswd", "clients.crt", "clients.key", "issuer.crt")}
    lines = [f'odd-{i},"{name}",u{i},"{name},plain"' for i, name in enumerate(NAMES)]
    lines += [f'unsendable-{i},"{name}",u' for i, name in enumerate(UNSENDABLE)]
    files["tokens.csv"].write_text("\n".join(lines) + '\nimpostor,"impostor",u,"plain"\n', "utf-8")
    users.put(files["htpasswd"], "dave", "pässwörd:with colon", ("staff",), rounds=4)
    authority = certificates.make_authority("people")
    files["clients.crt"].write_bytes(authority.certificate)
    files["clients.key"].write_bytes(authority.key)
    files["issuer.crt"].write_text(issuer.authority.pem)
    return [
        f"--token-auth-file={files['tokens.csv']}",
        f"--basic-auth-file={files['htpasswd']}",
        f"--client-ca-file={files['clients.crt']}",
        f"--oidc-issuer-url={issuer.url}",
        "--oidc-client-id=portway",
        f"--oidc-ca-file={files['issuer.crt']}",
        "--oidc-groups-claim=groups",
        "--oidc-groups-prefix=oidc:",
        "--oidc-username-prefix=oidc:",
        f"--authentication-token-webhook-cache-ttl={TTL}",
        f"--authorization-webhook-cache-authorized-ttl={TTL}",
        f"--authorization-webhook-cache-unauthorized-ttl={TTL}",
        "--via=direct",
        "--domain=localhost",
    ]


def status(door: Cluster, target: str, bearer: str = "", **more: Any) -> int:
    return int(ask(door, "GET", target, bearer, **more)[0][":status"])


# Tokens of the cluster


def test_a_service_account_is_itself_to_the_api_server(team: Team) -> None:
    found = whoami(team.door, token(team.cluster, "robot"))
    assert found["username"] == "system:serviceaccount:default:robot"
    assert "system:serviceaccounts:default" in found["groups"]
    assert found["uid"]
    assert found["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")


@pytest.mark.parametrize("kind", ["Pod", "Secret", "ServiceAccount"])
def test_a_bound_token_ends_with_what_it_is_bound_to(team: Team, kind: str) -> None:
    name = f"bound-{kind.lower()}"
    plural = {"Pod": "pods", "Secret": "secrets", "ServiceAccount": "serviceaccounts"}[kind]
    path = f"/api/v1/namespaces/default/{plural}"
    make(team.cluster, "/api/v1/namespaces/default/serviceaccounts", name)
    if kind == "Pod":
        make(team.cluster, path, name, spec={"serviceAccountName": name, "containers": [{"name": "c", "image": "c"}]})
    elif kind == "Secret":
        make(team.cluster, path, name)
    bound = None if kind == "ServiceAccount" else {"apiVersion": "v1", "kind": kind, "name": name}
    bearer = token(team.cluster, name, bound=bound)
    bind(team.cluster, f"sees-{name}", SEES, account(name))
    wait_until(lambda: status(team.door, f"{SERVICE}/", bearer) == 200, "the right is not known")
    wire = connect(team.door)
    wire.send(request_bytes(team.door, "GET", f"{SERVICE}/ws", bearer, lines=upgrade_lines()))
    assert wire.response()[0] == 101
    assert team.cluster.request("DELETE", f"{path}/{name}", admin_token(team.cluster), {"gracePeriodSeconds": 0})[
        0
    ] in (
        200,
        202,
    )
    # Within its time, and the sweep that looks at upgrades; the deadline only bounds the test.
    wait_until(lambda: status(team.door, f"{SERVICE}/", bearer) == 401, "the token of what is gone still counts")
    wire.rest()
    wire.sock.close()


def test_a_right_that_is_taken_back_ends_within_its_time(team: Team) -> None:
    bearer = token(team.cluster, "sometimes")
    bind(team.cluster, "sometimes", SEES, account("sometimes"))
    wait_until(lambda: status(team.door, f"{SERVICE}/", bearer) == 200, "the right is not known")
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/sometimes"
    assert team.cluster.request("DELETE", path, admin_token(team.cluster))[0] == 200
    wait_until(lambda: status(team.door, f"{SERVICE}/", bearer) == 403, "the right is still there")


# Impersonation through the door


def test_acting_as_somebody_needs_the_right_to(team: Team) -> None:
    robot, lines = token(team.cluster, "robot"), ("Impersonate-User: carol",)
    refused = whoami(team.door, robot, lines=lines)
    assert refused["message"] == (
        'users "carol" is forbidden: User "system:serviceaccount:default:robot" cannot impersonate resource "users" in '
        'API group "" at the cluster scope'
    )
    actor = token(team.cluster, "actor")
    rules = [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["carol"]}]
    bind(team.cluster, "acts", rules, account("actor"))
    wait_until(lambda: "username" in whoami(team.door, actor, lines=lines), "may not act as carol")
    found = whoami(team.door, actor, lines=lines)
    assert (found["username"], found["groups"]) == ("carol", ["system:authenticated"])
    assert "extra" not in found
    assert "uid" not in found
    assert status(team.door, f"{SERVICE}/", actor, lines=lines) == 200
    assert status(team.door, f"{SERVICE}/", actor) == 403
    for more in ("Impersonate-Group: system:masters", "Impersonate-Uid: 0", "Impersonate-Extra-Scopes: all"):
        assert whoami(team.door, actor, lines=(*lines, more))["reason"] == "Forbidden"
        assert status(team.door, f"{SERVICE}/", actor, lines=(*lines, more)) == 403
    assert status(team.door, f"{SERVICE}/", actor, lines=("Impersonate-Group: system:masters",)) == 400
    assert status(team.door, f"{SERVICE}/", actor, lines=("Impersonate-User: mallory",)) == 403
    assert status(team.door, f"{SERVICE}/", actor, lines=("Impersonate-User: carol", "Impersonate-User: eve")) == 200
    assert "impersonate" not in str([one.fields for one in team.web.seen]).lower()


def test_the_door_is_nobodys_to_be(team: Team) -> None:
    """What the door may do as itself, nobody gets by leaving its headers out or empty."""
    robot = token(team.cluster, "robot")
    for lines in (
        ("Impersonate-User:",),
        ("Impersonate-User: ", "Impersonate-Group: "),
        ("impersonate_user: system:serviceaccount:portway-door:door",),
        ("Connection: impersonate-user, impersonate-group, authorization",),
    ):
        found = whoami(team.door, robot, lines=lines)
        assert found.get("username", "") == "system:serviceaccount:default:robot" or found.get("code") in (400, 403), (
            lines
        )
    assert whoami(team.door, lines=("Connection: impersonate-user",))["code"] == 403


# Names


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_odd_names_arrive_as_they_are(team: Team, index: int) -> None:
    found = whoami(team.door, f"odd-{index}")
    assert found["username"] == NAMES[index]
    assert found["groups"] == [NAMES[index], "plain", "system:authenticated"]
    assert status(team.door, "/api/v1/secrets", f"odd-{index}") == 403


@pytest.mark.parametrize("index", range(len(UNSENDABLE)))
def test_a_name_that_no_header_can_say_is_refused_not_changed(team: Team, index: int) -> None:
    assert whoami(team.door, f"unsendable-{index}")["code"] in (400, 403)


def test_a_user_named_like_a_system_user_is_just_called_so(team: Team) -> None:
    """No groups come with a name: it is not a service account of kube-system's, and no administrator."""
    for name in ("system:admin", "system:serviceaccount:kube-system:x"):
        found = whoami(team.door, f"odd-{NAMES.index(name)}")
        assert not {"system:masters", "system:serviceaccounts"} & set(found["groups"])


# OIDC


def test_oidc(team: Team) -> None:
    bearer = team.issuer.token(sub="ann", groups=["devs", "system:masters"])
    found = whoami(team.door, bearer)
    assert found["username"] == "oidc:ann"
    assert found["groups"] == ["oidc:devs", "oidc:system:masters", "system:authenticated"]
    assert status(team.door, f"{SERVICE}/", bearer) == 200
    assert status(team.door, "/api/v1/secrets", bearer) == 403
    assert status(team.door, f"{SERVICE}/", team.issuer.token(sub="ann")) == 403
    assert bearer not in json.dumps(team.web.seen)


@pytest.mark.parametrize(
    "claims", [{"exp": 1}, {"aud": "others"}, {"iss": "https://elsewhere"}, {"sub": None}, {"sub": ""}]
)
def test_oidc_tokens_that_are_wrong(team: Team, claims: dict[str, Any]) -> None:
    assert status(team.door, f"{SERVICE}/", team.issuer.token(groups=["devs"], **claims)) == 401
    assert status(team.door, "/livez", team.issuer.token(groups=["devs"], **claims)) == 401


@pytest.mark.parametrize("name", ["a b", "ünï", "x:y", "per%20cent"])
def test_oidc_names_that_are_odd(team: Team, name: str) -> None:
    found = whoami(team.door, team.issuer.token(sub=name, groups=[name]))
    assert (found["username"], found["groups"][0]) == (f"oidc:{name}", f"oidc:{name}")


@pytest.mark.parametrize("name", ["line\r\nImpersonate-Group: system:masters", "nul\0", "\ttab"])
def test_a_name_that_would_be_another_header_is_refused(team: Team, name: str) -> None:
    bearer = team.issuer.token(sub=name, groups=["devs"])
    assert whoami(team.door, bearer)["code"] in (400, 401, 403)
    in_group = team.issuer.token(sub="ann", groups=["devs", name])
    assert whoami(team.door, in_group)["code"] in (400, 401, 403)


# Certificates


def context(team: Team, name: str, *groups: str, authority: certificates.KeyPair | None = None) -> ssl.SSLContext:
    directory = team.directory
    own = certificates.KeyPair((directory / "clients.crt").read_bytes(), (directory / "clients.key").read_bytes())
    made = certificates.make_client_certificate(authority or own, name, groups)
    file = directory / "client.pem"
    file.write_bytes(made.certificate + made.key)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    found.load_cert_chain(file)
    return found


def test_client_certificates(team: Team) -> None:
    carol = context(team, "carol", "staff")
    found = whoami(team.door, context=carol)
    assert (found["username"], found["groups"]) == ("carol", ["staff", "system:authenticated"])
    assert found["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    assert status(team.door, f"{SERVICE}/", context=carol) == 200
    assert status(team.door, f"{SERVICE}/", context=context(team, "mallory")) == 403
    assert "carol" not in json.dumps(team.web.seen)


def test_a_certificate_of_another_authority_is_none(team: Team) -> None:
    stranger = context(team, "carol", authority=certificates.make_authority("people"))
    with pytest.raises((OSError, EOFError)):
        status(team.door, f"{SERVICE}/", context=stranger)


# Passwords, as a browser sends them

BASIC = "Authorization: Basic " + base64.b64encode("dave:pässwörd:with colon".encode()).decode()
BROWSER = ("Accept: text/html,application/xhtml+xml", "User-Agent: Mozilla/5.0 Firefox/140.0")
NAVIGATE = (*BROWSER, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")


def test_a_browser_is_asked_for_a_password(team: Team) -> None:
    for target, host in ((f"{SERVICE}/", ""), ("/", "web.default.localhost"), ("/portway/", "")):
        fields, _ = ask(team.door, "GET", target, lines=BROWSER, host=host)
        assert (fields[":status"], fields["www-authenticate"]) == ("401", 'Basic realm="Portway", charset="UTF-8"')
        wrong = "Authorization: Basic " + base64.b64encode(b"dave:wrong").decode()
        assert ask(team.door, "GET", target, lines=(*BROWSER, wrong), host=host)[0][":status"] == "401"


def test_a_browser_with_a_password(team: Team) -> None:
    fields, _ = ask(team.door, "GET", f"{SERVICE}/page", lines=(*BROWSER, BASIC))
    assert fields[":status"] == "200"
    assert fields["content-security-policy"].startswith("sandbox")
    fields, _ = ask(team.door, "GET", f"{SERVICE}/page?q=1", lines=(*NAVIGATE, BASIC))
    assert (fields[":status"], fields["location"]) == (
        "307",
        f"https://web.default.localhost:{team.door.server.rpartition(':')[2]}/page?q=1",
    )
    fields, _ = ask(team.door, "GET", "/page", lines=(*NAVIGATE, BASIC), host="web.default.localhost")
    assert fields[":status"] == "200"
    assert "content-security-policy" not in fields
    assert "d2l0aCBjb2xvbg" not in json.dumps(team.web.seen)
    assert not [one for one in team.web.seen if "authorization" in one.fields]


def test_another_origins_page_cannot_use_the_password(team: Team) -> None:
    own = f"https://{team.door.server.partition('://')[2]}"
    before = len(team.web.seen)
    for origin in ("https://elsewhere.example", "null", "https://other.default.localhost"):
        lines = (*BROWSER, BASIC, f"Origin: {origin}")
        assert ask(team.door, "POST", f"{SERVICE}/", lines=lines)[0][":status"] == "403"
        assert ask(team.door, "POST", "/", host="web.default.localhost", lines=lines)[0][":status"] == "403"
        socket_lines = (*upgrade_lines(), BASIC, f"Origin: {origin}")
        assert ask(team.door, "GET", f"{SERVICE}/ws", lines=socket_lines)[0][":status"] == "403"
        assert ask(team.door, "GET", "/ws", host="web.default.localhost", lines=socket_lines)[0][":status"] == "403"
    assert team.web.seen[before:] == []
    assert ask(team.door, "POST", f"{SERVICE}/", lines=(BASIC, f"Origin: {own}"))[0][":status"] == "200"
    same = (BASIC, "Origin: https://web.default.localhost")
    assert ask(team.door, "POST", "/", host="web.default.localhost", lines=same)[0][":status"] == "200"
