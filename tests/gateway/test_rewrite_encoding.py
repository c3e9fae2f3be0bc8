"""Bodies with content codings: decoded, rewritten, encoded again; whole, in pieces, broken, and far too big."""

import gzip
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.rewrite import BodyRewriter, Links, RewriteError, body_rewriter, is_html

PAGE = b'<p>\xc3\xa9</p><a href="/x">' * 50
REWRITTEN = PAGE.replace(b'"/', b'"/p/')
LINKS = Links("/p", "10.0.0.1:80", "api:6443")


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def raw_inflate(data: bytes) -> bytes:
    return zlib.decompress(data, wbits=-15)


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)


def same(data: bytes) -> bytes:
    return data


Coder = Callable[[bytes], bytes]
CODINGS: list[tuple[bytes, Coder, Coder]] = [
    (b"", same, same),
    (b"gzip", gzip.compress, gzip.decompress),
    (b"deflate", zlib.compress, zlib.decompress),
    (b"deflate", raw_deflate, raw_inflate),
    (b"br", brotli.compress, brotli.decompress),
    (b"zstd", zstandard.compress, unzstd),
]
NAMES = ["identity", "gzip", "zlib", "raw deflate", "br", "zstd"]
every_coding = pytest.mark.parametrize(("name", "encode", "decode"), CODINGS, ids=NAMES)


def make(content_encoding: bytes, accepts: bytes | None = b"gzip, deflate, br, zstd") -> BodyRewriter:
    rewriter = body_rewriter(LINKS, content_encoding, accepts)
    assert rewriter is not None
    return rewriter


def rewrite(rewriter: BodyRewriter, *pieces: bytes) -> bytes:
    return b"".join([*map(rewriter.feed, pieces), rewriter.close()])


def flusher(compress: Coder, flush: Callable[[], bytes]) -> Coder:
    return lambda part: compress(part) + flush()


def zlib_flusher(wbits: int) -> Coder:
    compressor = zlib.compressobj(wbits=wbits)
    return flusher(compressor.compress, lambda: compressor.flush(zlib.Z_SYNC_FLUSH))


def brotli_flusher() -> Coder:
    compressor = brotli.Compressor()
    return flusher(compressor.process, compressor.flush)


def zstd_flusher() -> Coder:
    compressor = zstandard.ZstdCompressor().compressobj()
    return flusher(compressor.compress, lambda: compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))


# Backends that send each part of a page as soon as they have it.
FLUSHERS: dict[str, Callable[[], Coder]] = {
    "identity": lambda: same,
    "gzip": lambda: zlib_flusher(31),
    "zlib": lambda: zlib_flusher(15),
    "raw deflate": lambda: zlib_flusher(-15),
    "br": brotli_flusher,
    "zstd": zstd_flusher,
}


@every_coding
def test_round_trip(name: bytes, encode: Coder, decode: Coder) -> None:
    rewriter = make(name)
    assert decode(rewrite(rewriter, encode(PAGE))) == REWRITTEN
    assert rewriter.content_encoding == name


@every_coding
def test_a_client_that_accepts_no_coding_gets_none(name: bytes, encode: Coder, decode: Coder) -> None:
    for accepts in (None, b"", b"identity", b"gzip;q=0, deflate; q=0.0, br;q=0,zstd;q=0", b"*;q=0"):
        rewriter = make(name, accepts)
        assert rewrite(rewriter, encode(PAGE)) == REWRITTEN
        assert rewriter.content_encoding == b""


@pytest.mark.parametrize("accepts", [b"gzip", b"br, GZIP;q=0.5", b"*", b"deflate;q=0, *;q=0.1"])
def test_a_client_that_accepts_the_coding_gets_it(accepts: bytes) -> None:
    assert make(b" GZip ", accepts).content_encoding == b"gzip"


@every_coding
def test_byte_by_byte(name: bytes, encode: Coder, decode: Coder) -> None:
    body = encode(PAGE)
    assert decode(rewrite(make(name), *(body[i : i + 1] for i in range(len(body))))) == REWRITTEN


@every_coding
def test_nothing_waits_for_more(name: bytes, encode: Coder, decode: Coder) -> None:
    """A page that comes slowly goes out slowly: each part can be decoded before the next one came."""
    backend = FLUSHERS[NAMES[CODINGS.index((name, encode, decode))]]()
    client = body_rewriter(Links("/p", "", ""), name, None)  # a second pass changes nothing, so it may play the client
    rewriter = make(name)
    assert client is not None
    for part in (b"<p>one</p>", b'<a href="/two">', b"three"):
        sent = rewriter.feed(backend(part))
        assert client.feed(sent) == part.replace(b'"/', b'"/p/')


@every_coding
def test_no_body(name: bytes, encode: Coder, decode: Coder) -> None:
    assert rewrite(make(name)) == b""
    assert rewrite(make(name), b"") == b""


