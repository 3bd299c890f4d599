"""The records of judging: what was planned, asked and answered, and the result of a batch.

Money is in pico-dollars; None is unknown. Times are milliseconds since the epoch. Texts are named by their storage ids.
"""

from dataclasses import dataclass

from schemas.coordinates import Coordinates


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """Prices in pico-dollars per token (1 USD per million tokens is 1,000,000), by token class."""

    input: int
    cache_write: int
    cache_read: int
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The judge of a run, with everything that its answers depend on."""

    provider: str
    model: str
    adapter: str
    base_url: str | None = None  # without user and query
    parameters: str  # canonical JSON (RFC 8785)
    answer_method: str
    context_window: int
    max_output_tokens: int
    price_id: str | None = None
    prices: TokenPrices | None = None
    judge_sha256: str  # of the request without the two essays


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """The recipe of the prompt, and the storage ids of its texts."""

    recipe: int
    task: str | None = None
    criteria: str | None = None
    rubric: str | None = None
    system: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingContext:
    """The assignment context of a run: sources, and storage ids of the texts."""

    assignment_id: str | None = None
    context_source: str  # assignment, course or guest
    prompt_source: str  # request, assignment or none
    student_prompt: str | None = None
    instructions: str | None = None
    judge_rubric: str | None = None
    grade_scale: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunItem:
    """An essay or anchor of a run. Items are numbered: essays in request order, then anchors by id."""

    id: str
    grade: str | None = None  # of an anchor
    storage_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingOpened:
    """The judging of a prepared batch began. run_id is the event_id of its CJBatchPrepared."""

    run_id: str
    batch_id: str
    batch: Coordinates
    batch_key: bytes | None = None  # key of the batch's record, and of its result
    request: Coordinates
    opened_at_ms: int
    engine: int  # which formulas; every released engine stays runnable
    seed: int
    judge: Judge
    prompt: JudgePrompt
    context: JudgingContext
    essays: tuple[RunItem, ...]
    anchors: tuple[RunItem, ...]
    anchors_from: Coordinates | None = None  # the upload of the anchors
    anchors_position: int  # position in the anchors' partition at which they were looked up
    policy: str  # canonical JSON (RFC 8785)
    max_comparisons: int
    max_cost_pusd: int | None = None
    deadline_at_ms: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedComparison:
    """One question: which of two items is better. The first is shown as A, the second as B."""

    number: int  # from 0 in its run
    first: int  # item number
    second: int  # item number
    purpose: str  # cover, inform or audit


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePlanned:
    """Comparisons of a run were planned together."""

    run_id: str
    wave: int  # from 1
    comparisons: tuple[PlannedComparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntendedCall:
    """A call that may be sent from now on."""

    number: int  # of the comparison
    attempt: int  # from 1
    prompt_sha256: str
    bound_pusd: int | None = None  # highest possible cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsIntended:
    """Calls to the judge were decided on; each is sent after this record is committed."""

    run_id: str
    mode: str  # live or batch
    calls: tuple[IntendedCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of one call or of several. The first four classes are disjoint; reasoning is part of output."""

    input: int
    cache_write: int
    cache_read: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered:
    """A judge named the better of two items."""

    run_id: str
    number: int
    attempt: int
    first_id: str
    second_id: str
    winner: str  # first or second
    confidence: int | None = None  # 1 to 5
    prompt_sha256: str
    provider: str
    model: str  # as returned; as asked if nothing came back
    provider_request_id: str | None = None
    usage: TokenUsage | None = None
    cost_pusd: int | None = None  # None: unknown
    price_id: str | None = None
    response_storage_id: str | None = None
    asked_at_ms: int
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """A call to a judge brought no winner."""

    run_id: str
    number: int
    attempt: int
    first_id: str
    second_id: str
    prompt_sha256: str
    provider: str
    model: str  # as returned; as asked if nothing came back
    provider_request_id: str | None = None
    usage: TokenUsage | None = None
    cost_pusd: int | None = None  # None: unknown
    price_id: str | None = None
    response_storage_id: str | None = None
    asked_at_ms: int
    took_ms: int
    reason: str
    will_retry: bool
    http_status: int | None = None
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingStopped:
    """The judging of a run ended; its result is in the same transaction."""

    run_id: str
    outcome: str  # complete, partial or failed
    reason: str
    decided_at_ms: int  # the broker's clock
    result_sha256: str  # of the Avro body of the CJBatchJudged


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDetail:
    """What exactly was wrong, and where."""

    path: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRange:
    """The positions [start, end) of one partition."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultProvenance:
    """The records that a result was made of."""

    request: Coordinates
    batch: Coordinates
    anchors: Coordinates | None = None
    judging: RecordRange | None = None  # the run's records; None: there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAsked:
    """A provider and one of its models."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalls:
    """How many calls a model answered, named as returned."""

    provider: str
    model: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """The judge that was asked, and the models that answered."""

    asked: JudgeAsked
    used: tuple[ModelCalls, ...]
    judge_sha256: str
    parameters: str  # canonical JSON (RFC 8785)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How sure the scores are."""

    pr: float
    bound: float  # 5 % quantile of r²
    ssr: float
    spread: float
    p_no_spread: float
    delta: float  # advantage of the item shown first, in logits
    delta_se: float
    consistency: float | None = None  # of repeated comparisons; None: there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """How the grades were made, or why there are none."""

    status: str
    reason: str | None = None
    flags: tuple[str, ...]
    sigma: float | None = None
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """Failed calls of one reason."""

    reason: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCounts:
    """Comparisons and calls of a run."""

    comparisons: int
    answered: int
    lost: int
    calls: int
    failed: tuple[ReasonCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCost:
    """The cost of a run. None: unknown, because no price is known."""

    spent_pusd: int | None = None
    unknown_calls: int  # calls without usage, counted at their bound
    in_doubt_pusd: int | None = None
    tokens: TokenUsage
    price_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDigest:
    """The distinct prompts of a run."""

    count: int
    digest: str  # sha256 of the sorted prompt_sha256s


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeProbability:
    """The probability of one grade."""

    grade: str
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEssay:
    """The score of one essay."""

    essay_id: str
    rank: int | None = None
    rank_low: int | None = None  # of the 90 % interval
    rank_high: int | None = None  # of the 90 % interval
    theta: float | None = None  # logits
    se: float | None = None
    comparisons: int
    shown_first: int
    percentile: float | None = None
    grade: str | None = None
    grade_probability: float | None = None
    grade_label: str | None = None  # HIGH, MID or LOW
    grade_reason: str | None = None  # why there is no grade
    distribution: tuple[GradeProbability, ...]
    set_90: tuple[str, ...]  # the fewest grades with a probability of 90 %
    infit: float | None = None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnchor:
    """The score of one anchor."""

    anchor_id: str
    grade: str
    theta: float | None = None
    se: float | None = None
    comparisons: int
    own_probability: float | None = None  # of its own grade, without itself
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CJBatchJudged:
    """The result of a prepared batch: scores, ranks, grades, and what they rest on."""

    event_id: str
    batch_id: str
    run_id: str
    engine: int
    outcome: str  # complete, partial, failed or refused
    reason: str
    details: tuple[ResultDetail, ...]
    provenance: ResultProvenance
    context: JudgingContext
    judge: JudgeReport | None = None
    reliability: Reliability | None = None
    grading: Grading | None = None
    counts: ResultCounts
    cost: ResultCost
    prompts: PromptDigest
    essays: tuple[JudgedEssay, ...]
    anchors: tuple[JudgedAnchor, ...]
    flags: tuple[str, ...]


JudgingEvent = (
    JudgingOpened | WavePlanned | CallsIntended | CallAnswered | CallFailed | JudgingStopped
)
