"""Tokens from --token-auth-file. Kept as SHA-256 sums: a lookup compares sums, so its time says nothing about the
tokens, and a memory dump has none.
"""

from hashlib import sha256
from pathlib import Path

from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.identity import Identity
from portway.kube.identity import with_authenticated
from portway.kube.tokenfile import parse_token_file


class StaticTokens:
    """The token file's users by the sum of their token. `reload` keeps identities that did not change."""

    def __init__(self, path: str) -> None:
        """ConfigurationError when the file can't be read or a line is malformed."""
        self._path = path
        self._identities: dict[bytes, Identity] = {}
        self.reload()

    def identify(self, token: bytes) -> Identity | None:
        """Whose token it is; None when it is nobody's."""
        return self._identities.get(sha256(token).digest())

    def reload(self) -> None:
        """Read the file again: removed and changed tokens end at once. On an error all stays as it was."""
        old, new = self._identities, self._read()
        for key, identity in old.items():
            fresh = new.get(key)
            if fresh is not None and fresh.user == identity.user:
                new[key] = identity
            else:
                identity.valid = False
        self._identities = new

    def _read(self) -> dict[bytes, Identity]:
        if not self._path:
            return {}
        try:
            users = parse_token_file(Path(self._path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError.reading("token file", self._path, error) from error
        return {sha256(token.encode()).digest(): Identity(with_authenticated(u), "token") for token, u in users.items()}
