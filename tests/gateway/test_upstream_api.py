"""Whom the API server behind a gateway takes a request's caller for: never for the door itself."""

from types import SimpleNamespace
from typing import Any

import pytest

from portway.client.cluster import ClusterConfig
from portway.gateway.authentication import Identity
from portway.gateway.upstream.api import ImpersonatingApi
from portway.kube.errors import BadRequest, Unauthorized
from portway.kube.identity import User


def fields(identity: Identity | None, acting: Identity | None = None) -> bytes:
    exchange: Any = SimpleNamespace(identity=identity, acting=acting)
    return ImpersonatingApi(ClusterConfig("http://127.0.0.1:1")).fields(exchange)


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
