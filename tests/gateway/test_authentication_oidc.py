"""OIDC against a real issuer on a socket with TLS: keys that rotate and go, an issuer that misbehaves, reloads."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from portway.gateway.authentication import ConfigurationError, Identity, JWTAuthenticators
from portway.gateway.authentication.oidc import IssuerUnavailable
from portway.gateway.authentication.oidcconfig import (
    AuthenticationConfiguration,
    Issuer,
    JWTAuthenticator,
    PrefixedClaim,
)
from portway.gateway.authentication.oidckeys import KeysUnavailable, jwks_uri, read_keys
from portway.kube.errors import Unauthorized
from portway.testing.authenticator import identified
from portway.testing.issuer import PrivateKey, TestIssuer, ec_key, public_jwk, rsa_key
from portway.testing.tls import Authority

AUTHORITY = Authority()
PATIENCE = 20.0


def configuration(issuer: TestIssuer, authority: str = AUTHORITY.pem, **more: Any) -> AuthenticationConfiguration:
    entry = JWTAuthenticator(
        Issuer(issuer.url, ("portway",), certificate_authority=authority),
        PrefixedClaim("sub", "oidc:"),
        PrefixedClaim("groups", ""),
        **more,
    )
    return AuthenticationConfiguration((entry,))


@asynccontextmanager
async def world(**more: Any) -> AsyncIterator[tuple[TestIssuer, JWTAuthenticators]]:
    async with asyncio.timeout(PATIENCE), TestIssuer(AUTHORITY) as issuer:
        authenticator = JWTAuthenticators(configuration(issuer, **more))
        try:
            yield issuer, authenticator
        finally:
            await authenticator.close()


def play(scenario: Callable[[TestIssuer, JWTAuthenticators], Coroutine[Any, Any, None]], **more: Any) -> None:
    async def run() -> None:
        async with world(**more) as (issuer, authenticator):
            await scenario(issuer, authenticator)

    asyncio.run(run())


async def accepted(authenticator: JWTAuthenticators, token: str) -> Identity:
    identity = await identified(authenticator, token.encode())
    assert identity is not None
    return identity


async def fetched(issuer: TestIssuer, times: int) -> None:
    while issuer.fetched.count("/keys") < times:
        await asyncio.sleep(0.01)


def test_a_user_and_when_it_ends() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        expires = int(time.time()) + 100
        identity = await accepted(authenticator, issuer.token(exp=expires, groups=["devs"], jti="j"))
        assert identity.user.name == "oidc:ann"
        assert identity.user.groups == ("devs", "system:authenticated")
        assert (identity.method, identity.expires, identity.ambient) == ("oidc", expires, False)
        assert issuer.fetched == ["/.well-known/openid-configuration", "/keys"]
        assert isinstance(authenticator.identify(issuer.token().encode()), Identity), "from now on at once"
        assert authenticator.health() == ""

    play(scenario)


def test_tokens_of_others_are_no_opinion() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        for token in (issuer.token(iss="https://other"), issuer.token(iss=issuer.url + "/"), "a.b.c", "opaque", ""):
            assert authenticator.identify(token.encode()) is None
        assert authenticator.identify(b"\xff.\xff.\xff") is None

    play(scenario)


def _forged(issuer: TestIssuer) -> dict[str, str]:
    good = issuer.token()
    head, body, signature = good.split(".")

    def encoded(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    public = (
        rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    hmac = jwt.api_jws.PyJWS(algorithms=["HS256"])
    hmac._algorithms["HS256"].prepare_key = lambda key: key  # type: ignore[method-assign]
    claims = base64.urlsafe_b64decode(body + "==")
    masters = json.loads(claims) | {"groups": ["system:masters"]}
    return {
        "no algorithm": f"{encoded({'alg': 'none', 'kid': 'k1'})}.{body}.",
        "None": f"{encoded({'alg': 'None', 'kid': 'k1'})}.{body}.{signature}",
        "the public key as a secret": hmac.encode(claims, public, "HS256", {"kid": "k1"}),
        "other claims": f"{head}.{encoded(masters)}.{signature}",
        "no signature": f"{head}.{body}.",
        "another key of that name": issuer.token(key=rsa_key(7)),
        "an algorithm that is not allowed": issuer.token(alg="RS512"),
        "another kind of key": issuer.token(key=ec_key(), alg="ES256"),
        "a key in the token": jwt.encode(
            masters, rsa_key(7), "RS256", {"kid": "k1", "jwk": public_jwk(rsa_key(7), "k1"), "jku": "https://evil/"}
        ),
        "critical extension": jwt.encode(masters, rsa_key(), "RS256", {"kid": "k1", "crit": ["exp"], "exp": 1}),
        "padding": good + "=",
        "white space": good + "\n",
        "four parts": good + ".x",
        "expired": issuer.token(exp=int(time.time()) - 1),
        "for another audience": issuer.token(aud="other"),
        "without expiry": issuer.token(exp=None),
        "without subject": issuer.token(sub=None),
    }


def test_forged_and_wrong_tokens_are_401() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        await accepted(authenticator, issuer.token())
        for what, token in _forged(issuer).items():
            assert await identified(authenticator, token.encode()) is None, what
        assert issuer.fetched.count("/keys") == 1, "none of them makes the door ask"
        assert authenticator.refusals["algorithm"] == 6
        assert authenticator.refusals["signature"] >= 2

    play(scenario)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS384", rsa_key()),
        ("PS256", rsa_key()),
        ("ES256", ec_key()),
        ("ES384", ec_key(0, "P-384")),
        ("ES512", ec_key(0, "P-521")),
    ],
)
def test_algorithms_that_are_allowed(algorithm: str, key: PrivateKey) -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        issuer.keys = {"k": key}
        await accepted(authenticator, issuer.token(alg=algorithm))
        await accepted(authenticator, issuer.token(alg=algorithm, kid="", key=key))

    play(scenario, algorithms=(algorithm,))


def test_a_new_key_is_found_and_unknown_ones_are_not_searched_for_all_the_time() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        await accepted(authenticator, issuer.token())
        issuer.keys["k2"] = rsa_key(2)
        found = await asyncio.gather(*(accepted(authenticator, issuer.token(jti=str(i))) for i in range(20)))
        assert len(found) == 20
        assert issuer.fetched.count("/keys") == 2
        for number in range(50):
            with pytest.raises(Unauthorized):
                authenticator.identify(issuer.token(kid=f"x{number}", key=rsa_key(3)).encode())
        assert issuer.fetched.count("/keys") == 2
        await accepted(authenticator, issuer.token(kid="k1"))

    play(scenario)


def test_a_withdrawn_key_ends_what_rests_on_it() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        issuer.keys["k2"] = rsa_key(2)
        first = await accepted(authenticator, issuer.token(kid="k1"))
        second = await accepted(authenticator, issuer.token(kid="k2"))
        del issuer.keys["k1"]
        issuer.keys["k3"] = rsa_key(3)
        await accepted(authenticator, issuer.token(kid="k3"))
        assert (first.alive(), second.alive()) == (False, True)
        assert await identified(authenticator, issuer.token(kid="k1", key=rsa_key()).encode()) is None

    play(scenario)


def test_known_keys_serve_while_the_issuer_is_away() -> None:
    async def scenario(issuer: TestIssuer, authenticator: JWTAuthenticators) -> None:
        first = await accepted(authenticator, issuer.token())
        issuer.keys["k2"] = rsa_key(2)
        await issuer.stop()
        with pytest.raises(IssuerUnavailable) as caught:
            await identified(authenticator, issuer.token().encode())
        assert (caught.value.code, caught.value.retry_after) == (503, 5)
        assert first.alive()
        assert isinstance(authenticator.identify(issuer.token(kid="k1").encode()), Identity)
        assert "1 keys fetched before stay in use" in authenticator.health()
        await issuer.start()
        while (await _maybe(authenticator, issuer.token())) is None:
            await asyncio.sleep(0.05)
        assert authenticator.health() == ""

    play(scenario)


async def _maybe(authenticator: JWTAuthenticators, token: str) -> Identity | None:
    try:
        return await identified(authenticator, token.encode())
    except IssuerUnavailable:
        return None


def test_an_issuer_that_was_never_reached_is_503_and_comes_back() -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE):
            issuer = TestIssuer(AUTHORITY)
            await issuer.start()
            await issuer.stop()
            authenticator = JWTAuthenticators(configuration(issuer))
            for _ in range(20):
                with pytest.raises(IssuerUnavailable):
                    await identified(authenticator, issuer.token().encode())
            await issuer.start()
            while await _maybe(authenticator, issuer.token()) is None:
                await asyncio.sleep(0.05)
            await authenticator.close()
            await issuer.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"discovery": {"issuer": "https://other"}}, "the discovery document is another issuer's"),
        ({"discovery": {"jwks_uri": "http://127.0.0.1/keys"}}, "names no https jwks_uri"),
        ({"discovery": {"jwks_uri": None}}, "names no https jwks_uri"),
        ({"jwks": []}, "not a JSON Web Key Set"),
        ({"jwks": {"keys": []}}, "no key that signs"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]}}, "no key that signs"),
        ({"jwks": "x" * (1 << 20)}, "more than 1048576 bytes"),
        ({"status": 500}, "answered 500"),
        ({"status": 302}, "answered 302"),
    ],
)
def test_an_issuer_that_answers_something_else(attributes: dict[str, Any], said: str) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE), TestIssuer(AUTHORITY) as issuer:
            for name, value in attributes.items():
                setattr(issuer, name, value)
            authenticator = JWTAuthenticators(configuration(issuer))
            with pytest.raises(IssuerUnavailable):
                await identified(authenticator, issuer.token().encode())
            assert said in authenticator.health()
            assert "/elsewhere" not in issuer.fetched
            await authenticator.close()

    asyncio.run(run())


@pytest.mark.parametrize("trusted", [Authority().pem, ""])
def test_an_issuer_that_another_authority_vouches_for(trusted: str) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE), TestIssuer(AUTHORITY) as issuer:
            authenticator = JWTAuthenticators(configuration(issuer, trusted))
            with pytest.raises(IssuerUnavailable):
                await identified(authenticator, issuer.token().encode())
            assert "certificate verify failed" in authenticator.health()
            assert issuer.fetched == []
            await authenticator.close()

    asyncio.run(run())


def a_file(issuer: TestIssuer, audience: str = "portway", **more: Any) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [
                {
                    "issuer": {
                        "url": issuer.url,
                        "audiences": [audience],
                        "certificateAuthority": issuer.authority.pem,
                    },
                    "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
                }
            ],
            **more,
        }
    )


def test_a_file_is_read_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE), TestIssuer(AUTHORITY) as one, TestIssuer(AUTHORITY) as two:
            file = tmp_path / "authn.yaml"
            file.write_text(a_file(one))
            authenticator = JWTAuthenticators(str(file))
            identity = await accepted(authenticator, one.token())
            assert not authenticator.changed()
            file.write_text(a_file(one, anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}))
            assert authenticator.changed()
            authenticator.reload()
            assert not authenticator.changed()
            assert identity.alive()
            assert one.fetched.count("/keys") == 1
            assert authenticator.anonymous is not None
            assert authenticator.anonymous.admits("/livez")
            file.write_text("nonsense")
            with pytest.raises(ConfigurationError, match=r"authn\.yaml"):
                authenticator.reload()
            assert not authenticator.changed(), "it is complained about once"
            assert identity.alive()
            file.write_text(a_file(one, "another-audience"))
            authenticator.reload()
            assert not identity.alive()
            assert await identified(authenticator, one.token().encode()) is None
            await accepted(authenticator, one.token(aud="another-audience"))
            file.write_text(a_file(two))
            authenticator.reload()
            assert authenticator.identify(one.token(aud="another-audience").encode()) is None
            await accepted(authenticator, two.token())
            await authenticator.close()

    asyncio.run(run())


def test_the_service_accounts_issuer_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        issuer = TestIssuer(AUTHORITY)
        issuer.url = "https://kubernetes.default.svc"
        (tmp_path / "f").write_text(a_file(issuer))
        with pytest.raises(ConfigurationError, match="must not overlap"):
            JWTAuthenticators(str(tmp_path / "f"), ["https://kubernetes.default.svc"])

    asyncio.run(run())


def test_which_keys_are_taken() -> None:
    rsa, curve = public_jwk(rsa_key(), "r"), public_jwk(ec_key(), "e")
    listed: list[object] = [
        rsa,
        curve,
        rsa | {"kid": "enc", "use": "enc"},
        rsa | {"kid": "alg", "alg": "RS512"},
        rsa | {"kid": "odd", "alg": "HS256"},
        rsa | {"kid": 5},
        curve | {"kid": "crv", "crv": "secp256k1"},
        curve | {"kid": "point", "x": curve["y"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short"},
        "r",
        None,
    ]
    found = {key.id: key.algorithms for key in read_keys({"keys": listed})}
    assert found == {
        "r": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
        "e": {"ES256"},
        "alg": {"RS512"},
    }


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [1]}])
def test_documents_without_keys(document: object) -> None:
    with pytest.raises(KeysUnavailable):
        read_keys(document)
    with pytest.raises(KeysUnavailable):
        jwks_uri(document, "https://a")
