"""kubeconfig files by kubectl's rules, and connections made as they say."""

import asyncio
import base64
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from portway.client.api import ApiClient
from portway.client.kubeconfig import KubeconfigError, Overrides, load
from portway.client.protocol import ApiUnreachable

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


def resolve(tmp_path: Path, content: Document, **said: Any) -> Any:
    return load(str(write(tmp_path / "config", content))).resolve(Overrides(**said))


def test_a_context_names_cluster_user_and_namespace(tmp_path: Path) -> None:
    config = resolve(tmp_path, document(user={"token": "t"}, context={"namespace": "ns"}))
    assert (config.server, config.token, config.namespace) == ("http://one.example:8080", "t", "ns")
    assert resolve(tmp_path, document()).namespace == "default"


def test_the_command_line_wins(tmp_path: Path) -> None:
    both = document("one", user={"token": "t"})
    for section, entries in document("two", user={"token": "t2"}).items():
        if isinstance(entries, list):
            both[section] += entries
    assert resolve(tmp_path, both, context="two").server == "http://two.example:8080"
    assert resolve(tmp_path, both, cluster="two").token == "t"
    assert resolve(tmp_path, both, user="two").token == "t2"
    config = resolve(tmp_path, both, server="elsewhere:1", token="x", namespace="n")
    assert (config.server, config.token, config.namespace) == ("http://elsewhere:1", "x", "n")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"context": "no"}, 'context "no" does not exist'),
        ({"cluster": "no"}, 'cluster "no" does not exist'),
        ({"user": "no"}, 'user "no" does not exist'),
        ({"server": "ftp://x"}, 'the server "ftp://x" is neither http nor https'),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, said: Document, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        resolve(tmp_path, document(), **said)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(user={"exec": {"command": "aws"}}), "logs in with the exec plugin aws: not supported"),
        (document(user={"auth-provider": {"name": "gcp"}}), "auth-provider plugin gcp: not supported"),
        (document(cluster={"proxy-url": "http://p"}), "proxy-url"),
        (
            document(
                cluster={
                    "server": "https://x",
                    "insecure-skip-tls-verify": True,
                    "certificate-authority-data": base64.b64encode(b"x").decode(),
                }
            ),
            "makes no sense",
        ),
        (document(cluster={"server": "https://x", "certificate-authority": "no.pem"}), r"no\.pem: No such file"),
        (document(cluster={"server": "https://x", "certificate-authority-data": "bm8="}), "certificate authority data"),
        (document(cluster={"server": "https://x"}, user={"client-certificate": "a.pem"}), "only of use together"),
        (
            document(
                cluster={"server": "https://x"}, user={"client-certificate-data": "bm8=", "client-key-data": "bm8="}
            ),
            "client certificate data",
        ),
    ],
)
def test_what_cannot_work_is_said_by_name(tmp_path: Path, content: Document, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        resolve(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file")
    config = resolve(tmp_path, document(user={"tokenFile": "token", "token": "no"}))
    assert config.token_file == str(tmp_path / "token")


def test_basic_and_impersonation_become_headers(tmp_path: Path) -> None:
    user = {"username": "ann", "password": "pw", "as": "bob", "as-groups": ["g1", "g2"], "as-user-extra": {"k": ["v"]}}
    assert resolve(tmp_path, document(user=user)).headers == (
        ("Authorization", "Basic " + base64.b64encode(b"ann:pw").decode()),
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "g1"),
        ("Impersonate-Group", "g2"),
        ("Impersonate-Extra-k", "v"),
    )
    assert resolve(tmp_path, document(user=user), as_user="eve").headers[1:] == (("Impersonate-User", "eve"),)
    assert resolve(tmp_path, document(user={"username": "a", "token": "t"})).headers == ()


def test_credentials_are_not_in_a_repr(tmp_path: Path) -> None:
    path = str(write(tmp_path / "config", document(user={"token": "s3cret", "username": "u", "password": "s3cret"})))
    assert "s3cret" not in repr(load(path)) + repr(load(path).resolve()) + repr(Overrides(token="s3cret"))


# Connections


class Authority:
    """Makes certificates, as PEM."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        self.pem = self._signed(self.name, self.key, authority=True).public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), private

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        names = [x509.DNSName("api.example"), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def talk(tmp_path: Path, make: Callable[[Authority, int], Document]) -> str:
    """Serve HTTPS with client certificates, connect as the kubeconfig says; the name that the server saw."""
    authority = Authority()
    for file, pem in zip(("cert", "key"), authority.issue("server"), strict=True):
        (tmp_path / file).write_bytes(pem)
    (tmp_path / "ca").write_bytes(authority.pem)

    async def whoami(request: web.Request) -> web.StreamResponse:
        subject = (request.get_extra_info("peercert") or {}).get("subject", ())
        return web.json_response({"user": "".join(value for rdn in subject for _, value in rdn)})

    async def run() -> str:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca")
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        context.verify_mode = ssl.CERT_OPTIONAL
        application = web.Application()
        application.router.add_get("/whoami", whoami)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        client = ApiClient(resolve(tmp_path, make(authority, port)))
        try:
            return str((await client.get("/whoami"))["user"])
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(run())


def https(port: int, cluster: Document, user: Document | None = None) -> Document:
    return document(cluster={"server": f"https://127.0.0.1:{port}"} | cluster, user=user or {})


def test_authority_and_client_certificate_as_data(tmp_path: Path) -> None:
    def make(authority: Authority, port: int) -> Document:
        certificate, key = authority.issue("ann")
        user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
        return https(port, {"certificate-authority-data": encoded(authority.pem)}, user)

    assert talk(tmp_path, make) == "ann"


def test_authority_and_client_certificate_as_files(tmp_path: Path) -> None:
    def make(authority: Authority, port: int) -> Document:
        for file, pem in zip(("ann.pem", "ann.key"), authority.issue("ann"), strict=True):
            (tmp_path / file).write_bytes(pem)
        user = {"client-certificate": "ann.pem", "client-key": "ann.key"}
        return https(port, {"certificate-authority": "ca"}, user)

    assert talk(tmp_path, make) == "ann"


def test_a_server_of_another_authority_is_refused(tmp_path: Path) -> None:
    def make(_: Authority, port: int) -> Document:
        return https(port, {"certificate-authority-data": encoded(Authority().pem)})

    with pytest.raises(ApiUnreachable, match=r"https://127\.0\.0\.1:.*certificate verify failed"):
        talk(tmp_path, make)


def test_verification_can_be_turned_off(tmp_path: Path) -> None:
    assert talk(tmp_path, lambda _, port: https(port, {"insecure-skip-tls-verify": True})) == ""


@pytest.mark.parametrize(("name", "accepted"), [("api.example", True), ("other.example", False)])
def test_the_name_to_verify_can_be_given(tmp_path: Path, name: str, accepted: bool) -> None:
    def make(authority: Authority, port: int) -> Document:
        return https(port, {"certificate-authority-data": encoded(authority.pem), "tls-server-name": name})

    if accepted:
        assert talk(tmp_path, make) == ""
    else:
        with pytest.raises(ApiUnreachable, match="certificate"):
            talk(tmp_path, make)
