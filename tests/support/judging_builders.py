"""Builders of the records of judging, and Hypothesis strategies for all of them."""

import types
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from schemas.coordinates import Coordinates
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    CJBatchJudged,
    GradeProbability,
    Grading,
    IntendedCall,
    Judge,
    JudgeAsked,
    JudgedAnchor,
    JudgedEssay,
    JudgePrompt,
    JudgeReport,
    JudgingContext,
    JudgingEvent,
    JudgingOpened,
    JudgingStopped,
    ModelCalls,
    PlannedComparison,
    PromptDigest,
    ReasonCount,
    RecordRange,
    Reliability,
    ResultCost,
    ResultCounts,
    ResultDetail,
    ResultProvenance,
    RunItem,
    TokenPrices,
    TokenUsage,
    WavePlanned,
)
from schemas.topics import Topics
from tests.support.builders import REQUEST_AT, sha256_of

RUN_ID = "run-1"
BATCH_AT = Coordinates(Topics().batches.name, 3, 40)
PRICES = TokenPrices(input=1_000_000, cache_write=1_250_000, cache_read=100_000, output=4_000_000)
JUDGE = Judge(
    provider="simulated",
    model="sim-1",
    adapter="simulated",
    base_url="https://judge.example/v1",
    parameters="{}",
    answer_method="simulated",
    context_window=1_000_000,
    max_output_tokens=400,
    price_id=sha256_of("the price row"),
    prices=PRICES,
    judge_sha256=sha256_of("the judge"),
)
CONTEXT = JudgingContext(
    assignment_id="a1",
    context_source="assignment",
    prompt_source="assignment",
    student_prompt=sha256_of("Should homework be banned?"),
    instructions=sha256_of("Judge the argument."),
    grade_scale="swedish_8_anchor",
)
USAGE = TokenUsage(input=900, cache_write=20, cache_read=300, output=40, reasoning=8)


def run_items(count: int, name: str = "essay", grade: str | None = None) -> tuple[RunItem, ...]:
    """So many items with texts of their own."""
    return tuple(
        RunItem(
            id=f"{name}-{number}",
            grade=grade,
            storage_id=sha256_of(f"{name} {number}"),
            size_bytes=1000 + number,
        )
        for number in range(count)
    )


def judging_opened(**changes: Any) -> JudgingOpened:
    """A run of four essays of assignment a1, judged by the simulated judge."""
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "batch_id": "batch-1",
        "batch": BATCH_AT,
        "batch_key": b"batch-1",
        "request": REQUEST_AT,
        "opened_at_ms": 1_700_000_000_000,
        "engine": 1,
        "seed": 7,
        "judge": JUDGE,
        "prompt": JudgePrompt(recipe=1, task=CONTEXT.student_prompt, criteria=CONTEXT.instructions),
        "context": CONTEXT,
        "essays": run_items(4),
        "anchors": (),
        "anchors_position": 0,
        "policy": "{}",
        "max_comparisons": 96,
        "max_cost_pusd": 5_000_000_000_000,
        "deadline_at_ms": 1_700_003_600_000,
        "warnings": (),
    }
    return JudgingOpened(**values | changes)


def wave_planned(wave: int, *pairs: tuple[int, int], first_number: int = 0) -> WavePlanned:
    """A wave of these pairs of items, numbered from first_number."""
    return WavePlanned(
        run_id=RUN_ID,
        wave=wave,
        comparisons=tuple(
            PlannedComparison(number=number, first=first, second=second, purpose="cover")
            for number, (first, second) in enumerate(pairs, first_number)
        ),
    )


def calls_intended(
    *calls: tuple[int, int], bound_pusd: int | None = 3_000_000_000
) -> CallsIntended:
    """The intention to send these calls, each given by its comparison and attempt."""
    return CallsIntended(
        run_id=RUN_ID,
        mode="live",
        calls=tuple(
            IntendedCall(
                number=number,
                attempt=attempt,
                prompt_sha256=sha256_of(f"prompt {number}"),
                bound_pusd=bound_pusd,
            )
            for number, attempt in calls
        ),
    )


def _outcome_of_call(number: int, attempt: int) -> dict[str, Any]:
    return {
        "run_id": RUN_ID,
        "number": number,
        "attempt": attempt,
        "first_id": "essay-0",
        "second_id": "essay-1",
        "prompt_sha256": sha256_of(f"prompt {number}"),
        "provider": "simulated",
        "model": "sim-1",
        "asked_at_ms": 1_700_000_001_000,
        "took_ms": 12,
    }


def call_answered(number: int, attempt: int = 1, **changes: Any) -> CallAnswered:
    """The answer to a call: the first item won."""
    answer = {
        "winner": "first",
        "confidence": 4,
        "usage": USAGE,
        "cost_pusd": 1_115_000_000,
        "price_id": JUDGE.price_id,
        "response_storage_id": sha256_of(f"response {number}"),
    }
    return CallAnswered(**_outcome_of_call(number, attempt) | answer | changes)


