"""The cluster's certificate authority, and what it signs. Values in, PEM out; `bootstrap.py` keeps the files.

Keys are ECDSA P-256: what every kubectl and browser takes, and made in a millisecond. Extensions follow RFC 5280
section 4.2 strictly (key identifiers, critical basic constraints and key usage), because OpenSSL 3 with
X509_V_FLAG_X509_STRICT, which Python 3.13 turns on, refuses less.
"""

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SHA256 = hashes.SHA256()
_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 365
_RENEW_DAYS = 30
_BACKDATE = datetime.timedelta(minutes=5)
"""Clocks of the machines that check differ a little."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def make_authority(name: str) -> KeyPair:
    """A self-signed authority that may sign leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return _finish(builder, key, key)


def make_server_certificate(authority: KeyPair, names: Sequence[str]) -> KeyPair:
    """A serving certificate for host names and IP addresses."""
    return _leaf(
        authority,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portway")]),
        ExtendedKeyUsageOID.SERVER_AUTH,
        x509.SubjectAlternativeName([_general_name(name) for name in names]),
    )


def make_client_certificate(authority: KeyPair, user: str, groups: Sequence[str]) -> KeyPair:
    """A client certificate: CN is the user, each O a group, as Kubernetes reads them."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    return _leaf(authority, x509.Name(attributes), ExtendedKeyUsageOID.CLIENT_AUTH, None)


def make_signing_key() -> bytes:
    """A private key for ES256 service account tokens, PEM."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def needs_renewal(certificate: bytes, names: Sequence[str] = ()) -> bool:
    """Whether a certificate ends within 30 days, or lacks one of `names`."""
    parsed = x509.load_pem_x509_certificate(certificate)
    now = datetime.datetime.now(datetime.UTC)
    if parsed.not_valid_after_utc - now < datetime.timedelta(days=_RENEW_DAYS):
        return True
    if not names:
        return False
    held = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return not {_general_name(name) for name in names} <= set(held)


def dns_names(chain: bytes) -> list[str]:
    """The DNS names that the first certificate of a PEM chain is for, wildcards as they stand."""
    try:
        found = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether `authority` signed `certificate`."""
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except Exception:  # the library raises whatever the key type raises; each means "no"
        return False
    return True


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the public key, in hexadecimal: the same for as long as the key is."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def anchors(chain: bytes) -> bytes:
    """The self-issued certificates of a PEM chain: what a client may trust to verify it; b"" when it holds none."""
    found = [one for one in x509.load_pem_x509_certificates(chain) if one.issuer == one.subject]
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in found)


def _leaf(
    authority: KeyPair, subject: x509.Name, usage: x509.ObjectIdentifier, names: x509.SubjectAlternativeName | None
) -> KeyPair:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(subject, issuer.subject, key.public_key(), _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return _finish(builder, key, issuer_key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _finish(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> KeyPair:
    certificate = builder.sign(signer, _SHA256).public_bytes(serialization.Encoding.PEM)
    return KeyPair(certificate, _private_pem(key))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
