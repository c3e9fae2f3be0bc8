"""Bytes between two transports, both ways: two pumps, each the protocol of one transport and the other's partner."""

import asyncio
import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """End a transport so that its peer sees that it was cut off: TCP's reset, not the end of a stream."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX and not transport.is_closing():
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        except OSError:
            pass  # it is closed already
    transport.abort()


class Pump(asyncio.Protocol):
    """Copies what its transport receives to its partner's, with pauses, half-closes and ends.

    Nothing is read before both have their transport.
    """

    def __init__(self, partner: "Pump | None" = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._partner = partner
        self._lost = self._eof = False
        if partner is not None:
            partner._partner = self

    @property
    def _other(self) -> asyncio.Transport | None:
        """The partner's transport, while something can be done with it."""
        other = self._partner.transport if self._partner is not None else None
        return None if other is None or other.is_closing() else other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        partner = self._partner
        if partner is not None and partner._lost:
            transport.close()
        elif partner is None or partner.transport is None:
            self.transport.pause_reading()  # type: ignore[union-attr]
        elif not partner.transport.is_closing():
            partner.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        other = self._other
        if other is not None:
            other.write(data)

    def eof_received(self) -> bool:
        self._eof = True
        other, partner = self._other, self._partner
        if other is None or partner is None:
            return False
        if partner._eof or not other.can_write_eof():
            other.close()
            return False
        other.write_eof()
        return True

    def pause_writing(self) -> None:
        other = self._other
        if other is not None:
            other.pause_reading()

    def resume_writing(self) -> None:
        other = self._other
        if other is not None:
            other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        other = self._other
        if other is not None and error is None:
            other.close()
        elif other is not None:
            reset(other)
