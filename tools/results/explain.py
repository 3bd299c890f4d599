"""`cjstream results explain`: the comparisons of one essay, and how far each answer was from what the scores expect."""

from dataclasses import asdict
from typing import Any

from processors.log.judging_log import JudgingLog
from schemas.codec import Codec
from schemas.errors import Discrepancy
from tables.judging.run import Run
from tools.results.documents import Document, comparison_documents
from tools.results.lookup import run_of_batch


def explain(
    log: JudgingLog, codec: Codec, batch_id: str, essay_id: str, run_id: str | None = None
) -> Document:
    """An essay or anchor and its comparisons. Raises Discrepancy if the log does not have it, and Unreachable."""
    run, found = run_of_batch(log, codec, batch_id, run_id)
    if essay_id not in {item.id for item in run.items}:
        raise Discrepancy(f"batch {batch_id} has no essay or anchor {essay_id}")
    result = found.result if found else None
    scored = {one.essay_id: asdict(one) for one in result.essays} if result else {}
    scored |= {one.anchor_id: asdict(one) for one in result.anchors} if result else {}
    return {
        "batch_id": batch_id,
        "run_id": run.opened.run_id,
        "outcome": result.outcome if result else "judging",
        "essay_id": essay_id,
        "score": scored.get(essay_id),
        "comparisons": comparisons_of(run, essay_id),
    }


def comparisons_of(run: Run, essay_id: str) -> list[dict[str, Any]]:
    """As one item sees them: `expected` is the probability that it wins, `residual` is 1 or 0 minus that."""
    thetas = dict(
        zip(
            (item.id for item in run.items),
            run.scores.fit.theta.round(6).tolist() if run.answers.count else [],
            strict=False,
        )
    )
    return [
        _seen_by(essay_id, one, thetas)
        for one in comparison_documents(run)
        if essay_id in (one["first_id"], one["second_id"])
    ]


def _seen_by(essay_id: str, one: Document, thetas: dict[str, float]) -> Document:
    shown = "first" if one["first_id"] == essay_id else "second"
    opponent = one["second_id" if shown == "first" else "first_id"]
    sign, p_first = 1 if shown == "first" else -1, one["p_first"]
    expected = None if p_first is None else p_first if shown == "first" else 1 - p_first
    return {
        **{name: one[name] for name in ("number", "wave", "purpose", "state", "attempts")},
        "shown": shown,
        "opponent_id": opponent,
        "opponent_theta": thetas.get(opponent),
        "won": None if one["winner"] is None else one["winner"] == shown,
        "confidence": one["confidence"],
        "expected": None if expected is None else round(expected, 6),
        "residual": None if one["residual"] is None else sign * one["residual"],
    }
