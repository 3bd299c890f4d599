"""An endpoint's limit of calls: how it grows, shrinks, closes and probes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.judging.endpoints import Endpoint, backoff_ms, new_endpoint
from processors.judging.judges.judge import Answered, Failed, Reason
from tests.unit.judging.moving_limit import ANSWER, MAXIMUM, answered_calls, random_limit


def failed(reason: Reason, retry_after_ms: int | None = None) -> Failed:
    status: dict[str, int] = {"rate_limited": 429, "provider_error": 503, "request_refused": 400}
    return Failed(reason=reason, http_status=status.get(reason), retry_after_ms=retry_after_ms)


def after_round(endpoint: Endpoint, now_ms: int = 0) -> Endpoint:
    """After as many answers as the limit allows calls, all in flight together."""
    calls = endpoint.limit
    endpoint = endpoint.taken(calls)
    for _ in range(calls):
        endpoint = endpoint.ended(ANSWER, now_ms, now_ms, 1.0)
    return endpoint


def after(endpoint: Endpoint, outcome: Failed, now_ms: int, asked_at_ms: int = 0) -> Endpoint:
    return endpoint.taken(1).ended(outcome, asked_at_ms, now_ms, 1.0)


def test_the_limit_starts_at_8_and_doubles_each_round_up_to_the_maximum() -> None:
    endpoint, limits = new_endpoint(maximum=50), list[int]()
    for _ in range(5):
        limits.append(endpoint.limit)
        endpoint = after_round(endpoint)
    assert limits == [8, 16, 32, 50, 50]
    assert new_endpoint(maximum=3).limit == 3


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    endpoint = new_endpoint(32)
    for _ in range(100):
        endpoint = endpoint.taken(1).ended(ANSWER, 0, 0, 1.0)
    assert endpoint.limit == 8


def test_slots_are_what_the_limit_leaves() -> None:
    endpoint = new_endpoint(32).taken(5)
    assert endpoint.slots(0) == 3
    assert endpoint.taken(3).slots(0) == 0
    assert endpoint.released(2).slots(0) == 5


def test_a_429_takes_a_fifth_away_once_an_episode_and_then_a_round_adds_one() -> None:
    endpoint = replace(new_endpoint(32), limit=20).taken(20)
    for now_ms in (100, 110, 120):  # all asked at 50
        endpoint = endpoint.ended(failed("rate_limited", 10), 50, now_ms, 1.0)
    assert endpoint.limit == 16
    endpoint = endpoint.ended(failed("rate_limited", 10), 130, 140, 1.0)  # asked afterwards
    assert endpoint.limit == 12
    endpoint = after_round(endpoint.released(endpoint.in_flight))
    assert endpoint.limit == 13
    assert after_round(endpoint).limit == 14


@pytest.mark.parametrize(
    ("retry_after_ms", "closed_ms"), [(0, 0), (2500, 2500), (900_000, 120_000), (None, 1000)]
)
def test_a_429_closes_it_for_retry_after_at_most_two_minutes_or_for_the_backoff(
    retry_after_ms: int | None, closed_ms: int
) -> None:
    endpoint = after(new_endpoint(32), failed("rate_limited", retry_after_ms), 1000)
    assert endpoint.closed_until_ms == 1000 + closed_ms
    assert endpoint.slots(1000 + closed_ms - 1) == 0 or closed_ms == 0
    assert endpoint.slots(1000 + closed_ms) == 6


def test_repeated_429s_without_retry_after_close_it_longer_until_an_answer_comes() -> None:
    endpoint, pauses = new_endpoint(32), list[int]()
    for _ in range(9):
        now_ms = endpoint.closed_until_ms
        endpoint = after(endpoint, failed("rate_limited"), now_ms, asked_at_ms=now_ms)
        pauses.append(endpoint.closed_until_ms - now_ms)
    assert pauses == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert endpoint.limit == 1
    answered = endpoint.taken(1).ended(ANSWER, 0, 0, 1.0)
    again = after(answered, failed("rate_limited"), 10**6, asked_at_ms=10**6)
    assert again.closed_until_ms == 10**6 + 1000


def test_a_shorter_retry_after_does_not_open_it_earlier() -> None:
    endpoint = after(new_endpoint(32), failed("rate_limited", 5000), 0)
    assert after(endpoint, failed("rate_limited", 10), 100).closed_until_ms == 5000


@pytest.mark.parametrize("reason", ["provider_error", "timeout"])
def test_a_fault_pauses_growth(reason: Reason) -> None:
    endpoint = new_endpoint(32).taken(8)
    for _ in range(7):
        endpoint = endpoint.ended(ANSWER, 0, 0, 1.0)
    endpoint = endpoint.ended(failed(reason), 0, 0, 1.0)
    assert endpoint.limit == 8
    assert after_round(endpoint).limit == 16


def test_after_five_faults_in_a_row_it_takes_one_probe_at_a_time_until_one_is_answered() -> None:
    endpoint = new_endpoint(32)
    for _ in range(4):
        endpoint = after(endpoint, failed("provider_error"), 0)
    assert endpoint.slots(0) == 8
    endpoint = after(endpoint, failed("timeout"), 0)
    assert (endpoint.slots(0), endpoint.slots(1000)) == (0, 1)
    probing = endpoint.taken(1)
    assert probing.slots(1000) == 0
    assert probing.ended(failed("provider_error"), 1000, 1000, 1.0).slots(2999) == 0
    assert probing.ended(ANSWER, 1000, 1000, 1.0).slots(1000) == 8


@pytest.mark.parametrize("reason", ["invalid_answer", "truncated", "declined"])
def test_an_unusable_answer_is_an_answer_to_the_endpoint(reason: Reason) -> None:
    endpoint = replace(new_endpoint(32), faults_in_a_row=4)
    assert after(endpoint, failed(reason), 0).faults_in_a_row == 0


def test_a_refused_request_says_nothing_about_the_load() -> None:
    endpoint = replace(new_endpoint(32), faults_in_a_row=4)
    assert after(endpoint, failed("request_refused"), 0) == endpoint


FAILURES: tuple[Reason, ...] = ("rate_limited", "provider_error", "timeout", "invalid_answer")
OUTCOMES = st.sampled_from([ANSWER, *(failed(reason) for reason in FAILURES)])


@given(st.integers(1, 64), st.lists(st.tuples(OUTCOMES, st.integers(0, 5000))), st.floats(0.5, 1.0))
def test_whatever_happens_the_limit_stays_in_bounds_and_the_endpoint_opens_again(
    maximum: int, history: list[tuple[Answered | Failed, int]], jitter: float
) -> None:
    endpoint, now_ms = new_endpoint(maximum), 0
    for outcome, elapsed_ms in history:
        asked_at_ms, now_ms = now_ms, now_ms + elapsed_ms
        endpoint = endpoint.taken(1).ended(outcome, asked_at_ms, now_ms, jitter)
        assert 1 <= endpoint.limit <= maximum
        assert endpoint.in_flight == 0
        assert endpoint.closed_until_ms - now_ms <= 60_000
    assert endpoint.slots(now_ms + 60_000) >= 1


def test_a_backoff_doubles_up_to_a_minute_and_is_shortened_by_the_jitter() -> None:
    assert [backoff_ms(n, 1.0) for n in (0, 1, 5, 6, 1000)] == [1000, 2000, 32_000, 60_000, 60_000]
    assert backoff_ms(1, 0.5) == 1000


SEEDS = [
    pytest.param(2, id="2"),
    pytest.param(6, id="6", marks=pytest.mark.thorough),
    pytest.param(40, id="40", marks=pytest.mark.long),
]


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_learned_limit_is_within_15_percent_of_the_best_fixed_one_on_a_moving_threshold(
    seeds: int,
) -> None:
    for seed in range(seeds):
        provider = random_limit(seed)
        best = max(answered_calls(provider, fixed, seed) for fixed in range(4, MAXIMUM, 4))
        assert answered_calls(provider, None, seed) >= 0.85 * best, (seed, provider)
