"""SPDY/3.1 frames as Kubernetes speaks them: bytes ↔ frames, without sockets. Streams and their life are not here.

Port-forward, exec and attach run over SPDY between API servers, kubelets and their clients, all of them by the Go
library moby/spdystream; what it does is what counts. It differs from the draft
(SPDY/3, draft-mbelshe-httpbis-spdy-00) in that nobody does flow control: WINDOW_UPDATE and SETTINGS are read and
ignored, none is ever sent, and windows do not exist. Whoever reads slowly is held back by the connection's own flow
control, and with it all its streams.

A `Decoder` gives the payload of a DATA frame as it comes, so a frame's length (up to 16 MiB) bounds no memory of ours;
every other frame is held whole, and limited. It raises SpdyError and nothing else, after which it is of no use.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

VERSION: Final = 3
MAX_DATA: Final = (1 << 24) - 1
"""Bytes of payload that one DATA frame may have (24 bits of length)."""
MAX_CONTROL: Final = 16384
"""Bytes of a control frame as sent. A stream of port-forward is opened with about 60."""
MAX_HEADERS: Final = 65536
"""Bytes of a header block once inflated (Go's http.Server takes 1 MiB for a request; ours have three short fields)."""
MAX_FIELDS: Final = 100
MAX_STREAM_ID: Final = (1 << 31) - 1

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN: Final = 1
FLAG_UNIDIRECTIONAL: Final = 2

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6
"""Why a stream was reset (section 2.6.3)."""

_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_REST: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(
        len(word).to_bytes(4, "big") + word.encode() for word in (one.replace("_", " ") for one in _WORDS.split(" "))
    )
    + _REST.encode()
)
"""What header blocks are compressed against (section 2.6.10.1): words with their lengths, then plain text."""

_WORD: Final = Struct(">I")
_TWO_WORDS: Final = Struct(">II")
_HEAD: Final = 8

Fields = tuple[tuple[str, str], ...]
"""Header fields, names in lower case; a field with several values has them joined by a null byte."""


class SpdyError(Exception):
    """The peer broke the protocol: the connection is lost, for the state of its compression is."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Opens a stream. Clients' ids are odd, servers' even, each higher than the one before."""

    stream_id: int
    headers: Fields = ()
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0
    """0 (highest) to 7."""


@dataclass(frozen=True, slots=True)
class SynReply:
    """Accepts a stream. spdystream drops data that comes before it."""

    stream_id: int
    headers: Fields = ()
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    """Ends a stream at once, both ways."""

    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Settings:
    """(flags, id, value) of each setting; without effect."""

    values: tuple[tuple[int, int, int], ...] = ()
    clear: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """Sent back as it is by the other side; clients' are odd, servers' even."""

    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """No new streams are taken; those up to `last_good` go on."""

    last_good: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class Headers:
    """Further fields of a stream."""

    stream_id: int
    headers: Fields = ()
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """Without effect, see above."""

    stream_id: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream. What was one frame may be several pieces; `fin` comes with the last, which may be empty."""

    stream_id: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | Headers | WindowUpdate | Data


def data_head(stream_id: int, size: int, fin: bool = False) -> bytes:
    """The eight bytes before a DATA frame's payload of `size` bytes."""
    return _TWO_WORDS.pack(stream_id, (FLAG_FIN << 24 if fin else 0) | size)


