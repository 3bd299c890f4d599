"""The result of a run that ends: a pure function of its records before JudgingStopped."""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack

from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CJBatchJudged,
    GradeProbability,
    Grading,
    JudgeAsked,
    JudgedAnchor,
    JudgedEssay,
    JudgeReport,
    ModelCalls,
    PromptDigest,
    ReasonCount,
    RecordRange,
    Reliability,
    ResultCost,
    ResultCounts,
    ResultProvenance,
)
from tables.judging.bradley_terry import BLAS, Fit, Floats, Integers
from tables.judging.diagnosis import Diagnosis, diagnose
from tables.judging.grade_projection import Grades, NoGrades, PupilGrade
from tables.judging.run import ITEMS_MIN, Run
from tables.judging.seeded import generator
from tables.judging.stopping_rule import Stop

DECIMALS = 6
RANK_DRAWS = 400
RANK_QUANTILES = (0.05, 0.95)
SAME_TEXT = "same_text"  # a flag: another essay of the run has this text, too
JITTER = 1e-8  # the covariance of centred scores is singular


@dataclass(frozen=True, eq=False)
class _Ranks:
    """rank, low, high (pupils,): 1 is the best, with its 90 % interval; percentile from 0 to 100."""

    rank: Integers
    low: Integers
    high: Integers
    percentile: Floats


def result_of(run: Run, stop: Stop, judging: RecordRange | None = None) -> CJBatchJudged:
    """judging: where the run's records are. A failed run has neither scores nor ranks."""
    opened = run.opened
    is_fitted = len(run.items) >= ITEMS_MIN and run.answers.count > 0
    diagnosis = _diagnosis(run) if is_fitted else None
    is_scored = is_fitted and stop.outcome != "failed"
    shared = _shared(run)
    grades = run.grades if is_scored or not run.opened.anchors else NoGrades("run_failed")
    return CJBatchJudged(
        event_id=f"{opened.run_id}/judged",
        batch_id=opened.batch_id,
        run_id=opened.run_id,
        engine=opened.engine,
        outcome=stop.outcome,
        reason=stop.reason,
        details=(),
        provenance=ResultProvenance(
            request=opened.request, batch=opened.batch, anchors=opened.anchors_from, judging=judging
        ),
        context=opened.context,
        judge=_judge(run),
        reliability=_reliability(run.scores.fit, diagnosis) if diagnosis else None,
        grading=_grading(grades),
        counts=_counts(run),
        cost=_cost(run),
        prompts=_prompts(run),
        essays=_essays(run, diagnosis if is_scored else None, grades, shared),
        anchors=_anchors(run, diagnosis if is_scored else None, grades),
        flags=(*(diagnosis.flags if diagnosis else ()), *((SAME_TEXT,) if shared else ())),
    )


def _diagnosis(run: Run) -> Diagnosis:
    wave = [
        number for number, wave in enumerate(run.waves) for one in wave.comparisons if one.answer
    ]
    models = {one.answer.model for one in run.comparisons if one.answer}
    with BLAS.limit(limits=1, user_api="blas"):
        return diagnose(run.answers, run.scores.fit, run.pairs, np.array(wave), len(models))


def _judge(run: Run) -> JudgeReport:
    judge = run.opened.judge
    used = Counter(
        (attempt.outcome.provider, attempt.outcome.model)
        for one in run.comparisons
        for attempt in one.attempts
        if isinstance(attempt.outcome, CallAnswered)
    )
    return JudgeReport(
        asked=JudgeAsked(provider=judge.provider, model=judge.model),
        used=tuple(
            ModelCalls(provider=provider, model=model, calls=calls)
            for (provider, model), calls in sorted(used.items())
        ),
        judge_sha256=judge.judge_sha256,
        parameters=judge.parameters,
    )


def _reliability(fit: Fit, diagnosis: Diagnosis) -> Reliability:
    return Reliability(
        pr=_published(fit.pr),
        bound=_published(fit.bound),
        ssr=_published(fit.ssr),
        spread=_published(fit.spread),
        p_no_spread=_published(fit.p_no_spread),
        delta=_published(fit.delta),
        delta_se=_published(fit.delta_se),
        consistency=None if diagnosis.consistency is None else _published(diagnosis.consistency),
    )


