"""Service account tokens: what is signed verifies, and nothing else does."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from portway.kube.identity import User
from portway.kube.jwkeys import InvalidKeyError, load_private_key, load_public_keys
from portway.kube.serviceaccount import Claims, Reference, SignedToken, Signer, TokenInvalid, Verifier

ISSUER = "https://kubernetes.default.svc"
NOW = 1_800_000_000.5


def private_pem(key: Any) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def public_pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())


def signer(key: Any = RSA, now: float = NOW, issuer: str = ISSUER) -> Signer:
    return Signer(private_pem(key), issuer, clock=lambda: now)


def verifier(*keys: Any, now: float = NOW, audiences: tuple[str, ...] = (ISSUER,)) -> Verifier:
    return Verifier([public_pem(key) for key in keys or (RSA,)], ISSUER, audiences, clock=lambda: now)


def sign(made_by: Signer, **changes: Any) -> SignedToken:
    inputs: dict[str, Any] = {"namespace": "demo", "name": "robot", "uid": "u-1", "audiences": [ISSUER]}
    return made_by.sign(**{**inputs, "expires_in": 600, **changes})


def forged(claims: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **headers: Any) -> str:
    # One level below jwt.encode, which would refuse to make some of the nonsense.
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, {"typ": None, **headers})


def claims_of(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (P384, "ES384"), (P521, "ES512")])
def test_what_is_signed_verifies(key: Any, algorithm: str) -> None:
    made = sign(signer(key), pod=Reference("web-0", "p-1"), node=Reference("n1", "n-1"), secret=Reference("s", "s-1"))
    assert jwt.get_unverified_header(made.token) == {
        "alg": algorithm,
        "kid": load_private_key(private_pem(key)).public.kid,
    }
    assert verifier(OTHER_RSA, key).verify(made.token) == Claims(
        namespace="demo",
        name="robot",
        uid="u-1",
        expires=int(NOW) + 600,
        issued=int(NOW),
        jti=made.jti,
        audiences=(ISSUER,),
        pod=Reference("web-0", "p-1"),
        secret=Reference("s", "s-1"),
        node=Reference("n1", "n-1"),
    )
    assert made.expires == int(NOW) + 600


def test_the_claims_are_upstreams() -> None:
    made = sign(signer(), pod=Reference("web-0", "p-1"))
    assert claims_of(made.token) == {
        "aud": [ISSUER],
        "exp": int(NOW) + 600,
        "iat": int(NOW),
        "iss": ISSUER,
        "jti": made.jti,
        "kubernetes.io": {
            "namespace": "demo",
            "pod": {"name": "web-0", "uid": "p-1"},
            "serviceaccount": {"name": "robot", "uid": "u-1"},
        },
        "nbf": int(NOW),
        "sub": "system:serviceaccount:demo:robot",
    }


def test_the_user_has_upstreams_groups_and_extras() -> None:
    made = sign(signer(), pod=Reference("web-0", "p-1"), node=Reference("n1", "n-1"))
    assert verifier().verify(made.token).user() == User(
        "system:serviceaccount:demo:robot",
        "u-1",
        ("system:serviceaccounts", "system:serviceaccounts:demo"),
        {
            "authentication.kubernetes.io/credential-id": (f"JTI={made.jti}",),
            "authentication.kubernetes.io/pod-name": ("web-0",),
            "authentication.kubernetes.io/pod-uid": ("p-1",),
            "authentication.kubernetes.io/node-name": ("n1",),
            "authentication.kubernetes.io/node-uid": ("n-1",),
        },
    )


def test_the_key_id_is_the_digest_of_the_public_key() -> None:
    der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert signer().public_key.kid == base64.urlsafe_b64encode(digest.finalize()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("now", "accepted"),
    [
        (NOW - 1, False),
        (int(NOW) - 0.001, False),
        (int(NOW), True),
        (int(NOW) + 599.999, True),
        (int(NOW) + 600, False),
        (int(NOW) + 6000, False),
    ],
)
def test_there_is_no_leeway(now: float, accepted: bool) -> None:
    token = sign(signer()).token
    if accepted:
        assert verifier(now=now).verify(token).name == "robot"
    else:
        with pytest.raises(TokenInvalid, match=r"expired|not valid yet"):
            verifier(now=now).verify(token)


@pytest.mark.parametrize(
    ("claimed", "wanted", "accepted"),
    [
        ([ISSUER], None, (ISSUER,)),
        (["vault", ISSUER], None, (ISSUER,)),
        (["vault"], None, None),
        (["vault"], ("vault", "other"), ("vault",)),
        ([ISSUER], ("vault",), None),
        ([], None, None),
        ([], (), None),
        ([ISSUER], (), None),
    ],
)
def test_audiences(claimed: list[str], wanted: tuple[str, ...] | None, accepted: tuple[str, ...] | None) -> None:
    token = sign(signer(), audiences=claimed).token
    if accepted is None:
        with pytest.raises(TokenInvalid, match="audience"):
            verifier().verify(token, wanted)
    else:
        assert verifier().verify(token, wanted).audiences == accepted


def part(value: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def hs256(claims: dict[str, Any], secret: bytes) -> str:
    """A token "signed" with a public key as the shared secret: the classic confusion of algorithms."""
    signed = part({"alg": "HS256"}) + b"." + part(claims)
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(signed)
    return (signed + b"." + base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=")).decode()


def unsigned(claims: dict[str, Any]) -> str:
    return (part({"alg": "none"}) + b"." + part(claims) + b".").decode()


GOOD = claims_of(sign(signer()).token)


def without(claim: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != claim}


def private(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "kubernetes.io": {**GOOD["kubernetes.io"], **changes}}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: forged(GOOD, OTHER_RSA), "no key of ours"),
        (lambda: forged(GOOD, OTHER_RSA, kid=signer().public_key.kid), "no key of ours"),
        (lambda: forged(GOOD, RSA, "RS512"), "no key of ours"),
        (lambda: forged(GOOD, RSA, "PS256"), "no key of ours"),
        (lambda: forged(GOOD, P256, "ES256"), "no key of ours"),
        (lambda: unsigned(GOOD), "no key of ours"),
        (lambda: hs256(GOOD, public_pem(RSA)), "no key of ours"),
        (lambda: sign(signer(issuer="https://elsewhere")).token, "somebody else"),
        (lambda: forged(without("iss")), "somebody else"),
        (lambda: forged({**GOOD, "iss": [ISSUER]}), "somebody else"),
        (lambda: forged(without("exp")), "exp is not a time"),
        (lambda: forged({**GOOD, "exp": "never"}), "exp is not a time"),
        (lambda: forged({**GOOD, "exp": True}), "exp is not a time"),
        (lambda: forged({**GOOD, "exp": 1e300}), "exp is not a time"),
        (lambda: forged(without("iat")), "iat is not a time"),
        (lambda: forged({**GOOD, "nbf": int(NOW) + 1}), "not valid yet"),
        (lambda: forged(without("aud")), "no audience"),
        (lambda: forged({**GOOD, "aud": {"a": "b"}}), "no audience"),
        (lambda: forged({**GOOD, "aud": [[ISSUER]]}), "another audience"),
        (lambda: forged(without("kubernetes.io")), r"kubernetes\.io is missing"),
        (lambda: forged(private(serviceaccount="robot")), r"kubernetes\.io\.serviceaccount is missing"),
        (lambda: forged(private(serviceaccount={"name": "robot", "uid": ""})), "uid is missing"),
        (lambda: forged(private(namespace="kube-system")), "subject"),
        (lambda: forged(private(pod="web-0")), r"kubernetes\.io\.pod is missing"),
        (lambda: forged(private(pod={"name": "web-0"})), "uid is missing"),
        (lambda: forged({**GOOD, "sub": "admin"}), "subject"),
        (lambda: sign(signer()).token[:-4] + "AAAA", "no key of ours"),
        (lambda: sign(signer()).token + "x" * 70_000, "too long"),
        (lambda: "a.b.c", "not a JSON Web Token"),
        (lambda: "", "not a JSON Web Token"),
        (lambda: "admin-token", "not a JSON Web Token"),
        (lambda: "é.ü.ö", "not a JSON Web Token"),
    ],
)
def test_what_proves_nothing(make: Callable[[], str], why: str) -> None:
    with pytest.raises(TokenInvalid, match=why):
        verifier().verify(make())


@pytest.mark.parametrize("payload", [b"{", b"[]", b'"x"', b"\xff", b"[" * 40_000])
def test_a_signed_payload_that_is_no_set_of_claims(payload: bytes) -> None:
    with pytest.raises(TokenInvalid, match="malformed"):
        verifier().verify(jwt.PyJWS().encode(payload, RSA, "RS256"))


def test_a_legacy_token_is_refused() -> None:
    prefix = "kubernetes.io/serviceaccount/"
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:demo:robot",
        f"{prefix}namespace": "demo",
        f"{prefix}secret.name": "robot-token",
        f"{prefix}service-account.name": "robot",
        f"{prefix}service-account.uid": "u-1",
    }
    with pytest.raises(TokenInvalid, match="somebody else"):
        verifier().verify(forged(claims))


def test_an_unknown_or_missing_key_id_is_no_obstacle() -> None:
    both = verifier(P256, RSA)
    assert both.verify(forged(GOOD)).name == "robot"
    assert both.verify(forged(GOOD, kid="renamed")).name == "robot"
    assert both.verify(forged(GOOD, P256, "ES256")).name == "robot"


def test_one_audience_may_be_a_string() -> None:
    assert verifier().verify(forged({**GOOD, "aud": ISSUER})).audiences == (ISSUER,)


TOKEN = sign(signer()).token
FIXED = verifier()


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_no_other_character_will_do(position: int, char: str) -> None:
    changed = TOKEN[:position] + char + TOKEN[position + 1 :]
    # The last character of a part holds bits that no decoder looks at; what they are makes no other token.
    if changed == TOKEN or (position + 1 == len(TOKEN) or TOKEN[position + 1] == "."):
        return
    with pytest.raises(TokenInvalid):
        FIXED.verify(changed)


@given(st.text() | st.lists(st.text(alphabet="abcXYZ019-_", max_size=20), min_size=3, max_size=3).map(".".join))
def test_any_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(TokenInvalid):
        FIXED.verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON))
def test_signed_nonsense_is_refused_in_one_way(changes: dict[str, Any]) -> None:
    try:
        claims = FIXED.verify(forged({**GOOD, **changes}))
    except TokenInvalid:
        return
    assert claims.name == "robot"


def test_the_key_set_is_what_others_verify_with() -> None:
    keys = verifier(RSA, P256, P521).jwks()["keys"]
    assert [key["alg"] for key in keys] == ["RS256", "ES256", "ES512"]
    assert list(keys[0]) == ["use", "kty", "kid", "alg", "n", "e"]
    assert list(keys[1]) == ["use", "kty", "kid", "alg", "crv", "x", "y"]
    for key, made_by in zip(keys, (RSA, P256, P521), strict=True):
        token = sign(signer(made_by)).token
        assert key["kid"] == jwt.get_unverified_header(token)["kid"]
        foreign = jwt.PyJWK.from_dict(key)
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        assert jwt.decode(token, foreign, [key["alg"]], audience=ISSUER, options=options)["iss"] == ISSUER


def test_one_file_may_hold_several_keys_of_any_form() -> None:
    traditional = P256.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    text = public_pem(RSA) + b"# a comment\n" + traditional + private_pem(P384)
    assert [key.algorithm for key in load_public_keys(text)] == ["RS256", "ES256", "ES384"]
    assert load_public_keys(text.decode())[1].kid == load_private_key(private_pem(P256)).public.kid


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nothing",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        public_pem(ed25519.Ed25519PrivateKey.generate()),
        public_pem(ec.generate_private_key(ec.SECP256K1())),
        private_pem(ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_what_is_no_key_of_ours(pem: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        load_public_keys(pem)
    with pytest.raises(InvalidKeyError):
        load_private_key(pem)


def test_a_short_rsa_key_is_refused() -> None:
    short = rsa.generate_private_key(65537, 1024)
    with pytest.raises(InvalidKeyError, match="2048"):
        load_private_key(private_pem(short))


def test_an_encrypted_key_is_refused() -> None:
    encrypted = RSA.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(InvalidKeyError, match="unencrypted"):
        load_private_key(encrypted)