class Encoder:
    """Frames → bytes, in the order in which they are sent: header blocks share one compression state."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(level=9, zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """The frame's bytes. Raises ValueError for what no peer would take."""
        match frame:
            case Data(stream_id, data, fin):
                if len(data) > MAX_DATA:
                    raise ValueError("a DATA frame holds at most 16 MiB - 1")
                return data_head(_id(stream_id), len(data), fin) + data
            case SynStream():
                flags = (FLAG_FIN if frame.fin else 0) | (FLAG_UNIDIRECTIONAL if frame.unidirectional else 0)
                ids = _TWO_WORDS.pack(_id(frame.stream_id), frame.associated)
                return _control(SYN_STREAM, flags, ids + bytes((frame.priority << 5, 0)) + self._block(frame.headers))
            case SynReply(stream_id, headers, fin):
                return _control(SYN_REPLY, fin, _WORD.pack(_id(stream_id)) + self._block(headers))
            case Headers(stream_id, headers, fin):
                return _control(HEADERS, fin, _WORD.pack(_id(stream_id)) + self._block(headers))
            case RstStream(stream_id, status):
                return _control(RST_STREAM, 0, _TWO_WORDS.pack(_id(stream_id), status))
            case Ping(ping_id):
                return _control(PING, 0, _WORD.pack(ping_id))
            case GoAway(last_good, status):
                return _control(GOAWAY, 0, _TWO_WORDS.pack(last_good, status))
            case WindowUpdate(stream_id, delta):
                return _control(WINDOW_UPDATE, 0, _TWO_WORDS.pack(_id(stream_id), delta))
            case Settings(values, clear):
                entries = b"".join(_TWO_WORDS.pack(flags << 24 | key, value) for flags, key, value in values)
                return _control(SETTINGS, clear, _WORD.pack(len(values)) + entries)

    def _block(self, headers: Fields) -> bytes:
        parts = [_WORD.pack(len(headers))]
        for name, value in headers:
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                parts += (_WORD.pack(len(text)), text)
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _id(stream_id: int) -> int:
    if not 0 < stream_id <= MAX_STREAM_ID:
        raise ValueError(f"{stream_id} is no stream id")
    return stream_id


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return _TWO_WORDS.pack(0x80000000 | VERSION << 16 | kind, flags << 24 | len(body)) + body


class Decoder:
    """Bytes in pieces of any size → frames."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._held = bytearray()
        """Of a frame that is not whole yet: at most its head and MAX_CONTROL."""
        self._stream, self._left, self._fin = 0, 0, False
        """The DATA frame that is under way: bytes still to come, and what follows them."""
        self._skip = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames, and pieces of DATA frames, that these bytes complete. Raises SpdyError."""
        frames: list[Frame] = []
        if self._held:
            self._held += data
            data, self._held = bytes(self._held), bytearray()
        at, end = 0, len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                self._left -= size
                frames.append(Data(self._stream, data[at : at + size], self._fin and not self._left))
                at += size
            elif self._skip:
                size = min(self._skip, end - at)
                self._skip -= size
                at += size
            else:
                used = self._frame(data, at, frames)
                if not used:
                    self._held += data[at:]
                    break
                at += used
        return frames

    def _frame(self, data: bytes, at: int, frames: list[Frame]) -> int:
        """Reads a frame's head, and a control frame whole; the bytes used, 0 when there are too few."""
        if len(data) - at < _HEAD:
            return 0
        first, second = _TWO_WORDS.unpack_from(data, at)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first & 0x80000000:
            self._begin_data(first, flags, length, frames)
            return _HEAD
        if first >> 16 & 0x7FFF != VERSION:
            raise SpdyError(f"SPDY version {first >> 16 & 0x7FFF} is not spoken")
        kind = first & 0xFFFF
        if kind not in _READERS:
            # Unknown types are ignored (section 2.2.1).
            self._skip = length
            return _HEAD
        if length > MAX_CONTROL:
            raise SpdyError(f"a control frame of {length} bytes is too long")
        if len(data) - at < _HEAD + length:
            return 0
        frames.append(_READERS[kind](self, flags, data[at + _HEAD : at + _HEAD + length]))
        return _HEAD + int(length)

    def _begin_data(self, stream_id: int, flags: int, length: int, frames: list[Frame]) -> None:
        if not stream_id:
            raise SpdyError("stream id zero is disallowed")
        self._stream, self._left, self._fin = stream_id, length, bool(flags & FLAG_FIN)
        if not length:
            frames.append(Data(stream_id, b"", self._fin))

    def _syn_stream(self, flags: int, body: bytes) -> Frame:
        if len(body) < 10:
            raise SpdyError("SYN_STREAM is too short")
        return SynStream(
            _stream_id(body),
            self._fields(body[10:]),
            fin=bool(flags & FLAG_FIN),
            unidirectional=bool(flags & FLAG_UNIDIRECTIONAL),
            associated=_WORD.unpack_from(body, 4)[0] & MAX_STREAM_ID,
            priority=body[8] >> 5,
        )

    def _syn_reply(self, flags: int, body: bytes) -> Frame:
        return SynReply(_stream_id(body), self._fields(body[4:]), bool(flags & FLAG_FIN))

    def _headers(self, flags: int, body: bytes) -> Frame:
        return Headers(_stream_id(body), self._fields(body[4:]), bool(flags & FLAG_FIN))

    def _rst_stream(self, _flags: int, body: bytes) -> Frame:
        stream_id, status = _stream_id(body), _second(body, "RST_STREAM")
        if not status:
            raise SpdyError("RST_STREAM without a reason")
        return RstStream(stream_id, status)

    def _window_update(self, _flags: int, body: bytes) -> Frame:
        return WindowUpdate(_stream_id(body), _second(body, "WINDOW_UPDATE") & MAX_STREAM_ID)

    def _go_away(self, _flags: int, body: bytes) -> Frame:
        status = _second(body, "GOAWAY")
        return GoAway(_WORD.unpack_from(body)[0] & MAX_STREAM_ID, status)

    def _ping(self, _flags: int, body: bytes) -> Frame:
        if len(body) != 4:
            raise SpdyError("PING has a wrong length")
        return Ping(_WORD.unpack(body)[0])

    def _settings(self, flags: int, body: bytes) -> Frame:
        count = _WORD.unpack_from(body)[0] if len(body) >= 4 else -1
        if len(body) != 4 + 8 * count:
            raise SpdyError("SETTINGS has a wrong length")
        entries = (_TWO_WORDS.unpack_from(body, 4 + 8 * index) for index in range(count))
        return Settings(tuple((key >> 24, key & 0xFFFFFF, value) for key, value in entries), bool(flags & FLAG_FIN))

    def _fields(self, block: bytes) -> Fields:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be inflated: {error}") from error
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise SpdyError("a header block is too long, or ends the compression")
        return _parsed(plain)


