"""The clients of one worker: how many there are, of whom, and whom their certificates stand for."""

import ssl
from typing import TYPE_CHECKING, Final

from portway.gateway.authentication import Identity
from portway.gateway.authentication.certificate import certificate_identity
from portway.gateway.settings import Limits
from portway.kube.errors import Unauthorized
from portway.kube.identity import User

if TYPE_CHECKING:
    from portway.gateway.http1 import Downstream

CERTIFICATES: Final = 1024
"""Client certificates remembered in one worker."""


class Crowd:
    """The open client connections."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_client: dict[str, int] = {}
        self._certificates: dict[bytes, Identity | None] = {}
        self.connections: set[Downstream] = set()

    def certificate(self, tls: ssl.SSLObject) -> Identity | None:
        """Whom a connection's client certificate, verified in the handshake, stands for."""
        der = tls.getpeercert(binary_form=True)
        if der is None:
            return None
        known = self._certificates.get(der)
        if known is None or not known.alive():
            if len(self._certificates) >= CERTIFICATES:
                self._certificates.clear()
            known = self._certificates[der] = _stands_for(der)
        return known

    def admit(self, down: "Downstream") -> bool:
        """Counts a new connection; False when this client, or the worker, has too many."""
        open_now = self._per_client.get(down.peer, 0)
        if len(self.connections) >= self._limits.connections or open_now >= self._limits.connections_per_client:
            return False
        self._per_client[down.peer] = open_now + 1
        self.connections.add(down)
        return True

    def leave(self, down: "Downstream") -> None:
        """A connection ended."""
        if down not in self.connections:
            return
        self.connections.discard(down)
        left = self._per_client.get(down.peer, 1) - 1
        if left:
            self._per_client[down.peer] = left
        else:
            self._per_client.pop(down.peer, None)


def _stands_for(der: bytes) -> Identity | None:
    try:
        return certificate_identity(der)
    except Unauthorized:
        refused = Identity(User(""), "certificate")
        refused.valid = False  # a credential that is wrong: 401, unless the request brings a right one
        return refused
