"""How a review is asked: retries, deadline, breaker, what is said of trouble, and that no question is ever repeated."""

import asyncio
from typing import Any

import pytest

from portway.client.protocol import ApiUnreachable
from portway.gateway.reviews import Reviewer, ReviewRefused, ReviewUnavailable
from portway.kube.errors import StatusError
from portway.kube.identity import User
from portway.testing.reviewapi import ReviewApi
from portway.testing.virtualtime import START, play

SECRET = "s3cr3t-t0ken"
PATH = "/apis/authentication.k8s.io/v1/tokenreviews"


def reviewer(api: ReviewApi) -> Reviewer:
    return Reviewer(api, PATH, "authentication.k8s.io/v1 TokenReview")


def an_api() -> ReviewApi:
    api = ReviewApi()
    api.tokens[SECRET] = User("ann")
    return api


async def ask(asker: Reviewer, *, patient: bool = True) -> Any:
    return await asker.ask({"token": SECRET}, patient=patient)


def test_the_question_and_the_answer() -> None:
    async def run() -> None:
        api = an_api()
        asker = reviewer(api)
        assert (await ask(asker))["user"] == {"username": "ann"}
        assert api.asked == [
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": SECRET},
            }
        ]
        assert asker.health() == ""

    play(run())


@pytest.mark.parametrize(
    ("failure", "retried", "refused"),
    [
        (ApiUnreachable("10.0.0.1:443: Connection refused"), True, False),
        (StatusError("etcdserver: leader changed", code=500, reason="InternalError"), True, False),
        (StatusError("busy", code=429, reason="TooManyRequests", retry_after=2), True, False),
        (StatusError("starting", code=503, reason="ServiceUnavailable"), True, False),
        (StatusError("slow", code=504, reason="Timeout"), True, False),
        (StatusError(f"token {SECRET} is invalid", code=422, reason="Invalid"), False, True),
        (StatusError("Unauthorized", code=401, reason="Unauthorized"), False, True),
        (StatusError("the server could not find the requested resource", code=404, reason="NotFound"), False, True),
        (StatusError('User "door" cannot create tokenreviews', code=403, reason="Forbidden"), False, True),
    ],
)
def test_what_is_tried_again(failure: Exception, retried: bool, refused: bool) -> None:
    async def run() -> None:
        api = an_api()
        api.failure, api.failures = failure, 2
        asker = reviewer(api)
        if retried:
            assert (await ask(asker))["authenticated"] is True
            assert len(api.asked) == 3
            return
        with pytest.raises(ReviewUnavailable) as caught:
            await ask(asker)
        assert isinstance(caught.value, ReviewRefused) is refused is asker.refused
        assert len(api.asked) == 1
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {asker.health()}"

    play(run())


def test_five_attempts_then_503_and_the_next_are_turned_away_at_once() -> None:
    async def run() -> None:
        api = an_api()
        api.down()
        asker = reviewer(api)
        with pytest.raises(ReviewUnavailable) as caught:
            await ask(asker)
        took = asyncio.get_running_loop().time() - START
        assert len(api.asked) == 5
        assert 4.0 < took < 5.0
        assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (503, "ServiceUnavailable", 1)
        assert asker.refusing
        with pytest.raises(ReviewUnavailable):
            await ask(asker)
        assert len(api.asked) == 5
        assert "10.0.0.1:443: Connection refused" in asker.health()
        api.up()
        await asyncio.sleep(1.0)
        assert (await ask(asker))["authenticated"] is True
        assert asker.health() == ""

    play(run())


def test_a_silent_api_is_given_up_after_ten_seconds() -> None:
    async def run() -> None:
        api = an_api()
        api.slow = 1000.0
        asker = reviewer(api)
        asking = asyncio.ensure_future(ask(asker))
        await asyncio.sleep(1.9)
        said = [asker.health()]
        await asyncio.sleep(1.1)
        said.append(asker.health())
        assert said == ["", "TokenReviews are not answered for 3 s: no answer yet"]
        with pytest.raises(ReviewUnavailable):
            await asking
        assert asyncio.get_running_loop().time() - START == pytest.approx(10.0)
        assert "no answer in time" in asker.health()

    play(run())


def test_an_api_that_asks_for_more_time_than_there_is_is_not_waited_for() -> None:
    async def run() -> None:
        api = an_api()
        api.refuse(429, "TooManyRequests", retry_after=60)
        with pytest.raises(ReviewUnavailable):
            await ask(reviewer(api))
        assert len(api.asked) == 1

    play(run())


def test_no_patience_no_second_attempt() -> None:
    async def run() -> None:
        api = an_api()
        api.down()
        with pytest.raises(ReviewUnavailable):
            await ask(reviewer(api), patient=False)
        assert len(api.asked) == 1

    play(run())


@pytest.mark.parametrize("answer", [{}, {"status": None}, {"status": []}, {"status": "yes"}])
def test_an_answer_without_a_status_is_none(answer: dict[str, Any]) -> None:
    async def run() -> None:
        api = an_api()
        api.answer = answer
        with pytest.raises(ReviewUnavailable):
            await ask(reviewer(api))

    play(run())


def test_a_probe_that_is_given_up_lets_the_next_one_probe() -> None:
    async def run() -> None:
        api = an_api()
        api.down()
        asker = reviewer(api)
        with pytest.raises(ReviewUnavailable):
            await ask(asker)
        api.up()
        api.slow = 5.0
        await asyncio.sleep(1.0)
        probe = asyncio.ensure_future(ask(asker))
        await asyncio.sleep(0.1)
        refusing = [asker.refusing]
        probe.cancel()
        await asyncio.wait([probe])
        assert [*refusing, asker.refusing] == [True, False]
        assert (await ask(asker))["authenticated"] is True

    play(run())
