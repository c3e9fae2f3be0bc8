"""Which header fields pass the door, and in what shape: tables from field names to what becomes of them.

Names are classified once and remembered by their raw spelling (bounded), so a request costs one dict lookup a field.
Identity fields are dropped in every spelling that a backend might normalise to them (dashes, underscores, any case)
before ours are set.
"""

from collections.abc import Callable
from typing import Final

Fields = list[tuple[bytes, bytes]]

# What becomes of a request field. Those below KEEP are dropped from the forwarded head, the rest pass.
DROP: Final = 0
AUTHORIZATION: Final = 1
CONNECTION: Final = 2
UPGRADE: Final = 3
TE: Final = 4
TRANSFER_ENCODING: Final = 5
FORWARDED_FOR: Final = 6
WEBSOCKET_PROTOCOL: Final = 7
IMPERSONATE: Final = 8
HOST: Final = 9
KEEP: Final = 20
CONTENT_LENGTH: Final = 21
USER_AGENT: Final = 22
ACCEPT: Final = 23
ACCEPT_ENCODING: Final = 24
ORIGIN: Final = 25
FETCH_SITE: Final = 26
REFERER: Final = 27
EXPECT: Final = 28
AUDIT_ID: Final = 29
FETCH_MODE: Final = 30
FETCH_DEST: Final = 31
PASS: Final = 99

_REQUEST: Final = {
    b"connection": CONNECTION,
    b"proxy-connection": DROP,
    b"keep-alive": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-authorization": DROP,
    b"te": TE,
    b"trailer": DROP,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"http2-settings": DROP,
    b"authorization": AUTHORIZATION,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-uri": DROP,
    b"x-forwarded-host": DROP,
    b"x-forwarded-proto": DROP,
    b"forwarded": DROP,
    b"sec-websocket-protocol": WEBSOCKET_PROTOCOL,
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"user-agent": USER_AGENT,
    b"accept": ACCEPT,
    b"accept-encoding": ACCEPT_ENCODING,
    b"origin": ORIGIN,
    b"sec-fetch-site": FETCH_SITE,
    b"sec-fetch-mode": FETCH_MODE,
    b"sec-fetch-dest": FETCH_DEST,
    b"referer": REFERER,
    b"expect": EXPECT,
    b"audit-id": AUDIT_ID,
}
# Fields that name a user to somebody: kube-apiserver's own, and those of the front proxies that applications trust
# (oauth2-proxy, Authelia, authentik, Pomerium, Vouch, Grafana's auth proxy, the identity-aware proxies of Cloudflare,
# Google, Amazon and Microsoft, client certificates as nginx and Envoy pass them on), and those that say where it is.
_IDENTITY_PREFIXES: Final = (
    b"x-remote-", b"impersonate-", b"x-auth-request-", b"x-webauth-", b"x-ssl-client-", b"ssl-client-", b"x-authentik-",
    b"x-pomerium-", b"x-vouch-", b"cf-access-", b"x-goog-authenticated-user-", b"x-goog-iap-", b"x-amzn-oidc-",
    b"x-ms-client-principal", b"x-ms-token-", b"x-authenticated-", b"x-forwarded-", b"x-original-", b"x-client-cert",
)  # fmt: skip
_IDENTITY: Final = frozenset(
    (
        b"remote-user",
        b"remote-groups",
        b"remote-name",
        b"remote-email",
        b"x-auth-user",
        b"x-auth-username",
        b"x-auth-email",
        b"x-auth-groups",
        b"x-auth-roles",
        b"x-user",
        b"x-user-id",
        b"x-user-email",
        b"x-user-name",
        b"x-username",
        b"x-email",
        b"x-groups",
        b"x-roles",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"authorization",
        b"proxy-authorization",
    )
)

# Framing in a spelling that is not its own: a backend that takes it for the real one would cut the stream elsewhere.
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))

# What becomes of a response field.
LOCATION: Final = 40
SET_COOKIE: Final = 41
CONTENT_TYPE: Final = 42
CONTENT_ENCODING: Final = 43

_RESPONSE: Final = {
    b"connection": CONNECTION,
    b"keep-alive": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-connection": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"access-control-allow-origin": DROP,
    b"access-control-allow-methods": DROP,
    b"access-control-allow-headers": DROP,
    b"access-control-allow-credentials": DROP,
    # A service worker with a wider scope than its own path would see its siblings' traffic.
    b"service-worker-allowed": DROP,
    # These speak for the whole origin, which is the door's: they would send its visitors elsewhere, keep them from its
    # plain listener, wipe the cookies of all services, or have browsers report every URL that is opened here.
    b"alt-svc": DROP,
    b"clear-site-data": DROP,
    b"nel": DROP,
    b"report-to": DROP,
    b"strict-transport-security": DROP,
    b"audit-id": DROP,
    b"content-length": CONTENT_LENGTH,
    b"content-encoding": CONTENT_ENCODING,
    b"content-type": CONTENT_TYPE,
    b"location": LOCATION,
    b"set-cookie": SET_COOKIE,
}

_CACHE_SIZE: Final = 4096


def request_field(name: bytes) -> int:
    """What becomes of a request field, from its raw name."""
    low = name.lower()
    code = _REQUEST.get(low)
    if code is not None:
        return code
    dashed = low.replace(b"_", b"-")
    if low.startswith(b"impersonate-"):
        return IMPERSONATE
    if dashed in _IDENTITY or dashed in _FRAMING or dashed.startswith(_IDENTITY_PREFIXES):
        return DROP
    return PASS


def response_field(name: bytes) -> int:
    """What becomes of a response field, from its raw name."""
    return _RESPONSE.get(name.lower(), PASS)


class _Remembered(dict[bytes, int]):
    """A classification by raw spelling; forgets everything when a peer makes it grow."""

    def __init__(self, classify: Callable[[bytes], int]) -> None:
        super().__init__()
        self._classify = classify

    def __missing__(self, name: bytes) -> int:
        if len(self) >= _CACHE_SIZE:
            self.clear()
        code = self._classify(name)
        self[name] = code
        return code


REQUEST: Final[dict[bytes, int]] = _Remembered(request_field)
RESPONSE: Final[dict[bytes, int]] = _Remembered(response_field)

# Trailer fields never carry framing, routing, credentials or anything that a head would have been filtered for (RFC
# 9110 6.5.1).
_NO_TRAILER: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"content-encoding",
        b"content-type",
        b"set-cookie",
        b"cookie",
        b"location",
        b"cache-control",
    )
)


def trailers(fields: Fields, classified: dict[bytes, int]) -> bytes:
    """The trailer section that is passed on, CRLF after each field."""
    return b"".join(
        b"%b: %b\r\n" % field
        for field in fields
        if classified[field[0]] == PASS and field[0].lower() not in _NO_TRAILER
    )


def tokens(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated list."""
    return [t for t in (part.strip().lower() for part in value.split(b",")) if t]
