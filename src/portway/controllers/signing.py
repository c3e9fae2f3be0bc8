"""The cluster's authority as a signer of requests: a certificate for what was asked, for a time that is bounded. Pure.

Whether a request may be signed is decided before (`kube/signingrequests`, `certificates`). The subject and the
alternative names are the request's; usages are the object's, whatever extensions the request itself brings along.
Source: pkg/controller/certificates/authority, as facts.
"""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from portway.kube.signingrequests import SigningRequest

MAX_SECONDS = 365 * 86400
"""The longest that a certificate is valid, and what who asks for nothing gets: kube-controller-manager's default."""
MIN_SECONDS = 600
SHORT_SECONDS = 8 * 3600
BACKDATE = 300
"""Seconds: clocks of the machines that check differ a little."""

_EXTENDED = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH}


class CannotSign(Exception):  # noqa: N818 - it says what is the case
    """The authority can't sign this; the message says why and holds nothing of the key."""


class Authority:
    """A certificate authority with its private key, both PEM. Raises ValueError when they can't be used."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate)
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("the authority's key is neither an RSA nor an EC key")
        if loaded.public_key() != self._certificate.public_key():
            raise ValueError("the authority's key is not its certificate's")
        self._key = loaded

    def sign(self, request: SigningRequest, usages: Sequence[str], seconds: int | None, now: float) -> bytes:
        """A certificate, PEM, valid from a little before `now` (Unix) for `seconds`; raises CannotSign."""
        start, end = self._times(seconds, now)
        public = request.csr.public_key()
        if isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048:
            raise CannotSign(f"an RSA key of {public.key_size} bits is too weak; 2048 is the least")
        if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise CannotSign("the request's key is neither an RSA nor an EC key")
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.csr.subject)
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(usages), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([_EXTENDED[one] for one in usages if one in _EXTENDED]), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if request.has_names:
            names = request.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        try:
            return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        except ValueError as error:
            raise CannotSign(" ".join(str(error).split())) from error

    def _times(self, seconds: int | None, now: float) -> tuple[datetime.datetime, datetime.datetime]:
        """From when to when; the backdating of a short-lived one is not taken from what was asked for."""
        lifetime = min(max(seconds or MAX_SECONDS, MIN_SECONDS), MAX_SECONDS)
        moment = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        start = moment - datetime.timedelta(seconds=BACKDATE)
        end = (moment if lifetime < SHORT_SECONDS else start) + datetime.timedelta(seconds=lifetime)
        last = self._certificate.not_valid_after_utc
        if moment >= last:
            raise CannotSign("the cluster's authority has expired")
        return start, min(end, last)


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    """A client proves its key by signing, whether or not the request says so (RFC 8446, section 4.4.2.2)."""
    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "client auth" in usages,
        content_commitment=False,
        key_encipherment="key encipherment" in usages,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
