"""The bounded cache: never larger than its limit, and what is in use stays."""

from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication.cache import RecentCache


@given(st.integers(2, 20), st.lists(st.integers(0, 50)))
def test_it_is_bounded_and_never_wrong(limit: int, keys: list[int]) -> None:
    cache: RecentCache[int, str] = RecentCache(limit)
    for key in keys:
        assert cache.get(key) in (None, str(key))
        cache.put(key, str(key))
        assert cache.get(key) == str(key)
        assert len(cache) <= limit


def test_what_is_used_survives_a_flood() -> None:
    cache: RecentCache[str, int] = RecentCache(8)
    cache.put("mine", 1)
    for n in range(1000):
        cache.put(f"flood {n}", n + 2)
        assert cache.get("mine") == 1


def test_what_is_not_used_is_forgotten() -> None:
    cache: RecentCache[str, int] = RecentCache(8)
    cache.put("mine", 1)
    for n in range(8):
        cache.put(f"flood {n}", n + 2)
    assert cache.get("mine") is None


def test_discard_reaches_both_generations() -> None:
    cache: RecentCache[int, int] = RecentCache(4)
    for n in range(1, 5):
        cache.put(n, n)
    cache.discard(lambda value: value % 2 == 0)
    assert sorted(cache.values()) == [1, 3]
