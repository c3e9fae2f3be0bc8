"""An error answer → StatusError: the API's own words when it sent a Status, else a plain sentence."""

from collections.abc import Mapping
from typing import Any

import orjson

from portway.kube.errors import StatusError, from_status

_MAX_QUOTED = 256


def status_error(code: int, headers: Mapping[str, str], body: bytes) -> StatusError:
    """The error that a response with this code, headers and body stands for. Never fails, whatever the body is."""
    error = from_status({"code": code, **(_status(body) or {"message": _sentence(code, body)})})
    if error.retry_after is None:
        error.retry_after = _seconds(headers.get("Retry-After", ""))
    return error


def _status(body: bytes) -> dict[str, Any] | None:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return status if isinstance(status, dict) and status.get("kind") == "Status" else None


def _sentence(code: int, body: bytes) -> str:
    text = " ".join(body[: _MAX_QUOTED * 4].decode("utf-8", "replace").split())[:_MAX_QUOTED]
    return f"the server answered {code}" + (f": {text}" if text else "")


def _seconds(value: str) -> int | None:
    """Whole seconds; an HTTP date is as good as nothing (API servers send numbers)."""
    return int(value) if value.isascii() and value.isdigit() else None
