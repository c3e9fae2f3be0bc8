"""A connection to a pod's port in a SPDY session: a data stream, and an error stream that says why it failed.

Source: k8s.io/client-go/tools/portforward (the streams' headers), k8s.io/kubelet/pkg/cri/streaming/portforward.
"""

import asyncio

from portway.client.portforward.session import Session, Stream
from portway.client.portforward.transport import PortForwardError
from portway.kube import spdy

MAX_ERROR = 8 << 10
"""Bytes of an error's text that are kept."""


class _ErrorText(asyncio.Protocol):
    """Reads an error stream; any text on it means that the connection failed."""

    def __init__(self, data: Stream) -> None:
        self._data = data
        self._text = bytearray()

    def data_received(self, data: bytes) -> None:
        if len(self._text) < MAX_ERROR:
            self._text += data

    def eof_received(self) -> bool:
        if self._text:
            self._data.fail(PortForwardError(" ".join(self._text.decode("utf-8", "replace").split())))
            self._data.session.reset(self._data, spdy.CANCEL)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._data.fail(error)


def open_pair(session: Session, port: int, request: int) -> Stream:
    """Open both; the data stream, which `begin` starts. Raises SessionLostError."""
    fields = {"port": str(port), "requestid": str(request)}
    error = session.open({"streamtype": "error", **fields}, fin=True)
    data = session.open({"streamtype": "data", **fields})
    error.begin(_ErrorText(data))
    data.ended = error.close
    return data
