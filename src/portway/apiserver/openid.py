"""Who signs service account tokens, for those who verify them elsewhere: OpenID discovery and the keys (RFC 7517).

Served only for an issuer that such a verifier could use: an https URL without query or fragment. The documents never
change while a server runs, and may be cached for an hour.
Source: pkg/serviceaccount/openidmetadata.go, pkg/routes/openidmetadata.go, as facts.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

import orjson

from portway.apiserver.http import JSON, Response

CONFIGURATION, KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
KEYS_TYPE = "application/jwk-set+json"
_CACHE = (b"cache-control", b"public, max-age=3600")
_log = logging.getLogger(__name__)


class IssuerDiscovery:
    """The two documents by path; none of them where the issuer's name rules that out."""

    def __init__(self, issuer: str, keys: dict[str, Any], *, address: str, keys_uri: str = "") -> None:
        """`keys` is the key set; `address` the "host:port" at which clients reach it, unless `keys_uri` says where."""
        self._documents: dict[str, tuple[str, bytes]] = {}
        if fault := issuer_fault(issuer):
            _log.info("service account issuer discovery is not served: %s", fault)
            return
        configuration = {
            "issuer": issuer,
            "jwks_uri": keys_uri or f"https://{address}{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key["alg"] for key in keys["keys"]}),
        }
        self._documents = {CONFIGURATION: (JSON, orjson.dumps(configuration)), KEYS: (KEYS_TYPE, orjson.dumps(keys))}

    @property
    def paths(self) -> list[str]:
        """What is served."""
        return list(self._documents)

    def answer(self, path: str) -> Response | None:
        """Answers a path (without a slash at its end); None when it is none of these."""
        found = self._documents.get(path)
        return Response(200, found[1], found[0], [_CACHE]) if found else None


def issuer_fault(issuer: str) -> str:
    """Says why no verifier could use an issuer; "" when it is fine (OpenID Connect Discovery 1.0, section 3)."""
    try:
        parts = urlsplit(issuer)
    except ValueError:
        return f"issuer URL {issuer!r} cannot be parsed"
    if parts.scheme != "https" or not parts.netloc:
        return f"issuer URL {issuer!r} must use https"
    if "?" in issuer or "#" in issuer:
        return f"issuer URL {issuer!r} may not include a query or fragment"
    return ""
