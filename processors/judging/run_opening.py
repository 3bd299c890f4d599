"""Opens the run of a prepared batch, or refuses the batch with every reason. Pure.

A batch is never judged smaller than it is: if one text is missing, of an anchor too, the whole batch is refused.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processors.judging.judges.judge import Prompt
from processors.judging.prompt import (
    RECIPE,
    AskedJudge,
    PromptTexts,
    build_prompt,
    judge_sha256,
    prompt_bytes,
)
from processors.judging.run_items import (
    Gathered,
    anchor_items,
    context_texts,
    essay_items,
    item_texts,
    path_of,
    path_of_anchor,
    usable_anchors,
)
from schemas.canonical_json import canonical_json
from schemas.coordinates import Coordinates
from schemas.events import CJBatchPrepared, Essay
from schemas.judging_events import (
    CJBatchJudged,
    Judge,
    JudgePrompt,
    JudgingContext,
    JudgingOpened,
    PromptDigest,
    ResultCost,
    ResultCounts,
    ResultDetail,
    ResultProvenance,
    TokenUsage,
)
from schemas.models import Model, Models
from schemas.overrides import JudgingLimits, Overrides, read_overrides
from tables.anchors import AnchorsFound

ENGINE = 1
BYTES_PER_TOKEN = (
    3  # fewer than in any language that pupils write in: a pair that may not fit is refused
)
AUDITED_SHARE = 0.05  # comparisons beside those that per_item_max counts
SEED_BITS = 53  # exact in every JSON parser
UNKNOWN_GRADE = "anchors_with_unknown_grade"  # a warning: they are left out
NO_TOKENS = TokenUsage(input=0, cache_write=0, cache_read=0, output=0, reasoning=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingPolicy:
    """How this installation judges. quorum: the share of a wave's comparisons that must be settled."""

    models: Models
    default: Model  # the judge of requests that want none
    limits: JudgingLimits
    items_max: int
    guests_allowed: bool
    target_bound: float = 0.70
    quorum: float = 0.9
    simulated_quorum: float = 1.0


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A record of the batches topic."""

    at: Coordinates
    key: bytes | None
    event: CJBatchPrepared


@dataclass(frozen=True, slots=True)
class Opened:
    """The first record of a run, and the texts that its request brought: they must be stored before it is appended."""

    record: JudgingOpened
    own_texts: tuple[str, ...]


def open_run(
    batch: PreparedBatch, gathered: Gathered, policy: JudgingPolicy, opened_at_ms: int
) -> Opened | CJBatchJudged:
    """The first record of the batch's run, or the result that refuses it."""
    event = batch.event
    if event.processing_metadata.context_source == "guest" and not policy.guests_allowed:
        return refusal_of(batch, "guests_refused")
    items = item_texts(event, gathered.anchors)
    if len(items) > policy.items_max:
        return refusal_of(batch, "too_many_items")
    if repeated := _repeated(event.request.essays):
        return refusal_of(batch, "essays_repeated", repeated)
    if misnamed := _named_as_essays(event, gathered.anchors):
        return refusal_of(batch, "anchors_named_as_essays", misnamed)
    overrides = read_overrides(
        event.request.llm_config_overrides,
        policy.models,
        policy.default,
        policy.limits,
        event.processing_metadata.context_origin,
    )
    if not isinstance(overrides, Overrides):
        return refusal_of(batch, _reason_of(overrides), overrides)
    if unread := _unread(event, gathered):
        return refusal_of(batch, unread[0].code, unread)
    asked = asked_judge(overrides.model, overrides.parameters)
    seed = _seed(event, overrides)
    shared = build_prompt(asked, _prompt_texts(event, gathered.texts, overrides), "", "", seed, 0)
    if too_long := _too_long(items, gathered.sizes, shared, overrides.model):
        return refusal_of(batch, "texts_too_long", too_long)
    return Opened(
        _opened(batch, gathered, overrides, policy, opened_at_ms, shared),
        tuple(text for text in (overrides.system, overrides.rubric) if text is not None),
    )


def seed_of(run_id: str) -> int:
    """The seed of a run that brings none: the first 53 bits of the sha256 of its id."""
    digest = hashlib.sha256(run_id.encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - SEED_BITS)


