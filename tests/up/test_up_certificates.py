"""What the cluster's authority signs is what TLS, strictly, accepts."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from portway.up import certificates
from portway.up.certificates import KeyPair

AUTHORITY = certificates.make_authority("test-ca")


def context(tmp_path: Path, purpose: int, pair: KeyPair, trusted: bytes) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    file = tmp_path / f"{purpose}.pem"
    file.write_bytes(pair.key + pair.certificate)
    made.load_cert_chain(file)
    made.load_verify_locations(cadata=trusted.decode())
    made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    return made


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object]:
    """The client's certificate as the server sees it, after a handshake in which each verified the other."""
    seen: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert"))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        await reader.read()
        writer.close()
        return await asyncio.wait_for(seen, 5)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "kubernetes.default.svc", "10.96.0.1"])
def test_both_sides_verify_strictly(tmp_path: Path, name: str) -> None:
    names = ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "10.96.0.1"]
    server = context(
        tmp_path, ssl.PROTOCOL_TLS_SERVER, certificates.make_server_certificate(AUTHORITY, names), AUTHORITY.certificate
    )
    admin = certificates.make_client_certificate(AUTHORITY, "admin", ["system:masters", "ops"])
    client = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, admin, AUTHORITY.certificate)
    seen = asyncio.run(handshake(server, client, name))
    subject = [pair for rdn in seen["subject"] for pair in rdn]  # type: ignore[attr-defined]
    assert ("commonName", "admin") in subject
    assert [value for key, value in subject if key == "organizationName"] == ["system:masters", "ops"]


def test_a_name_that_is_not_in_the_certificate_is_refused(tmp_path: Path) -> None:
    pair = certificates.make_server_certificate(AUTHORITY, ["localhost"])
    server = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, pair, AUTHORITY.certificate)
    admin = certificates.make_client_certificate(AUTHORITY, "admin", [])
    client = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, admin, AUTHORITY.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(server, client, "elsewhere.example"))


def test_renewal_is_due_when_a_name_is_missing() -> None:
    pair = certificates.make_server_certificate(AUTHORITY, ["localhost", "127.0.0.1"])
    assert not certificates.needs_renewal(pair.certificate, ["127.0.0.1"])
    assert certificates.needs_renewal(pair.certificate, ["127.0.0.2"])


def test_signed_by_tells_our_authority_from_another_of_the_same_name() -> None:
    pair = certificates.make_server_certificate(AUTHORITY, ["localhost"])
    assert certificates.signed_by(pair.certificate, AUTHORITY.certificate)
    assert not certificates.signed_by(pair.certificate, certificates.make_authority("test-ca").certificate)


def test_the_authority_signs_leaves_only() -> None:
    held = x509.load_pem_x509_certificate(AUTHORITY.certificate).extensions
    constraints = held.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0


def test_anchors_are_the_self_issued_certificates_of_a_chain() -> None:
    leaf = certificates.make_server_certificate(AUTHORITY, ["localhost"]).certificate
    assert certificates.anchors(leaf + AUTHORITY.certificate) == AUTHORITY.certificate
    assert certificates.anchors(leaf) == b""
