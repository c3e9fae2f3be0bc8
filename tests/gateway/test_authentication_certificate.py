"""What a client certificate says about its holder."""

import datetime
import ssl
from hashlib import sha256
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from portway.gateway.authentication.certificate import UID_OID, certificate_identity
from portway.gateway.crowd import Crowd
from portway.gateway.settings import Limits
from portway.kube.errors import Unauthorized

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
Attribute = tuple[ObjectIdentifier, str]


def make(
    *attributes: Attribute, purposes: list[ObjectIdentifier] | None = None, ends: datetime.timedelta | None = None
) -> bytes:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=2))
        .not_valid_after(NOW + (ends or datetime.timedelta(hours=1)))
    )
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_user_groups_uid_and_credential() -> None:
    der = make(
        (NameOID.ORGANIZATION_NAME, "b"),
        (NameOID.COMMON_NAME, "jane"),
        (NameOID.ORGANIZATION_NAME, "a"),
        (UID_OID, "u-1"),
        purposes=[ExtendedKeyUsageOID.CLIENT_AUTH],
    )
    identity = certificate_identity(der)
    assert identity is not None
    assert (identity.user.name, identity.user.uid) == ("jane", "u-1")
    assert identity.user.groups == ("b", "a", "system:authenticated")
    assert identity.user.extra == {
        "authentication.kubernetes.io/credential-id": (f"X509SHA256={sha256(der).hexdigest()}",)
    }
    assert (identity.method, identity.ambient) == ("certificate", True)
    assert identity.expires == (NOW + datetime.timedelta(hours=1)).timestamp()
    assert identity.alive()


def test_one_certificate_is_one_identity() -> None:
    der = make((NameOID.COMMON_NAME, "jane"))
    assert certificate_identity(der) is certificate_identity(der)


def test_an_expired_one_is_not_alive() -> None:
    identity = certificate_identity(make((NameOID.COMMON_NAME, "jane"), ends=-datetime.timedelta(seconds=1)))
    assert identity is not None
    assert not identity.alive()


@pytest.mark.parametrize("attributes", [(), ((NameOID.ORGANIZATION_NAME, "system:masters"),)])
def test_no_name_is_nobody(attributes: tuple[Attribute, ...]) -> None:
    assert certificate_identity(make(*attributes)) is None


def test_the_last_name_counts() -> None:
    identity = certificate_identity(make((NameOID.COMMON_NAME, "first"), (NameOID.COMMON_NAME, "last")))
    assert identity is not None
    assert identity.user.name == "last"


@pytest.mark.parametrize(
    "der",
    [
        make((NameOID.COMMON_NAME, "server"), purposes=[ExtendedKeyUsageOID.SERVER_AUTH]),
        make((NameOID.COMMON_NAME, "two"), (UID_OID, "a"), (UID_OID, "b")),
        b"not a certificate",
        b"",
    ],
)
def test_refused(der: bytes) -> None:
    with pytest.raises(Unauthorized):
        certificate_identity(der)


@pytest.mark.parametrize("purpose", [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_purposes_that_serve(purpose: ObjectIdentifier) -> None:
    assert certificate_identity(make((NameOID.COMMON_NAME, "jane"), purposes=[purpose])) is not None


def test_a_certificate_that_is_refused_is_a_wrong_credential_not_the_end_of_its_connection() -> None:
    class Handshake:
        def getpeercert(self, *, binary_form: bool) -> bytes:
            assert binary_form
            return make((NameOID.COMMON_NAME, "jane"), (UID_OID, "1"), (UID_OID, "2"))

    identity = Crowd(Limits()).certificate(cast("ssl.SSLObject", Handshake()))
    assert identity is not None
    assert not identity.alive()