def _seed(batch: CJBatchPrepared, overrides: Overrides) -> int:
    return seed_of(batch.event_id) if overrides.seed is None else overrides.seed


def asked_judge(model: Model, parameters: Mapping[str, object]) -> AskedJudge:
    """The judge that prompts are made for; parameters come on top of the model's own."""
    return AskedJudge(
        adapter=model.adapter,
        provider=model.provider,
        base_url=model.base_url,
        model=model.model,
        parameters={**model.parameters, **parameters},
        answer_method=model.answer_method,
    )


def _reason_of(faults: tuple[ResultDetail, ...]) -> str:
    """Why a batch with these overrides is refused: for its judge, for its price, or for anything else."""
    codes = {fault.code for fault in faults}
    if codes <= {"unknown_provider", "unknown_model"}:
        return "judge_unknown"
    return "price_unknown" if codes == {"price_unknown"} else "overrides_refused"


def _unread(batch: CJBatchPrepared, gathered: Gathered) -> tuple[ResultDetail, ...]:
    """Every text that could not be read: those of the context by role, then essays, then anchors."""
    named = (*context_texts(batch), *item_texts(batch, gathered.anchors))
    details = [
        ResultDetail(path=path, code=gathered.faults[text])
        for path, text in named
        if text in gathered.faults
    ]
    return tuple(sorted(details, key=lambda detail: detail.code))


def _repeated(essays: Sequence[Essay]) -> tuple[ResultDetail, ...]:
    """The ids that several essays have: only batches that an earlier release prepared have such ids."""
    counts = Counter(map(path_of, essays))
    return tuple(
        ResultDetail(path=path, code="essays_repeated") for path, n in counts.items() if n > 1
    )


def _named_as_essays(batch: CJBatchPrepared, found: AnchorsFound) -> tuple[ResultDetail, ...]:
    """The anchors with the id of an essay: every record of the run would name two items by it."""
    essays = {essay.essay_id for essay in batch.request.essays}
    usable = usable_anchors(found, batch.processing_metadata.grade_scale)
    return tuple(
        ResultDetail(path=path_of_anchor(anchor), code="anchors_named_as_essays")
        for anchor in usable
        if anchor.anchor_id in essays
    )


