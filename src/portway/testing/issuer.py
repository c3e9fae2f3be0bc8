"""An OIDC issuer on a loopback socket with TLS: discovery, keys that rotate, tokens; and it can misbehave.

async with TestIssuer() as issuer:
    token = issuer.token(sub="ann", groups=["devs"])
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portway.testing.tls import Authority

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def rsa_key(_number: int = 0) -> rsa.RSAPrivateKey:
    """A throwaway key; the same for the same number: making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def ec_key(_number: int = 0, curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    """A throwaway key; the same for the same number."""
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[curve])


def public_jwk(key: PrivateKey, key_id: str, **more: Any) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    if isinstance(key, rsa.RSAPrivateKey):
        text = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())
    else:
        text = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())
    return {**json.loads(text), "kid": key_id, "use": "sig", **more}


class TestIssuer:
    """The issuer. `keys` are those that it publishes, by id; the last one signs."""

    __test__ = False

    def __init__(self, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.keys: dict[str, PrivateKey] = {"k1": rsa_key()}
        self.url = ""
        self.discovery: dict[str, Any] = {}
        """Said instead of, or besides, what is true."""
        self.jwks: object = None
        """Said instead of the keys."""
        self.status = 200
        self.fetched: list[str] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; at the same port as before after a stop."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self.authority.server(), reuse_address=True
        )
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        if self.status != 200:
            return web.Response(status=self.status, headers={"Location": "/elsewhere"})
        if request.path.endswith("/.well-known/openid-configuration"):
            said = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.discovery}
            return web.json_response(said)
        if self.jwks is not None:
            return web.json_response(self.jwks)
        return web.json_response({"keys": [public_jwk(key, key_id) for key_id, key in self.keys.items()]})

    def token(self, *, kid: str | None = None, key: PrivateKey | None = None, alg: str = "", **claims: Any) -> str:
        """A token with these claims on top of good ones; None takes one away."""
        key_id = next(reversed(self.keys)) if kid is None else kid
        signer = key or self.keys[key_id]
        now = int(time.time())
        whole = {"iss": self.url, "sub": "ann", "aud": "portway", "exp": now + 600, "iat": now, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        algorithm = alg or ("RS256" if isinstance(signer, rsa.RSAPrivateKey) else "ES256")
        return jwt.encode(whole, signer, algorithm, {"kid": key_id} if key_id else {})


__all__ = ["TestIssuer", "ec_key", "public_jwk", "rsa_key"]
