"""Is a pod ready? One TCP or HTTP probe; how often and how many failures count is `pod.py`'s.

As a kubelet's: 200 to 399 is success, redirects are not followed, an https probe does not verify the certificate.
"""

import asyncio
import functools
import ssl
from dataclasses import dataclass
from typing import Literal

PROBE_SECONDS = 1.0
"""A kubelet's default timeoutSeconds."""
_STATUS_LINE = 64


@dataclass(frozen=True, slots=True)
class Probe:
    """Where to ask, and what for: without a path a connection is enough."""

    host: str
    port: int
    path: str = ""
    scheme: Literal["http", "https"] = "http"


async def succeeds(probe: Probe) -> bool:
    """Whether the probe passes within a second; every failure of the network is simply no."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await _ask(probe)
    except (OSError, TimeoutError, EOFError, ValueError):
        return False


async def _ask(probe: Probe) -> bool:
    tls = _unverified() if probe.scheme == "https" else None
    reader, writer = await asyncio.open_connection(probe.host, probe.port, ssl=tls)
    try:
        if not probe.path:
            return True
        writer.write(
            f"GET {probe.path} HTTP/1.1\r\nHost: {probe.host}:{probe.port}\r\nUser-Agent: kube-probe/1.36\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        return status_is_success(await reader.read(_STATUS_LINE))
    finally:
        writer.transport.abort()


def status_is_success(start: bytes) -> bool:
    """Whether an answer that starts like this has a status from 200 to 399; ValueError when it isn't HTTP."""
    version, status, *_ = start.split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return 200 <= int(status) < 400


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Without the system's authorities, which take the loop's time to load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