_READERS: Final[dict[int, Callable[[Decoder, int, bytes], Frame]]] = {
    SYN_STREAM: Decoder._syn_stream,
    SYN_REPLY: Decoder._syn_reply,
    RST_STREAM: Decoder._rst_stream,
    SETTINGS: Decoder._settings,
    PING: Decoder._ping,
    GOAWAY: Decoder._go_away,
    HEADERS: Decoder._headers,
    WINDOW_UPDATE: Decoder._window_update,
}


def _stream_id(body: bytes) -> int:
    if len(body) < 4:
        raise SpdyError("a frame is too short for its stream id")
    stream_id: int = _WORD.unpack_from(body)[0] & MAX_STREAM_ID
    if not stream_id:
        raise SpdyError("stream id zero is disallowed")
    return stream_id


def _second(body: bytes, name: str) -> int:
    if len(body) != 8:
        raise SpdyError(f"{name} has a wrong length")
    word: int = _WORD.unpack_from(body, 4)[0]
    return word


def _parsed(plain: bytes) -> Fields:
    """A header block's fields. Exactly its bytes: what is left over would belong to nobody."""
    if len(plain) < 4:
        raise SpdyError("a header block is too short")
    count: int = _WORD.unpack_from(plain)[0]
    if count > MAX_FIELDS:
        raise SpdyError(f"{count} header fields are too many")
    fields: dict[str, str] = {}
    at = 4
    for _ in range(count):
        name, at = _text(plain, at)
        value, at = _text(plain, at)
        if not name or name != name.lower() or name in fields:
            raise SpdyError("a header name is empty, not in lower case, or there twice")
        fields[name] = value
    if at != len(plain):
        raise SpdyError("a header block is longer than its fields")
    return tuple(fields.items())


def _text(plain: bytes, at: int) -> tuple[str, int]:
    start = at + 4
    if start > len(plain):
        raise SpdyError("a header block is too short")
    end = start + _WORD.unpack_from(plain, at)[0]
    if end > len(plain):
        raise SpdyError("a header block is too short")
    return plain[start:end].decode("latin-1"), end
