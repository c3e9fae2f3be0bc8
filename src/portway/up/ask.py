"""One GET, for the supervising process: it asks its own children two things and needs no HTTP library for that."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SECONDS = 2.0
_MOST = 8 << 20


async def over_tcp(host: str, port: int, path: str, headers: Mapping[str, str]) -> int:
    """The status of a GET; 0 when there is no answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            status, _ = await _exchange(await asyncio.open_connection(host, port), path, headers)
    except (OSError, TimeoutError, ValueError, EOFError):
        return 0
    return status


async def over_unix(socket: Path, path: str, headers: Mapping[str, str]) -> Any:
    """The JSON document of a GET; None when there is no good answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            status, body = await _exchange(await asyncio.open_unix_connection(str(socket)), path, headers)
        return json.loads(body) if status == 200 else None
    except (OSError, TimeoutError, ValueError, EOFError):
        return None


async def _exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    reader, writer = streams
    try:
        # HTTP/1.0: the answer ends with the connection and is never chunked.
        lines = [f"GET {path} HTTP/1.0", "Host: localhost", "Accept: application/json", "User-Agent: portway-up"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head, _, body = (await reader.read(_MOST)).partition(b"\r\n\r\n")
        while chunk := await reader.read(_MOST):
            body += chunk
        return int(head.split(b" ", 2)[1]), body
    except IndexError:
        raise ValueError("not HTTP") from None
    finally:
        writer.transport.abort()
