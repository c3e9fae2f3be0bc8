"""Continue tokens: where the next page of a list begins, and at which revision. Pure.

The same form as upstream's (k8s.io/apiserver/pkg/storage/continue.go), though clients must not look inside.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from portway.kube.errors import BadRequest, Expired

_VERSION = "meta.k8s.io/v1"
INCONSISTENT = -1
"""The revision of a token that goes on with whatever is there now."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Go on behind the key `after` (without the kind's prefix), at `revision`."""

    revision: int
    after: str

    def token(self) -> str:
        """Returns the token for metadata.continue."""
        value = orjson.dumps({"v": _VERSION, "rv": self.revision, "start": f"{self.after}\0"})
        return base64.urlsafe_b64encode(value).decode().rstrip("=")


def parse(token: str) -> Continuation:
    """Returns what a token says; raises BadRequest."""
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, start = value["v"], value["rv"], value["start"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise BadRequest("continue key is not valid") from error
    sound = version == _VERSION and type(revision) is int and isinstance(start, str)
    if not sound or not start.endswith("\0") or start.startswith("/") or not INCONSISTENT <= revision != 0:
        raise BadRequest("continue key is not valid")
    return Continuation(revision, start[:-1])


def expired(after: str) -> Expired:
    """The refusal of a token whose revision is gone; it brings a token that goes on inconsistently."""
    return Expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        metadata={"continue": Continuation(INCONSISTENT, after).token()},
    )
