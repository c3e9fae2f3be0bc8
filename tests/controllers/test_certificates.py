"""Approving, signing and cleaning up CertificateSigningRequests: the rules as tables, then on a real API server."""

import asyncio
import base64
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from portway.client.api import ApiClient, ClusterConfig
from portway.controllers.certificates import REQUESTS, awaits_signature, ends, recognised
from portway.controllers.settings import ControllerSettings
from portway.controllers.signing import Authority, CannotSign
from portway.kube.signingrequests import parse
from portway.testing.managed import find, managed_api, until, until_object
from portway.up.certificates import KeyPair, make_authority, signed_by

Object = dict[str, Any]
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
NODE = "/O=system:nodes/CN=system:node:n1"
NOW = 1_800_000_000.0
CA: KeyPair = make_authority("test")
_OIDS = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME, "UID": ObjectIdentifier("1.3.6.1.4.1.57683.2")}
_KEY = ec.generate_private_key(ec.SECP256R1())


def encoded(subject: str, *names: str, key: Any = _KEY) -> str:
    """spec.request for a subject, written as openssl takes it, and DNS names."""
    parts = [part.split("=", 1) for part in subject.split("/")[1:]]
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(_OIDS[kind], value) for kind, value in parts]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    # What a request brings along beside its subject and names counts for nothing.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    pem = builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def request(subject: str = "/O=team/CN=jane", *names: str, **spec: Any) -> Object:
    usual: Object = {"request": encoded(subject, *names), "signerName": CLIENT, "usages": ["client auth"]}
    usual |= {"username": "jane", "groups": ["team", "system:authenticated"], "expirationSeconds": 3600}
    return {"metadata": {"name": "r", "creationTimestamp": "2027-01-15T08:00:00Z"}, "spec": usual | spec}


@pytest.mark.parametrize(
    ("found", "rights"),
    [
        (request(), ["selfclient"]),
        (request("/CN=jane"), ["selfclient"]),
        (request("/CN=joe"), []),
        (request("/O=other/CN=jane"), []),
        (request("/O=team/CN=jane/CN=admin"), []),
        (request("/CN=admin/CN=jane"), []),
        (request("/O=system:authenticated/CN=jane"), []),
        (request("/CN=jane/UID=42"), []),
        (request("/CN=jane", "jane.example"), []),
        (request(expirationSeconds=86400), ["selfclient"]),
        (request(expirationSeconds=86401), []),
        (request(expirationSeconds=None), []),
        (request(usages=["client auth", "server auth"]), []),
        (request(signerName="example.com/mine"), []),
        (request("/CN=system:serviceaccount:a:b", username="system:serviceaccount:a:b"), []),
        (request(request="eA=="), []),
        (
            request(NODE, signerName=KUBELET, usages=["digital signature", "client auth"], username="system:node:n1"),
            ["selfnodeclient", "nodeclient"],
        ),
        (request(NODE, signerName=KUBELET, usages=["digital signature", "client auth"]), ["nodeclient"]),
        (request(NODE, signerName=CLIENT, username="system:node:n1", groups=["system:nodes"]), []),
    ],
)
def test_what_may_be_approved_without_a_person(found: Object, rights: list[str]) -> None:
    assert [right for right, _ in recognised(found)] == rights


def status(*types: str, certificate: str = "", at: str = "2027-01-15T09:00:00Z") -> Object:
    conditions = [{"type": one, "status": "True", "lastUpdateTime": at} for one in types]
    return {**request(), "status": {"conditions": conditions, "certificate": certificate}}


@pytest.mark.parametrize(
    ("found", "end", "awaits"),
    [
        (request(), "2027-01-16T08:00:00Z", False),
        (status("Approved"), None, True),
        (status("Approved", certificate="eA=="), "2027-01-15T10:00:00Z", False),
        (status("Denied"), "2027-01-15T10:00:00Z", False),
        (status("Approved", "Failed"), "2027-01-15T10:00:00Z", False),
        (status("Approved", "Denied"), "2027-01-15T10:00:00Z", False),
        (status("Other"), None, False),
    ],
)
def test_when_a_request_has_had_its_day(found: Object, end: str | None, awaits: bool) -> None:
    expected = datetime.datetime.fromisoformat(end).timestamp() if end else float("inf")
    assert ends(found) == expected
    assert awaits_signature(found) == awaits


def signed(seconds: int | None = 3600, now: float | None = None, subject: str = "/O=team/CN=jane", *names: str) -> Any:
    pem = Authority(CA.certificate, CA.key).sign(
        parse(encoded(subject, *names)), ["client auth", "digital signature"], seconds, now or start()
    )
    return x509.load_pem_x509_certificate(pem)


def start() -> float:
    """A whole second within the authority's life."""
    return float(int(x509.load_pem_x509_certificate(CA.certificate).not_valid_before_utc.timestamp()) + 3600)


@pytest.mark.parametrize(
    ("seconds", "before", "after"),
    [
        (3600, 300, 3600),
        (600, 300, 600),
        (1, 300, 600),
        (8 * 3600, 300, 8 * 3600 - 300),
        (None, 300, 365 * 86400 - 300),
        (1 << 30, 300, 365 * 86400 - 300),
    ],
)
def test_lifetimes_are_what_was_asked_for_within_bounds(seconds: int | None, before: int, after: int) -> None:
    made = signed(seconds)
    assert start() - made.not_valid_before_utc.timestamp() == before
    assert made.not_valid_after_utc.timestamp() - start() == after


