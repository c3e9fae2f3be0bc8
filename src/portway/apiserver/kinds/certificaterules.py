"""What is valid in a CertificateSigningRequest, and what an update of it may change.

Source: pkg/apis/certificates/validation/validation.go, as facts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509

from portway.apiserver.kinds import common
from portway.kube import names
from portway.kube.causes import Cause, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from portway.kube.objects import Object
from portway.kube.signingrequests import LEGACY_UNKNOWN, RequestInvalid, parse, pem_blocks

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
MIN_SECONDS = 600
_FINAL = (APPROVED, DENIED, FAILED)
_MAX_DOMAIN, _MAX_PATH = 253, 253 + 63 + 1

Conditions = list[dict[str, Any]]


def spec_causes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields the faults of a new request's spec."""
    try:
        parse(spec.get("request") or "")
    except RequestInvalid as error:
        yield invalid_value("spec.request", spec.get("request") or "", str(error))
    usages = spec.get("usages") or []
    if not usages:
        yield required("spec.usages", "usages must be provided")
    for i, (where, usage) in enumerate(common.each(usages, "spec.usages")):
        if usage not in USAGES:
            yield not_supported(where, usage, USAGES)
        if usage in usages[:i]:
            yield duplicate(where, usage)
    yield from _signer_causes(spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < MIN_SECONDS:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        yield invalid_value("spec.expirationSeconds", seconds, text)


def _signer_causes(name: str) -> Iterator[Cause]:
    field = "spec.signerName"
    if name == LEGACY_UNKNOWN:
        yield invalid_value(field, name, "the legacy signerName is not allowed via this API version")
        return
    if not name:
        yield required(field)
        return
    domain, _, path = name.partition("/")
    if name.count("/") != 1:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield invalid_value(field, name, text)
        return
    if len(domain) > _MAX_DOMAIN:
        yield too_long(field, _MAX_DOMAIN)
    for label in domain.split("."):
        for text in names.is_dns1123_label(label):
            yield invalid_value(field, domain, f'validating label "{label}": {text}')
    if "." not in domain:
        yield invalid_value(field, domain, "should be a domain with at least two segments separated by dots")
    for label in path.split("."):
        for text in names.is_dns1123_subdomain(label):
            yield invalid_value(field, path, f'validating label "{label}": {text}')
    if len(path) > _MAX_PATH:
        yield too_long(field, _MAX_PATH)


def status_causes(status: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields the faults of a status."""
    yield from _condition_causes(status.get("conditions") or [])
    if status.get("certificate") and (fault := _certificate_fault(status["certificate"])):
        yield invalid_value("status.certificate", "<certificate data>", fault)


def _condition_causes(conditions: Conditions) -> Iterator[Cause]:
    seen: set[str] = set()
    for where, condition in common.each(conditions, "status.conditions"):
        kind, status = condition.get("type") or "", condition.get("status") or ""
        if not kind:
            yield required(f"{where}.type")
        if not status:
            yield required(f"{where}.status")
        elif status not in (allowed := ("True",) if kind in _FINAL else ("False", "True", "Unknown")):
            yield not_supported(f"{where}.status", status, allowed)
        other = {APPROVED: DENIED, DENIED: APPROVED}.get(kind)
        if other in seen:
            yield invalid_value(f"{where}.type", kind, "Approved and Denied conditions are mutually exclusive")
        if kind in seen:
            yield duplicate(f"{where}.type", kind)
        seen.add(kind)


def _certificate_fault(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded, validate=True).decode("latin-1")
    except binascii.Error:
        return "must contain at least one CERTIFICATE PEM block"
    found = False
    for block in pem_blocks(text):
        found = True
        if block.label != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block.label}"'
        if ":" in block.content:
            return "no PEM block headers are permitted"
        try:
            x509.load_pem_x509_certificate(block.text.encode("latin-1"))
        except ValueError as error:
            return " ".join(str(error).split())
    return "" if found else "must contain at least one CERTIFICATE PEM block"


def update_causes(new: Object, old: Object, subresource: str) -> Iterator[Cause]:
    """Yields what an update may not change: decisions stay, and each subresource has its own part of the status."""
    yield from _decision_causes(new, old, may_decide=subresource == "approval")
    before, after = ((obj.get("status") or {}).get("certificate") or "" for obj in (old, new))
    if before == after:
        return
    if subresource != "status":
        yield forbidden_field("status.certificate", "updates may not set certificate content")
    elif before:
        yield forbidden_field("status.certificate", "updates may not modify existing certificate content")


def _decision_causes(new: Object, old: Object, *, may_decide: bool) -> Iterator[Cause]:
    field = "status.conditions"
    for kind in _FINAL:
        before, after = of_type(old, kind), of_type(new, kind)
        if len(after) < len(before):
            yield forbidden_field(field, f'updates may not remove a condition of type "{kind}"')
        elif may_decide or kind == FAILED:
            continue
        elif len(after) > len(before):
            yield forbidden_field(field, f'updates may not add a condition of type "{kind}"')
        elif after != before:
            yield forbidden_field(field, f'updates may not modify a condition of type "{kind}"')


def of_type(obj: Object, kind: str) -> Conditions:
    """The conditions of one type."""
    return [one for one in (obj.get("status") or {}).get("conditions") or () if one.get("type") == kind]
