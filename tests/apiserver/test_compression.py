"""gzip of answers: who gets it, of what, and what stays as it is."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import orjson
import pytest

from portway.apiserver.compression import accepted
from portway.apiserver.http import COMPRESS_BEYOND
from portway.apiserver.protobuf import MEDIA_TYPE
from portway.testing.api import InProcessApi

MAPS = "/api/v1/namespaces/default/configmaps"


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


async def make(api: InProcessApi, name: str, size: int) -> None:
    body = {"metadata": {"name": name}, "data": {"x": "y" * size}}
    assert (await api.admin.request("POST", MAPS, body)).status == 201


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("deflate,gzip", True),
        ("", False),
        ("identity", False),
        ("x-gzip", False),
        ("gzip;q=0", False),
        ("gzip;q=1.0", False),
        ("*", False),
    ],
)
def test_gzip_is_taken_where_it_is_named(header: str, taken: bool) -> None:
    assert accepted(header) is taken


@pytest.mark.parametrize("accept", ["application/json", "application/yaml", MEDIA_TYPE])
def test_large_answers_are_compressed(accept: str) -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, "large", COMPRESS_BEYOND)
        for target in (MAPS, f"{MAPS}/large"):
            plain = await api.admin.request("GET", target, accept=accept)
            answer = await api.admin.request("GET", target, accept=accept, accept_encoding="gzip")
            assert (plain.header("content-encoding"), plain.header("vary")) == ("", "")
            assert (answer.header("content-encoding"), answer.header("vary")) == ("gzip", "Accept-Encoding")
            assert answer.header("content-type") == plain.header("content-type")
            assert int(answer.header("content-length")) == len(answer.body) < COMPRESS_BEYOND // 10
            assert gzip.decompress(answer.body) == plain.body
            head = await api.admin.request("HEAD", target, accept=accept, accept_encoding="gzip")
            assert (head.body, head.header("content-length")) == (b"", answer.header("content-length"))

    serve(test)


def test_small_answers_and_watches_are_not() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, "small", COMPRESS_BEYOND - 1000)
        small = await api.admin.request("GET", f"{MAPS}/small", accept_encoding="gzip")
        assert small.header("content-encoding") == ""
        assert small.json()["metadata"]["name"] == "small"
        await make(api, "large", COMPRESS_BEYOND)
        async with api.admin.stream(f"{MAPS}?watch=1", accept_encoding="gzip") as lines:
            assert "content-encoding" not in dict(lines.headers)
            names = [(await lines.next())["object"]["metadata"]["name"] for _ in range(2)]
            assert names == ["large", "small"]

    serve(test)


def test_the_openapi_v2_document_is_compressed_and_keeps_its_etag() -> None:
    async def test(api: InProcessApi) -> None:
        plain = await api.admin.request("GET", "/openapi/v2")
        answer = await api.admin.request("GET", "/openapi/v2", accept_encoding="gzip")
        assert answer.header("content-encoding") == "gzip"
        assert answer.header("vary") == "Accept, Accept-Encoding"
        assert orjson.loads(gzip.decompress(answer.body)) == plain.json()
        unchanged = await api.admin.request(
            "GET", "/openapi/v2", accept_encoding="gzip", if_none_match=answer.header("etag")
        )
        assert (unchanged.status, unchanged.body) == (304, b"")

    serve(test)
