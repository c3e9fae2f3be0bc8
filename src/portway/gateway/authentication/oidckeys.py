"""An issuer's public keys: found by discovery, kept, fetched again when a token names one that is not there.

    KeysUnavailable     the issuer could not be asked, or its answer is no key set; in one line, without secrets

Keys stay in use while the issuer is away; they go when it answers without them. Only keys that sign are taken, each for
the algorithms that fit it: never a symmetric one, so that no public key is ever taken for a shared secret.
Sockets: https to the issuer, nothing else, no redirects.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portway.client.backoff import Backoff
from portway.client.tls import TlsError, TlsSettings
from portway.gateway.authentication.oidcconfig import Issuer

TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)
MOST_BYTES: Final = 1 << 20
MOST_KEYS: Final = 100
REFRESH: Final = 300.0
"""Seconds after which keys are looked at again, so that a withdrawn one ends; go-oidc looks only for unknown ones."""
UNKNOWN: Final = 10.0
"""Seconds between two fetches that tokens with unknown keys can bring about (Keycloak's adapters: 10)."""
RETRY_CAP: Final = 30.0
RSA_BITS: Final = 2048

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class KeysUnavailable(Exception):  # noqa: N818 - it says what is the case
    """No keys were to be had."""


class Key(NamedTuple):
    """A public key, its id ("" for none), and what it may verify."""

    id: str
    key: PublicKey
    algorithms: frozenset[str]


def read_keys(document: object) -> tuple[Key, ...]:
    """The usable keys of a JSON Web Key Set; others are left out. KeysUnavailable when there is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise KeysUnavailable("the answer is not a JSON Web Key Set")
    found = tuple(key for item in listed[:MOST_KEYS] if (key := _key(item)) is not None)
    if not found:
        raise KeysUnavailable("the JSON Web Key Set has no key that signs")
    return found


def _key(item: object) -> Key | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") not in ("RSA", "EC"):
        return None
    key_id, algorithm = item.get("kid", ""), item.get("alg")
    try:
        made: Any = _maker(item["kty"])(orjson.dumps({k: v for k, v in item.items() if k != "d"}).decode())
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    allowed = _fitting(made)
    if algorithm is not None:
        allowed &= {algorithm} if isinstance(algorithm, str) else frozenset()
    return Key(key_id, made, allowed) if allowed and isinstance(key_id, str) else None


def _maker(kind: str) -> Callable[[str], Any]:
    return jwt.algorithms.RSAAlgorithm.from_jwk if kind == "RSA" else jwt.algorithms.ECAlgorithm.from_jwk


def _fitting(key: object) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA if key.key_size >= RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset((_CURVES[key.curve.name],)) if key.curve.name in _CURVES else frozenset()
    return frozenset()


def jwks_uri(document: object, issuer: str) -> str:
    """Where an issuer's discovery document says its keys are. KeysUnavailable when it is another's, or not https."""
    if not isinstance(document, dict):
        raise KeysUnavailable("the discovery document is not a JSON object")
    if document.get("issuer") != issuer:
        raise KeysUnavailable("the discovery document is another issuer's")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str) or not uri.startswith("https://"):
        raise KeysUnavailable("the discovery document names no https jwks_uri")
    return uri


class KeySet:
    """One issuer's keys. Lives on one event loop; `start` begins to fetch, `close` ends it."""

    def __init__(self, issuer: Issuer, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after keys were replaced by others. ValueError for an authority that can't be read."""
        self._issuer = issuer
        self._changed = changed
        try:
            self._tls = TlsSettings(authority_data=issuer.certificate_authority.encode()).context()
        except TlsError as error:
            raise ValueError(str(error)) from error
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._heard: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._not_before = self._loop.time()
        self._since = self._loop.time()
        self._trouble = "not fetched yet"
        self.keys: tuple[Key, ...] = ()

    def start(self) -> None:
        """Begin to fetch."""
        if self._task is None:
            self._heard = self._loop.create_future()
            self._task = self._loop.create_task(self._run(), name=f"keys of {self._issuer.url}")

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def find(self, key_id: str, algorithm: str) -> tuple[Key, ...]:
        """Keys that may have signed a token: that of its key id, or all when it names none."""
        fits = (key for key in self.keys if algorithm in key.algorithms)
        return tuple(key for key in fits if not key_id or key.id == key_id)

    def knows(self, key_id: str) -> bool:
        """Whether a key of this id is there, for whatever algorithm."""
        return any(key.id == key_id for key in self.keys)

    def refetch(self) -> asyncio.Future[None] | None:
        """Resolves with the issuer's next answer, whatever it is; None when it was asked too lately to ask again."""
        if self._heard is None:
            now = self._loop.time()
            if now < self._not_before:
                return None
            self._not_before = now + UNKNOWN
            self._heard = self._loop.create_future()
            self._wanted.set()
        # Who goes away takes nobody else's answer along.
        own: asyncio.Future[None] = self._loop.create_future()
        self._heard.add_done_callback(lambda _: None if own.done() else own.set_result(None))
        return own

    def health(self) -> str:
        """ "" when the last fetch brought keys, else one line."""
        if not self._trouble:
            return ""
        kept = f"; {len(self.keys)} keys fetched before stay in use" if self.keys else ""
        return f"no keys of {self._issuer.url} for {self._loop.time() - self._since:.0f} s: {self._trouble}{kept}"

    async def _run(self) -> None:
        backoff = Backoff(first=1.0, cap=RETRY_CAP)
        while True:
            self._wanted.clear()
            self._heard = self._heard or self._loop.create_future()
            try:
                self._fetched(await self._fetch())
            except KeysUnavailable as error:
                self._failed(str(error))
                wait = backoff.delay()
                self._not_before = self._loop.time() + wait
            else:
                backoff.reset()
                wait = REFRESH
            heard, self._heard = self._heard, None
            heard.set_result(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()

    def _fetched(self, keys: tuple[Key, ...]) -> None:
        self._trouble = ""
        replaced = [(key.id, key.key.public_numbers()) for key in keys] != [
            (key.id, key.key.public_numbers()) for key in self.keys
        ]
        self.keys = keys
        if replaced:
            self._changed()

    def _failed(self, why: str) -> None:
        if not self._trouble:
            self._since = self._loop.time()
        self._trouble = why

    async def _fetch(self) -> tuple[Key, ...]:
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector, timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            uri = jwks_uri(await _get(session, self._issuer.discovery), self._issuer.url)
            return read_keys(await _get(session, uri))


async def _get(session: aiohttp.ClientSession, url: str) -> object:
    try:
        async with session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response:
            if response.status != 200:
                raise KeysUnavailable(f"{url} answered {response.status}")
            body = await response.content.read(MOST_BYTES + 1)
            while len(body) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES + 1 - len(body))):
                body += more
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise KeysUnavailable(f"{url}: {str(error) or type(error).__name__}") from error
    if len(body) > MOST_BYTES:
        raise KeysUnavailable(f"{url} answered with more than {MOST_BYTES} bytes")
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise KeysUnavailable(f"{url} did not answer with JSON") from error
    return document


__all__ = ["Key", "KeySet", "KeysUnavailable", "jwks_uri", "read_keys"]
