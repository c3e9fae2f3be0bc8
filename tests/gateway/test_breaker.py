"""The circuit breaker: by table, and against a model under arbitrary histories."""

from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_opens_after_failures_in_a_row_and_rests_longer_each_time() -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=3, rest=1.0, cap=5.0)
    for _ in range(2):
        assert breaker.admit()
        breaker.failed()
    assert not breaker.open
    assert breaker.admit()
    breaker.failed()
    for rest in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert breaker.refusing
        assert not breaker.admit()
        clock.now += rest - 0.01
        assert not breaker.admit()
        assert breaker.retry_after == 1
        clock.now += 0.02
        assert breaker.admit()
        breaker.failed()


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=1, rest=1.0)
    assert breaker.admit()
    breaker.failed()
    clock.now += 1.0
    assert breaker.admit()
    assert not breaker.admit()
    breaker.abandoned()
    assert breaker.admit()
    breaker.succeeded()
    assert not breaker.open
    assert breaker.admit()
    assert breaker.admit()


def test_stragglers_of_before_it_opened_do_not_prolong_the_rest() -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=2, rest=1.0)
    assert all(breaker.admit() for _ in range(10))
    for _ in range(10):
        breaker.failed()
    clock.now += 1.0
    assert breaker.admit()


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = Breaker(Clock(), failures=2)
    for _ in range(10):
        assert breaker.admit()
        breaker.failed()
        assert breaker.admit()
        breaker.succeeded()
    assert not breaker.open


STEPS = st.lists(st.one_of(st.sampled_from(["ok", "fail", "abandon"]), st.floats(0.0, 40.0)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_never_refuses_for_longer_than_the_cap_and_never_before_failures_in_a_row(
    steps: list[str | float], failures: int
) -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=failures, rest=1.0, cap=8.0)
    in_a_row = 0
    refused_since: float | None = None
    for step in steps:
        if isinstance(step, float):
            clock.now += step
            continue
        if not breaker.admit():
            assert in_a_row >= failures
            refused_since = clock.now if refused_since is None else refused_since
            assert clock.now - refused_since < 8.0
            assert 1 <= breaker.retry_after <= 8
            continue
        refused_since = None
        if step == "ok":
            breaker.succeeded()
            in_a_row = 0
        elif step == "fail":
            breaker.failed()
            in_a_row += 1
        else:
            breaker.abandoned()
