"""Backends behind `https:`: any certificate will do, unless the Service says which one; then only that."""

import asyncio
import base64
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from portway.gateway.upstream import trust
from portway.gateway.upstream.endpoint import Endpoint
from portway.kube.objects import Object
from portway.kube.proxyurl import TargetId
from portway.testing.conversation import OK, TIMEOUT, Backend, RunningDoor, get

URL = "/api/v1/namespaces/demo/services/https:tls:/proxy/x"
SECRET = "/api/v1/namespaces/demo/secrets/ca"
CONFIG_MAP = "/api/v1/namespaces/demo/configmaps/bundle"
NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A CA that signs server certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, NOW + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=2))
            .not_valid_after(end)
        )

    def server(self, directory: Path, name: str, days: int = 1) -> ssl.SSLContext:
        """A server context with a certificate for a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        literal = name.replace(".", "").isdigit()
        known = x509.IPAddress(ipaddress.ip_address(name)) if literal else x509.DNSName(name)
        builder = self._builder(subject, key, NOW + datetime.timedelta(days=days))
        certificate = builder.add_extension(x509.SubjectAlternativeName([known]), critical=False).sign(
            self._key, hashes.SHA256()
        )
        path = directory / f"{name}{days}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("right")


def ask(door: RunningDoor, context: ssl.SSLContext, **annotations: str) -> tuple[int, bytes]:
    """(status, body) of one request to a TLS backend behind a service with annotations (names as portway.dev/NAME)."""
    backend = door.backend(context)
    keys = {f"portway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    door.service("tls", backend, annotations=keys, ports=[{"port": 443}])
    client = door.client()
    client.send(get(URL))
    try:
        wire = backend.accept()
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return client.response()[::2]
    try:
        wire.head()
        wire.send(OK)
    except (EOFError, ConnectionError, ssl.SSLError):
        pass
    return client.response()[::2]


def test_unasked_any_certificate_will_do(door: RunningDoor, authority: Authority, tmp_path: Path) -> None:
    assert ask(door, authority.server(tmp_path, "whoever.example", days=-1)) == (200, b"ok")


@pytest.mark.parametrize("reference", ["secret/ca", "secret/ca/ca.crt", "configmap/bundle/roots.pem"])
def test_the_right_certificate_is_accepted(
    door: RunningDoor, authority: Authority, tmp_path: Path, reference: str
) -> None:
    door.objects[SECRET] = {"data": {"ca.crt": base64.b64encode(authority.pem.encode()).decode()}}
    door.objects[CONFIG_MAP] = {"data": {"roots.pem": authority.pem}}
    assert ask(door, authority.server(tmp_path, "tls.demo.svc"), backend_ca=reference) == (200, b"ok")


def test_a_server_name_may_be_named(door: RunningDoor, authority: Authority, tmp_path: Path) -> None:
    door.objects[CONFIG_MAP] = {"data": {"ca.crt": authority.pem}}
    context = authority.server(tmp_path, "app.internal")
    found = ask(door, context, backend_ca="configmap/bundle", backend_server_name="app.internal")
    assert found == (200, b"ok")


@pytest.mark.parametrize("name", [".app", "a..b", "x" * 64 + ".y", "bü.example", "a\0b", "app internal", "https://app"])
def test_a_name_that_no_certificate_has_is_said(
    door: RunningDoor, authority: Authority, tmp_path: Path, name: str
) -> None:
    """What TLS can't ask for must not leave the client waiting."""
    door.objects[CONFIG_MAP] = {"data": {"ca.crt": authority.pem}}
    keys = {"portway.dev/backend-ca": "configmap/bundle", "portway.dev/backend-server-name": name}
    door.service("tls", door.backend(), annotations=keys, ports=[{"port": 443}])
    client = door.client()
    client.send(get(URL))
    status, _, body = client.response()
    assert (status, b"backend-server-name" in body or b"cannot be used" in body) == (503, True)


