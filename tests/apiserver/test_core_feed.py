"""Feeds: who is woken by what, when there are few and many; places in the log; what is made once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from portway.apiserver.cache import Shelf
from portway.apiserver.feed import EACH, FEW, Feed
from portway.apiserver.kinds.pods import POD
from portway.storage import Event, KeyValue
from portway.testing.virtualtime import play


def put(revision: int, namespace: str = "ns", name: str = "x") -> Event:
    return Event("PUT", KeyValue(POD.key(namespace, name), b"{}", revision, revision), None, True)


def names(feed: Feed, cursor: int | None) -> list[int] | None:
    changes = None if cursor is None else feed.read(cursor)
    return None if changes is None else [change.revision for change in changes]


def followers(feed: Feed, count: int) -> list[asyncio.Event]:
    wakes = [asyncio.Event() for _ in range(count)]
    for wake in wakes:
        feed.follow(wake)
    return wakes


def test_a_change_is_in_the_feeds_it_belongs_to_and_wakes_nobody_else() -> None:
    async def scenario() -> None:
        shelf = Shelf(POD.prefix, 10, 0)
        shelf.apply(put(1, "one", "a"))
        scopes = {"all": POD.prefix, "one": POD.key("one", ""), "two": POD.key("two", ""), "b": POD.key("one", "b")}
        feeds = {name: shelf.feed(scope) for name, scope in scopes.items()}
        wakes = {name: followers(feed, 1)[0] for name, feed in feeds.items()}
        assert [names(feed, feed.cursor(0)) for feed in feeds.values()] == [[1], [1], [], []]
        shelf.apply(put(2, "one", "bb"))
        assert [name for name, wake in wakes.items() if wake.is_set()] == ["all", "one"]
        shelf.apply(put(3, "one", "b"))
        assert [names(feed, feed.cursor(1)) for feed in feeds.values()] == [[2, 3], [2, 3], [], [3]]
        assert not wakes["two"].is_set()

    play(scenario())


def test_a_part_keeps_what_the_whole_log_keeps() -> None:
    shelf = Shelf(POD.prefix, 4, 0)
    quiet = shelf.feed(POD.key("quiet", ""))
    shelf.apply(put(1, "quiet"))
    cursor = quiet.cursor(0)
    for revision in range(2, 10):
        shelf.apply(put(revision, "loud", f"n{revision}"))
    assert shelf.log.since == quiet.since == 4
    assert (names(quiet, cursor), quiet.cursor(0), names(quiet, quiet.cursor(4))) == (None, None, [])
    assert names(shelf.log, shelf.log.cursor(4)) == [5, 6, 7, 8, 9]


def test_a_part_is_dropped_with_its_last_follower_and_made_again_from_the_log() -> None:
    shelf = Shelf(POD.prefix, 10, 0)
    scope = POD.key("one", "")
    feed, wake = shelf.feed(scope), asyncio.Event()
    feed.follow(wake)
    shelf.release(scope)
    assert shelf.feed(scope) is feed
    feed.unfollow(wake)
    shelf.release(scope)
    shelf.apply(put(1, "one"))
    again = shelf.feed(scope)
    assert again is not feed
    assert names(again, again.cursor(0)) == [1]


@pytest.mark.parametrize(("count", "rounds"), [(FEW, 100), (FEW + 1, 60), (1000, 1 + round(0.1 / (1000 * EACH)))])
def test_many_followers_are_woken_in_rounds(count: int, rounds: int) -> None:
    """A hundred changes in a tenth of a second: few are woken by each, a thousand at the first and a tenth later."""

    async def scenario() -> int:
        shelf = Shelf(POD.prefix, 1000, 0)
        wakes = followers(shelf.log, count)
        found = 0
        for revision in range(1, 101):
            shelf.apply(put(revision, name=f"n{revision}"))
            await asyncio.sleep(0.001)
            found += wakes[0].is_set()
            for wake in wakes:
                wake.clear()
        await asyncio.sleep(count * EACH)
        return found + wakes[0].is_set()

    assert play(scenario()) <= rounds


def test_what_followers_at_one_place_want_alike_is_made_once() -> None:
    feed, made = Feed(0), []

    def maker(what: bytes) -> Callable[[], bytes]:
        return lambda: made.append(what) or what  # type: ignore[func-returns-value]

    assert [feed.chunk(key, maker(key)) for key in (b"a", b"a", b"b", b"a")] == [b"a", b"a", b"b", b"a"]
    assert made == [b"a", b"b"]
    big = b"x" * (1 << 21)
    assert (feed.chunk("big", maker(big)), feed.chunk("big", maker(big))) == (big, big)
    assert len(made) == 4
