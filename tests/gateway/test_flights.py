"""One question in flight per key."""

import asyncio

import pytest

from portway.gateway.flights import Flights
from portway.kube.errors import ServiceUnavailable, TooManyRequests
from portway.testing.virtualtime import play


def test_one_question_for_all_who_ask_meanwhile() -> None:
    async def run() -> None:
        flights: Flights[str, int] = Flights("things")
        asked = 0

        async def question() -> int:
            nonlocal asked
            asked += 1
            await asyncio.sleep(5)
            return 42

        assert await asyncio.gather(*(flights.ask("a", question) for _ in range(10))) == [42] * 10
        assert asked == 1
        assert await flights.ask("a", question) == 42
        assert asked == 2
        assert len(flights) == 0

    play(run())


def test_everybody_hears_an_error_and_an_unheard_one_is_no_noise() -> None:
    async def run() -> None:
        flights: Flights[str, int] = Flights("things")

        async def question() -> int:
            await asyncio.sleep(1)
            raise ServiceUnavailable("away")

        for _ in range(2):
            answers = [flights.ask("a", question) for _ in range(3)]
            answers[1].cancel()
            for answer in (answers[0], answers[2]):
                with pytest.raises(ServiceUnavailable):
                    await answer
        unheard = flights.ask("a", question)
        await asyncio.wait([unheard])

    play(run())


def test_bounded_with_places_to_spare_for_those_who_matter() -> None:
    async def run() -> None:
        flights: Flights[int, None] = Flights("things", limit=4)

        async def question() -> None:
            await asyncio.sleep(1)

        under_way = [flights.ask(key, question, spare=1) for key in range(3)]
        with pytest.raises(TooManyRequests) as refused:
            flights.ask(9, question, spare=1)
        assert refused.value.retry_after == 1
        under_way.append(flights.ask(0, question, spare=1))
        under_way.append(flights.ask(9, question))
        with pytest.raises(TooManyRequests):
            flights.ask(10, question)
        await asyncio.gather(*under_way)

    play(run())


def test_closing_cancels_who_waits() -> None:
    async def run() -> None:
        flights: Flights[str, None] = Flights("things")
        answer = flights.ask("a", lambda: asyncio.sleep(100))
        await asyncio.sleep(0)
        flights.close()
        with pytest.raises(asyncio.CancelledError):
            await answer

    play(run())