def _grading(grades: Grades | NoGrades | None) -> Grading:
    """status: not_asked without a grade scale, none with the reason, or graded."""
    match grades:
        case None:
            return Grading(status="not_asked", flags=(), thresholds=())
        case NoGrades():
            return Grading(status="none", reason=grades.reason, flags=grades.flags, thresholds=())
    return Grading(
        status="graded",
        flags=grades.flags,
        sigma=_published(grades.sigma),
        thresholds=tuple(map(_published, grades.thresholds)),
    )


def _counts(run: Run) -> ResultCounts:
    failed = Counter(
        attempt.outcome.reason
        for one in run.comparisons
        for attempt in one.attempts
        if isinstance(attempt.outcome, CallFailed)
    )
    return ResultCounts(
        comparisons=run.planned,
        answered=sum(one.is_answered for one in run.comparisons),
        lost=sum(one.is_lost for one in run.comparisons),
        calls=sum(len(one.attempts) for one in run.comparisons),
        failed=tuple(ReasonCount(reason=reason, calls=n) for reason, n in sorted(failed.items())),
    )


def _cost(run: Run) -> ResultCost:
    """What is still reserved belongs to calls of a process that is gone: it is in doubt, too."""
    ledger, judge = run.ledger, run.opened.judge
    is_priced = judge.prices is not None
    return ResultCost(
        spent_pusd=ledger.spent_pusd if is_priced else None,
        unknown_calls=ledger.unknown_calls,
        in_doubt_pusd=ledger.in_doubt_pusd + ledger.reserved_pusd if is_priced else None,
        tokens=ledger.tokens,
        price_id=judge.price_id,
    )


def _prompts(run: Run) -> PromptDigest:
    prompts = {call.intent.prompt_sha256 for one in run.comparisons for call in one.attempts}
    digest = hashlib.sha256("".join(sorted(prompts)).encode()).hexdigest()
    return PromptDigest(count=len(prompts), digest=digest)


def _shared(run: Run) -> frozenset[str]:
    """The texts that several essays have."""
    counts = Counter(essay.storage_id for essay in run.opened.essays)
    return frozenset(text for text, count in counts.items() if count > 1)


def _essays(
    run: Run,
    diagnosis: Diagnosis | None,
    grades: Grades | NoGrades | None,
    shared: Collection[str],
) -> tuple[JudgedEssay, ...]:
    shown_first, comparisons = _appearances(run)
    same_text = [(SAME_TEXT,) if one.storage_id in shared else () for one in run.opened.essays]
    if diagnosis is None:
        return tuple(
            JudgedEssay(
                essay_id=essay.id,
                comparisons=int(comparisons[item]),
                shown_first=int(shown_first[item]),
                distribution=(),
                set_90=(),
                flags=same_text[item],
            )
            for item, essay in enumerate(run.opened.essays)
        )
    fit = run.scores.fit
    ranks = _ranks(fit, len(run.opened.essays), run.opened.seed)
    scored = tuple(
        JudgedEssay(
            essay_id=essay.id,
            rank=int(ranks.rank[item]),
            rank_low=int(ranks.low[item]),
            rank_high=int(ranks.high[item]),
            theta=_published(fit.theta[item]),
            se=_published(fit.se[item]),
            comparisons=int(comparisons[item]),
            shown_first=int(shown_first[item]),
            percentile=_published(ranks.percentile[item]),
            distribution=(),
            set_90=(),
            infit=_published(diagnosis.items.infit[item]),
            flags=(*(("misfit",) if diagnosis.is_misfit[item] else ()), *same_text[item]),
        )
        for item, essay in enumerate(run.opened.essays)
    )
    if not isinstance(grades, Grades):
        return scored
    grade_min = run.targets.grade_min
    return tuple(
        _graded(essay, pupil, grade_min) for essay, pupil in zip(scored, grades.pupils, strict=True)
    )