def test_trust_that_is_read_again_leaves_nothing_behind(
    door: RunningDoor, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bundle is the same endpoint, with its pooled connections; another one replaces what was there."""
    monkeypatch.setattr(trust, "REFRESH", 0.0)
    keys = {"portway.dev/backend-ca": "configmap/bundle"}
    door.service("tls", door.backend(), annotations=keys, ports=[{"port": 443}])
    locations = door.door.cluster.locations

    def located(pem: str) -> Endpoint:
        door.objects[CONFIG_MAP] = {"data": {"ca.crt": pem}}
        asked = locations.ask("services", "demo", TargetId("https", "tls", "443"), door.door.now)
        return asyncio.run_coroutine_threadsafe(asked, door.loop).result(TIMEOUT).endpoints[0]

    first = located(authority.pem)
    assert all(located(authority.pem) is first for _ in range(3))
    assert located(authority.pem + authority.pem) is not first
    assert {len(held) for held in locations._watching.values()} == {1}


def test_a_change_while_trust_is_fetched_is_not_missed(door: RunningDoor, authority: Authority) -> None:
    keys = {"portway.dev/backend-ca": "configmap/bundle"}
    old, new = door.backend(), door.backend()
    door.service("tls", old, annotations=keys, ports=[{"port": 443}])
    door.objects[CONFIG_MAP] = {"data": {"ca.crt": authority.pem}}
    locations = door.door.cluster.locations
    target = TargetId("https", "tls", "443")

    async def ask() -> list[str]:
        asked = asyncio.ensure_future(locations.ask("services", "demo", target, door.door.now))
        fetch, reached, go = locations._client.get, asyncio.Event(), asyncio.Event()

        async def slow(path: str) -> Object:
            reached.set()
            await go.wait()
            return await fetch(path)

        locations._client.get = slow  # type: ignore[method-assign, assignment]
        await reached.wait()
        door.view.apply("pods", "MODIFIED", pod("tls-0", new.address))
        door.view.apply("endpointslices", "MODIFIED", tls_slice("tls-0", new))
        go.set()
        return [endpoint.label for endpoint in (await asked).endpoints]

    found = asyncio.run_coroutine_threadsafe(ask(), door.loop).result(TIMEOUT)
    assert found == [f"{new.address}:{new.port}"]


def pod(name: str, address: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "demo", "uid": name},
        "spec": {"containers": []},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }


def tls_slice(name: str, backend: Backend) -> Object:
    ref = {"kind": "Pod", "name": name, "namespace": "demo"}
    return {
        "metadata": {"name": name, "namespace": "demo", "labels": {"kubernetes.io/service-name": "tls"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": backend.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [backend.address], "conditions": {"ready": True}, "targetRef": ref}],
    }


@pytest.mark.parametrize(
    ("name", "days", "other"), [("wrong.demo.svc", 1, False), ("tls.demo.svc", -1, False), ("tls.demo.svc", 1, True)],
    ids=["name", "expired", "authority"],
)  # fmt: skip
def test_the_wrong_certificate_is_refused(
    door: RunningDoor, authority: Authority, tmp_path: Path, name: str, days: int, other: bool
) -> None:
    door.objects[CONFIG_MAP] = {"data": {"ca.crt": authority.pem}}
    signer = Authority("wrong") if other else authority
    status, body = ask(door, signer.server(tmp_path, name, days), backend_ca="configmap/bundle")
    assert status == 503
    assert b"certificate verify failed" in body


@pytest.mark.parametrize("trusted", [True, False])
def test_a_nodes_agent_is_verified_with_the_operators_authority(
    make_door: Callable[..., RunningDoor], authority: Authority, tmp_path: Path, trusted: bool
) -> None:
    bundle = tmp_path / "kubelet-ca.crt"
    bundle.write_text((authority if trusted else Authority("wrong")).pem)
    door = make_door(kubelet_ca_file=str(bundle))
    backend = door.backend()
    backend.context = authority.server(tmp_path, backend.address)
    addresses = [{"type": "InternalIP", "address": backend.address}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": backend.port}}}
    door.apply("nodes", {"metadata": {"name": "n1", "uid": "n1"}, "status": status})
    client = door.client()
    client.send(get("/api/v1/nodes/n1/proxy/healthz"))
    if trusted:
        wire = backend.accept()
        assert wire.head()[0] == "GET /healthz HTTP/1.1"
        wire.send(OK)
        assert client.response()[::2] == (200, b"ok")
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            backend.accept()
        assert b"certificate verify failed" in client.response()[2]


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ({"backend_ca": "secret/ca"}, b"cannot be read"),
        ({"backend_ca": "configmap/empty"}, b'has no key \\"ca.crt\\"'),
        ({"backend_ca": "configmap/broken"}, b"cannot be used"),
        ({"backend_ca": "file/ca"}, b"must be secret/NAME"),
        ({"backend_server_name": "x"}, b"names a backend server but no"),
    ],
)
def test_a_bundle_that_cannot_be_used_makes_the_service_unreachable_not_unverified(
    door: RunningDoor, annotations: dict[str, str], why: bytes
) -> None:
    door.objects["/api/v1/namespaces/demo/configmaps/empty"] = {"data": {}}
    door.objects["/api/v1/namespaces/demo/configmaps/broken"] = {"data": {"ca.crt": "-----BEGIN"}}
    backend = door.backend()
    keys = {f"portway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    door.service("tls", backend, annotations=keys, ports=[{"port": 443}])
    client = door.client()
    client.send(get(URL))
    status, _, body = client.response()
    assert status == 503
    assert why in body
    assert not backend.is_dialled()
