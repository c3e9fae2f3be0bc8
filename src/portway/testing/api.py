"""A whole API server without sockets, for tests: its own store, keys and users.

    async with InProcessApi() as api:
        answer = await api.admin.request("POST", "/api/v1/namespaces/default/services", service)

It starts with the objects that every cluster has. There is no door, so nothing is authorised.
"""

from __future__ import annotations

import functools
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from portway.apiserver.app import create_app
from portway.apiserver.config import ApiServerConfig
from portway.kube.serviceaccount import Signer, Verifier
from portway.storage import Store
from portway.storage.memory import MemoryStore
from portway.testing.asgi import Caller

ISSUER = "https://kubernetes.default.svc"


@functools.cache
def _keys() -> tuple[bytes, bytes]:
    """A throwaway key pair in PEM: private, public."""
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    return private, key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def settings(**changes: Any) -> ApiServerConfig:
    """Returns settings that work, with `changes`."""
    private, public = _keys()
    return ApiServerConfig(Signer(private, ISSUER), Verifier([public], ISSUER, [ISSUER]), **changes)


class InProcessApi:
    """One API server; an async context manager that starts and stops it. `admin` may do everything."""

    def __init__(self, store: Store | None = None, **changes: Any) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.app = create_app(self.store, settings(**changes))
        self.admin = self.user("admin", "system:masters", "system:authenticated")

    def user(self, name: str, *groups: str) -> Caller:
        """Returns a caller with a name and groups."""
        return Caller(self.app, name, groups)

    async def __aenter__(self) -> InProcessApi:
        await self.app.startup()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.shutdown()
