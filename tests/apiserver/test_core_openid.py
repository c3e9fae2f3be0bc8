"""Issuer discovery: what a verifier elsewhere is told, and that it can verify a token by that alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portway.apiserver.openid import CONFIGURATION, KEYS, IssuerDiscovery, issuer_fault
from portway.kube.serviceaccount import Verifier
from portway.testing.api import ISSUER, InProcessApi

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def test_a_token_is_verified_by_the_documents_alone() -> None:
    async def test(api: InProcessApi) -> None:
        await api.admin.request("POST", ACCOUNTS, {"metadata": {"name": "robot"}})
        asked = {"spec": {"audiences": ["vault"], "expirationSeconds": 600}}
        token = (await api.admin.request("POST", f"{ACCOUNTS}/robot/token", asked)).json()["status"]["token"]

        answer = await api.admin.request("GET", CONFIGURATION)
        assert answer.header("content-type") == "application/json"
        assert answer.header("cache-control") == "public, max-age=3600"
        found = answer.json()
        assert found == {
            "issuer": ISSUER,
            "jwks_uri": f"https://door.example:8443{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        keys = await api.admin.request("GET", KEYS)
        assert keys.header("content-type") == "application/jwk-set+json"
        assert keys.header("cache-control") == "public, max-age=3600"

        key = jwt.PyJWKSet.from_dict(keys.json())[jwt.get_unverified_header(token)["kid"]]
        algorithms = found["id_token_signing_alg_values_supported"]
        claims = jwt.decode(token, key, algorithms=algorithms, audience="vault", issuer=found["issuer"])
        assert claims["sub"] == "system:serviceaccount:default:robot"
        with pytest.raises(jwt.InvalidAudienceError):
            jwt.decode(token, key, algorithms=algorithms, audience="other", issuer=found["issuer"])

    serve(test, advertise_address="door.example:8443")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [CONFIGURATION, KEYS])
def test_they_are_there_to_be_read(method: str, path: str) -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request(method, path, {})).status == 405
        head = await api.admin.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert path in (await api.admin.request("GET", "/")).json()["paths"]

    serve(test)


def test_every_key_is_told_and_its_algorithm() -> None:
    keys: list[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    ]
    verifier = Verifier([pem(key) for key in keys], ISSUER, [ISSUER])
    served = IssuerDiscovery(ISSUER, verifier.jwks(), address="a:1", keys_uri="https://keys.example/jwks")
    assert served.paths == [CONFIGURATION, KEYS]
    configuration, listed = served.answer(CONFIGURATION), served.answer(KEYS)
    assert configuration is not None
    assert listed is not None
    assert b'["ES384","RS256"]' in configuration.body
    assert b'"jwks_uri":"https://keys.example/jwks"' in configuration.body
    assert len(jwt.PyJWKSet.from_json(listed.body.decode()).keys) == 2


@pytest.mark.parametrize(
    ("issuer", "fault"),
    [
        ("https://issuer.example", ""),
        ("https://issuer.example/cluster/one", ""),
        ("http://issuer.example", "must use https"),
        ("kubernetes/serviceaccount", "must use https"),
        ("https://", "must use https"),
        ("https://issuer.example?x=y", "may not include a query or fragment"),
        ("https://issuer.example/#", "may not include a query or fragment"),
        ("https://[bad", "cannot be parsed"),
    ],
)
def test_an_issuer_that_no_verifier_could_use_is_not_served(issuer: str, fault: str) -> None:
    found = issuer_fault(issuer)
    assert (fault in found) if fault else not found
    served = IssuerDiscovery(issuer, {"keys": []}, address="a:1")
    assert (served.answer(KEYS) is None) == bool(fault)
