"""Certificate signing requests (PKCS #10) as certificates.k8s.io sees them: what one asks for, and what signers allow.

Pure: text in, values out. The kind is `apiserver/kinds/certificates`'s, signing is the controllers'.
Source: pkg/apis/certificates/{helpers.go,v1/helpers.go} and pkg/controller/certificates/signer, as facts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID, NameOID

KUBE_API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"

_BEGIN, _DASHES = "-----BEGIN ", "-----"
_SIGNING = ("digital signature", "key encipherment")


class RequestInvalid(ValueError):  # noqa: N818 - it is what the request is
    """A request that can't be read or proves nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What a request asks for; `csr` is the parsed request, whose signature its key has made.

    `common_name` is "" unless there is exactly one: readers of certificates differ in which of several they take.
    `more` says that the subject has other parts than names and organizations, a UID for example.
    """

    csr: x509.CertificateSigningRequest
    common_name: str
    organizations: tuple[str, ...]
    more: bool
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @property
    def has_names(self) -> bool:
        """Whether it asks for alternative names of any sort."""
        return bool(self.dns or self.addresses or self.emails or self.uris)


class PemBlock(NamedTuple):
    """One block: its label, what stands between the lines with dashes, and the whole of it."""

    label: str
    content: str
    text: str


def pem_blocks(text: str) -> Iterator[PemBlock]:
    """Yields the PEM blocks of a text, up to one that has no end. Reads each character a few times at most."""
    position = 0
    while (begin := text.find(_BEGIN, position)) >= 0:
        label_end = text.find(_DASHES, begin + len(_BEGIN))
        label = text[begin + len(_BEGIN) : label_end]
        end_line = f"-----END {label}-----"
        end = text.find(end_line, label_end) if label_end >= 0 else -1
        if end < 0:
            return
        position = end + len(end_line)
        yield PemBlock(label, text[label_end + len(_DASHES) : end], text[begin:position] + "\n")


def parse(encoded: str) -> SigningRequest:
    """Returns what `spec.request` (base64 of PEM) asks for; raises RequestInvalid, and nothing else."""
    try:
        pem = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise RequestInvalid("PEM block type must be CERTIFICATE REQUEST") from None
    block = next(pem_blocks(pem), None)
    if block is None or block.label != "CERTIFICATE REQUEST":
        raise RequestInvalid("PEM block type must be CERTIFICATE REQUEST")
    try:
        csr = x509.load_pem_x509_csr(block.text.encode())
        valid = csr.is_signature_valid
        return _described(csr, valid)
    except RequestInvalid:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise RequestInvalid(" ".join(str(error).split()) or "the request cannot be parsed") from None


def _described(csr: x509.CertificateSigningRequest, valid: bool) -> SigningRequest:
    if not valid:
        raise RequestInvalid("the request's signature is not its key's")
    common_names, organizations = (
        tuple(str(one.value) for one in csr.subject.get_attributes_for_oid(oid))
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    )
    return SigningRequest(
        csr,
        common_names[0] if len(common_names) == 1 else "",
        organizations,
        more=len(list(csr.subject)) > len(common_names) + len(organizations),
        **_alternative_names(csr),
    )


def _alternative_names(csr: x509.CertificateSigningRequest) -> dict[str, tuple[str, ...]]:
    try:
        names = csr.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return {}
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise RequestInvalid(" ".join(str(error).split())) from None
    if not isinstance(names, x509.SubjectAlternativeName):
        raise RequestInvalid("the alternative names cannot be parsed")
    sorts = {"dns": x509.DNSName, "addresses": x509.IPAddress, "emails": x509.RFC822Name}
    found = {sort: tuple(str(one.value) for one in names if isinstance(one, type_)) for sort, type_ in sorts.items()}
    # Whatever is none of the three, directory names for example, counts as a name that no signer here allows.
    found["uris"] = tuple(str(one.value) for one in names if not isinstance(one, tuple(sorts.values())))
    return found


Check = Callable[[SigningRequest, Sequence[str]], str]


def signer_fault(signer: str, request: SigningRequest, usages: Sequence[str]) -> str | None:
    """Says why a signer must not sign a request, "" when it may; None for a signer that isn't one of ours."""
    check = _SIGNERS.get(signer)
    return None if check is None else check(request, usages)


def _api_client(request: SigningRequest, usages: Sequence[str]) -> str:
    for usage in usages:
        if usage not in (*_SIGNING, "client auth"):
            return f"invalid usage for client certificate: {usage}"
    if "client auth" not in usages:
        return "missing required usage for client certificate: client auth"
    return "" if request.common_name else "the subject must have exactly one common name"


def _kubelet_client(request: SigningRequest, usages: Sequence[str]) -> str:
    if fault := _node_subject(request):
        return fault
    for sort in ("dns", "addresses", "emails", "uris"):
        if getattr(request, sort):
            return f"{_SORTS[sort]} subjectAltNames are not allowed"
    return _exactly(usages, "client auth")


def _kubelet_serving(request: SigningRequest, usages: Sequence[str]) -> str:
    if fault := _node_subject(request):
        return fault
    if not (request.dns or request.addresses):
        return "DNS or IP subjectAltName is required"
    for sort in ("emails", "uris"):
        if getattr(request, sort):
            return f"{_SORTS[sort]} subjectAltNames are not allowed"
    return _exactly(usages, "server auth")


def _node_subject(request: SigningRequest) -> str:
    if request.organizations != (NODES_GROUP,):
        return "subject organization is not system:nodes"
    return "" if request.common_name.startswith(NODE_PREFIX) else "subject common name does not begin with system:node:"


def _exactly(usages: Sequence[str], purpose: str) -> str:
    """Key encipherment may be missing: it is for RSA keys only."""
    given = set(usages)
    return "" if given | {"key encipherment"} == {*_SIGNING, purpose} else "usages did not match"


_SORTS = {"dns": "DNS", "addresses": "IP", "emails": "Email", "uris": "URI"}
_SIGNERS: Mapping[str, Check] = {
    KUBE_API_CLIENT: _api_client,
    KUBELET_CLIENT: _kubelet_client,
    KUBELET_SERVING: _kubelet_serving,
}
