"""CertificateSigningRequests, from the request to its end: approving what needs nobody, signing, cleaning up.

What is approved without a person (`recognised`): a node's own client certificate, and a user's own for a day, if who
asks was given the right to it; a SubjectAccessReview says so. Everything else waits for `kubectl certificate approve`.
Signed is what is approved and fits its signer; what doesn't gets the condition Failed.
Source: pkg/controller/certificates/{approver,signer,cleaner}, as facts. The rule for users is ours.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Sequence

from portway.client.protocol import Client
from portway.controllers.base import Controller
from portway.controllers.collections import Caches
from portway.controllers.queue import Key
from portway.controllers.settings import ControllerSettings
from portway.controllers.signing import Authority, CannotSign
from portway.kube import objects
from portway.kube.errors import NotFound
from portway.kube.objects import Object
from portway.kube.signingrequests import (
    KUBE_API_CLIENT,
    KUBELET_CLIENT,
    RequestInvalid,
    SigningRequest,
    parse,
    signer_fault,
)

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
OWN_SECONDS = 86400
"""The longest that a certificate approved without a person is valid: one can't be taken back."""
CLEANING_SECONDS = 600.0
"""How often it is looked for what has had its day."""
PENDING_SECONDS, DECIDED_SECONDS = 24 * 3600.0, 3600.0

Clock = Callable[[], float]


class _Requests(Controller):
    """What the three have in common: each works on one request at a time."""

    needs = ("certificatesigningrequests",)

    def __init__(self, client: Client, caches: Caches, clock: Clock = time.time) -> None:
        super().__init__(client, caches)
        self._clock = clock
        caches.certificatesigningrequests.listen(lambda key, *_: self.queue.add(key))

    async def _decide(self, found: Object, part: str, condition: Object) -> None:
        """Adds a condition, by the subresource that may."""
        status = found.get("status") or {}
        conditions = [*(status.get("conditions") or []), {**condition, "status": "True"}]
        await self._write(found, part, {**status, "conditions": conditions})

    async def _write(self, found: Object, part: str, status: Object) -> None:
        head = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        written = await self.client.update(
            f"{REQUESTS}/{objects.name(found)}/{part}", {**head, **found, "status": status}
        )
        self.caches.certificatesigningrequests.put(written)


class ApprovingController(_Requests):
    """Approves what `recognised` names, for those who have the right to it. Asked once, when the request comes."""

    name = "certificatesigningrequest-approving-controller"

    async def sync(self, key: Key) -> None:
        found = self.caches.certificatesigningrequests.get(key)
        if found is None or decided(found) or objects.deleting(found):
            return
        for subresource, message in recognised(found):
            if await self._may(found["spec"], subresource):
                condition = {"type": "Approved", "reason": "AutoApproved", "message": message}
                await self._decide(found, "approval", condition)
                return

    async def _may(self, spec: Object, subresource: str) -> bool:
        attributes = {"group": "certificates.k8s.io", "version": "*", "resource": "certificatesigningrequests"}
        attributes |= {"verb": "create", "subresource": subresource}
        who = {"user": spec.get("username", "")} | {
            part: spec[part] for part in ("uid", "groups", "extra") if part in spec
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        answer = await self.client.create(REVIEWS, {**body, "spec": {**who, "resourceAttributes": attributes}})
        return (answer.get("status") or {}).get("allowed") is True


class SigningController(_Requests):
    """Signs what is approved, with the authority that the door trusts client certificates of."""

    name = "certificatesigningrequest-signing-controller"

    def __init__(self, client: Client, caches: Caches, authority: Authority, clock: Clock = time.time) -> None:
        super().__init__(client, caches, clock)
        self._authority = authority

    @classmethod
    def made(cls, client: Client, caches: Caches, settings: ControllerSettings) -> "SigningController | None":
        return cls(client, caches, settings.authority) if settings.authority else None

    async def sync(self, key: Key) -> None:
        found = self.caches.certificatesigningrequests.get(key)
        if found is None or not awaits_signature(found) or objects.deleting(found):
            return
        spec = found["spec"]
        usages: Sequence[str] = spec.get("usages") or ()
        try:
            request = parse(spec.get("request") or "")
            fault = signer_fault(spec.get("signerName") or "", request, usages)
            if fault is None:
                return
            if fault:
                raise CannotSign(fault)
            certificate = self._authority.sign(request, usages, spec.get("expirationSeconds"), self._clock())
        except (RequestInvalid, CannotSign) as error:
            failed = {"type": "Failed", "reason": "SignerValidationFailure", "message": str(error)}
            await self._decide(found, "status", failed)
            return
        encoded = base64.b64encode(certificate).decode()
        await self._write(found, "status", {**(found.get("status") or {}), "certificate": encoded})


class CleaningController(_Requests):
    """Deletes requests that have had their day."""

    name = "certificatesigningrequest-cleaner-controller"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(), name=f"{self.name}: clock")
            await super().run()

    async def _again(self) -> None:
        while True:
            await asyncio.sleep(CLEANING_SECONDS)
            for key in self.caches.certificatesigningrequests.keys():  # noqa: SIM118 (no dictionary)
                self.queue.add(key)

    async def sync(self, key: Key) -> None:
        found = self.caches.certificatesigningrequests.get(key)
        if found is None or ends(found) > self._clock():
            return
        try:
            conditions = {"uid": objects.uid(found), "resourceVersion": objects.resource_version(found)}
            await self.client.delete(f"{REQUESTS}/{key[1]}", {"preconditions": conditions})
        except NotFound:
            return


