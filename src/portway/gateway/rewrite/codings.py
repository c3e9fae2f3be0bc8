"""Content codings (RFC 9110 section 8.4.1), streaming: gzip, deflate, br and zstd, each as a decoder and an encoder.

Bounded whatever comes in: a decoder hands out pieces of about STEP bytes, lazily, and keeps no more than its window
(32 KiB; br up to 16 MiB; zstd 8 MiB, RFC 9659). So a bomb streams through and accumulates nowhere, provided that the
caller takes a piece at a time.

brotli and zstandard are imported when first needed: most workers never see them, and they cost memory.
"""

import zlib
from collections.abc import Generator, Iterator
from typing import Any, Final, Protocol

from portway.gateway.rewrite.errors import RewriteError

STEP: Final = 64 * 1024
"""Bytes that a decoder hands out at once, about; zstd may give a few times as much."""

# One zstd block takes 4 bytes at least and gives 128 KiB at most (RFC 8878 section 3.1.1.2): 16 bytes give 512 KiB.
_ZSTD_SLICE: Final = 16
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
_BROKEN: Final = "the compressed body is broken"
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits
_LEVEL: Final = 5
_BROTLI_QUALITY: Final = 4
_ZSTD_LEVEL: Final = 3
_ENCODER_WINDOW_LOG: Final = 18  # 256 KiB: a page's worth, times the connections that are open


class Decoder(Protocol):
    """Takes a coding off a body."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in bounded pieces; must be exhausted before the next call. Raises RewriteError."""

    def finish(self) -> None:
        """Raises RewriteError when the body isn't whole; no body at all is."""

    def encoder(self) -> "Encoder":
        """What puts the same coding on again; asked for after the first piece."""


class Encoder(Protocol):
    """Puts a coding on a body."""

    def write(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes:
        """Everything written so far, so that the receiver can decode it now."""

    def finish(self) -> bytes: ...


class Identity:
    """No coding, as a decoder."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), STEP):
            yield data[start : start + STEP]

    def finish(self) -> None:
        return

    def encoder(self) -> "PlainEncoder":
        return PlainEncoder()


class PlainEncoder:
    """No coding, as an encoder."""

    def write(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        return b""


class _Members:
    """A body of one compressed member, or several one after another (RFC 1952 section 2.2, RFC 8878 section 3).

    What follows a member and doesn't begin another is ignored, as browsers and gzip(1) do.
    """

    _next = b""
    """The byte that a further member begins with; empty when there can be none."""

    def __init__(self) -> None:
        self._started = False
        self._ended = False
        self._member: Any = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ended:
            if self._member is None:
                if self._started and data[:1] != self._next:
                    self._end()
                    return
                self._started, self._member = True, self._new_member()
            data = yield from self._decode(data)

    def finish(self) -> None:
        if self._member is not None:
            raise RewriteError("the compressed body ends early")

    def _end(self) -> None:
        """Data came that begins no further member."""
        self._ended = True

    def _new_member(self) -> Any:
        raise NotImplementedError

    def _decode(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Yields what `data` adds; returns what the member leaves of it, and sets _member None, when it ends."""
        raise NotImplementedError


class _Gzip(_Members):
    _next = b"\x1f"
    _wbits = _GZIP

    def _new_member(self) -> Any:
        return zlib.decompressobj(self._wbits)

    def _decode(self, data: bytes) -> Generator[bytes, None, bytes]:
        piece = b""
        while data or len(piece) == STEP:  # a full piece may have left more of it within zlib
            try:
                piece = self._member.decompress(data, STEP)
            except zlib.error as error:
                raise RewriteError(_BROKEN) from error
            data = self._member.unconsumed_tail
            yield piece
            if self._member.eof:
                rest: bytes = self._member.unused_data
                self._member = None
                return rest
        return b""

    def encoder(self) -> Encoder:
        return _ZlibEncoder(self._wbits)


class _Deflate(_Gzip):
    """zlib's format as RFC 9110 wants, or a raw stream as some servers send; its first two bytes tell which."""

    _next = b""

    def __init__(self) -> None:
        super().__init__()
        self._head = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if not self._started:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            is_zlib = (data[0] << 8 | data[1]) % 31 == 0 and data[0] & 0x0F == 8
            self._wbits = _ZLIB if is_zlib else _RAW
        yield from super().pieces(data)

    def finish(self) -> None:
        if self._head and not self._started:
            raise RewriteError("the compressed body ends early")
        super().finish()


class _Brotli(_Members):
    """One stream. Data after it is an error, because the library takes it for one when both come at once."""

    def _new_member(self) -> Any:
        import brotli

        return brotli.Decompressor()

    def _decode(self, data: bytes) -> Generator[bytes, None, bytes]:
        import brotli

        while True:
            try:
                piece = self._member.process(data, output_buffer_limit=STEP)
            except brotli.error as error:
                raise RewriteError(_BROKEN) from error
            data = b""
            yield piece
            if self._member.is_finished():
                self._member = None
                return b""
            if len(piece) < STEP:  # a full piece may have left more of it within the decompressor
                return b""

    def encoder(self) -> Encoder:
        return _BrotliEncoder()

    def _end(self) -> None:
        raise RewriteError(_BROKEN)


class _Zstd(_Members):
    _next = b"\x28"  # a frame's magic number, little-endian

    def _new_member(self) -> Any:
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def _decode(self, data: bytes) -> Generator[bytes, None, bytes]:
        from zstandard import ZstdError

        for start in range(0, len(data), _ZSTD_SLICE):
            end = start + _ZSTD_SLICE
            try:
                yield self._member.decompress(data[start:end])
            except ZstdError as error:
                raise RewriteError(_BROKEN) from error
            if self._member.eof:
                rest: bytes = self._member.unused_data + data[end:]
                self._member = None
                return rest
        return b""

    def encoder(self) -> Encoder:
        return _ZstdEncoder()


class _ZlibEncoder:
    def __init__(self, wbits: int) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, wbits)

    def write(self, data: bytes) -> bytes:
        return self._deflate.compress(data)

    def flush(self) -> bytes:
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush()


class _BrotliEncoder:
    def __init__(self) -> None:
        import brotli

        self._compressor = brotli.Compressor(quality=_BROTLI_QUALITY, lgwin=_ENCODER_WINDOW_LOG)

    def write(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data))

    def flush(self) -> bytes:
        return bytes(self._compressor.flush())

    def finish(self) -> bytes:
        return bytes(self._compressor.finish())


class _ZstdEncoder:
    def __init__(self) -> None:
        import zstandard

        parameters = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, window_log=_ENCODER_WINDOW_LOG)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def write(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def flush(self) -> bytes:
        import zstandard

        return self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._compressor.flush()


_DECODERS: Final[dict[bytes, type[Decoder]]] = {
    b"": Identity,
    b"identity": Identity,
    b"gzip": _Gzip,
    b"x-gzip": _Gzip,  # RFC 9110 section 8.4.1.3: equivalent
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _Zstd,
}


def decoder(coding: bytes) -> Decoder | None:
    """A decoder for a Content-Encoding value (any case, "" for none); None for one we don't know, or a list of them."""
    kind = _DECODERS.get(coding.strip().lower())
    return kind() if kind else None
