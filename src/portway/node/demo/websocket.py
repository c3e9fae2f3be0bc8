"""The server's half of RFC 6455, enough for a demo: whole messages in, whole messages out.

Fragments are joined, pings answered, closes echoed; no extensions. A peer that breaks a rule is closed with the code
that section 7.4.1 has for it. Frames as values first, so that they can be tested; the conversation last.
"""

import asyncio
import base64
import hashlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION = 0
MAX_MESSAGE = 1 << 20

OnMessage = Callable[[int, bytes], Awaitable[tuple[int, bytes]]]
"""(opcode, payload) → the answer's (opcode, payload)."""


class ProtocolViolationError(Exception):
    """The peer broke the protocol; `code` is the close code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, unmasked."""

    final: bool
    opcode: int
    payload: bytes


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()).decode("ascii")


def encode(opcode: int, payload: bytes) -> bytes:
    """An unmasked final frame (section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame with its code and reason."""
    return encode(CLOSE, struct.pack("!H", code) + reason.encode()[:123])


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame from a client; ProtocolViolationError for one that a client may not send."""
    first, second = await reader.readexactly(2)
    if first & 0x70:
        raise ProtocolViolationError(1002, "reserved bits without an extension")
    if not second & 0x80:
        raise ProtocolViolationError(1002, "a client's frames are masked")
    length = second & 0x7F
    if first & 0x08 and (length > 125 or not first & 0x80):
        raise ProtocolViolationError(1002, "a control frame is short and whole")
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    if length > MAX_MESSAGE:
        raise ProtocolViolationError(1009, "message too big")
    mask = await reader.readexactly(4)
    return Frame(bool(first & 0x80), first & 0x0F, _unmask(await reader.readexactly(length), mask))


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_message: OnMessage) -> None:
    """Answer messages until either side closes."""
    try:
        while True:
            opcode, payload = await _read_message(reader, writer)
            if opcode == CLOSE:
                writer.write(encode(CLOSE, payload[:2]))
                break
            writer.write(encode(*await on_message(opcode, payload)))
            await writer.drain()
    except ProtocolViolationError as violation:
        writer.write(close_frame(violation.code, str(violation)))
    except asyncio.IncompleteReadError:
        return
    await writer.drain()


async def _read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    """The next whole message or close; pings are answered on the way."""
    kind, parts = 0, bytearray()
    while True:
        frame = await read_frame(reader)
        if frame.opcode == CLOSE:
            return CLOSE, frame.payload
        if frame.opcode == PING:
            writer.write(encode(PONG, frame.payload))
            continue
        if frame.opcode == PONG:
            continue
        if (frame.opcode == _CONTINUATION) != bool(kind) or frame.opcode not in (_CONTINUATION, TEXT, BINARY):
            raise ProtocolViolationError(1002, "unexpected opcode")
        kind = kind or frame.opcode
        parts += frame.payload
        if len(parts) > MAX_MESSAGE:
            raise ProtocolViolationError(1009, "message too big")
        if frame.final:
            return kind, bytes(parts)
