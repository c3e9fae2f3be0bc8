"""CertificateSigningRequests: what is asked, who may decide, who may sign, and what never changes."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.signingrequests import RequestInvalid, parse, pem_blocks, signer_fault
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Caller
from portway.testing.authority import Authority

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
Object = dict[str, Any]
_KEY = ec.generate_private_key(ec.SECP256R1())


def encoded(common_name: str = "jane", *organizations: str, names: list[x509.GeneralName] | None = None) -> str:
    """spec.request for a subject."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(_KEY, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def request(name: str = "jane", **spec: Any) -> Object:
    usual = {"request": encoded(), "signerName": CLIENT, "usages": ["client auth"]}
    return {"metadata": {"name": name}, "spec": usual | spec}


def condition(kind: str, status: str = "True", **more: str) -> Object:
    return {"type": kind, "status": status, "reason": "Because", **more}


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


async def created(caller: Caller, obj: Object) -> Any:
    answer = await caller.request("POST", REQUESTS, obj)
    assert answer.status == 201, answer.body
    return answer.json()


async def decide(caller: Caller, *conditions: Object, part: str = "approval", name: str = "jane") -> Answer:
    found = (await caller.request("GET", f"{REQUESTS}/{name}")).json()
    status = {**found["status"], "conditions": list(conditions)}
    return await caller.request("PUT", f"{REQUESTS}/{name}/{part}", {**found, "status": status})


async def grant(api: InProcessApi, user: str, verb: str, *signers: str) -> None:
    """Lets a user do something with signers."""
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": [verb]}
    role = {"metadata": {"name": user}, "rules": [{**rule, "resourceNames": list(signers)}]}
    assert (await api.admin.request("POST", f"{RBAC}/clusterroles", role)).status == 201
    subjects = [{"kind": "User", "name": user}]
    binding = {"metadata": {"name": user}, "subjects": subjects, "roleRef": {"kind": "ClusterRole", "name": user}}
    assert (await api.admin.request("POST", f"{RBAC}/clusterrolebindings", binding)).status == 201