def _too_long(
    items: Sequence[tuple[str, str]], sizes: Mapping[str, int], shared: Prompt, model: Model
) -> tuple[ResultDetail, ...]:
    """The two longest items, if their prompt may not fit into the model's context window."""
    longest = sorted(items, key=lambda item: sizes[item[1]], reverse=True)[:2]
    size = prompt_bytes(shared) + sum(sizes[text] for _, text in longest)
    if -(-size // BYTES_PER_TOKEN) <= model.input_tokens_max:
        return ()
    return tuple(ResultDetail(path=path, code="texts_too_long") for path, _ in longest)


def _prompt_texts(
    batch: CJBatchPrepared, texts: Mapping[str, str], overrides: Overrides
) -> PromptTexts:
    metadata = batch.processing_metadata

    def text(storage_id: str | None) -> str | None:
        return None if storage_id is None else texts[storage_id]

    return PromptTexts(
        system=overrides.system,
        task=text(metadata.student_prompt_storage_id),
        criteria=text(metadata.instructions_storage_id),
        rubric=overrides.rubric or text(metadata.judge_rubric_storage_id),
    )


def _opened(
    batch: PreparedBatch,
    gathered: Gathered,
    overrides: Overrides,
    policy: JudgingPolicy,
    opened_at_ms: int,
    shared: Prompt,
) -> JudgingOpened:
    event, request, metadata = batch.event, batch.event.request, batch.event.processing_metadata
    per_item_max = overrides.per_item_max or policy.limits.per_item_max
    latest_ms = opened_at_ms + overrides.max_seconds * 1000
    found, scale, sizes = gathered.anchors, metadata.grade_scale, gathered.sizes
    essays, anchors = essay_items(event, sizes), anchor_items(found, scale, sizes)
    is_left_out = len(anchors) < len(found.of_scale(scale))
    return JudgingOpened(
        run_id=event.event_id,
        batch_id=request.batch_id,
        batch=batch.at,
        batch_key=batch.key,
        request=event.provenance.request,
        opened_at_ms=opened_at_ms,
        engine=ENGINE,
        seed=_seed(event, overrides),
        judge=_judge(overrides, shared),
        prompt=JudgePrompt(
            recipe=RECIPE,
            task=metadata.student_prompt_storage_id,
            criteria=metadata.instructions_storage_id,
            rubric=_storage_id(overrides.rubric) or metadata.judge_rubric_storage_id,
            system=_storage_id(overrides.system),
        ),
        context=context_of(event),
        essays=essays,
        anchors=anchors,
        anchors_from=found.source,
        anchors_position=found.position,
        policy=canonical_json(_targets(overrides, policy, per_item_max)).decode(),
        max_comparisons=overrides.max_comparisons
        or all_comparisons(len(essays) + len(anchors), per_item_max),
        max_cost_pusd=overrides.max_cost_pusd,
        deadline_at_ms=min(latest_ms, request.due_at_ms or latest_ms),
        warnings=(*overrides.warnings, *([UNKNOWN_GRADE] if is_left_out else [])),
    )


def _judge(overrides: Overrides, shared: Prompt) -> Judge:
    model = overrides.model
    return Judge(
        provider=model.provider,
        model=model.model,
        adapter=model.adapter,
        base_url=shared.base_url,
        parameters=canonical_json(shared.parameters).decode(),
        answer_method=model.answer_method,
        context_window=model.context_window,
        max_output_tokens=overrides.max_output_tokens,
        price_id=model.price.price_id if model.price else None,
        prices=model.price.prices if model.price else None,
        judge_sha256=judge_sha256(shared),
    )


def _targets(overrides: Overrides, policy: JudgingPolicy, per_item_max: int) -> dict[str, Any]:
    """When the run stops, as its policy; those of grades are left out unless they are wanted."""
    is_simulated = overrides.model.adapter == "simulated"
    quorum = policy.simulated_quorum if is_simulated else policy.quorum
    grades = {"target_grades": overrides.target_grades, "grade_min": overrides.grade_min}
    return {
        "target_bound": policy.target_bound
        if overrides.target_bound is None
        else overrides.target_bound,
        "per_item_max": per_item_max,
        "quorum": quorum if overrides.quorum is None else overrides.quorum,
        **{name: value for name, value in grades.items() if value is not None},
    }


def all_comparisons(items: int, per_item_max: int) -> int:
    """How many comparisons a run needs at most, with the audit's repeats."""
    comparisons = -(-items * per_item_max // 2)
    return comparisons + -(-comparisons * int(100 * AUDITED_SHARE) // 100)


def _storage_id(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def context_of(batch: CJBatchPrepared) -> JudgingContext:
    """The assignment context of a batch, as its run and its result have it."""
    metadata = batch.processing_metadata
    return JudgingContext(
        assignment_id=batch.request.assignment_id,
        context_source=metadata.context_source,
        prompt_source=metadata.prompt_source,
        student_prompt=metadata.student_prompt_storage_id,
        instructions=metadata.instructions_storage_id,
        judge_rubric=metadata.judge_rubric_storage_id,
        grade_scale=metadata.grade_scale,
    )


def refusal_of(
    batch: PreparedBatch, reason: str, details: tuple[ResultDetail, ...] = ()
) -> CJBatchJudged:
    """The result of a batch that is not judged; it has no run."""
    event = batch.event
    return CJBatchJudged(
        event_id=f"{event.event_id}/judged",
        batch_id=event.request.batch_id,
        run_id=event.event_id,
        engine=ENGINE,
        outcome="refused",
        reason=reason,
        details=details,
        provenance=ResultProvenance(request=event.provenance.request, batch=batch.at),
        context=context_of(event),
        counts=ResultCounts(comparisons=0, answered=0, lost=0, calls=0, failed=()),
        cost=ResultCost(spent_pusd=0, unknown_calls=0, in_doubt_pusd=0, tokens=NO_TOKENS),
        prompts=PromptDigest(count=0, digest=hashlib.sha256().hexdigest()),
        essays=(),
        anchors=(),
        flags=(),
    )
