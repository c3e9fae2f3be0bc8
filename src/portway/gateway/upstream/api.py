"""How a cluster's API server is spoken to: the implementations of `cluster.Api`."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from urllib.parse import quote

from portway.gateway.upstream.endpoint import Endpoint
from portway.kube.errors import BadRequest
from portway.kube.identity import User

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange


class EmbeddedApi:
    """The embedded API server on its socket, which believes who the door says it is."""

    prefix = b""
    authority = ""
    judges = False
    waits_for: Awaitable[object] | None = None

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoints = (endpoint,)

    def fields(self, exchange: "Exchange") -> bytes:
        identity = exchange.acting or exchange.identity
        return remote_headers(identity.user if identity is not None else User(""))

    def refused(self) -> None:
        """Nothing was shown that could be refused."""


def remote_headers(user: User) -> bytes:
    """The identity, for the API server behind the door. A name that a header field would change is refused."""
    lines = [f"X-Remote-User: {_safe(user.name)}", *(f"X-Remote-Group: {_safe(g)}" for g in user.groups)]
    if user.uid:
        lines.append(f"X-Remote-Uid: {_safe(user.uid)}")
    for key, values in user.extra.items():
        lines += [f"X-Remote-Extra-{quote(key, safe='')}: {_safe(v)}" for v in values]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8")


def _safe(text: str) -> str:
    if text != text.strip() or any(c < " " or c == "\x7f" for c in text):
        raise BadRequest("a user or group name holds a control character, or spaces around it")
    return text
