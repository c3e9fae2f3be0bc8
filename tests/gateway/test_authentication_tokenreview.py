"""TokenReviews: what is believed, for how long, what ends it, and what is left while the API can't be asked."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.gateway.authentication import Identity, TokenReviews
from portway.gateway.authentication.tokenreview import reviewed_user, says_expired
from portway.gateway.reviews import ReviewRefused, ReviewUnavailable
from portway.kube.errors import StatusError, TooManyRequests, Unauthorized
from portway.kube.identity import User
from portway.testing.authenticator import identified
from portway.testing.reviewapi import ReviewApi
from portway.testing.virtualtime import START, play, settle, wall

GOOD = b"g00d-t0ken"
ANN = User("ann", "u1", ("devs",), {"example.org/k": ("v",)})


def an_api() -> ReviewApi:
    api = ReviewApi()
    api.tokens[GOOD.decode()] = ANN
    return api


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(moment: float) -> None:
    await asyncio.sleep(START + moment - now())


def reviews(api: ReviewApi, **more: Any) -> TokenReviews:
    return TokenReviews(api, wall=wall, **more)


async def known(authenticator: TokenReviews, token: bytes = GOOD) -> Identity:
    identity = await identified(authenticator, token)
    assert identity is not None
    return identity


async def held_open(identity: Identity, seconds: float) -> float:
    """As the door does for an upgrade: asks every second; how long it lived."""
    began = now()
    while identity.alive(wall):
        if now() - began >= seconds:
            break
        await asyncio.sleep(1.0)
    return now() - began


YES = {"authenticated": True, "user": {"username": "ann", "uid": "u1", "groups": ["a"], "extra": {"k": ["v"]}}}


@pytest.mark.parametrize(
    ("status", "audiences", "name"),
    [
        (YES, (), "ann"),
        (YES | {"audiences": ["x", "portway"]}, ("portway", "y"), "ann"),
        (YES | {"audiences": ["x"]}, ("portway",), None),
        (YES | {"audiences": []}, ("portway",), None),
        (YES, ("portway",), None),
        (YES | {"audiences": "portway"}, ("portway",), None),
        (YES | {"error": "half broken"}, (), None),
        (YES | {"authenticated": "true"}, (), None),
        (YES | {"authenticated": False}, (), None),
        ({"user": {"username": "ann"}}, (), None),
        ({"authenticated": True}, (), None),
        ({"authenticated": True, "user": {}}, (), None),
        ({"authenticated": True, "user": {"username": ""}}, (), None),
        ({"authenticated": True, "user": {"username": ["ann"]}}, (), None),
        ({"authenticated": True, "user": {"username": "ann", "extra": ["k"]}}, (), None),
        ({"authenticated": True, "user": {"username": "ann", "uid": 5}}, (), None),
        ({"authenticated": True, "user": {"username": "ann", "groups": None, "extra": None, "uid": None}}, (), "ann"),
        ({}, (), None),
    ],
)
def test_who_an_answer_says_it_is(status: dict[str, Any], audiences: Sequence[str], name: str | None) -> None:
    user = reviewed_user(status, audiences)
    assert (user and user.name) == name
    if user is not None:
        assert user.groups[-1] == "system:authenticated"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["username", "uid", "groups", "extra", "k"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["authenticated", "user", "audiences", "error"]), JSON))
def test_no_answer_breaks_it(status: dict[str, Any]) -> None:
    user = reviewed_user(status, ("a",))
    assert user is None or (status["authenticated"] is True and "a" in status["audiences"])


@pytest.mark.parametrize(
    ("claims", "expired"),
    [({"exp": 99}, True), ({"exp": 100}, False), ({}, False), ({"exp": "1"}, False), ({"exp": True}, False)],
)
def test_tokens_that_say_they_have_expired(claims: dict[str, Any], expired: bool) -> None:
    token = jwt.api_jws.encode(str(claims).replace("'", '"').replace("True", "true").encode(), "k" * 32, "HS256")
    assert says_expired(token, 100.0) is expired


@given(st.text(alphabet=st.characters(max_codepoint=300)))
def test_no_token_breaks_that(token: str) -> None:
    assert says_expired(token, time.time()) is False
    assert says_expired(f".{token}.", time.time()) is False


def test_a_yes_counts_ten_seconds() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        identity = await known(authenticator)
        assert (identity.user.name, identity.method) == ("ann", "tokenreview")
        assert identity.expires == wall() + 10
        await until(9.9)
        assert authenticator.identify(GOOD) is identity
        assert len(api.asked) == 1
        await until(10)
        assert not identity.alive(wall)
        assert await known(authenticator) is identity, "the same caller keeps its decisions"
        assert len(api.asked) == 2

    play(run())


@pytest.mark.parametrize(("error", "asked"), [("invalid bearer token", 2), ("", 1)])
def test_a_no_counts_only_when_it_is_no_error(error: str, asked: int) -> None:
    async def run() -> None:
        api = an_api()
        api.error = error
        authenticator = reviews(api)
        for _ in range(2):
            assert await identified(authenticator, b"wrong") is None
        assert len(api.asked) == asked
        await until(10)
        assert await identified(authenticator, b"wrong") is None
        assert len(api.asked) == asked + 1

    play(run())


def test_audiences_are_asked_for() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, audiences=("portway",))
        await known(authenticator)
        assert api.asked[0]["spec"] == {"token": GOOD.decode(), "audiences": ["portway"]}
        api.audiences = ["https://kubernetes.default.svc"]
        await until(10)
        assert await identified(authenticator, GOOD) is None

    play(run())


def test_one_question_per_token() -> None:
    async def run() -> None:
        api = an_api()
        api.slow = 2.0
        authenticator = reviews(api)
        found = await asyncio.gather(*(known(authenticator) for _ in range(50)))
        assert len(api.asked) == 1
        assert len({id(one) for one in found}) == 1

    play(run())


def test_a_flood_of_wrong_tokens_leaves_room_for_good_ones() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        await known(authenticator)
        await until(10)
        api.slow = 1.0
        flood = [authenticator.identify(b"x%d" % i) for i in range(192)]
        with pytest.raises(TooManyRequests):
            authenticator.identify(b"one more")
        assert (await known(authenticator)).user.name == "ann"
        await asyncio.wait([one for one in flood if isinstance(one, asyncio.Future)])

    play(run())


def test_an_open_upgrade_is_asked_about_in_time_and_lives() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        identity = await known(authenticator)
        assert await held_open(identity, 100) >= 100
        assert 10 <= len(api.asked) <= 25

    play(run())


def test_an_open_upgrade_ends_soon_after_its_token_is_withdrawn() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        identity = await known(authenticator)
        await held_open(identity, 30)
        api.tokens.clear()
        assert await held_open(identity, 100) <= 6
        assert not identity.valid

    play(run())


def test_an_open_upgrade_ends_when_its_user_has_other_groups() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        identity = await known(authenticator)
        api.tokens[GOOD.decode()] = User("ann", "u1", ("interns",))
        assert await held_open(identity, 100) <= 7
        assert (await known(authenticator)).user.groups == ("interns", "system:authenticated")

    play(run())


def test_nobody_is_asked_about_tokens_that_carry_nothing() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api)
        await known(authenticator)
        await until(1000)
        assert len(api.asked) == 1

    play(run())


def test_an_outage_keeps_known_callers_for_the_grace() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, grace=30)
        identity = await known(authenticator)
        api.down()
        await until(11)
        assert await known(authenticator) is identity
        assert identity.alive(wall)
        assert "TokenReviews are not answered for" in authenticator.health()
        with pytest.raises(ReviewUnavailable):
            await identified(authenticator, b"another")
        await until(39.5)
        assert await known(authenticator) is identity
        await until(40)
        assert not identity.alive(wall)
        with pytest.raises(ReviewUnavailable):
            await identified(authenticator, GOOD)

    play(run())


def test_an_open_upgrade_lives_through_an_outage_as_long_as_the_grace() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, grace=30)
        identity = await known(authenticator)
        api.down()
        assert 38 <= await held_open(identity, 1000) <= 41

    play(run())


def test_an_open_upgrade_lives_through_an_outage_that_is_silence() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, grace=60)
        identity = await known(authenticator)
        api.slow = 1e6
        assert 65 <= await held_open(identity, 1000) <= 71
        authenticator.close()
        await settle()

    play(run())


def test_a_known_caller_waits_two_seconds_for_a_silent_api_and_the_next_time_not_at_all() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, grace=60)
        identity = await known(authenticator)
        api.slow = 9.0
        await until(11)
        assert await known(authenticator) is identity
        assert now() == START + 13
        await until(18.5)
        assert authenticator.identify(GOOD) is identity
        assert len(api.asked) == 2
        api.tokens.clear()
        await until(20.1)
        assert not identity.valid, "the answer counts when it comes"

    play(run())


def test_no_grace_when_the_door_may_not_ask_any_more() -> None:
    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, grace=3600)
        identity = await known(authenticator)
        api.refuse(401, "Unauthorized")
        assert await held_open(identity, 1000) <= 11
        for _ in range(8):
            with pytest.raises(ReviewRefused):
                await identified(authenticator, GOOD)

    play(run())


def test_a_token_that_says_it_has_expired_is_401_even_in_an_outage() -> None:
    async def run() -> None:
        api = an_api()
        api.down()
        authenticator = reviews(api)
        old = jwt.encode({"exp": int(wall()) - 61}, "k" * 32, "HS256").encode()
        young = jwt.encode({"exp": int(wall()) - 30}, "k" * 32, "HS256").encode()
        with pytest.raises(Unauthorized):
            answer = authenticator.identify(old)
            assert isinstance(answer, asyncio.Future)
            await answer
        with pytest.raises(Unauthorized):
            authenticator.identify(old)
        with pytest.raises(ReviewUnavailable):
            authenticator.identify(young)

    play(run())


def test_a_wall_clock_set_back_prolongs_nothing() -> None:
    back = 0.0

    def turned() -> float:
        return wall() - back

    async def run() -> None:
        nonlocal back
        authenticator = TokenReviews(an_api(), wall=turned)
        identity = await known(authenticator)
        back = 3600.0
        await until(9)
        assert identity.expires > turned()
        await until(10.1)
        assert identity.expires <= turned()

    play(run())


def test_a_clock_set_forward_asks_again_and_nothing_worse() -> None:
    async def run() -> None:
        api = an_api()
        ahead = 0.0
        authenticator = TokenReviews(api, wall=lambda: wall() + ahead)
        identity = await known(authenticator)
        ahead = 3600.0
        assert not identity.alive(lambda: wall() + ahead)
        await until(10)
        assert await known(authenticator) is identity
        assert identity.alive(lambda: wall() + ahead)

    play(run())


def test_the_token_is_nowhere_but_where_it_must_be() -> None:
    async def run() -> None:
        authenticator = reviews(an_api())
        identity = await known(authenticator)
        kept = {name: value for name, value in vars(authenticator).items() if name not in ("_loop", "_held")}
        assert GOOD.decode() not in repr(kept)
        assert GOOD.decode() not in repr([dict(vars(authenticator)["_held"]), list(kept["_known"].young.items())])
        assert GOOD.decode() not in repr([getattr(identity, name, "") for name in Identity.__slots__])

    play(run())


HAPPENINGS = st.lists(
    st.one_of(
        st.sampled_from(["down", "up", "refuse", "silent", "withdraw", "restore"]),
        st.floats(0.01, 20.0),
        st.sampled_from(["ask", "hold"]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(HAPPENINGS)
def test_no_token_outlives_its_withdrawal_by_more_than_time_and_grace(happenings: list[str | float]) -> None:
    ttl, grace = 5.0, 12.0

    async def run() -> None:
        api = an_api()
        authenticator = reviews(api, ttl=ttl, grace=grace)
        withdrawn = float("inf")
        held: list[Identity] = []
        for happening in happenings:
            if isinstance(happening, float):
                await asyncio.sleep(happening)
            elif happening == "down":
                api.down()
            elif happening == "refuse":
                api.refuse(403, "Forbidden")
            elif happening == "silent":
                api.slow = 50.0
            elif happening == "up":
                api.up()
                api.slow = 0.0
            elif happening == "withdraw":
                api.tokens.clear()
                withdrawn = min(withdrawn, now())
            elif happening == "restore":
                api.tokens[GOOD.decode()] = ANN
                withdrawn = float("inf")
            elif happening == "ask":
                try:
                    identity = await identified(authenticator, GOOD)
                except StatusError:
                    continue
                if identity is not None:
                    held.append(identity)
            for identity in held:
                if identity.alive(wall):
                    assert now() < withdrawn + ttl + grace
                    assert identity.expires <= wall() + ttl
        authenticator.close()
        await settle()

    play(run())
