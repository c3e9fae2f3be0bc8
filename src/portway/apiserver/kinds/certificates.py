"""CertificateSigningRequests: who asks for which certificate, whether somebody approved it, and the certificate.

Who asks is the requester, whatever the request says; the spec never changes. Three subresources' worth of rights guard
the rest, as upstream's admission plugins do: `approve` on the signer to decide (/approval), `sign` on it to write the
certificate (/status), and no members of system:masters by signing. Validation is in `certificaterules`; approving,
signing and cleaning up are controllers.
Source: pkg/registry/certificates/certificates/strategy.go, plugin/pkg/admission/certificates, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Columns, Context, Kind, Strategy
from portway.apiserver.kinds.certificaterules import (
    APPROVED,
    DENIED,
    FAILED,
    of_type,
    spec_causes,
    status_causes,
    update_causes,
)
from portway.kube.attributes import Attributes
from portway.kube.errors import Cause, Forbidden
from portway.kube.identity import MASTERS, user_info
from portway.kube.objects import Object, human_duration
from portway.kube.signingrequests import KUBE_API_CLIENT, RequestInvalid, parse

GROUP = "certificates.k8s.io"
_WHO = ("username", "uid", "groups", "extra")


class SigningRequestStrategy(Strategy):
    """What is particular to CertificateSigningRequests."""

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """The requester is who asks, and nothing is decided yet."""
        spec = obj.setdefault("spec", {})
        for part in _WHO:
            spec.pop(part, None)
        spec |= user_info(ctx.user)
        obj["status"] = {}

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The spec; raises Forbidden for members of system:masters."""
        causes = common.first(spec_causes(obj["spec"]))
        if not causes:
            _restrict_subject(obj)
        return causes

    def prepare_update(self, new: Object, old: Object, ctx: Context) -> None:
        """The spec stays; conditions get their times. Raises Forbidden for who may not decide or sign."""
        new["spec"] = copy.deepcopy(old["spec"])
        if ctx.subresource == "approval":
            status = {name: value for name, value in (old.get("status") or {}).items() if name != "conditions"}
            conditions = (new.get("status") or {}).get("conditions")
            new["status"] = {**status, "conditions": conditions} if conditions else status
            _require("approve", new, ctx)
        elif ctx.subresource == "status" and new.get("status") != old.get("status"):
            _require("sign", new, ctx)
        _stamp(new, old, ctx.now)

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The status, and what of it may change."""
        return common.first(status_causes(new.get("status") or {}), update_causes(new, old, ctx.subresource))


def _restrict_subject(obj: Object) -> None:
    """CertificateSubjectRestriction: a signature makes nobody a member of system:masters, whom no rule binds."""
    if obj["spec"]["signerName"] != KUBE_API_CLIENT:
        return
    try:
        organizations = parse(obj["spec"]["request"]).organizations
    except RequestInvalid:
        return
    if MASTERS in organizations:
        raise _forbidden(obj, f"use of {KUBE_API_CLIENT} signer with {MASTERS} group is not allowed")


def _require(verb: str, obj: Object, ctx: Context) -> None:
    """Raises Forbidden unless the user has a verb on the request's signer, or on all of the signer's domain."""
    signer = obj["spec"].get("signerName", "")
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        attributes = Attributes(verb, group=GROUP, version="*", resource="signers", name=name)
        if ctx.services.rbac.decide(ctx.user, attributes).allowed:
            return
    raise _forbidden(obj, f'user not permitted to {verb} requests with signerName "{signer}"')


def _forbidden(obj: Object, why: str) -> Forbidden:
    name, plural = obj["metadata"].get("name", ""), "certificatesigningrequests"
    details = {"name": name, "group": GROUP, "kind": plural}
    return Forbidden(f'{plural}.{GROUP} "{name}" is forbidden: {why}', details=details)


def _stamp(new: Object, old: Object, now: str) -> None:
    """Gives conditions the times that their writer left out."""
    for condition in (new.get("status") or {}).get("conditions") or ():
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            same = [
                one for one in of_type(old, condition.get("type", "")) if one.get("status") == condition.get("status")
            ]
            condition["lastTransitionTime"] = (same[0].get("lastTransitionTime") if same else None) or now


def _cells(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        obj["metadata"].get("name", ""),
        common.age(obj, now),
        spec.get("signerName") or "<none>",
        spec.get("username", ""),
        "<none>" if seconds is None else human_duration(seconds),
        ",".join(_state(obj)),
    ]


def _state(obj: Object) -> Iterable[str]:
    denied, approved = of_type(obj, DENIED), of_type(obj, APPROVED)
    yield "Denied" if denied else "Approved" if approved else "Pending"
    if of_type(obj, FAILED):
        yield "Failed"
    if (obj.get("status") or {}).get("certificate"):
        yield "Issued"


def _fields(obj: Object) -> Mapping[str, str]:
    return {"spec.signerName": (obj.get("spec") or {}).get("signerName", "")}


CERTIFICATE_SIGNING_REQUEST = Kind(
    group=GROUP,
    version="v1",
    kind="CertificateSigningRequest",
    plural="certificatesigningrequests",
    singular="certificatesigningrequest",
    namespaced=False,
    short_names=("csr",),
    has_status=True,
    parts=(("approval", "status"),),
    strategy=SigningRequestStrategy(),
    selectable=("spec.signerName",),
    selectable_fields=_fields,
    columns=Columns(
        (
            common.NAME,
            common.AGE,
            Column("SignerName", description="Who is to sign."),
            Column("Requestor", description="Who asks."),
            Column("RequestedDuration", description="For how long the certificate shall be valid."),
            Column("Condition", description="What was decided, and whether it is issued."),
        ),
        _cells,
    ),
)