def test_the_requester_is_who_asks_and_nothing_is_decided() -> None:
    async def test(api: InProcessApi) -> None:
        jane = api.user("jane", "team", "system:authenticated")
        forged = {"username": "admin", "groups": ["system:masters"], "uid": "0", "extra": {"a": ["b"]}}
        approved = {"conditions": [condition("Approved")], "certificate": "eA=="}
        asked = request()
        made = await created(jane, {**asked, "spec": asked["spec"] | forged, "status": approved})
        assert made["spec"]["username"] == "jane"
        assert made["spec"]["groups"] == ["team", "system:authenticated"]
        assert not {"uid", "extra"} & made["spec"].keys()
        assert made["status"] == {}

    serve(test)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"request": "eA=="}, 'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST'),
        ({"usages": []}, "spec.usages: Required value: usages must be provided"),
        ({"usages": ["client auth", "magic"]}, 'spec.usages[1]: Unsupported value: "magic"'),
        ({"usages": ["client auth", "client auth"]}, 'spec.usages[1]: Duplicate value: "client auth"'),
        ({"signerName": ""}, "spec.signerName: Required value"),
        ({"signerName": "kubernetes.io/legacy-unknown"}, "the legacy signerName is not allowed via this API version"),
        ({"signerName": "plain"}, "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        ({"signerName": "a.b/c/d"}, "must be a fully qualified domain and path of the form"),
        ({"signerName": "local/x"}, "should be a domain with at least two segments separated by dots"),
        ({"signerName": "Exa.mple/x"}, 'validating label "Exa"'),
        ({"signerName": "example.com/X"}, 'validating label "X"'),
        ({"expirationSeconds": 599}, "may not specify a duration less than 600 seconds (10 minutes)"),
    ],
)
def test_a_request_that_nobody_could_sign_is_refused(spec: Object, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", REQUESTS, request(**spec))
        assert answer.status == 422
        assert words in answer.json()["message"]

    serve(test)


def test_nobody_becomes_a_member_of_system_masters() -> None:
    async def test(api: InProcessApi) -> None:
        wanted = request(request=encoded("jane", "team", "system:masters"))
        answer = await api.admin.request("POST", REQUESTS, wanted)
        assert answer.status == 403
        assert answer.json()["message"] == (
            'certificatesigningrequests.certificates.k8s.io "jane" is forbidden: '
            f"use of {CLIENT} signer with system:masters group is not allowed"
        )
        await created(api.admin, request(request=encoded("jane", "system:masters"), signerName="example.com/other"))

    serve(test)


def test_the_spec_stays_whatever_is_put() -> None:
    async def test(api: InProcessApi) -> None:
        made = await created(api.admin, request())
        change = {"spec": {"signerName": "example.com/other", "username": "root"}, "metadata": {"labels": {"a": "b"}}}
        for part in ("", "/status", "/approval"):
            answer = await api.admin.request("PATCH", f"{REQUESTS}/jane{part}", change, content_type=MERGE)
            assert answer.status == 200, answer.body
            assert answer.json()["spec"] == made["spec"]

    serve(test)


def test_who_decides_needs_the_right_to_approve_for_the_signer() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        approver = api.user("approver")
        refused = await decide(approver, condition("Approved"))
        assert refused.status == 403
        assert refused.json()["message"] == (
            'certificatesigningrequests.certificates.k8s.io "jane" is forbidden: '
            f'user not permitted to approve requests with signerName "{CLIENT}"'
        )
        await grant(api, "approver", "approve", "kubernetes.io/*")
        assert (await decide(approver, condition("Approved"), part="status")).status == 403
        answer = await decide(approver, condition("Approved"))
        assert answer.status == 200
        (made,) = answer.json()["status"]["conditions"]
        assert made["lastUpdateTime"] == made["lastTransitionTime"]
        assert made["lastUpdateTime"]

    serve(test)


def test_who_signs_needs_the_right_to_sign_for_the_signer() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        await grant(api, "signer", "sign", CLIENT)
        certificate = base64.b64encode(Authority().issue("jane")[0]).decode()
        change = {"status": {"certificate": certificate}}
        path = f"{REQUESTS}/jane/status"
        assert (await api.user("other").request("PATCH", path, change, content_type=MERGE)).status == 403
        signer = api.user("signer")
        assert (await signer.request("PATCH", path, change, content_type=MERGE)).status == 200
        other = {"status": {"certificate": base64.b64encode(Authority().issue("x")[0]).decode()}}
        again = await signer.request("PATCH", path, other, content_type=MERGE)
        assert "updates may not modify existing certificate content" in again.json()["message"]

    serve(test)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([condition("Approved", "False")], 'status.conditions[0].status: Unsupported value: "False"'),
        ([condition("Approved"), condition("Denied")], "Approved and Denied conditions are mutually exclusive"),
        ([condition("Other"), condition("Other")], 'status.conditions[1].type: Duplicate value: "Other"'),
        ([condition("")], "status.conditions[0].type: Required value"),
        ([{"type": "Approved"}], "status.conditions[0].status: Required value"),
        ([condition("Other", "Maybe")], 'supported values: "False", "True", "Unknown"'),
    ],
)
def test_a_decision_that_says_nothing_is_refused(conditions: list[Object], words: str) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        answer = await decide(api.admin, *conditions)
        assert answer.status == 422
        assert words in answer.json()["message"]

    serve(test)


def test_what_was_decided_stays() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        assert (await decide(api.admin, condition("Denied"))).status == 200
        for part in ("approval", "status"):
            answer = await decide(api.admin, part=part)
            assert 'updates may not remove a condition of type "Denied"' in answer.json()["message"]
        kept = (await api.admin.request("GET", f"{REQUESTS}/jane")).json()["status"]["conditions"]
        changed = [{**kept[0], "reason": "Other"}]
        answer = await decide(api.admin, *changed, part="status")
        assert 'updates may not modify a condition of type "Denied"' in answer.json()["message"]
        answer = await decide(api.admin, *kept, condition("Approved"), part="status")
        assert 'updates may not add a condition of type "Approved"' in answer.json()["message"]
        assert (await decide(api.admin, *kept, condition("Failed"), part="status")).status == 200

    serve(test)


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (b"nonsense", "must contain at least one CERTIFICATE PEM block"),
        (base64.b64decode(encoded()), 'only CERTIFICATE PEM blocks are allowed, found "CERTIFICATE REQUEST"'),
        (b"-----BEGIN CERTIFICATE-----\nA: b\n\neA==\n-----END CERTIFICATE-----\n", "no PEM block headers"),
    ],
)
def test_what_is_no_certificate_is_refused(certificate: bytes, words: str) -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        change = {"status": {"certificate": base64.b64encode(certificate).decode()}}
        answer = await api.admin.request("PATCH", f"{REQUESTS}/jane/status", change, content_type=MERGE)
        assert answer.status == 422
        assert words in answer.json()["message"]

    serve(test)


def test_certificates_are_set_by_status_alone() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request())
        change = {"status": {"certificate": base64.b64encode(Authority().issue("jane")[0]).decode()}}
        for part in ("", "/approval"):
            answer = await api.admin.request("PATCH", f"{REQUESTS}/jane{part}", change, content_type=MERGE)
            assert answer.json()["status"] == {}

    serve(test)