def decided(found: Object) -> bool:
    """Whether somebody approved or denied it."""
    return any(one.get("type") in ("Approved", "Denied") for one in _conditions(found))


def awaits_signature(found: Object) -> bool:
    """Whether it is approved, and neither denied nor failed nor issued."""
    types = {one.get("type") for one in _conditions(found)}
    return (
        "Approved" in types and not types & {"Denied", "Failed"} and not (found.get("status") or {}).get("certificate")
    )


def ends(found: Object) -> float:
    """When a request has had its day, Unix seconds: pending for a day, decided, failed or issued for an hour.

    One that is approved and waits for its signer stays; that may be somebody else's.
    """
    conditions = _conditions(found)
    if not conditions:
        return objects.from_rfc3339(found["metadata"]["creationTimestamp"]) + PENDING_SECONDS
    issued = bool((found.get("status") or {}).get("certificate"))
    final = ("Denied", "Failed", "Approved") if issued else ("Denied", "Failed")
    times = [
        objects.from_rfc3339(one.get("lastUpdateTime") or found["metadata"]["creationTimestamp"])
        for one in conditions
        if one.get("type") in final
    ]
    return min(times) + DECIDED_SECONDS if times else float("inf")


def recognised(found: Object) -> list[tuple[str, str]]:
    """What a request may be approved as, without a person: (subresource of the right that it takes, message).

    Nothing for what can't be read, or fits no rule exactly.
    """
    spec = found["spec"]
    signer, usages = spec.get("signerName") or "", spec.get("usages") or ()
    try:
        request = parse(spec.get("request") or "")
    except RequestInvalid:
        return []
    if signer_fault(signer, request, usages) != "":
        return []
    own = bool(request.common_name) and request.common_name == spec.get("username")
    if signer == KUBELET_CLIENT:
        rules = [("selfnodeclient", "self kubelet client certificate")] if own else []
        rules.append(("nodeclient", "kubelet client certificate"))
    else:
        rules = [("selfclient", "the requester's own client certificate")] if own and _is_own(spec, request) else []
    return [(right, f"Auto approving {what} after SubjectAccessReview.") for right, what in rules]


def _is_own(spec: Object, request: SigningRequest) -> bool:
    """Whether a user asks for no more than they are, for a short time: the certificate is the login in another form.

    Names beginning with `system:` are components and service accounts: their logins end with an object, a certificate
    would not.
    """
    groups = set(spec.get("groups") or ())
    return (
        spec.get("signerName") == KUBE_API_CLIENT
        and not request.common_name.startswith("system:")
        and not (request.has_names or request.more)
        and all(group in groups and not group.startswith("system:") for group in request.organizations)
        and 0 < (spec.get("expirationSeconds") or 0) <= OWN_SECONDS
    )


def _conditions(found: Object) -> list[Object]:
    return (found.get("status") or {}).get("conditions") or []
