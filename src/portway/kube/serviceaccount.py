"""Service account tokens: signed JWTs that name a service account and, often, the pod they were made for.

Signing, and everything about a token that can be told from the token and the keys. Whether the account and the pod
still exist is for whoever holds a view of the cluster (the gateway), or the objects (the API server). Tokens of the
legacy kind, without expiry and bound to a Secret, are refused: nothing revokes them. Upstream: ``pkg/serviceaccount``;
RFC 7515, 7519 and 8725 (the algorithm follows from the key, never from the token).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import jwt
from jwt.types import Options

from portway.kube.identity import User, service_account_groups, service_account_name
from portway.kube.jwkeys import PrivateKey, PublicKey, load_private_key, load_public_keys

_EXTRA: Final = "authentication.kubernetes.io/"
# A JWT that we made is about a kilobyte; what is far beyond is not parsed at all.
_MAX_LENGTH: Final = 64 * 1024
ONLY_SIGNATURE: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""PyJWT does the cryptography; claims are checked by us, without leeway and with messages of our own."""


class TokenInvalid(Exception):  # noqa: N818 - it is what the token is
    """A token that proves nothing; the message says why and is meant for logs, not for the sender."""


class Reference(NamedTuple):
    """An object that a token is bound to."""

    name: str
    uid: str


class SignedToken(NamedTuple):
    """A new token, when it expires (Unix seconds), and its id."""

    token: str
    expires: int
    jti: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. ``audiences`` are those of the token's that were accepted; times in Unix seconds."""

    namespace: str
    name: str
    uid: str
    expires: int
    issued: int
    jti: str
    audiences: tuple[str, ...]
    pod: Reference | None = None
    secret: Reference | None = None
    node: Reference | None = None

    def user(self) -> User:
        """The service account as a user, with the groups and extras that upstream gives it."""
        extra = {f"{_EXTRA}credential-id": (f"JTI={self.jti}",)} if self.jti else {}
        for kind, reference in (("pod", self.pod), ("node", self.node)):
            if reference is not None:
                extra[f"{_EXTRA}{kind}-name"] = (reference.name,)
                extra[f"{_EXTRA}{kind}-uid"] = (reference.uid,)
        name = service_account_name(self.namespace, self.name)
        return User(name, self.uid, service_account_groups(self.namespace), extra)


