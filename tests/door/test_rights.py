"""What callers may do, asked as the caller: who is asked, how often, and what happens when nobody answers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from portway.client.api import ApiClient
from portway.client.permissions import AT_ONCE, Permissions
from portway.client.protocol import ApiUnreachable
from portway.door.rights import BELIEVED, KEPT, PATIENCE, UNANSWERED, Rights
from portway.gateway.upstream.api import impersonating
from portway.kube.errors import BadRequest, Forbidden, Unauthorized
from portway.kube.identity import User

ANN, JOE = User("ann", groups=("devs",)), User("joe")


class Api:
    """Answers reviews: every namespace grants get. Remembers who asked of which."""

    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, str], str]] = []
        self.fails: Exception | None = None
        self.takes: Callable[[], None] = lambda: None
        self.silent = False

    async def create(self, path: str, obj: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        assert path == "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        self.asked.append((dict(headers), obj["spec"]["namespace"]))
        self.takes()
        await asyncio.sleep(60 if self.silent else 0)
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


@pytest.mark.parametrize("silent", [False, True])
def test_an_api_that_does_not_answer_is_asked_again_soon(
    rights: Rights, api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr("portway.door.rights.PATIENCE", 0.01)
    api.fails = ApiUnreachable("gone")
    api.silent = silent
    assert learn(rights, ANN, "a")["a"].verbs(["web"]) is None
    assert not callable(rights.known(ANN, ["a"]))
    api.fails, api.silent = None, False
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


@pytest.mark.parametrize("fails", [None, ApiUnreachable("gone")])
def test_what_runs_out_while_the_rest_is_asked_for_is_asked_for_with_it(
    rights: Rights, api: Api, clock: Clock, fails: Exception | None
) -> None:
    """Else the two would run out by turns, and nobody would ever be answered."""
    learn(rights, ANN, "a")
    clock.now = BELIEVED - 0.1
    api.fails = fails

    def slow() -> None:
        clock.now += PATIENCE

    api.takes = slow
    assert set(learn(rights, ANN, "a", "b")) == {"a", "b"}


def test_a_user_asks_one_question_at_a_time(rights: Rights, api: Api) -> None:
    async def both() -> None:
        first, second = rights.known(ANN, ["a", "b"]), rights.known(ANN, ["a", "b"])
        assert callable(first)
        assert callable(second)
        await asyncio.gather(first(), second())

    asyncio.run(both())
    assert [namespace for _, namespace in api.asked] == ["a", "b"]


def test_when_nobody_answers_no_more_is_asked(rights: Rights, api: Api) -> None:
    api.fails = ApiUnreachable("gone")
    learn(rights, ANN, *(f"n{i}" for i in range(500)))
    assert len(api.asked) <= 2 * AT_ONCE
