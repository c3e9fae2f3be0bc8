"""What a JWT says: its parts before anything is verified, the checks of its claims, and the user they stand for. Pure.

    TokenRefused    the token proves nothing; `reason` is one of REASONS, for counters and logs: never the token's words

Upstream: plugin/pkg/authenticator/token/oidc; OpenID Connect Core 1.0; RFC 7519, 8725. Signatures are `oidc`'s.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from portway.gateway.authentication.oidcconfig import JWTAuthenticator, PrefixedClaim
from portway.kube.identity import User, with_authenticated

LONGEST: Final = 64 * 1024
"""Bytes of a token that are looked at; a header field of ours can't be longer."""
LEEWAY: Final = 60.0
"""Seconds that `nbf` may lie ahead: the issuer's clock (go-oidc). `exp` has none, as upstream."""
CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"
_GOOGLE: Final = "accounts.google.com"

REASONS: Final = (
    "malformed",
    "algorithm",
    "unknown key",
    "signature",
    "issuer",
    "audience",
    "authorized party",
    "expired",
    "not yet valid",
    "username",
    "email not verified",
    "groups",
    "uid",
    "required claim",
    "distributed claims",
)


class TokenRefused(Exception):  # noqa: N818 - it is what happened to the token
    """A token that proves nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unverified(NamedTuple):
    """What a token says of itself before anybody has checked anything."""

    algorithm: str
    key_id: str
    issuer: str


def unverified(token: str) -> Unverified | None:
    """The parts that say which issuer's key to try; None for what is no JWS in compact form with JSON claims."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST or not token.isascii():
        return None
    header, claims = _json(parts[0]), _json(parts[1])
    if header is None or claims is None:
        return None
    # Extensions that must be understood: none is, so none may be there (RFC 7515 §4.1.11).
    algorithm = "" if "crit" in header else header.get("alg")
    issuer, key_id = claims.get("iss"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or not isinstance(issuer, str):
        return None
    return Unverified(algorithm, key_id, _canonical(issuer))


def check(claims: Mapping[str, Any], config: JWTAuthenticator, now: float) -> float:
    """Issuer, audience and times of verified claims; the time of expiry. TokenRefused otherwise."""
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or _canonical(issuer) != config.issuer.url:
        raise TokenRefused("issuer")
    _check_audience(claims, config.issuer.audiences)
    expires = _time(claims.get("exp"))
    if expires is None or expires <= now:
        raise TokenRefused("expired")
    if claims.get("nbf") is not None:
        begins = _time(claims["nbf"])
        if begins is None or begins > now + LEEWAY:
            raise TokenRefused("not yet valid")
    return expires


def user(claims: Mapping[str, Any], config: JWTAuthenticator) -> User:
    """The user, with the group of everybody who is authenticated. TokenRefused when a claim is not what it must be."""
    _check_distributed(claims, config)
    name = _username(claims, config.username)
    groups = _groups(claims, config.groups)
    uid = ""
    if config.uid_claim:
        uid = _text(claims, config.uid_claim, "uid")
    for claim, wanted in config.required_claims:
        if claims.get(claim) != wanted:
            raise TokenRefused("required claim")
    jti = claims.get("jti")
    extra = {CREDENTIAL_ID: (f"JTI={jti}",)} if isinstance(jti, str) and jti else {}
    return with_authenticated(User(name, uid, groups, extra))


def _canonical(issuer: str) -> str:
    # Google signs with a name that is no URL (OpenID Connect Core 1.0 §15.6.2).
    return f"https://{_GOOGLE}" if issuer == _GOOGLE else issuer


def _check_audience(claims: Mapping[str, Any], wanted: Sequence[str]) -> None:
    claimed = claims.get("aud")
    audiences = [claimed] if isinstance(claimed, str) else claimed
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        raise TokenRefused("audience")
    if not set(audiences).intersection(wanted):
        raise TokenRefused("audience")
    party = claims.get("azp")
    # OpenID Connect Core 1.0 §3.1.3.7: a token for several says for whom it was made. One made for somebody who is none
    # of them, and none of ours, was not made for us.
    if len(audiences) > 1 and party is not None and party not in audiences and party not in wanted:
        raise TokenRefused("authorized party")


def _check_distributed(claims: Mapping[str, Any], config: JWTAuthenticator) -> None:
    """Claims that must be fetched elsewhere are not: who has them has no groups here, so does not get in."""
    elsewhere = claims.get("_claim_names")
    if elsewhere is None:
        return
    if not isinstance(elsewhere, dict):
        raise TokenRefused("distributed claims")
    needed = {
        config.username.claim,
        config.groups.claim,
        config.uid_claim,
        *(claim for claim, _ in config.required_claims),
    }
    if any(claim in elsewhere and claim not in claims for claim in needed if claim):
        raise TokenRefused("distributed claims")


def _username(claims: Mapping[str, Any], mapping: PrefixedClaim) -> str:
    name = _text(claims, mapping.claim, "username")
    if mapping.claim == "email" and claims.get("email_verified", True) is not True:
        raise TokenRefused("email not verified")
    return mapping.prefix + name


def _groups(claims: Mapping[str, Any], mapping: PrefixedClaim) -> tuple[str, ...]:
    if not mapping.claim or mapping.claim not in claims:
        return ()
    value = claims[mapping.claim]
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(group, str) for group in listed):
        raise TokenRefused("groups")
    return tuple(mapping.prefix + group for group in listed)


def _text(claims: Mapping[str, Any], claim: str, reason: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not value:
        raise TokenRefused(reason)
    return value


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        return None
    return float(value)


def _json(part: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


__all__ = ["REASONS", "TokenRefused", "Unverified", "check", "unverified", "user"]