def call_failed(number: int, attempt: int = 1, **changes: Any) -> CallFailed:
    """The failure of a call: the provider's limit of calls."""
    failure = {
        "reason": "rate_limited",
        "will_retry": True,
        "http_status": 429,
        "retry_after_ms": 2000,
        "cost_pusd": 0,
    }
    return CallFailed(**_outcome_of_call(number, attempt) | failure | changes)


def judging_stopped(**changes: Any) -> JudgingStopped:
    """The end of a run whose scores are reliable."""
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "outcome": "complete",
        "reason": "reliable",
        "decided_at_ms": 1_700_000_060_000,
        "result_sha256": sha256_of("the result"),
    }
    return JudgingStopped(**values | changes)


def batch_judged(**changes: Any) -> CJBatchJudged:
    """A result with a value in every field."""
    score: dict[str, Any] = {"theta": 0.731205, "se": 0.25, "comparisons": 14, "flags": ("misfit",)}
    values: dict[str, Any] = {
        "event_id": "result-1",
        "batch_id": "batch-1",
        "run_id": RUN_ID,
        "engine": 1,
        "outcome": "complete",
        "reason": "reliable",
        "details": (ResultDetail(path="essays.3", code="texts_missing"),),
        "provenance": ResultProvenance(
            request=REQUEST_AT,
            batch=BATCH_AT,
            anchors=Coordinates(Topics().instructions.name, 2, 9),
            judging=RecordRange(topic=Topics().judging.name, partition=3, start=100, end=180),
        ),
        "context": CONTEXT,
        "judge": JudgeReport(
            asked=JudgeAsked(provider="simulated", model="sim-1"),
            used=(ModelCalls(provider="simulated", model="sim-1", calls=30),),
            judge_sha256=JUDGE.judge_sha256,
            parameters="{}",
        ),
        "reliability": Reliability(
            pr=0.81,
            bound=0.72,
            ssr=0.84,
            spread=1.2,
            p_no_spread=0.0001,
            delta=-0.2,
            delta_se=0.1,
            consistency=0.9,
        ),
        "grading": Grading(
            status="refused",
            reason="too_few_anchors",
            flags=("few_grades",),
            sigma=0.4,
            thresholds=(-1.5, 0.0, 1.25),
        ),
        "counts": ResultCounts(
            comparisons=28,
            answered=27,
            lost=1,
            calls=30,
            failed=(ReasonCount(reason="timeout", calls=3),),
        ),
        "cost": ResultCost(
            spent_pusd=31_220_000_000,
            unknown_calls=0,
            in_doubt_pusd=0,
            tokens=USAGE,
            price_id=JUDGE.price_id,
        ),
        "prompts": PromptDigest(count=27, digest=sha256_of("prompts")),
        "essays": (
            JudgedEssay(
                **score,
                essay_id="essay-0",
                rank=1,
                rank_low=1,
                rank_high=2,
                shown_first=7,
                percentile=87.5,
                grade="B",
                grade_probability=0.71,
                grade_label="HIGH",
                grade_reason="undecided",
                distribution=(GradeProbability(grade="B", p=0.71),),
                set_90=("A", "B"),
                infit=1.4,
            ),
        ),
        "anchors": (JudgedAnchor(**score, anchor_id="anchor-0", grade="C", own_probability=0.3),),
        "flags": ("order_effect",),
    }
    return CJBatchJudged(**values | changes)


ONE_OF_EACH: tuple[JudgingEvent | CJBatchJudged, ...] = (
    judging_opened(anchors=run_items(2, "anchor", "C"), anchors_from=BATCH_AT, warnings=("w",)),
    wave_planned(1, (0, 1), (3, 2)),
    calls_intended((0, 1), (1, 1)),
    call_answered(0),
    call_failed(1, usage=USAGE),
    judging_stopped(),
    batch_judged(),
)
WORDS = st.text(max_size=8)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.integers(0, 2**31 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
}


def _values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a record's field has."""
    if get_origin(hint) in (types.UnionType, Union):
        return st.none() | _values_of(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return st.lists(_values_of(get_args(hint)[0]), max_size=3).map(tuple)
    return VALUES[hint] if hint in VALUES else records_of(hint)


def records_of(record_class: Any) -> st.SearchStrategy[Any]:
    """Any record of a class."""
    hints = get_type_hints(record_class)
    values = {field.name: _values_of(hints[field.name]) for field in fields(record_class)}
    return st.builds(record_class, **values)


def judging_events() -> st.SearchStrategy[JudgingEvent | CJBatchJudged]:
    """Any record of judging."""
    return st.one_of(*(records_of(type(event)) for event in ONE_OF_EACH))
