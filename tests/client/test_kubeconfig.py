"""kubeconfig files by kubectl's rules, and connections made as they say."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from aiohttp import web

from portway.client.api import ApiClient, ClusterConfig
from portway.client.kubeconfig import Kubeconfig, KubeconfigError, Overrides, load
from portway.client.protocol import ApiUnreachable
from portway.testing.authority import Authority
from portway.testing.scripted import serving

Document = dict[str, Any]


def document(name: str = "one", **changes: Any) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {"name": name, "cluster": {"server": f"http://{name}.example:8080/"} | changes.get("cluster", {})}
        ],
        "users": [{"name": name, "user": changes.get("user", {})}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name} | changes.get("context", {})}],
    }


def write(path: Path, content: Document | str) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


# Which files


def test_one_file_on_the_command_line_counts_alone(tmp_path: Path) -> None:
    write(tmp_path / "other", document("other"))
    config = load(str(write(tmp_path / "one", document("one"))), environ={"KUBECONFIG": str(tmp_path / "other")})
    assert config.current_context == "one"
    assert list(config.clusters) == ["one"]


def test_a_file_on_the_command_line_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"missing: No such file or directory$"):
        load(str(tmp_path / "missing"))


def test_the_first_file_to_say_something_wins(tmp_path: Path) -> None:
    first = write(tmp_path / "a", document("one", cluster={"server": "http://first"}) | {"current-context": ""})
    second = write(tmp_path / "b", document("one", cluster={"server": "http://second"}))
    third = write(tmp_path / "c", document("two"))
    listed = f"{tmp_path / 'missing'}::{first}:{second}:{third}"
    config = load(environ={"KUBECONFIG": listed})
    assert config.resolve().server == "http://first"
    assert config.current_context == "one"
    assert set(config.contexts) == {"one", "two"}
    assert config.sources == (first, second, third)


def test_the_file_at_home_is_the_last_resort(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", document("home"))
    assert load(environ={}, home=tmp_path).current_context == "home"
    with pytest.raises(KubeconfigError, match="no kubeconfig was found"):
        load(environ={}, home=tmp_path / "elsewhere").resolve()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"file: not YAML \(line 1\)"),
        ("users: [{name: a, user: {token: s3cret]", r"file: not YAML \(line 1\)"),
        ("- a", "file: not a kubeconfig"),
        ("kind: Pod", "file: not a kubeconfig"),
        ("clusters: {}\nusers: x", "file: users is not a list"),
        ("contexts: [x]", r"file: contexts\[0\] needs a name and a context"),
        ("contexts: [{name: x, context: 1}]", r"file: contexts\[0\] needs a name and a context"),
        ("users: [{user: {token: x}}]", r"file: users\[0\] needs a name and a user"),
    ],
)
def test_what_is_no_kubeconfig_is_said_in_a_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        load(str(write(tmp_path / "file", content)))
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_empty_file_is_an_empty_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="no cluster is chosen"):
        load(str(write(tmp_path / "file", ""))).resolve()


# What a context means


def resolve(tmp_path: Path, content: Document, **said: Any) -> ClusterConfig:
    return load(str(write(tmp_path / "config", content))).resolve(Overrides(**said))


HTTPS = {"server": "https://one.example"}


def sent(config: ClusterConfig) -> Any:
    """The headers that say who asks, without any waiting."""
    credential = config.credentials.cached()
    assert credential is not None
    return dict(credential.headers), config.headers


def authorization(config: ClusterConfig) -> str | None:
    return cast("str | None", sent(config)[0].get("Authorization"))


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_a_context_names_cluster_user_and_namespace(tmp_path: Path) -> None:
    config = resolve(tmp_path, document(cluster=HTTPS, user={"token": "t"}, context={"namespace": "ns"}))
    assert (config.server, authorization(config), config.namespace) == ("https://one.example", "Bearer t", "ns")
    assert resolve(tmp_path, document()).namespace == "default"
    assert resolve(tmp_path, document()).server == "http://one.example:8080"


def two(**user: Any) -> Document:
    """Two contexts with clusters, and users "one" and "two"."""
    both = document("one", cluster=HTTPS, user={"token": "t"} | user)
    for section, entries in document("two", cluster={"server": "https://two.example"}, user={"token": "t2"}).items():
        if isinstance(entries, list):
            both[section] += entries
    return both


def test_the_command_line_wins(tmp_path: Path) -> None:
    assert resolve(tmp_path, two(), context="two").server == "https://two.example"
    assert authorization(resolve(tmp_path, two(), cluster="two")) == "Bearer t"
    assert authorization(resolve(tmp_path, two(), user="two")) == "Bearer t2"
    config = resolve(tmp_path, two(), server="https://elsewhere:1", token="x", namespace="n")
    assert (config.server, authorization(config), config.namespace) == ("https://elsewhere:1", "Bearer x", "n")
    assert authorization(resolve(tmp_path, two(tokenFile="/dev/null"), token="x")) == "Bearer x"
    assert resolve(tmp_path, two(), server="elsewhere:1").server == "http://elsewhere:1"


def test_contexts_can_be_listed_and_one_that_is_broken_spoils_no_other(tmp_path: Path) -> None:
    content = two()
    content["contexts"].append({"name": "broken", "context": {"cluster": "no", "user": "one", "namespace": "n"}})
    config = load(str(write(tmp_path / "config", content)))
    assert list(config.each()) == [
        ("broken", "no", "one", "n", False),
        ("one", "one", "one", "", True),
        ("two", "two", "two", "", False),
    ]
    found = dict(config.resolve_each())
    assert str(found.pop("broken")) == 'cluster "no" does not exist'
    assert [name for name, each in found.items() if isinstance(each, ClusterConfig)] == ["one", "two"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"context": "no"}, 'context "no" does not exist'),
        ({"cluster": "no"}, 'cluster "no" does not exist'),
        ({"user": "no"}, 'user "no" does not exist'),
        ({"server": "ftp://x"}, 'the server "ftp://x" is neither http nor https'),
        ({"server": "https://x:port"}, "the server 'https://x:port' is not a URL"),
        ({"server": "https://"}, "the server 'https://' is not a URL"),
        ({"server": "https://a b"}, "the server 'https://a b' is not a URL"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, said: Document, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        resolve(tmp_path, document(), **said)


V1 = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "aws"}
MUST = "must be specified for one to use exec authentication plugin"
X = base64.b64encode(b"x").decode()


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"exec": {"command": "aws"}}, f"apiVersion {MUST}; interactiveMode {MUST}"),
        ({"exec": V1 | {"command": ""}}, f"command {MUST}"),
        ({"exec": V1 | {"env": [{"value": "x"}]}}, f"env variable name {MUST}"),
        ({"exec": V1 | {"interactiveMode": "Sometimes"}}, 'invalid interactiveMode for one: "Sometimes"'),
        (
            {"exec": V1 | {"apiVersion": "client.authentication.k8s.io/v1alpha1"}},
            'exec plugin: invalid apiVersion "client.authentication.k8s.io/v1alpha1"',
        ),
        (
            {"exec": V1, "auth-provider": {"name": "x"}},
            "authProvider cannot be provided in combination with an exec plugin for one",
        ),
        (
            {"auth-provider": {"name": "gcp"}},
            (
                'The gcp auth plugin has been removed. Please use the "gke-gcloud-auth-plugin" kubectl/client-go '
                "credential plugin instead."
            ),
        ),
        ({"auth-provider": {"name": "foo"}}, 'no Auth Provider found for name "foo"'),
        (
            {"token": "s3cret", "username": "b", "password": "s3cret"},
            "more than one authentication method found for one; found [token basicAuth], only one is allowed",
        ),
        (
            {"tokenFile": "/dev/null", "username": "b"},
            "username/password or bearer token may be set, but not both",
        ),
        ({"as-groups": ["x"]}, "requesting uid, groups or user-extra for one without impersonating a user"),
        (
            {"client-certificate": "/no/cert", "client-key": "/no/key"},
            (
                "unable to read client-cert /no/cert for one due to open /no/cert: no such file or directory; "
                "unable to read client-key /no/key for one due to open /no/key: no such file or directory"
            ),
        ),
        (
            {"client-certificate-data": X},
            "client-key-data or client-key must be specified for one to use the clientCert authentication method.",
        ),
        (
            {"client-certificate-data": X, "client-certificate": "/dev/null", "client-key": "/dev/null"},
            "client-cert-data and client-cert are both specified for one. client-cert-data will override.",
        ),
        ({"tokenFile": "/no/token"}, "https://one.example: open /no/token: no such file or directory"),
        ({"tokenFile": "/dev/null"}, "https://one.example: read empty token from file /dev/null"),
        ({"token": "s3cret\nX: y"}, 'https://one.example: net/http: invalid header field value for "Authorization"'),
        ({"token": 123}, 'user "one": token is not a string'),
        ({"as-groups": "x"}, 'user "one": as-groups is not a list of strings'),
        ({"as-user-extra": {"k": "x"}}, 'user "one": as-user-extra is not lists of strings by name'),
        ({"exec": V1 | {"args": [1]}}, 'user "one": exec: args is not a list of strings'),
        ({"exec": V1 | {"env": [{"name": "A", "value": 1}]}}, 'user "one": exec: env: value is not a string'),
        (
            {"client-certificate-data": X, "client-key-data": X},
            "https://one.example: cannot use the client certificate data: ",
        ),
    ],
)
def test_users_who_cannot_log_in(tmp_path: Path, user: Document, message: str) -> None:
    """kubectl 1.37's words, and ours where it has none that fit a line."""
    with pytest.raises(KubeconfigError) as caught:
        resolve(tmp_path, document(cluster=HTTPS, user=user))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (
            {"insecure-skip-tls-verify": True, "certificate-authority-data": X},
            "specifying a root certificates file with the insecure flag is not allowed",
        ),
        (
            {"certificate-authority": "/no/ca"},
            "unable to read certificate-authority /no/ca for one due to open /no/ca: no such file or directory",
        ),
        (
            {"certificate-authority": "/dev/null", "certificate-authority-data": X},
            (
                "certificate-authority-data and certificate-authority are both specified for one. "
                "certificate-authority-data will override."
            ),
        ),
        ({"certificate-authority-data": X}, "https://one.example: cannot use the certificate authority data: "),
        ({"certificate-authority": "/dev/null"}, "https://one.example: cannot use the certificate authority /dev/null"),
        (
            {"proxy-url": "ftp://me:s3cret@x"},
            (
                'invalid \'proxy-url\' "ftp://x" for cluster "one": '
                'unsupported scheme "ftp", must be http, https, or socks5'
            ),
        ),
        (
            {"proxy-url": "127.0.0.1:3"},
            'invalid \'proxy-url\' "127.0.0.1:3" for cluster "one": could not parse: 127.0.0.1:3',
        ),
        ({"insecure-skip-tls-verify": "yes"}, 'cluster "one": insecure-skip-tls-verify is not true or false'),
    ],
)
def test_clusters_that_cannot_be_reached(tmp_path: Path, cluster: Document, message: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        resolve(tmp_path, document(cluster=HTTPS | cluster))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    content = document(cluster=HTTPS, user={"tokenFile": "token", "token": "no"})
    assert authorization(resolve(tmp_path, content)) == "Bearer from-file"
    monkeypatch.chdir(tmp_path)
    write(Path("config"), document(cluster=HTTPS, user={"exec": V1 | {"command": "./plugin"}}))
    assert load("config").users["one"]["exec"]["command"] == str(tmp_path / "plugin")
    write(Path("config"), document(cluster=HTTPS, user={"exec": V1 | {"command": "plugin"}}))
    assert load("config").users["one"]["exec"]["command"] == "plugin"


def test_a_token_stands_in_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    config = resolve(tmp_path, document(cluster=HTTPS, user={"tokenFile": "/no/token", "token": "t"}))
    assert authorization(config) == "Bearer t"


@pytest.mark.parametrize(
    ("user", "said", "headers"),
    [
        ({"username": "ann", "password": "pw"}, {}, {"Authorization": basic("ann:pw")}),
        ({"username": "ann"}, {}, {"Authorization": basic("ann:")}),
        ({"password": "pw"}, {}, {}),
        ({"exec": V1, "token": "t"}, {}, {"Authorization": "Bearer t"}),
        ({"exec": V1, "username": "a", "password": "b"}, {}, {"Authorization": basic("a:b")}),
        ({"exec": V1}, {"token": "t"}, {"Authorization": "Bearer t"}),
    ],
)
def test_what_needs_no_plugin_runs_none(tmp_path: Path, user: Document, said: Document, headers: Document) -> None:
    assert sent(resolve(tmp_path, document(cluster=HTTPS, user=user), **said))[0] == headers


AS = {"as": "bob", "as-uid": "u", "as-groups": ["g1", "g2"], "as-user-extra": {"A/b_C": ["v w"], "k": ["1", "2"]}}


@pytest.mark.parametrize(
    ("said", "headers"),
    [
        ({}, ["User: bob", "Uid: u", "Group: g1", "Group: g2", "Extra-A%2Fb_C: v w", "Extra-k: 1", "Extra-k: 2"]),
        (
            {"as_user": "eve", "as_groups": ("g3",)},
            ["User: eve", "Uid: u", "Group: g3", "Extra-A%2Fb_C: v w", "Extra-k: 1", "Extra-k: 2"],
        ),
    ],
)
def test_impersonation_becomes_headers(tmp_path: Path, said: Document, headers: list[str]) -> None:
    """As kubectl 1.37 sends them, whichever the scheme; a flag replaces its own field only."""
    for cluster in ({}, HTTPS):
        config = resolve(tmp_path, document(cluster=cluster, user=AS), **said)
        assert [f"{name}: {value}" for name, value in config.headers] == [f"Impersonate-{each}" for each in headers]


@pytest.mark.parametrize(
    "user", [{"token": "t"}, {"username": "a"}, {"exec": V1 | {"command": "/no/plugin"}}, {"tokenFile": "/no/token"}]
)
def test_over_plain_http_nobody_s_credentials_are_sent(tmp_path: Path, user: Document) -> None:
    config = resolve(tmp_path, document(user=user))
    assert sent(config) == ({}, ())


# In a pod


def pod(tmp_path: Path, namespace: str = "ns\n") -> Path:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("pod-token\n")
    (account / "ca.crt").write_bytes(Authority().pem)
    (account / "namespace").write_text(namespace)
    return account


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def in_pod(tmp_path: Path, account: Path, **environ: str) -> Kubeconfig:
    return load(environ=POD | environ, home=tmp_path, service_account=account)


def test_without_a_kubeconfig_the_service_account_is_used(tmp_path: Path) -> None:
    account = pod(tmp_path)
    config = in_pod(tmp_path, account).resolve()
    assert (config.server, authorization(config), config.namespace) == (
        "https://10.0.0.1:443",
        "Bearer pod-token",
        "ns",
    )
    assert in_pod(tmp_path, account, KUBERNETES_SERVICE_HOST="fd00::1").resolve().server == "https://[fd00::1]:443"
    assert in_pod(tmp_path, account, POD_NAMESPACE="mine").resolve().namespace == "mine"
    assert [context.name for context in in_pod(tmp_path, account).each()] == ["in-cluster"]


def test_a_kubeconfig_that_chooses_a_cluster_comes_first(tmp_path: Path) -> None:
    account = pod(tmp_path)
    path = write(tmp_path / "config", document())
    assert in_pod(tmp_path, account, KUBECONFIG=str(path)).resolve().server == "http://one.example:8080"
    write(tmp_path / "config", document() | {"current-context": ""})
    config = in_pod(tmp_path, account, KUBECONFIG=str(path))
    assert config.resolve().server == "https://10.0.0.1:443"
    assert config.resolve(Overrides(context="one")).server == "http://one.example:8080"


def test_the_service_account_s_token_goes_to_its_own_cluster_only(tmp_path: Path) -> None:
    config = in_pod(tmp_path, pod(tmp_path)).resolve(Overrides(server="https://elsewhere"))
    assert sent(config) == ({}, ())


def test_outside_of_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    for environ in ({}, {"KUBERNETES_SERVICE_HOST": "x"}, POD):
        with pytest.raises(KubeconfigError, match="no cluster is chosen"):
            load(environ=environ, home=tmp_path, service_account=tmp_path / "no").resolve()


def test_credentials_are_not_in_a_repr(tmp_path: Path) -> None:
    path = str(write(tmp_path / "config", document(cluster=HTTPS, user={"username": "u", "password": "s3cret"})))
    config = load(path).resolve()
    assert "s3cret" not in repr(load(path)) + repr(config) + repr(Overrides(token="s3cret"))
    assert base64.b64encode(b"u:s3cret").decode() not in repr(config) + repr(config.credentials.cached())


# Connections


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


class WhoAmI:
    """Answers with what it saw of the caller."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        subject = (request.get_extra_info("peercert") or {}).get("subject", ())
        seen = {name: request.headers.getall(name) for name in request.headers if name != "Host"}
        return web.json_response({"user": "".join(value for rdn in subject for _, value in rdn), "headers": seen})


def talk(tmp_path: Path, make: Callable[[Authority, int], Document], **said: Any) -> Any:
    """Serve HTTPS with client certificates, connect as the kubeconfig says; what the server saw."""
    authority = Authority()
    (tmp_path / "ca").write_bytes(authority.pem)

    async def run() -> Any:
        async with serving(WhoAmI(), tls=authority.server_context()) as server:
            client = ApiClient(resolve(tmp_path, make(authority, int(server.rpartition(":")[2])), **said))
            try:
                return await client.get("/whoami")
            finally:
                await client.close()

    return asyncio.run(run())


def https(port: int, cluster: Document, user: Document | None = None) -> Document:
    return document(cluster={"server": f"https://127.0.0.1:{port}"} | cluster, user=user or {})


def test_authority_and_client_certificate_as_data(tmp_path: Path) -> None:
    def make(authority: Authority, port: int) -> Document:
        certificate, key = authority.issue("ann")
        user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
        return https(port, {"certificate-authority-data": encoded(authority.pem)}, user)

    assert talk(tmp_path, make)["user"] == "ann"


def test_authority_and_client_certificate_as_files(tmp_path: Path) -> None:
    def make(authority: Authority, port: int) -> Document:
        for file, pem in zip(("ann.pem", "ann.key"), authority.issue("ann"), strict=True):
            (tmp_path / file).write_bytes(pem)
        user = {"client-certificate": "ann.pem", "client-key": "ann.key"}
        return https(port, {"certificate-authority": "ca"}, user)

    assert talk(tmp_path, make)["user"] == "ann"


def test_a_server_of_another_authority_is_refused(tmp_path: Path) -> None:
    def make(_: Authority, port: int) -> Document:
        return https(port, {"certificate-authority-data": encoded(Authority().pem)})

    with pytest.raises(ApiUnreachable, match=r"https://127\.0\.0\.1:.*certificate verify failed"):
        talk(tmp_path, make)


def test_verification_can_be_turned_off(tmp_path: Path) -> None:
    assert talk(tmp_path, lambda _, port: https(port, {"insecure-skip-tls-verify": True}))["user"] == ""


@pytest.mark.parametrize(("name", "accepted"), [("api.example", True), ("other.example", False)])
def test_the_name_to_verify_can_be_given(tmp_path: Path, name: str, accepted: bool) -> None:
    def make(authority: Authority, port: int) -> Document:
        return https(port, {"certificate-authority-data": encoded(authority.pem), "tls-server-name": name})

    if accepted:
        assert talk(tmp_path, make)["user"] == ""
    else:
        with pytest.raises(ApiUnreachable, match="certificate"):
            talk(tmp_path, make)
