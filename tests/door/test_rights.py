"""What callers may do, asked as the caller: who is asked, how often, and what happens when nobody answers."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from portway.client.api import ApiClient
from portway.client.permissions import Permissions
from portway.client.protocol import ApiUnreachable
from portway.door.rights import BELIEVED, KEPT, UNANSWERED, Rights
from portway.gateway.upstream.api import impersonating
from portway.kube.errors import BadRequest, Forbidden, Unauthorized
from portway.kube.identity import User

ANN, JOE = User("ann", groups=("devs",)), User("joe")


class Api:
    """Answers reviews: every namespace grants get. Remembers who asked of which."""

    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, str], str]] = []
        self.fails: Exception | None = None

    async def create(self, path: str, obj: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        assert path == "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        self.asked.append((dict(headers), obj["spec"]["namespace"]))
        if self.fails is not None:
            raise self.fails
        rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["services/proxy"]}
        return {"status": {"resourceRules": [rule], "incomplete": False}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rights(api: Api, clock: Clock) -> Rights:
    return Rights(cast(ApiClient, api), impersonating, clock)


def learn(rights: Rights, user: User, *namespaces: str) -> Mapping[str, Permissions]:
    """What is known after asking, if need be."""
    found = rights.known(user, namespaces)
    if callable(found):
        asyncio.run(_wait(found()))
        found = rights.known(user, namespaces)
    assert not callable(found)
    return found


async def _wait(answer: Any) -> None:
    await answer


def test_it_is_asked_as_the_caller_and_once(rights: Rights, api: Api, clock: Clock) -> None:
    assert learn(rights, ANN, "a", "b", "a")["b"].verbs(["web"]) == ("get",)
    assert api.asked == [({"Impersonate-User": "ann", "Impersonate-Group": "devs"}, n) for n in ("a", "b")]
    clock.now = BELIEVED - 1
    learn(rights, ANN, "b")
    assert len(api.asked) == 2
    learn(rights, JOE, "b")
    assert api.asked[2:] == [({"Impersonate-User": "joe"}, "b")]
    clock.now = BELIEVED
    learn(rights, ANN, "b")
    assert len(api.asked) == 4


@pytest.mark.parametrize("error", [ApiUnreachable("gone"), TimeoutError()])
def test_an_api_that_does_not_answer_is_asked_again_soon(
    rights: Rights, api: Api, clock: Clock, error: Exception
) -> None:
    api.fails = error
    assert learn(rights, ANN, "a")["a"].verbs(["web"]) is None
    assert not callable(rights.known(ANN, ["a"]))
    api.fails = None
    clock.now = UNANSWERED
    assert learn(rights, ANN, "a")["a"].verbs(["web"]) == ("get",)


def test_whoever_may_not_ask_is_told_that_nobody_knows(rights: Rights, api: Api) -> None:
    api.fails = Forbidden("no")
    assert learn(rights, ANN, "a")["a"].verbs(["web"]) is None


@pytest.mark.parametrize(("name", "error"), [("", Unauthorized), ("a\r\nImpersonate-User: root", BadRequest)])
def test_nobody_is_not_the_door(rights: Rights, api: Api, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        learn(rights, User(name), "a")
    assert not api.asked


def test_what_is_remembered_is_bounded(rights: Rights) -> None:
    learn(rights, ANN, *(f"n{i}" for i in range(KEPT - 1)))
    learn(rights, JOE, "a", "b")
    assert callable(rights.known(ANN, ["n1"]))
    assert not callable(rights.known(JOE, ["a", "b"]))
