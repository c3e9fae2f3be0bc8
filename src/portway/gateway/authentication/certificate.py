"""Client certificates: from the DER that TLS has verified to an Identity. Chain and purpose were TLS's job; here is
only what the certificate says.

CN is the user, each O a group, subject OID 1.3.6.1.4.1.57683.2 the UID, as upstream's x509 authenticator has it.
"""

from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from portway.gateway.authentication.identity import Identity
from portway.kube.errors import Unauthorized
from portway.kube.identity import User, with_authenticated

UID_OID = ObjectIdentifier("1.3.6.1.4.1.57683.2")
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


@lru_cache(maxsize=1024)
def certificate_identity(der: bytes) -> Identity | None:
    """The caller that a verified client certificate names; None when it has no CN (no opinion, as upstream).

    Raises Unauthorized for a certificate that is not for client authentication, names two UIDs or can't be read.
    The same certificate gives the same Identity, so that its connections share one decision cache.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject
        purposes = _purposes(certificate)
    except (ValueError, x509.DuplicateExtension) as error:
        raise Unauthorized from error
    if purposes and not purposes & {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}:
        raise Unauthorized
    names, uids = _values(subject, NameOID.COMMON_NAME), _values(subject, UID_OID)
    if not names or not names[-1]:
        return None
    if len(uids) > 1:
        raise Unauthorized
    user = User(
        name=names[-1],
        uid=uids[0] if uids else "",
        groups=tuple(_values(subject, NameOID.ORGANIZATION_NAME)),
        extra={CREDENTIAL_ID: (f"X509SHA256={sha256(der).hexdigest()}",)},
    )
    expires = certificate.not_valid_after_utc.timestamp()
    return Identity(with_authenticated(user), "certificate", ambient=True, expires=expires)


def _values(subject: x509.Name, oid: ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in subject.get_attributes_for_oid(oid)]


def _purposes(certificate: x509.Certificate) -> set[ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()