def test_a_certificate_holds_what_was_approved_and_no_more() -> None:
    made = signed(3600, None, "/O=team/O=ops/CN=jane", "jane.example")
    assert made.subject.rfc4514_string() == "CN=jane,O=ops,O=team"
    assert signed_by(made.public_bytes(serialization.Encoding.PEM), CA.certificate)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.critical) == (False, True)
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["jane.example"]


def test_no_certificate_outlives_its_authority() -> None:
    end = x509.load_pem_x509_certificate(CA.certificate).not_valid_after_utc
    assert signed(None, end.timestamp() - 3600).not_valid_after_utc == end
    with pytest.raises(CannotSign, match="expired"):
        signed(3600, end.timestamp())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "1024 bits is too weak"),
        (ed25519.Ed25519PrivateKey.generate(), "neither an RSA nor an EC key"),
    ],
)
def test_weak_and_strange_keys_are_not_signed(key: Any, words: str) -> None:
    asked = parse(encoded("/CN=jane", key=key))
    with pytest.raises(CannotSign, match=words):
        Authority(CA.certificate, CA.key).sign(asked, ["client auth"], 3600, start())


def test_an_authority_s_key_must_be_its_own() -> None:
    with pytest.raises(ValueError, match="not its certificate's"):
        Authority(CA.certificate, make_authority("other").key)


def on(directory: Path, test: Callable[[ApiClient], Awaitable[None]]) -> None:
    async def run() -> None:
        settings = ControllerSettings(authority=Authority(CA.certificate, CA.key))
        async with managed_api(directory, settings=settings) as client:
            await test(client)

    asyncio.run(run())


async def asked(client: ApiClient, name: str = "r", subject: str = "/O=team/CN=jane", **spec: Any) -> Object:
    made = request(subject, **spec)
    return await client.create(REQUESTS, {**made, "metadata": {"name": name}})


async def approve(client: ApiClient, name: str, kind: str = "Approved") -> None:
    found = await client.get(f"{REQUESTS}/{name}")
    decision = {"conditions": [{"type": kind, "status": "True", "reason": "ByHand"}]}
    await client.update(f"{REQUESTS}/{name}/approval", {**found, "status": decision})


def issued(found: Object) -> bool:
    return bool(found["status"].get("certificate"))


def failed(found: Object) -> bool:
    return any(one["type"] == "Failed" for one in found["status"].get("conditions") or ())


def user(directory: Path, name: str, *groups: str) -> ApiClient:
    """Somebody else at the same API server."""
    return ApiClient(ClusterConfig.local(str(directory / "api.sock"), name, (*groups, "system:authenticated")))


def test_what_is_approved_is_signed_and_nothing_else(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        for name in ("waits", "denied", "approved"):
            await asked(client, name)
        await asked(client, "foreign", signerName="example.com/mine")
        await approve(client, "denied", "Denied")
        await approve(client, "foreign")
        await approve(client, "approved")
        found = await until_object(client, f"{REQUESTS}/approved", issued, "the certificate")
        pem = base64.b64decode(found["status"]["certificate"])
        assert signed_by(pem, CA.certificate)
        assert x509.load_pem_x509_certificate(pem).subject.rfc4514_string() == "CN=jane,O=team"
        for name in ("waits", "denied", "foreign"):
            assert not issued(await client.get(f"{REQUESTS}/{name}"))

    on(tmp_path, test)


def test_what_does_not_fit_its_signer_fails_and_says_why(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        await asked(client, usages=["server auth"])
        await approve(client, "r")
        found = await until_object(client, f"{REQUESTS}/r", failed, "the failure")
        (failure,) = [one for one in found["status"]["conditions"] if one["type"] == "Failed"]
        assert failure["reason"] == "SignerValidationFailure"
        assert failure["message"] == "invalid usage for client certificate: server auth"
        assert not issued(found)

    on(tmp_path, test)


def test_a_user_with_the_right_gets_their_own_certificate_without_a_person(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        binding = {
            "metadata": {"name": "own"},
            "subjects": [{"kind": "Group", "name": "team"}],
            "roleRef": {"kind": "ClusterRole", "name": "system:portway:certificatesigningrequests:selfclient"},
        }
        await client.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        jane, joe = user(tmp_path, "jane", "team"), user(tmp_path, "joe", "other")
        try:
            await asked(joe, "joe", "/O=other/CN=joe")
            await asked(jane, "greedy", "/O=ops/CN=jane")
            await asked(jane, "own")
            found = await until_object(client, f"{REQUESTS}/own", issued, "the certificate")
            (approval,) = found["status"]["conditions"]
            assert (approval["type"], approval["reason"]) == ("Approved", "AutoApproved")
            for name in ("joe", "greedy"):
                assert (await client.get(f"{REQUESTS}/{name}"))["status"] == {}
        finally:
            await jane.close()
            await joe.close()

    on(tmp_path, test)


def test_what_has_had_its_day_is_deleted(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        await asked(client, "old")
        await asked(client, "fresh")
        found = await client.get(f"{REQUESTS}/old")
        old = [{"type": "Denied", "status": "True", "reason": "No", "lastUpdateTime": "2020-01-01T00:00:00Z"}]
        await client.update(f"{REQUESTS}/old/approval", {**found, "status": {"conditions": old}})

        async def gone() -> bool:
            return await find(client, f"{REQUESTS}/old") is None

        await until(gone, "the end of the old request")
        assert await find(client, f"{REQUESTS}/fresh") is not None

    on(tmp_path, test)
