"""What a JWT's claims make of it: by table, and no input breaks it."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication.oidcclaims import REASONS, TokenRefused, Unverified, check, unverified, user
from portway.gateway.authentication.oidcconfig import Issuer, JWTAuthenticator, PrefixedClaim
from portway.kube.identity import User

NOW = 1_800_000_000.0
URL = "https://issuer.example.org"
PLAIN = JWTAuthenticator(Issuer(URL, ("portway", "second")), PrefixedClaim("sub", "oidc:"))
FULL = JWTAuthenticator(
    Issuer(URL, ("portway",)),
    PrefixedClaim("email", ""),
    PrefixedClaim("groups", "g:"),
    "oid",
    (("hd", "example.org"),),
)
GOOD: dict[str, Any] = {"iss": URL, "sub": "ann", "aud": "portway", "exp": NOW + 60}
MORE = GOOD | {"email": "ann@example.org", "email_verified": True, "groups": ["a"], "oid": "7", "hd": "example.org"}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"aud": ["portway"]}, ""),
        ({"aud": ["x", "second"]}, ""),
        ({"aud": ["x", "portway"], "azp": "portway"}, ""),
        ({"aud": ["x", "portway"], "azp": "x"}, ""),
        ({"aud": ["x", "portway"], "azp": "stranger"}, "authorized party"),
        ({"aud": ["x", "portway"], "azp": ["x"]}, "authorized party"),
        ({"aud": "portway", "azp": "some-cli"}, ""),
        ({"aud": "other"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": ["portway", 5]}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"portway": 1}}, "audience"),
        ({"aud": "portway second"}, "audience"),
        ({"iss": URL + "/"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [URL]}, "issuer"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW + 0.5}, ""),
        ({"exp": None}, "expired"),
        ({"exp": str(NOW + 60)}, "expired"),
        ({"exp": True}, "expired"),
        ({"exp": float("inf")}, "expired"),
        ({"exp": 2**60}, "expired"),
        ({"nbf": NOW + 60}, ""),
        ({"nbf": NOW + 61}, "not yet valid"),
        ({"nbf": "soon"}, "not yet valid"),
        ({"nbf": None}, ""),
        ({"iat": NOW + 10_000}, ""),
    ],
)
def test_issuer_audience_and_times(changes: dict[str, Any], reason: str) -> None:
    claims = GOOD | changes
    if not reason:
        assert check(claims, PLAIN, NOW) == claims["exp"]
        return
    with pytest.raises(TokenRefused) as caught:
        check(claims, PLAIN, NOW)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, User("ann@example.org", "7", ("g:a", "system:authenticated"))),
        ({"groups": "one"}, User("ann@example.org", "7", ("g:one", "system:authenticated"))),
        ({"groups": []}, User("ann@example.org", "7", ("system:authenticated",))),
        ({"groups": None}, "groups"),
        ({"groups": ["a", 1]}, "groups"),
        ({"groups": {"a": 1}}, "groups"),
        ({"email": ""}, "username"),
        ({"email": None}, "username"),
        ({"email": ["ann"]}, "username"),
        ({"email_verified": False}, "email not verified"),
        ({"email_verified": "true"}, "email not verified"),
        ({"email_verified": None}, "email not verified"),
        ({"oid": 7}, "uid"),
        ({"hd": "example.com"}, "required claim"),
        ({"hd": ["example.org"]}, "required claim"),
        ({"_claim_names": {"groups": "src1"}}, User("ann@example.org", "7", ("g:a", "system:authenticated"))),
        ({"_claim_names": {"other": "src1"}}, User("ann@example.org", "7", ("g:a", "system:authenticated"))),
        ({"_claim_names": "groups"}, "distributed claims"),
        (
            {"jti": "j1"},
            User(
                "ann@example.org",
                "7",
                ("g:a", "system:authenticated"),
                {"authentication.kubernetes.io/credential-id": ("JTI=j1",)},
            ),
        ),
        ({"jti": 5}, User("ann@example.org", "7", ("g:a", "system:authenticated"))),
    ],
)
def test_the_user(changes: dict[str, Any], found: User | str) -> None:
    claims = MORE | changes
    if isinstance(found, User):
        assert user(claims, FULL) == found
        return
    with pytest.raises(TokenRefused) as caught:
        user(claims, FULL)
    assert caught.value.reason == found


@pytest.mark.parametrize("missing", ["email_verified", "groups"])
def test_claims_that_may_be_missing(missing: str) -> None:
    assert user({name: value for name, value in MORE.items() if name != missing}, FULL).name == "ann@example.org"


@pytest.mark.parametrize("claim", ["groups", "email", "oid", "hd"])
def test_a_claim_to_be_fetched_elsewhere_is_refused(claim: str) -> None:
    claims = {name: value for name, value in MORE.items() if name != claim}
    claims["_claim_names"] = {claim: "src1"}
    claims["_claim_sources"] = {"src1": {"endpoint": "https://169.254.169.254/", "access_token": "t"}}
    with pytest.raises(TokenRefused, match="distributed claims"):
        user(claims, FULL)


def test_email_is_not_verified_when_it_is_not_the_name() -> None:
    assert user(GOOD | {"email": "x", "email_verified": False}, PLAIN).name == "oidc:ann"


@pytest.mark.parametrize(
    ("header", "claims", "said"),
    [
        ({"alg": "RS256", "kid": "k"}, {"iss": URL}, Unverified("RS256", "k", URL)),
        ({"alg": "none"}, {"iss": URL}, Unverified("none", "", URL)),
        ({"alg": "RS256"}, {"iss": "accounts.google.com"}, Unverified("RS256", "", "https://accounts.google.com")),
        ({"alg": "RS256", "crit": ["b64"], "b64": False}, {"iss": URL}, Unverified("", "", URL)),
        ({"alg": "RS256", "kid": 5}, {"iss": URL}, None),
        ({"alg": None}, {"iss": URL}, None),
        ({"alg": "RS256"}, {"iss": 5}, None),
        ({"alg": "RS256"}, {}, None),
        ([], {"iss": URL}, None),
        ({"alg": "RS256"}, [], None),
    ],
)
def test_what_a_token_says_of_itself(header: object, claims: object, said: Unverified | None) -> None:
    assert unverified(f"{part(header)}.{part(claims)}.c2ln") == said


@given(st.text() | st.lists(st.text(alphabet="eyJhbGciOiJub25lIn0_-="), min_size=3, max_size=3).map(".".join))
def test_no_token_breaks_it(token: str) -> None:
    unverified(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*MORE, "nbf", "azp", "jti", "_claim_names", "_claim_sources"])


@given(st.dictionaries(NAMES, JSON), st.booleans())
def test_no_claims_break_it(changes: dict[str, Any], good: bool) -> None:
    claims = (MORE if good else {}) | changes
    reason = ""
    try:
        expires = check(claims, FULL, NOW)
        found = user(claims, FULL)
    except TokenRefused as refused:
        reason = refused.reason
    if reason:
        assert reason in REASONS
        return
    assert expires > NOW
    assert found.name == claims["email"]
    assert claims.get("email_verified", True) is True
