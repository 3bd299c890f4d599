"""Results and runs as JSON, the same for commands and API. Money is in US dollars, as exact decimal texts."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from processors.log.judging_log import ResultRecord
from schemas.judging_events import CallAnswered, CallFailed
from schemas.models import usd_of
from tools.audit_json import instant

if TYPE_CHECKING:  # importing them takes long
    from processors.log.judging_runs import LoggedRun
    from tables.judging.run import Attempt, Comparison, Run, Wave

Document = dict[str, Any]
R2_TEXTS_MIN = 3


def result_document(found: ResultRecord) -> Document:
    """A whole result."""
    result = found.result
    document = asdict(result)
    if result.judge is not None:
        document["judge"]["parameters"] = orjson.loads(result.judge.parameters)
    cost = document["cost"]
    document["cost"] = {
        "spent_usd": usd_of(cost["spent_pusd"]),
        "unknown_calls": cost["unknown_calls"],
        "in_doubt_usd": usd_of(cost["in_doubt_pusd"]),
        "tokens": cost["tokens"],
        "price_id": cost["price_id"],
    }
    return {
        "at": str(found.at),
        "judged_at": instant(found.appended_at_ms),
        **document,
        "details": list(document["details"]),
    }


def has_r2(result: Mapping[str, Any]) -> bool:
    """Whether r² says anything in the document of a result: of two texts it is always 1."""
    return len(result["essays"]) + len(result["anchors"]) >= R2_TEXTS_MIN


def summary_document(found: ResultRecord) -> Document:
    """A result as one row of a list."""
    result = found.result
    return {
        "batch_id": result.batch_id,
        "run_id": result.run_id,
        "assignment_id": result.context.assignment_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "judge": None
        if result.judge is None
        else f"{result.judge.asked.provider}/{result.judge.asked.model}",
        "essays": len(result.essays),
        "bound": None if result.reliability is None else result.reliability.bound,
        "calls": result.counts.calls,
        "spent_usd": usd_of(result.cost.spent_pusd),
        "judged_at": instant(found.appended_at_ms),
        "at": str(found.at),
    }


def progress_document(logged: "LoggedRun") -> Document:
    """How far an open run is."""
    run = logged.run
    return {
        "run_id": run.opened.run_id,
        "opened_at": instant(logged.appended_at_ms),
        "deadline": instant(run.opened.deadline_at_ms),
        "essays": len(run.opened.essays),
        "waves": len(run.waves),
        "comparisons": run.planned,
        "answered": run.answers.count,
        **ledger_document(run),
    }


def run_document(logged: "LoggedRun") -> Document:
    """An open run as one row of a list, with its spending by wave."""
    opened = logged.run.opened
    return {
        "batch_id": opened.batch_id,
        "assignment_id": opened.context.assignment_id,
        "judge": f"{opened.judge.provider}/{opened.judge.model}",
        **progress_document(logged),
        "by_wave": [_wave(logged.run, wave) for wave in logged.run.waves],
    }


def _wave(run: "Run", wave: "Wave") -> Document:
    """What was asked in a wave and what it has cost; a call without a known cost counts at its bound."""
    spent = sum(
        (one.intent.bound_pusd or 0) if one.outcome.cost_pusd is None else one.outcome.cost_pusd
        for comparison in wave.comparisons
        for one in comparison.attempts
        if one.outcome is not None and not one.is_in_doubt
    )
    return {
        "comparisons": len(wave.comparisons),
        "answered": sum(one.is_answered for one in wave.comparisons),
        "lost": wave.lost,
        "calls": sum(len(one.attempts) for one in wave.comparisons),
        "spent_usd": usd_of(None if run.opened.judge.prices is None else spent),
    }


def ledger_document(run: "Run") -> Document:
    """What a run has cost, and what it may have cost; null if no price is known."""
    ledger = run.ledger
    has_price = run.opened.judge.prices is not None
    money = {
        "spent_usd": ledger.spent_pusd,
        "in_doubt_usd": ledger.in_doubt_pusd,
        "reserved_usd": ledger.reserved_pusd,
    }
    return {
        **{name: usd_of(amount if has_price else None) for name, amount in money.items()},
        "max_cost_usd": usd_of(ledger.max_cost_pusd),
        "unknown_calls": ledger.unknown_calls,
        "tokens": asdict(ledger.tokens),
        "price_id": run.opened.judge.price_id,
    }


def comparison_documents(run: "Run") -> Iterator[Document]:
    """Every planned comparison, by number; p_first and residual are null where there is no answer."""
    p_first = {}
    if run.answers.count:
        answered = [one for one in run.comparisons if one.is_answered]
        expected = run.scores.fit.p_first(run.answers.first, run.answers.second)
        p_first = {one.plan.number: float(p) for one, p in zip(answered, expected, strict=True)}
    for wave, planned in enumerate(run.waves, 1):
        for one in planned.comparisons:
            yield _comparison(run, wave, one, p_first.get(one.plan.number))


def _comparison(run: "Run", wave: int, one: "Comparison", p_first: float | None) -> Document:
    answer = one.answer
    residual = None
    if answer is not None and p_first is not None:
        residual = round((answer.winner == "first") - p_first, 6)
    return {
        "number": one.plan.number,
        "wave": wave,
        "purpose": one.plan.purpose,
        "first_id": run.items[one.plan.first].id,
        "second_id": run.items[one.plan.second].id,
        "state": "answered" if one.is_answered else "lost" if one.is_lost else "open",
        "winner": None if answer is None else answer.winner,
        "confidence": None if answer is None else answer.confidence,
        "p_first": None if p_first is None else round(p_first, 6),
        "residual": residual,
        "attempts": len(one.attempts),
    }


def call_documents(run: "Run") -> Iterator[Document]:
    """Every intended call, by comparison and attempt."""
    for one in run.comparisons:
        for attempt in one.attempts:
            yield _call(attempt)


def _call(attempt: "Attempt") -> Document:
    intent, outcome = attempt.intent, attempt.outcome
    return {
        "number": intent.number,
        "attempt": intent.attempt,
        "prompt_sha256": intent.prompt_sha256,
        "bound_usd": usd_of(intent.bound_pusd),
        "state": _state(attempt),
        "reason": outcome.reason if isinstance(outcome, CallFailed) else None,
        "winner": outcome.winner if isinstance(outcome, CallAnswered) else None,
        "in_doubt": attempt.is_in_doubt,
        "provider": None if outcome is None else outcome.provider,
        "model": None if outcome is None else outcome.model,
        "provider_request_id": None if outcome is None else outcome.provider_request_id,
        "usage": None if outcome is None or outcome.usage is None else asdict(outcome.usage),
        "cost_usd": None if outcome is None else usd_of(outcome.cost_pusd),
        "response_storage_id": None if outcome is None else outcome.response_storage_id,
        "asked_at": None if outcome is None else instant(outcome.asked_at_ms),
        "took_ms": None if outcome is None else outcome.took_ms,
    }


def _state(attempt: "Attempt") -> str:
    if attempt.outcome is None:
        return "without_outcome" if attempt.is_in_doubt else "open"
    return "answered" if isinstance(attempt.outcome, CallAnswered) else "failed"