def _graded(essay: JudgedEssay, pupil: PupilGrade, grade_min: float) -> JudgedEssay:
    """grade_min: the probability that a grade needs."""
    is_decided = pupil.probability >= grade_min
    return replace(
        essay,
        grade=pupil.grade if is_decided else None,
        grade_probability=pupil.probability if is_decided else None,
        grade_label=pupil.label if is_decided else None,
        grade_reason=None if is_decided else "undecided",
        distribution=tuple(GradeProbability(grade=grade, p=p) for grade, p in pupil.distribution),
        set_90=pupil.set_90,
    )


def _anchors(
    run: Run, diagnosis: Diagnosis | None, grades: Grades | NoGrades | None
) -> tuple[JudgedAnchor, ...]:
    _, comparisons = _appearances(run)
    counted = tuple(
        JudgedAnchor(
            anchor_id=anchor.id,
            grade=anchor.grade or "",
            comparisons=int(comparisons[item]),
            flags=(),
        )
        for item, anchor in enumerate(run.opened.anchors, len(run.opened.essays))
    )
    if diagnosis is None:
        return counted
    fit, start = run.scores.fit, len(run.opened.essays)
    own = grades.own_probability if isinstance(grades, Grades) else None
    return tuple(
        replace(
            anchor,
            theta=_published(fit.theta[start + number]),
            se=_published(fit.se[start + number]),
            own_probability=None if own is None else _published(own[number]),
            flags=_anchor_flags(
                is_misfit=bool(diagnosis.is_misfit[start + number]),
                is_misplaced=isinstance(grades, Grades) and grades.is_misplaced[number],
            ),
        )
        for number, anchor in enumerate(counted)
    )


def _anchor_flags(*, is_misfit: bool, is_misplaced: bool) -> tuple[str, ...]:
    flags = {"misfit": is_misfit, "anchor_misplaced": is_misplaced}
    return tuple(name for name, is_raised in flags.items() if is_raised)


def _appearances(run: Run) -> tuple[Integers, Integers]:
    """How often each item was shown first, and compared at all, in answered comparisons (n,)."""
    answers = run.answers
    as_first = np.bincount(answers.first, minlength=answers.items)
    return as_first, as_first + np.bincount(answers.second, minlength=answers.items)


def _ranks(fit: Fit, essays: int, seed: int) -> _Ranks:
    theta = np.round(fit.theta[:essays], DECIMALS)
    better = (theta[None, :] > theta[:, None]).sum(axis=1)
    equal = (theta[None, :] == theta[:, None]).sum(axis=1)
    drawn = _draws(fit, essays, seed)
    order = np.argsort(np.argsort(-drawn, axis=0, kind="stable"), axis=0, kind="stable") + 1
    low, high = np.quantile(order, RANK_QUANTILES, axis=1, method="inverted_cdf")
    return _Ranks(
        rank=better + 1,
        low=np.minimum(low, better + 1),
        high=np.maximum(high, better + 1),
        percentile=100.0 * (essays - better - 0.5 * equal) / essays,
    )


def _draws(fit: Fit, essays: int, seed: int) -> Floats:
    """Scores (essays, draws) from the normal distribution with this mean and covariance.

    A common shift of all scores changes no rank; adding one makes the covariance positive definite.
    """
    n = len(fit.theta)
    cov = fit.cov + fit.error_variance + (JITTER + 1e-6 * fit.error_variance) * np.eye(n)
    with BLAS.limit(limits=1, user_api="blas"):
        factor, failed_at = lapack.dpotrf(cov, lower=1)
        if failed_at:
            raise ArithmeticError(f"not positive definite in row {failed_at}")
        normal = generator(seed, "ranks").standard_normal((n, RANK_DRAWS))
        return np.asarray((fit.theta[:, None] + factor @ normal)[:essays])


def _published(value: float) -> float:
    """Rounded to 1e-6; there is no -0."""
    return round(float(value), DECIMALS) + 0.0
