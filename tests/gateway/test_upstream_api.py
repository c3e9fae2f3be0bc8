"""Whom the API server behind a gateway takes a request's caller for: never for the door itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from portway.client.cluster import ClusterConfig
from portway.client.protocol import ApiUnreachable
from portway.gateway import headers as h
from portway.gateway.authentication import Identity
from portway.gateway.upstream.api import CHECK_SECONDS, ImpersonatingApi, OwnApi
from portway.kube.errors import BadRequest, Unauthorized
from portway.kube.identity import User
from portway.testing.virtualtime import play


async def never() -> None:
    raise AssertionError("nothing was refused")


def fields(identity: Identity | None, acting: Identity | None = None) -> bytes:
    exchange: Any = SimpleNamespace(identity=identity, acting=acting)
    return ImpersonatingApi(ClusterConfig("http://127.0.0.1:1"), never).fields(exchange)


def test_all_of_a_user_is_said() -> None:
    user = User("jürgen", "7", ("a", "b"), {"example.com/Key %": ("x", "y")})
    assert fields(Identity(user, "token")).decode().splitlines() == [
        "Impersonate-User: jürgen",
        "Impersonate-Group: a",
        "Impersonate-Group: b",
        "Impersonate-Uid: 7",
        "Impersonate-Extra-example.com%2FKey%20%25: x",
        "Impersonate-Extra-example.com%2FKey%20%25: y",
    ]


def test_who_acts_as_somebody_is_that_somebody() -> None:
    acting = Identity(User("carol"), "token")
    assert fields(Identity(User("ann"), "token"), acting) == b"Impersonate-User: carol\r\n"


@pytest.mark.parametrize("identity", [None, Identity(User(""), "token"), Identity(User("", "7", ("a",)), "token")])
def test_nobody_is_not_the_door(identity: Identity | None) -> None:
    """An empty Impersonate-User is none at all to kube-apiserver."""
    with pytest.raises(Unauthorized):
        fields(identity)


@pytest.mark.parametrize("name", ["a\r\nImpersonate-Group: system:masters", " a", "a\t", "a\x00", "\x85a", "a\u2028"])
def test_a_name_that_would_arrive_as_another_is_refused(name: str) -> None:
    for user in (User(name), User("a", name), User("a", "", (name,)), User("a", "", (), {"k": (name,)})):
        with pytest.raises(BadRequest):
            fields(Identity(user, "token"))


class Server:
    """Counts how often it is asked whether the credential still counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails: Exception | None = None

    async def check(self) -> None:
        self.asked += 1
        if self.fails is not None:
            raise self.fails


def answered_401(api: OwnApi, *, own: bytes | None = None, site: object = None) -> None:
    exchange: Any = SimpleNamespace(special={} if own is None else {h.AUTHORIZATION: own}, site=site)
    api.refused(exchange, proxied=True)


@pytest.mark.parametrize("fails", [None, Unauthorized(), ApiUnreachable("gone")])
def test_a_401_from_behind_the_proxy_verb_makes_it_ask_whose_it_was(fails: Exception | None) -> None:
    server = Server()
    server.fails = fails

    async def scenario() -> None:
        api = OwnApi(ClusterConfig("http://127.0.0.1:1"), server.check)
        for _ in range(3):
            answered_401(api)
            await asyncio.sleep(0)
        assert server.asked == 1
        await asyncio.sleep(CHECK_SECONDS)
        answered_401(api, own=b"Bearer the-callers-own")
        await asyncio.sleep(0)
        assert server.asked == 1
        answered_401(api, own=b"Bearer for-the-application", site=object())
        await asyncio.sleep(0)
        assert server.asked == 2

    play(scenario())