def test_the_table_says_where_each_request_stands() -> None:
    async def test(api: InProcessApi) -> None:
        await created(api.admin, request(expirationSeconds=86400))
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"

        async def row() -> Any:
            table = (await api.admin.request("GET", f"{REQUESTS}/jane", accept=accept)).json()
            names = [column["name"] for column in table["columnDefinitions"]]
            assert names == ["Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]
            return table["rows"][0]["cells"]

        assert (await row())[2:] == [CLIENT, "admin", "24h", "Pending"]
        await decide(api.admin, condition("Approved"))
        assert (await row())[5] == "Approved"
        change = {"status": {"certificate": base64.b64encode(Authority().issue("jane")[0]).decode()}}
        await api.admin.request("PATCH", f"{REQUESTS}/jane/status", change, content_type=MERGE)
        assert (await row())[5] == "Approved,Issued"
        listed = await api.admin.request("GET", f"{REQUESTS}?fieldSelector=spec.signerName%3Dexample.com%2Fx")
        assert listed.json()["items"] == []

    serve(test)


NODE = ("system:node:n1", "system:nodes")
SIGNED = ["digital signature", "client auth"]


@pytest.mark.parametrize(
    ("signer", "subject", "names", "usages", "fault"),
    [
        (CLIENT, ("jane", "team"), None, ["client auth"], ""),
        (CLIENT, ("jane",), None, ["server auth"], "invalid usage for client certificate: server auth"),
        (CLIENT, ("jane",), None, ["digital signature"], "missing required usage for client certificate: client auth"),
        (CLIENT, ("", "team"), None, ["client auth"], "the subject must have exactly one common name"),
        (KUBELET, NODE, None, SIGNED, ""),
        (KUBELET, NODE, None, [*SIGNED, "key encipherment"], ""),
        (KUBELET, NODE, None, ["client auth"], "usages did not match"),
        (KUBELET, ("system:node:n1", "team"), None, SIGNED, "subject organization is not system:nodes"),
        (KUBELET, ("n1", "system:nodes"), None, SIGNED, "subject common name does not begin with system:node:"),
        (KUBELET, NODE, [x509.DNSName("n1")], SIGNED, "DNS subjectAltNames are not allowed"),
        (SERVING, NODE, [x509.DNSName("n1")], ["digital signature", "server auth"], ""),
        (SERVING, NODE, None, ["digital signature", "server auth"], "DNS or IP subjectAltName is required"),
        (
            SERVING,
            NODE,
            [x509.DNSName("n1"), x509.UniformResourceIdentifier("a:b")],
            ["digital signature", "server auth"],
            "URI subjectAltNames are not allowed",
        ),
        ("example.com/other", ("jane",), None, [], None),
    ],
)
def test_each_signer_has_its_own_conditions(
    signer: str, subject: tuple[str, ...], names: Any, usages: list[str], fault: str | None
) -> None:
    assert signer_fault(signer, parse(encoded(*subject, names=names)), usages) == fault


@pytest.mark.parametrize("cut", [0, 1, 30, 200])
def test_a_damaged_request_is_none(cut: int) -> None:
    pem = base64.b64decode(encoded())
    half = len(pem) // 2
    damaged = pem[:half] + pem[half + cut + 1 :]
    with pytest.raises(RequestInvalid):
        parse(base64.b64encode(damaged).decode())


@pytest.mark.parametrize("text", ["-----BEGIN A-----\n" * 100_000, "-----BEGIN " * 200_000, "-" * 3_000_000])
def test_a_text_full_of_beginnings_is_read_in_no_time(text: str) -> None:
    started = time.process_time()
    assert list(pem_blocks(text)) == []
    assert time.process_time() - started < 1


@given(st.text(alphabet="-BEGINDA \n", max_size=200))
def test_blocks_lie_in_the_text_one_behind_the_other(text: str) -> None:
    position = 0
    for block in pem_blocks(text):
        position = text.index(block.text.removesuffix("\n"), position) + len(block.text) - 1
        assert block.text.startswith(f"-----BEGIN {block.label}-----{block.content}-----END {block.label}-----")


def test_a_signature_of_another_key_proves_nothing() -> None:
    der = x509.load_pem_x509_csr(base64.b64decode(encoded())).public_bytes(serialization.Encoding.DER)
    forged = der.replace(b"jane", b"root")
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(forged) + b"-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(RequestInvalid, match="signature"):
        parse(base64.b64encode(pem).decode())
