"""SPDY frames: round trips at every split, what spdystream sends byte for byte, and everything a peer could overdo."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import spdy
from portway.kube.spdy import (
    Data,
    Decoder,
    Encoder,
    Fields,
    Frame,
    GoAway,
    Headers,
    Ping,
    RstStream,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
)

IDS = st.integers(1, spdy.MAX_STREAM_ID)
WORDS = st.integers(0, (1 << 32) - 1)
_NAMES = st.text("abcdefghijklmnopqrstuvwxyz-:0123456789", min_size=1, max_size=20)
_VALUES = st.text(st.characters(max_codepoint=255), max_size=30)
FIELDS: st.SearchStrategy[Fields] = st.dictionaries(_NAMES, _VALUES, max_size=5).map(lambda found: tuple(found.items()))
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(SynStream, IDS, FIELDS, st.booleans(), st.booleans(), st.just(0) | IDS, st.integers(0, 7)),
    st.builds(SynReply, IDS, FIELDS, st.booleans()),
    st.builds(RstStream, IDS, st.integers(1, (1 << 32) - 1)),
    st.builds(
        Settings,
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, (1 << 24) - 1), WORDS), max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Ping, WORDS),
    st.builds(GoAway, st.just(0) | IDS, WORDS),
    st.builds(Headers, IDS, FIELDS, st.booleans()),
    st.builds(WindowUpdate, IDS, IDS),
    st.builds(Data, IDS, st.binary(max_size=200), st.booleans()),
)


def joined(frames: list[Frame]) -> list[Frame]:
    """Pieces of one DATA frame put together again; `fin` ends one, and so does another frame in between."""
    whole: list[Frame] = []
    for frame in frames:
        last = whole[-1] if whole else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream_id == frame.stream_id and not last.fin:
            whole[-1] = Data(frame.stream_id, last.data + frame.data, frame.fin)
        else:
            whole.append(frame)
    return whole


def encoded(frames: list[Frame]) -> bytes:
    encoder = Encoder()
    return b"".join(encoder.encode(frame) for frame in frames)


def test_the_dictionary_is_the_one_of_the_draft() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(FRAMES, max_size=6))
def test_what_was_encoded_is_decoded(frames: list[Frame]) -> None:
    assert joined(Decoder().feed(encoded(frames))) == joined(frames)


@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_it_may_be_split_at_every_byte(frames: list[Frame]) -> None:
    wire, expected = encoded(frames), joined(frames)
    for at in range(1, len(wire)):
        decoder = Decoder()
        assert joined(decoder.feed(wire[:at]) + decoder.feed(wire[at:])) == expected


@given(st.lists(FRAMES, max_size=3))
def test_it_may_come_one_byte_at_a_time(frames: list[Frame]) -> None:
    decoder = Decoder()
    found = [frame for byte in encoded(frames) for frame in decoder.feed(bytes((byte,)))]
    assert joined(found) == joined(frames)


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_raises_our_error_and_no_other(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            decoder.feed(piece)
    except SpdyError:
        pass


@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
def test_a_flipped_byte_raises_our_error_or_none(frames: list[Frame], data: st.DataObject) -> None:
    wire = bytearray(encoded(frames))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        Decoder().feed(bytes(wire))
    except SpdyError:
        pass


def test_a_pair_of_streams_as_spdystream_opens_it() -> None:
    # client-go opens the error stream, half-closes it, then opens the data stream.
    headers = (("streamtype", "error"), ("port", "80"), ("requestid", "0"))
    wire = encoded([SynStream(1, headers), Data(1, b"", True), SynStream(3, headers)])
    assert wire[:8] == bytes.fromhex("80030001 0000003c")
    assert wire[18:24] == bytes.fromhex("78f9 e3c6a7c2")
    assert Decoder().feed(wire) == [SynStream(1, headers), Data(1, b"", True), SynStream(3, headers)]


def test_a_data_frame_is_given_in_pieces_and_never_held() -> None:
    decoder = Decoder()
    assert decoder.feed(spdy.data_head(1, spdy.MAX_DATA, fin=True)) == []
    assert decoder.feed(b"x" * 1000) == [Data(1, b"x" * 1000)]
    rest = spdy.MAX_DATA - 1000
    assert decoder.feed(b"x" * rest)[-1] == Data(1, b"x" * rest, True)


def test_an_unknown_control_frame_is_skipped() -> None:
    unknown = bytes.fromhex("8003000a 00000005") + b"abcde"
    assert Decoder().feed(unknown + Encoder().encode(Ping(1))) == [Ping(1)]


def _block(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


def _reply(block: bytes) -> bytes:
    body = (1).to_bytes(4, "big") + block
    return bytes.fromhex("80030002") + len(body).to_bytes(4, "big") + body


def _count(number: int) -> bytes:
    return number.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (bytes.fromhex("8002000600000004 00000001"), "version 2"),
        (bytes.fromhex("80030001") + (spdy.MAX_CONTROL + 1).to_bytes(4, "big"), "too long"),
        (bytes.fromhex("00000000 00000000"), "zero"),
        (bytes.fromhex("80030003 00000008 00000000 00000001"), "zero"),
        (bytes.fromhex("80030003 00000008 00000001 00000000"), "without a reason"),
        (bytes.fromhex("80030003 00000002 0001"), "too short"),
        (bytes.fromhex("80030003 0000000c 000000010000000100000001"), "wrong length"),
        (bytes.fromhex("80030006 00000005 0000000100"), "wrong length"),
        (bytes.fromhex("80030004 00000004 ffffffff"), "wrong length"),
        (bytes.fromhex("80030001 00000004 00000001"), "too short"),
        (_reply(b"no zlib"), "inflated"),
        (_reply(_block(b"\0" * 70000)), "too long"),
        (_reply(_block(_count(spdy.MAX_FIELDS + 1))), "too many"),
        (_reply(_block(_count(1))), "too short"),
        (_reply(_block(_count(1) + _count(0xFFFFFFFF))), "too short"),
        (_reply(_block(_count(1) + _count(1) + b"A" + _count(0))), "lower case"),
        (_reply(_block(_count(2) + (_count(1) + b"a" + _count(0)) * 2)), "twice"),
        (_reply(_block(_count(0) + b"more")), "longer"),
        (_reply(b""), "too short"),
    ],
)
def test_what_a_peer_may_not_do(wire: bytes, words: str) -> None:
    with pytest.raises(SpdyError, match=words):
        Decoder().feed(wire)


def test_an_inflated_block_is_bounded_however_small_it_was() -> None:
    bomb = _block(b"\0" * (64 << 20))
    assert len(bomb) > spdy.MAX_CONTROL  # 64 MiB do not even fit a frame …
    with pytest.raises(SpdyError):
        Decoder().feed(_reply(_block(b"\0" * (8 << 20))))  # … and 8 MiB are not inflated


@pytest.mark.parametrize("frame", [Data(0, b""), SynReply(1 << 31), RstStream(0, 1)])
def test_ids_that_do_not_exist_are_not_sent(frame: Frame) -> None:
    with pytest.raises(ValueError, match="stream id"):
        Encoder().encode(frame)


def test_more_than_a_frame_holds_is_not_sent() -> None:
    with pytest.raises(ValueError, match="16 MiB"):
        Encoder().encode(Data(1, bytes(spdy.MAX_DATA + 1)))