class Signer:
    """Makes tokens with one private key (PEM; RSA, or EC on P-256, P-384 or P-521), in the name of one issuer."""

    def __init__(self, private_key_pem: bytes | str, issuer: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key: PrivateKey = load_private_key(private_key_pem)
        self._clock = clock
        self.issuer = issuer

    @property
    def public_key(self) -> PublicKey:
        """What a verifier needs."""
        return self._key.public

    def sign(
        self,
        *,
        namespace: str,
        name: str,
        uid: str,
        audiences: Sequence[str],
        expires_in: int,
        pod: Reference | None = None,
        secret: Reference | None = None,
        node: Reference | None = None,
    ) -> SignedToken:
        """A token for a service account, valid from now for ``expires_in`` seconds."""
        now, jti = int(self._clock()), str(uuid.uuid4())
        account = {"name": name, "uid": uid}
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": account}
        for kind, reference in (("node", node), ("pod", pod), ("secret", secret)):
            if reference is not None:
                private[kind] = {"name": reference.name, "uid": reference.uid}
        claims = {"aud": list(audiences), "exp": now + expires_in, "iat": now, "iss": self.issuer, "jti": jti}
        claims |= {"kubernetes.io": private, "nbf": now, "sub": service_account_name(namespace, name)}
        key = self._key
        headers = {"kid": key.public.kid, "typ": None}
        return SignedToken(jwt.encode(claims, key.key, key.public.algorithm, headers), now + expires_in, jti)


class Verifier:
    """Checks tokens against public keys (each PEM may hold several), one issuer, and the audiences we answer to."""

    def __init__(
        self,
        public_keys_pem: Iterable[bytes | str],
        issuer: str,
        audiences: Sequence[str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        keys = [key for pem in public_keys_pem for key in load_public_keys(pem)]
        self._keys = {key.kid: key for key in keys}
        self._issuer = issuer
        self._audiences = tuple(audiences)
        self._clock = clock

    def verify(self, token: str, audiences: Sequence[str] | None = None) -> Claims:
        """The claims of a token that is ours, in time, and meant for one of ``audiences`` (default: our own).

        Raises TokenInvalid, and nothing else.
        """
        claims = self._signed(token)
        if claims.get("iss") != self._issuer:
            raise TokenInvalid("the token was issued by somebody else")
        issued, expires = self._in_time(claims)
        accepted = _accepted(claims.get("aud"), self._audiences if audiences is None else audiences)
        private = _mapping(claims.get("kubernetes.io"), "kubernetes.io")
        account = _mapping(private.get("serviceaccount"), "kubernetes.io.serviceaccount")
        namespace = _text(private, "namespace")
        name, uid = _text(account, "name"), _text(account, "uid")
        if claims.get("sub") != service_account_name(namespace, name):
            raise TokenInvalid("the subject is not the service account that the token names")
        bound = {kind: _reference(private.get(kind), kind) for kind in ("pod", "secret", "node")}
        jti = claims.get("jti")
        jti = jti if isinstance(jti, str) else ""
        return Claims(namespace, name, uid, expires, issued, jti, accepted, **bound)

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517), as ``/openid/v1/jwks`` serves it."""
        return {"keys": [key.jwk() for key in self._keys.values()]}

    def _signed(self, token: str) -> Mapping[str, Any]:
        """The claims, once a key of ours has signed them with the one algorithm that the key is for."""
        if len(token) > _MAX_LENGTH:
            raise TokenInvalid("the token is too long")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenInvalid("not a JSON Web Token") from None
        known = self._keys.get(kid) if isinstance(kid, str) else None
        for key in (known,) if known else self._keys.values():
            try:
                return _decoded(token, key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAlgorithmError:
                continue
            except (jwt.PyJWTError, ValueError, RecursionError):
                raise TokenInvalid("the token is malformed") from None
        raise TokenInvalid("no key of ours signed the token")

    def _in_time(self, claims: Mapping[str, Any]) -> tuple[int, int]:
        """(issued, expires), both required; no leeway either way, as upstream."""
        now = self._clock()
        issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
        if now >= expires:
            raise TokenInvalid("the token has expired")
        if now < (_seconds(claims, "nbf") if "nbf" in claims else issued):
            raise TokenInvalid("the token is not valid yet")
        return issued, expires


def _decoded(token: str, key: PublicKey) -> Mapping[str, Any]:
    claims: Mapping[str, Any] = jwt.decode(token, key.key, algorithms=[key.algorithm], options=ONLY_SIGNATURE)
    return claims


def _accepted(claimed: object, wanted: Sequence[str]) -> tuple[str, ...]:
    listed = [claimed] if isinstance(claimed, str) else claimed
    if not isinstance(listed, list):
        raise TokenInvalid("the token has no audience")
    accepted = tuple(audience for audience in listed if isinstance(audience, str) and audience in wanted)
    if not accepted:
        raise TokenInvalid("the token is for another audience")
    return accepted


def _seconds(claims: Mapping[str, Any], claim: str) -> int:
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        raise TokenInvalid(f"the claim {claim} is not a time")
    return int(value)


def _mapping(value: object, claim: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TokenInvalid(f"the claim {claim} is missing")
    return value


def _text(mapping: Mapping[str, Any], claim: str) -> str:
    value = mapping.get(claim)
    if not isinstance(value, str) or not value:
        raise TokenInvalid(f"the claim {claim} is missing")
    return value


def _reference(value: object, kind: str) -> Reference | None:
    if value is None:
        return None
    mapping = _mapping(value, f"kubernetes.io.{kind}")
    return Reference(_text(mapping, "name"), _text(mapping, "uid"))
