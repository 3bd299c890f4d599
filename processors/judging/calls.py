"""Calls: their prompts, and the records of their outcomes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from processors.judging.judges.judge import Answered, CallId, Failed, JudgeRequest, Prompt
from processors.judging.prompt import AskedJudge, PromptTexts, build_prompt, prompt_bytes
from schemas.judging_events import CallAnswered, CallFailed, Judge, JudgingOpened
from tables.judging.cost_ledger import bound_pusd, cost_pusd
from tables.judging.next_step import BoundOf, Call, unpriced
from tables.judging.run import Run

TextOf = Callable[[str], str]  # by storage id
FREE = frozenset({"rate_limited", "provider_error", "provider_refused", "request_refused"})


@dataclass(frozen=True, slots=True)
class CallToSend:
    """A committed call: what is asked, and since when (the broker's clock)."""

    request: JudgeRequest
    prompt_sha256: str
    epoch: int
    asked_at_ms: int


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that was sent, its outcome, and where its response is kept; outcome None: it was not sent after all."""

    call: CallToSend
    outcome: Answered | Failed | None
    took_ms: int
    response_storage_id: str | None


def asked_of(judge: Judge) -> AskedJudge:
    """The judge of a run, as prompts are made for it."""
    return AskedJudge(
        adapter=judge.adapter,
        provider=judge.provider,
        base_url=judge.base_url,
        model=judge.model,
        parameters=orjson.loads(judge.parameters),
        answer_method=judge.answer_method,
    )


def texts_of_run(opened: JudgingOpened, text_of: TextOf) -> PromptTexts:
    """The texts of a run's prompts, apart from those to be judged."""
    prompt = opened.prompt
    return PromptTexts(
        system=prompt.system and text_of(prompt.system),
        task=prompt.task and text_of(prompt.task),
        criteria=prompt.criteria and text_of(prompt.criteria),
        rubric=prompt.rubric and text_of(prompt.rubric),
    )


def prompt_of(
    opened: JudgingOpened, first: str, second: str, number: int, text_of: TextOf
) -> Prompt:
    """The prompt of a comparison of two texts."""
    texts = texts_of_run(opened, text_of)
    return build_prompt(asked_of(opened.judge), texts, first, second, opened.seed, number)


def request_of(run: Run, call: Call, text_of: TextOf) -> JudgeRequest:
    """The question of a call."""
    opened = run.opened
    first, second = (text_of(run.items[item].storage_id) for item in (call.first, call.second))
    return JudgeRequest(
        call=CallId(opened.run_id, call.number, call.attempt),
        prompt=prompt_of(opened, first, second, call.number, text_of),
        max_output_tokens=opened.judge.max_output_tokens,
        first_text=first,
        second_text=second,
    )


def bounds_of(run: Run, text_of: TextOf) -> BoundOf:
    """The bound of the call that shows two items; only the sizes of the two texts differ."""
    judge = run.opened.judge
    if judge.prices is None:
        return unpriced
    prices, shared = judge.prices, prompt_bytes(prompt_of(run.opened, "", "", 0, text_of))

    def bound(first: int, second: int) -> int:
        size = shared + run.items[first].size_bytes + run.items[second].size_bytes
        return bound_pusd(size, judge.max_output_tokens, prices)

    return bound


def record_of(run: Run, ended: EndedCall) -> CallAnswered | CallFailed | None:
    """The record of a call's outcome; None if there is none, or if the log has it already."""
    call, outcome = ended.call.request.call, ended.outcome
    if outcome is None or call.number >= run.planned:
        return None
    one = run.comparison(call.number)
    if call.attempt > len(one.attempts) or one.attempts[call.attempt - 1].outcome is not None:
        return None
    judge, usage = run.opened.judge, outcome.usage
    is_free = isinstance(outcome, Failed) and outcome.reason in FREE
    cost = 0 if is_free else None
    if usage is not None and judge.prices is not None:
        cost = cost_pusd(usage, judge.prices)
    common = {
        "run_id": call.run_id,
        "number": call.number,
        "attempt": call.attempt,
        "first_id": run.items[one.plan.first].id,
        "second_id": run.items[one.plan.second].id,
        "prompt_sha256": ended.call.prompt_sha256,
        "provider": judge.provider,
        "model": outcome.model or judge.model,
        "provider_request_id": outcome.provider_request_id,
        "usage": usage,
        "cost_pusd": cost,
        "price_id": judge.price_id,
        "response_storage_id": ended.response_storage_id,
        "asked_at_ms": ended.call.asked_at_ms,
        "took_ms": ended.took_ms,
    }
    if isinstance(outcome, Answered):
        return CallAnswered(
            **common,  # type: ignore[arg-type]
            winner=outcome.winner,
            confidence=outcome.confidence,
        )
    failed = CallFailed(
        **common,  # type: ignore[arg-type]
        reason=outcome.reason,
        will_retry=False,
        http_status=outcome.http_status,
        retry_after_ms=outcome.retry_after_ms,
    )
    is_lost = one.retries.after(failed, run.opened.seed).is_lost
    return replace(failed, will_retry=not is_lost)