@every_coding
def test_no_content(name: bytes, encode: Coder, decode: Coder) -> None:
    assert rewrite(make(name), encode(b"")) == b""


@pytest.mark.parametrize("name", [b"gzip", b"zstd"])
def test_members_one_after_another(name: bytes) -> None:
    encode: Coder = gzip.compress if name == b"gzip" else zstandard.compress
    body = encode(PAGE) + encode(b"") + encode(PAGE)
    for size in (1, 7, len(body)):
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        assert rewrite(make(name, None), *pieces) == REWRITTEN * 2


@every_coding
def test_what_follows_the_end_is_ignored(name: bytes, encode: Coder, decode: Coder) -> None:
    body = encode(PAGE) + b"\0\0garbage"
    for size in (1, len(body)) if name not in (b"", b"br") else ():
        assert rewrite(make(name, None), *(body[i : i + size] for i in range(0, len(body), size))) == REWRITTEN


@pytest.mark.parametrize("size", [1, 1000])
def test_what_follows_the_end_of_br_is_an_error(size: int) -> None:
    body = brotli.compress(PAGE) + b"\0\0garbage"
    with pytest.raises(RewriteError, match="broken"):
        rewrite(make(b"br"), *(body[i : i + size] for i in range(0, len(body), size)))


@every_coding
def test_cut_short(name: bytes, encode: Coder, decode: Coder) -> None:
    body = encode(PAGE)
    for length in range(1, len(body)) if name else ():
        rewriter = make(name)
        rewriter.feed(body[:length])
        with pytest.raises(RewriteError, match="ends early"):
            rewriter.close()


@every_coding
@given(body=st.binary(), cut=st.integers(0, 200), noise=st.binary(max_size=20))
def test_nothing_but_rewrite_error(
    name: bytes, encode: Coder, decode: Coder, body: bytes, cut: int, noise: bytes
) -> None:
    whole = encode(PAGE)
    for broken in (body, whole[:cut] + noise + whole[cut + len(noise) :]):
        try:
            rewrite(make(name), broken)
        except RewriteError:
            pass


@pytest.mark.parametrize("name", [b"compress", b"gzip, br", b"gzip,gzip", b"aes128gcm", b"\xff"])
def test_unknown_coding(name: bytes) -> None:
    assert body_rewriter(LINKS, name, b"*") is None


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"text/html", True),
        (b"text/html; charset=utf-8", True),
        (b" Text/HTML ;x", True),
        (b"text/html+xml", False),
        (b"application/xhtml+xml", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_is_html(content_type: bytes, expected: bool) -> None:
    assert is_html(content_type) is expected


# 64 MiB each, of nothing: what a decompression bomb is made of.
BOMB_SIZE = 64 << 20


def zlib_bomb(wbits: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(BOMB_SIZE >> 20)) + compressor.flush()


def brotli_bomb() -> bytes:
    compressor = brotli.Compressor(quality=5)
    return b"".join(compressor.process(bytes(1 << 20)) for _ in range(BOMB_SIZE >> 20)) + bytes(compressor.finish())


def zstd_bomb() -> bytes:
    """Blocks that repeat one byte (RFC 8878 section 3.1.1.2.2): 4 bytes for 128 KiB, the densest there is."""
    blocks = BOMB_SIZE >> 17
    heads = [(1 << 17 << 3 | 1 << 1 | (block == blocks - 1)).to_bytes(3, "little") for block in range(blocks)]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(head + b"x" for head in heads)


BOMBS: list[tuple[bytes, Callable[[], bytes]]] = [
    (b"gzip", lambda: zlib_bomb(31)),
    (b"deflate", lambda: zlib_bomb(15)),
    (b"deflate", lambda: zlib_bomb(-15)),
    (b"br", brotli_bomb),
    (b"zstd", zstd_bomb),
]


@pytest.mark.parametrize("accepts", [None, b"*"], ids=["to plain", "to the same"])
@pytest.mark.parametrize(("name", "bomb"), BOMBS, ids=NAMES[1:])
def test_bomb(name: bytes, bomb: Callable[[], bytes], accepts: bytes | None) -> None:
    rewriter = make(name, accepts)
    body = bomb()
    tracemalloc.start()
    try:
        pieces: Iterator[bytes] = rewriter.pieces(body)
        largest = max(map(len, pieces))
        rewriter.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(body) < BOMB_SIZE / 500
    assert largest <= 600_000
    assert peak < 8_000_000


def test_a_zstd_window_over_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(PAGE) + compressor.flush()
    with pytest.raises(RewriteError, match="broken"):
        make(b"zstd").feed(body)


def test_compressors_are_imported_when_needed_only() -> None:
    code = "import sys, portway.gateway.rewrite; sys.exit(bool({'brotli', 'zstandard'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
