"""What every judge holds to, whatever is behind it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import fields

import pytest

from processors.judging.judges.judge import Answered, Failed, Judge
from tests.contract.judging.adapters import ADAPTERS, request_for

REASONS = ("invalid_answer", "rate_limited", "provider_error", "timeout")


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ask(
    adapter: str, reason: str | None = None, count: int = 1, timeout_s: float = 60.0
) -> Sequence[Answered | Failed]:
    """The outcomes of so many questions, one after the other."""
    asked, judge_that_fails = ADAPTERS[adapter]

    async def one_by_one(judge: Judge) -> list[Answered | Failed]:
        requests = [request_for(number=number, asked=asked) for number in range(count)]
        outcomes = [await judge.ask(request, timeout_s) for request in requests]
        await judge.close()
        return outcomes

    with judge_that_fails(reason) as judge:
        return asyncio.run(one_by_one(judge))


def failure(adapter: str, reason: str) -> Failed:
    (outcome,) = ask(adapter, reason, timeout_s=0.5 if reason == "timeout" else 60)
    assert isinstance(outcome, Failed)
    return outcome


def test_an_answer_names_one_of_the_two_texts_and_what_answered(adapter: str) -> None:
    for answer in ask(adapter, count=20):
        assert isinstance(answer, Answered)
        assert answer.winner in ("first", "second")
        assert answer.confidence in (None, 1, 2, 3, 4, 5)
        assert answer.model
        assert answer.response


def test_the_token_classes_of_an_answer_are_counts(adapter: str) -> None:
    (answer,) = ask(adapter)
    assert answer.usage is not None
    counts = [getattr(answer.usage, field.name) for field in fields(answer.usage)]
    assert all(type(count) is int and count >= 0 for count in counts)
    assert answer.usage.input + answer.usage.cache_write + answer.usage.cache_read > 0
    assert answer.usage.reasoning <= answer.usage.output <= request_for().max_output_tokens


@pytest.mark.parametrize("reason", REASONS)
def test_every_failure_is_a_value_with_its_reason(adapter: str, reason: str) -> None:
    assert failure(adapter, reason).reason == reason


def test_only_an_unusable_answer_has_usage_and_a_response(adapter: str) -> None:
    failures = {reason: failure(adapter, reason) for reason in REASONS}
    kept = {reason for reason, failed in failures.items() if failed.usage and failed.response}
    assert kept == {"invalid_answer"}


def test_a_failure_that_may_have_been_paid_is_in_doubt(adapter: str) -> None:
    in_doubt = {reason for reason in REASONS if failure(adapter, reason).is_in_doubt}
    assert in_doubt == {"timeout"}


def test_a_limit_of_calls_says_when_to_ask_again(adapter: str) -> None:
    failed = failure(adapter, "rate_limited")
    assert failed.http_status in (429, 529)
    assert failed.retry_after_ms is not None
    assert failed.retry_after_ms > 0


def test_an_answer_takes_no_longer_than_its_timeout(adapter: str) -> None:
    ask(adapter)  # the first use of an SDK takes long
    started = time.monotonic()
    ask(adapter, "timeout", timeout_s=0.2)
    assert time.monotonic() - started < 20


def test_a_question_can_be_cancelled(adapter: str) -> None:
    asked, judge_that_fails = ADAPTERS[adapter]

    async def cancel(judge: Judge) -> None:
        asking = asyncio.ensure_future(judge.ask(request_for(asked=asked), 60.0))
        await asyncio.wait([asking], timeout=0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await judge.close()

    with judge_that_fails("timeout") as judge:
        asyncio.run(cancel(judge))


def test_questions_are_asked_side_by_side(adapter: str) -> None:
    asked, judge_that_fails = ADAPTERS[adapter]

    async def ask_all(judge: Judge) -> list[Answered | Failed]:
        requests = [request_for(number=number, asked=asked) for number in range(50)]
        outcomes = await asyncio.gather(*(judge.ask(request, 60.0) for request in requests))
        await judge.close()
        return outcomes

    with judge_that_fails(None) as judge:
        together = asyncio.run(ask_all(judge))
    one_by_one = [
        answer.winner for answer in ask(adapter, count=50) if isinstance(answer, Answered)
    ]
    assert [answer.winner for answer in together if isinstance(answer, Answered)] == one_by_one
    assert len(one_by_one) == 50
