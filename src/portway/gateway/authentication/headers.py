"""Credentials as they are written in request headers: pure parsing, nothing is verified here.

`Authorization: Bearer` (RFC 6750) with kube-apiserver's tolerance, `Authorization: Basic` (RFC 7617), and the bearer
token that browsers put into `Sec-WebSocket-Protocol` because they can't set headers on a WebSocket.
"""

import base64
import binascii

from portway.kube.errors import Unauthorized

EXTRA_SPACE_WARNING = (
    b'299 - "the provided Authorization header contains extra space before the bearer token, and is ignored"'
)
"""kube-apiserver's `Warning` for two spaces after `Bearer`; such a header is no credential at all."""

PROTOCOL_PREFIX = b"base64url.bearer.authorization.k8s.io."

_SPACE = b" \t\r\n\v\f"
_NOT_BASE64URL = frozenset(b"=+/")
"""What base64url without padding has no use for, though Python's decoder would take it."""


def scheme_and_rest(authorization: bytes) -> tuple[bytes, bytes]:
    """(lower-cased scheme, what follows the first space, untrimmed)."""
    scheme, _, rest = authorization.strip(_SPACE).partition(b" ")
    return scheme.lower(), rest


def bearer_token(rest: bytes) -> bytes:
    """The token in what follows `Bearer `: up to the next space, b"" when there is none (a third piece is ignored)."""
    return rest.partition(b" ")[0]


def basic_credentials(rest: bytes) -> tuple[str, bytes]:
    """(user, password) from what follows `Basic `. Unauthorized when it is neither base64 nor has a colon."""
    try:
        user, colon, password = base64.b64decode(rest.strip(_SPACE), validate=True).partition(b":")
        name = user.decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized from error
    if not colon or not name:
        raise Unauthorized
    return name, password


def websocket_token(protocols: bytes) -> tuple[bytes, bytes]:
    """(token, remaining protocols joined by "," without spaces) of a Sec-WebSocket-Protocol value.

    b"" as token when none is offered (then the protocols are unchanged). Unauthorized when there are two, when it
    is not unpadded base64url of UTF-8, or when no other protocol is offered for the backend to choose.
    """
    if PROTOCOL_PREFIX not in protocols:
        return b"", protocols
    offered = [item.strip(_SPACE) for item in protocols.split(b",")]
    tokens = [item[len(PROTOCOL_PREFIX) :] for item in offered if item.startswith(PROTOCOL_PREFIX)]
    others = [item for item in offered if not item.startswith(PROTOCOL_PREFIX)]
    if not tokens:
        return b"", protocols
    if len(tokens) > 1:
        raise Unauthorized
    if not tokens[0]:
        return b"", protocols
    token = _decode_token(tokens[0])
    if not any(others):
        raise Unauthorized
    return token, b",".join(others)


def _decode_token(encoded: bytes) -> bytes:
    if not _NOT_BASE64URL.isdisjoint(encoded):
        raise Unauthorized
    try:
        token = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        token.decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized from error
    return token
