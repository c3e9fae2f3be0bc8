"""Credentials in headers: what counts as one, what is broken, what is left of the protocols."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication.headers import (
    PROTOCOL_PREFIX,
    basic_credentials,
    bearer_token,
    scheme_and_rest,
    websocket_token,
)
from portway.kube.errors import Unauthorized

ADMIN = b"YWRtaW4tdG9rZW4"  # admin-token


@pytest.mark.parametrize(
    ("header", "scheme", "token"),
    [
        (b"Bearer abc", b"bearer", b"abc"),
        (b"bearer abc", b"bearer", b"abc"),
        (b"BEARER abc", b"bearer", b"abc"),
        (b"  Bearer abc  ", b"bearer", b"abc"),
        (b"Bearer abc def", b"bearer", b"abc"),
        (b"Bearer  abc", b"bearer", b""),
        (b"Bearer", b"bearer", b""),
        (b"Bearer\tabc", b"bearer\tabc", b""),
        (b"Bear abc", b"bear", b"abc"),
        (b"", b"", b""),
    ],
)
def test_bearer_as_upstream_splits_it(header: bytes, scheme: bytes, token: bytes) -> None:
    found, rest = scheme_and_rest(header)
    assert (found, bearer_token(rest)) == (scheme, token)


@pytest.mark.parametrize(
    ("protocols", "token", "remaining"),
    [
        (PROTOCOL_PREFIX + ADMIN + b", chat", b"admin-token", b"chat"),
        (b"chat," + PROTOCOL_PREFIX + ADMIN, b"admin-token", b"chat"),
        (b"a, " + PROTOCOL_PREFIX + ADMIN + b" , b", b"admin-token", b"a,b"),
        (b"chat", b"", b"chat"),
        (b"a, b", b"", b"a, b"),
        (PROTOCOL_PREFIX + b", chat", b"", PROTOCOL_PREFIX + b", chat"),
        (b"x" + PROTOCOL_PREFIX + ADMIN, b"", b"x" + PROTOCOL_PREFIX + ADMIN),
    ],
)
def test_websocket_token(protocols: bytes, token: bytes, remaining: bytes) -> None:
    assert websocket_token(protocols) == (token, remaining)


@pytest.mark.parametrize(
    "protocols",
    [
        PROTOCOL_PREFIX + ADMIN,
        PROTOCOL_PREFIX + ADMIN + b",",
        PROTOCOL_PREFIX + ADMIN + b", chat, " + PROTOCOL_PREFIX + ADMIN,
        PROTOCOL_PREFIX + ADMIN + b"=, chat",
        PROTOCOL_PREFIX + b"YWRtaW4+dG9rZW4, chat",
        PROTOCOL_PREFIX + b"YWRtaW4/dG9rZW4, chat",
        PROTOCOL_PREFIX + b"a, chat",
        PROTOCOL_PREFIX + b"_w, chat",
        PROTOCOL_PREFIX + b"!!!!, chat",
    ],
)
def test_broken_websocket_tokens_are_refused(protocols: bytes) -> None:
    with pytest.raises(Unauthorized):
        websocket_token(protocols)


@given(st.text(min_size=1), st.lists(st.from_regex(r"[a-z.0-9]{1,8}", fullmatch=True), min_size=1), st.data())
def test_a_token_in_any_place_is_found_and_taken_out(token: str, others: list[str], data: st.DataObject) -> None:
    encoded = PROTOCOL_PREFIX + base64.urlsafe_b64encode(token.encode()).rstrip(b"=")
    offered = [other.encode() for other in others]
    offered.insert(data.draw(st.integers(0, len(offered))), encoded)
    assert websocket_token(b", ".join(offered)) == (token.encode(), ",".join(others).encode())


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parsers_raise_anything_else(data: bytes) -> None:
    scheme_and_rest(data)
    for parse in (websocket_token, basic_credentials):
        for text in (data, PROTOCOL_PREFIX + data):
            try:
                parse(text)
            except Unauthorized:
                continue


@pytest.mark.parametrize(
    ("rest", "credentials"),
    [
        (b"YWRtaW46YWRtaW4=", ("admin", b"admin")),
        (b"YTpiOmM=", ("a", b"b:c")),
        (b"YTo=", ("a", b"")),
        (b" YTpi ", ("a", b"b")),
    ],
)
def test_basic(rest: bytes, credentials: tuple[str, bytes]) -> None:
    assert basic_credentials(rest) == credentials


@pytest.mark.parametrize("rest", [b"", b"YWRtaW4=", b"OmI=", b"YTpi!", b"YTp", b"/zpi", "ä".encode()])
def test_broken_basic_is_refused(rest: bytes) -> None:
    with pytest.raises(Unauthorized):
        basic_credentials(rest)
