"""The parts of an artefact that tell of the judging: comparisons, scores, grades, costs and calls. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import orjson

from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CJBatchJudged,
    JudgedAnchor,
    JudgedEssay,
)
from schemas.models import CLASSES, usd_of
from tables.judging.cost_ledger import NO_TOKENS
from tables.judging.run import Attempt, Run
from tools.audit_json import instant
from tools.results.documents import call_documents
from tools.results.documents import comparison_documents as planned_comparisons
from tools.results.documents import ledger_document as money_document
from tools.runner.estimate import estimate_document, revised_estimate
from tools.runner.judged_run import JudgedRun, WaveEnd

Document = dict[str, Any]
SIMULATED = "simulated"
SCORES = (
    "rank",
    "rank_low",
    "rank_high",
    "theta",
    "se",
    "comparisons",
    "shown_first",
    "percentile",
    "infit",
)
GRADES = ("grade", "grade_probability", "grade_label", "grade_reason")


def comparison_documents(judged: JudgedRun) -> list[Document]:
    """Every planned comparison, by number; winner_id is null if no valid answer came."""
    run = judged.run
    if run is None:
        return []
    documents = []
    for one, planned in zip(run.comparisons, planned_comparisons(run), strict=True):
        winner = planned.pop("winner")
        answer = one.answer
        last = one.attempts[-1].outcome if one.attempts else None
        deciding = answer or last
        at = judged.at.get((deciding.number, deciding.attempt)) if deciding else None
        documents.append(
            {
                **planned,
                "winner_id": planned[f"{winner}_id"] if winner else None,
                "failure": last.reason if answer is None and isinstance(last, CallFailed) else None,
                "attempt": deciding.attempt if deciding else None,
                "prompt_sha256": one.attempts[-1].intent.prompt_sha256 if one.attempts else None,
                "provider": deciding.provider if deciding else None,
                "model": deciding.model if deciding else None,
                "at": str(at) if at else None,
            }
        )
    return documents


def score_document(judged: JudgedRun) -> Document:
    """Scores and ranks of essays; anchors and pupils never share a list."""
    result = judged.result
    return {
        "is_provisional": judged.is_provisional,
        "reliability": asdict(result.reliability) if result and result.reliability else None,
        "counts": _counts(result) if result else None,
        "flags": list(result.flags) if result else [],
        "essays": [_essay_scores(one) for one in result.essays] if result else [],
        "waves": [_wave(number, end) for number, end in enumerate(judged.waves, 1)],
    }


def grade_document(judged: JudgedRun) -> Document:
    """Grades of essays as distributions, and how the anchors were placed."""
    result = judged.result
    grading = result.grading if result else None
    return {
        "grade_scale": result.context.grade_scale if result else None,
        "status": grading.status if grading else None,
        "reason": grading.reason if grading else None,
        "flags": list(grading.flags) if grading else [],
        "sigma": grading.sigma if grading else None,
        "thresholds": list(grading.thresholds) if grading else [],
        "essays": [_essay_grade(one) for one in result.essays] if result else [],
        "anchors": [_anchor(one) for one in result.anchors] if result else [],
    }


def cost_document(judged: JudgedRun) -> Document:
    """Costs by provider, model and token class; calls without usage count at their bound."""
    run = judged.run
    has_price = run is not None and run.opened.judge.prices is not None
    revised = revised_estimate(run) if run else None
    return {
        "currency": "USD",
        "is_simulated": run is not None and run.opened.judge.provider == SIMULATED,
        "rows": list(_cost_rows(run)) if run else [],
        "without_usage": _without_usage(run, has_price),
        "spent_usd": usd_of(run.ledger.spent_pusd if run and has_price else None),
        "estimate_after_wave_1": estimate_document(revised) if revised else None,
    }


def ledger_document(judged: JudgedRun) -> Document:
    """Spent, in doubt and reserved money, and every call."""
    run = judged.run
    if run is None:
        money: Document = {
            "spent_usd": None,
            "in_doubt_usd": None,
            "reserved_usd": None,
            "max_cost_usd": None,
            "unknown_calls": 0,
            "tokens": asdict(NO_TOKENS),
            "price_id": None,
        }
        return {**money, "calls": []}
    calls = []
    for call in call_documents(run):
        at = judged.at.get((call["number"], call["attempt"]))
        calls.append({**call, "at": str(at) if at else None})
    return {**money_document(run), "calls": calls}


def judging_document(judged: JudgedRun) -> Document | None:
    """The judge, the prompts, the context and the limits of the run; None if it was never opened."""
    run, result = judged.run, judged.result
    if run is None:
        return _refusal(result) if result else None
    opened, judge = run.opened, run.opened.judge
    return {
        "details": _details(result),
        "judge": {
            "provider": judge.provider,
            "model": judge.model,
            "adapter": judge.adapter,
            "base_url": judge.base_url,
            "parameters": orjson.loads(judge.parameters),
            "answer_method": judge.answer_method,
            "context_window": judge.context_window,
            "max_output_tokens": judge.max_output_tokens,
            "judge_sha256": judge.judge_sha256,
        },
        "used": [asdict(one) for one in result.judge.used] if result and result.judge else [],
        "prompt": asdict(opened.prompt),
        "prompts": asdict(result.prompts) if result else None,
        "context": asdict(opened.context),
        "anchors_from": str(opened.anchors_from) if opened.anchors_from else None,
        "anchors_position": opened.anchors_position,
        "policy": orjson.loads(opened.policy),
        "max_comparisons": opened.max_comparisons,
        "opened_at": instant(opened.opened_at_ms),
        "deadline": instant(opened.deadline_at_ms),
        "decided_at": instant(run.stopped.decided_at_ms) if run.stopped else None,
        "result_sha256": run.stopped.result_sha256 if run.stopped else None,
        "warnings": list(opened.warnings),
    }


def _refusal(result: CJBatchJudged) -> Document:
    """What is known of a batch that was refused: nothing was asked."""
    return {
        "details": _details(result),
        "judge": None,
        "used": [],
        "prompt": None,
        "prompts": asdict(result.prompts),
        "context": asdict(result.context),
        "anchors_from": None,
        "anchors_position": None,
        "policy": {},
        "max_comparisons": None,
        "opened_at": None,
        "deadline": None,
        "decided_at": None,
        "result_sha256": None,
        "warnings": [],
    }


def _details(result: CJBatchJudged | None) -> list[Document]:
    return [asdict(detail) for detail in result.details] if result else []


def _counts(result: CJBatchJudged) -> Document:
    return {**asdict(result.counts), "failed": [asdict(one) for one in result.counts.failed]}


def _essay_scores(essay: JudgedEssay) -> Document:
    scores = {name: getattr(essay, name) for name in SCORES}
    return {"essay_id": essay.essay_id, **scores, "flags": list(essay.flags)}


def _essay_grade(essay: JudgedEssay) -> Document:
    return {
        "essay_id": essay.essay_id,
        **{name: getattr(essay, name) for name in GRADES},
        "distribution": [asdict(one) for one in essay.distribution],
        "set_90": list(essay.set_90),
    }


def _anchor(anchor: JudgedAnchor) -> Document:
    return {**asdict(anchor), "flags": list(anchor.flags)}


def _wave(number: int, end: WaveEnd) -> Document:
    wave = end.run.waves[number - 1]
    fit = end.scores.fit if end.run.answers.count else None
    return {
        "wave": number,
        "planned_at": instant(end.planned_at_ms),
        "comparisons": len(wave.comparisons),
        "answered_so_far": end.run.answers.count,
        "bound": None if fit is None else _published(fit.bound),
        "pr": None if fit is None else _published(fit.pr),
        "spread": None if fit is None else _published(fit.spread),
        "spent_usd": money_document(end.run)["spent_usd"],
    }


def _published(value: float) -> float:
    """Rounded to 1e-6; there is no -0."""
    return round(value, 6) + 0.0


def _outcomes(run: Run) -> Iterator[tuple[Attempt, CallAnswered | CallFailed]]:
    for one in run.comparisons:
        for attempt in one.attempts:
            if attempt.outcome is not None:
                yield attempt, attempt.outcome


def _cost_rows(run: Run) -> Iterator[Document]:
    tokens: dict[tuple[str, str, str], int] = defaultdict(int)
    for _, outcome in _outcomes(run):
        if outcome.usage is not None and outcome.cost_pusd != 0:
            for name in CLASSES:
                key = outcome.provider, outcome.model, name
                tokens[key] += getattr(outcome.usage, name)
    prices = run.opened.judge.prices
    for (provider, model, name), count in sorted(tokens.items()):
        price: int | None = getattr(prices, name) if prices else None
        yield {
            "provider": provider,
            "model": model,
            "class": name,
            "tokens": count,
            "price_usd_per_token": usd_of(price),
            "cost_usd": usd_of(None if price is None else count * price),
        }


def _without_usage(run: Run | None, has_price: bool) -> Document:
    """Calls whose cost nobody named: each counts at its bound."""
    unknown = [
        attempt.intent.bound_pusd or 0
        for attempt, outcome in (_outcomes(run) if run else ())
        if outcome.cost_pusd is None and not attempt.is_in_doubt
    ]
    return {"calls": len(unknown), "bound_usd": usd_of(sum(unknown) if has_price else None)}
