"""The response bodies of the results routes. Money is in US dollars, as texts with twelve decimals; null is unknown."""

from typing import Any, Literal

from tools.api.responses.response_models import Page, ResponseModel, Source


class Detail(ResponseModel):
    """What exactly was wrong, and where."""

    path: str
    code: str


class Records(ResponseModel):
    """The positions [start, end) of one partition."""

    topic: str
    partition: int
    start: int
    end: int


class ResultProvenance(ResponseModel):
    """The records that a result was made of."""

    request: Source
    batch: Source
    anchors: Source | None
    judging: Records | None


class JudgingContext(ResponseModel):
    """The assignment context: sources, and storage ids of the texts."""

    assignment_id: str | None
    context_source: str
    prompt_source: str
    student_prompt: str | None
    instructions: str | None
    judge_rubric: str | None
    grade_scale: str | None


class JudgeAsked(ResponseModel):
    """A provider and one of its models."""

    provider: str
    model: str


class ModelCalls(JudgeAsked):
    """How many calls a model answered, named as returned."""

    calls: int


class JudgeReport(ResponseModel):
    """The judge that was asked, and the models that answered."""

    asked: JudgeAsked
    used: list[ModelCalls]
    judge_sha256: str
    parameters: dict[str, Any]


class Reliability(ResponseModel):
    """How sure the scores are; `bound` is the 5 % quantile of r², `delta` the advantage of the item shown first."""

    pr: float
    bound: float
    ssr: float
    spread: float
    p_no_spread: float
    delta: float
    delta_se: float
    consistency: float | None


class Grading(ResponseModel):
    """How the grades were made, or why there are none."""

    status: str
    reason: str | None
    flags: list[str]
    sigma: float | None
    thresholds: list[float]


class ReasonCount(ResponseModel):
    """Failed calls of one reason."""

    reason: str
    calls: int


class ResultCounts(ResponseModel):
    """Comparisons and calls of a run."""

    comparisons: int
    answered: int
    lost: int
    calls: int
    failed: list[ReasonCount]


class Tokens(ResponseModel):
    """Tokens by class; reasoning is part of output."""

    input: int
    cache_write: int
    cache_read: int
    output: int
    reasoning: int


class ResultCost(ResponseModel):
    """The cost of a run; `unknown_calls` have no usage and count at their bound."""

    spent_usd: str | None
    unknown_calls: int
    in_doubt_usd: str | None
    tokens: Tokens
    price_id: str | None


class PromptDigest(ResponseModel):
    """The distinct prompts of a run."""

    count: int
    digest: str


class GradeProbability(ResponseModel):
    """The probability of one grade."""

    grade: str
    p: float


class JudgedEssay(ResponseModel):
    """The score of one essay, with the 90 % interval of its rank; null if the run failed."""

    essay_id: str
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    theta: float | None
    se: float | None
    comparisons: int
    shown_first: int
    percentile: float | None
    grade: str | None
    grade_probability: float | None
    grade_label: str | None
    grade_reason: str | None
    distribution: list[GradeProbability]
    set_90: list[str]
    infit: float | None
    flags: list[str]


class JudgedAnchor(ResponseModel):
    """The score of one anchor."""

    anchor_id: str
    grade: str
    theta: float | None
    se: float | None
    comparisons: int
    own_probability: float | None
    flags: list[str]


Outcome = Literal["complete", "partial", "failed", "refused"]


class Result(ResponseModel):
    """The result of a batch."""

    at: str
    judged_at: str
    event_id: str
    batch_id: str
    run_id: str
    engine: int
    outcome: Outcome
    reason: str
    details: list[Detail]
    provenance: ResultProvenance
    context: JudgingContext
    judge: JudgeReport | None
    reliability: Reliability | None
    grading: Grading | None
    counts: ResultCounts
    cost: ResultCost
    prompts: PromptDigest
    essays: list[JudgedEssay]
    anchors: list[JudgedAnchor]
    flags: list[str]


class ResultSummary(ResponseModel):
    """A result as one row of a list."""

    batch_id: str
    run_id: str
    assignment_id: str | None
    outcome: Outcome
    reason: str
    judge: str | None
    essays: int
    bound: float | None
    calls: int
    spent_usd: str | None
    judged_at: str
    at: str


class ResultPage(Page):
    """One page of results, newest first."""

    items: list[ResultSummary]


class Ledger(ResponseModel):
    """What a run has cost, what is in doubt, and what its open calls may cost."""

    spent_usd: str | None
    in_doubt_usd: str | None
    reserved_usd: str | None
    max_cost_usd: str | None
    unknown_calls: int
    tokens: Tokens
    price_id: str | None


class Progress(Ledger):
    """How far an open run is."""

    run_id: str
    opened_at: str
    deadline: str
    essays: int
    waves: int
    comparisons: int
    answered: int


class Unresolved(ResponseModel):
    """What an unresolved batch lacked."""

    scope_key: str
    missing: list[str]
    at: str


class BatchStatus(ResponseModel):
    """What is known last of a batch; the member of its state is there, the others are left out."""

    batch_id: str
    state: Literal["unknown", "unresolved", "judging", "judged"]
    since: str | None
    unresolved: Unresolved | None = None
    progress: Progress | None = None
    result: ResultSummary | None = None


class Comparison(ResponseModel):
    """One comparison; `p_first` is the probability, by the scores, that the first wins, `residual` 1 or 0 minus it."""

    number: int
    wave: int
    purpose: Literal["cover", "inform", "audit"]
    first_id: str
    second_id: str
    state: Literal["open", "answered", "lost"]
    winner: Literal["first", "second"] | None
    confidence: int | None
    p_first: float | None
    residual: float | None
    attempts: int


class OfRun(Page):
    """The batch and the run that a page belongs to."""

    batch_id: str
    run_id: str


class ComparisonPage(OfRun):
    """One page of a run's comparisons, by number."""

    items: list[Comparison]


class Call(ResponseModel):
    """One call to a judge: what was intended, and its outcome."""

    number: int
    attempt: int
    prompt_sha256: str
    bound_usd: str | None
    state: Literal["open", "answered", "failed", "without_outcome"]
    reason: str | None
    winner: Literal["first", "second"] | None
    in_doubt: bool
    provider: str | None
    model: str | None
    provider_request_id: str | None
    usage: Tokens | None
    cost_usd: str | None
    response_storage_id: str | None
    asked_at: str | None
    took_ms: int | None


class LedgerPage(Ledger, OfRun):
    """A run's ledger, and one page of its calls, by comparison and attempt."""

    items: list[Call]
