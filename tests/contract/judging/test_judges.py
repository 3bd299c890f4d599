"""What every judge holds to, whatever is behind it."""

import asyncio
import time
from dataclasses import fields

import pytest

from processors.judging.judge import Answered, Failed, Judge
from tests.contract.judging.adapters import ADAPTERS, request_for

REASONS = ("invalid_answer", "rate_limited", "provider_error", "timeout")


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ask(judge: Judge, number: int = 0, timeout_s: float = 5.0) -> Answered | Failed:
    return asyncio.run(judge.ask(request_for(number=number), timeout_s))


def test_an_answer_names_one_of_the_two_texts_and_what_answered(adapter: str) -> None:
    answers = [ask(ADAPTERS[adapter](None), number) for number in range(20)]
    for answer in answers:
        assert isinstance(answer, Answered)
        assert answer.winner in ("first", "second")
        assert answer.confidence in (None, 1, 2, 3, 4, 5)
        assert answer.model
        assert answer.response


def test_the_token_classes_of_an_answer_are_counts(adapter: str) -> None:
    answer = ask(ADAPTERS[adapter](None))
    assert answer.usage is not None
    counts = [getattr(answer.usage, field.name) for field in fields(answer.usage)]
    assert all(type(count) is int and count >= 0 for count in counts)
    assert answer.usage.input + answer.usage.cache_write + answer.usage.cache_read > 0
    assert answer.usage.reasoning <= answer.usage.output <= request_for().max_output_tokens


@pytest.mark.parametrize("reason", REASONS)
def test_every_failure_is_a_value_with_its_reason(adapter: str, reason: str) -> None:
    failure = ask(ADAPTERS[adapter](reason), timeout_s=0.2)
    assert isinstance(failure, Failed)
    assert failure.reason == reason


def test_only_an_unusable_answer_has_usage_and_a_response(adapter: str) -> None:
    failures = {reason: ask(ADAPTERS[adapter](reason), timeout_s=0.2) for reason in REASONS}
    kept = {reason for reason, failure in failures.items() if failure.usage and failure.response}
    assert kept == {"invalid_answer"}


def test_a_failure_that_may_have_been_paid_is_in_doubt(adapter: str) -> None:
    in_doubt = {
        reason
        for reason in REASONS
        if isinstance(failure := ask(ADAPTERS[adapter](reason), timeout_s=0.2), Failed)
        and failure.is_in_doubt
    }
    assert in_doubt == {"timeout"}


def test_a_limit_of_calls_says_when_to_ask_again(adapter: str) -> None:
    failure = ask(ADAPTERS[adapter]("rate_limited"))
    assert isinstance(failure, Failed)
    assert failure.http_status == 429
    assert failure.retry_after_ms is not None
    assert failure.retry_after_ms > 0


def test_an_answer_takes_no_longer_than_its_timeout(adapter: str) -> None:
    started = time.monotonic()
    ask(ADAPTERS[adapter]("timeout"), timeout_s=0.2)
    assert time.monotonic() - started < 2


def test_a_question_can_be_cancelled(adapter: str) -> None:
    async def cancel() -> None:
        asking = asyncio.ensure_future(ADAPTERS[adapter]("timeout").ask(request_for(), 60.0))
        await asyncio.wait([asking], timeout=0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(cancel())


def test_questions_are_asked_side_by_side(adapter: str) -> None:
    async def ask_all() -> list[Answered | Failed]:
        judge = ADAPTERS[adapter](None)
        return await asyncio.gather(
            *(judge.ask(request_for(number=number), 5.0) for number in range(50))
        )

    one_by_one = [ask(ADAPTERS[adapter](None), number) for number in range(50)]
    winners = [answer.winner for answer in one_by_one if isinstance(answer, Answered)]
    assert [a.winner for a in asyncio.run(ask_all()) if isinstance(a, Answered)] == winners
