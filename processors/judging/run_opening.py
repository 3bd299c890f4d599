"""Opens the run of a prepared batch, or refuses the batch with every reason. Pure, apart from `gather`.

A batch is never judged smaller than it is: if one text is missing, the whole batch is refused.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processors.judging.judge import Prompt
from processors.judging.prompt import (
    RECIPE,
    AskedJudge,
    PromptTexts,
    build_prompt,
    judge_sha256,
    prompt_bytes,
)
from schemas.canonical_json import canonical_json
from schemas.coordinates import Coordinates
from schemas.errors import ContentCorrupt, ContentMissing, Malformed
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
    RunItem,
    TokenUsage,
)
from schemas.models import Model, Models
from schemas.overrides import JudgingLimits, Overrides, read_overrides
from tables.content_store import ContentStore

ENGINE = 1
BYTES_PER_TOKEN = (
    3  # fewer than in any language that pupils write in: a pair that may not fit is refused
)
AUDITED_SHARE = 0.05  # comparisons beside those that per_item_max counts
SEED_BITS = 53  # exact in every JSON parser
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
class Gathered:
    """The texts that could be read, and codes for the others (texts_missing, texts_unreadable), by storage id."""

    texts: Mapping[str, str]
    faults: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opened:
    """The first record of a run, and the texts that its request brought: they must be stored before it is appended."""

    record: JudgingOpened
    own_texts: tuple[str, ...]


def gather(store: ContentStore, storage_ids: Iterable[str]) -> Gathered:
    """Read texts from the store. Raises Unreachable; blocks."""
    texts, faults = dict[str, str](), dict[str, str]()
    for storage_id in storage_ids:
        try:
            texts[storage_id] = store.get(storage_id).decode()
        except (ContentMissing, Malformed):
            faults[storage_id] = "texts_missing"
        except (ContentCorrupt, UnicodeDecodeError):
            faults[storage_id] = "texts_unreadable"
    return Gathered(texts, faults)


def texts_of(batch: CJBatchPrepared) -> tuple[str, ...]:
    """The storage ids of every text that the judging of a batch needs."""
    essays = (essay.text_storage_id for essay in batch.request.essays)
    return tuple(dict.fromkeys((*(text for _, text in _context_texts(batch)), *essays)))


def open_run(
    batch: PreparedBatch, gathered: Gathered, policy: JudgingPolicy, opened_at_ms: int
) -> Opened | CJBatchJudged:
    """The first record of the batch's run, or the result that refuses it."""
    event = batch.event
    if event.processing_metadata.context_source == "guest" and not policy.guests_allowed:
        return refusal_of(batch, "guests_refused")
    if len(event.request.essays) > policy.items_max:
        return refusal_of(batch, "too_many_items")
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
    seed = seed_of(event.event_id) if overrides.seed is None else overrides.seed
    shared = build_prompt(asked, _prompt_texts(event, gathered.texts, overrides), "", "", seed, 0)
    sizes = [len(gathered.texts[essay.text_storage_id].encode()) for essay in event.request.essays]
    if too_long := _too_long(event, sizes, shared, overrides.model):
        return refusal_of(batch, "texts_too_long", too_long)
    return Opened(
        _opened(batch, overrides, policy, opened_at_ms, seed, shared, sizes),
        tuple(text for text in (overrides.system, overrides.rubric) if text is not None),
    )


def seed_of(run_id: str) -> int:
    """The seed of a run that brings none: the first 53 bits of the sha256 of its id."""
    digest = hashlib.sha256(run_id.encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - SEED_BITS)


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


def _context_texts(batch: CJBatchPrepared) -> tuple[tuple[str, str], ...]:
    """Path and storage id of each text of the context."""
    metadata = batch.processing_metadata
    named = (
        ("context.student_prompt", metadata.student_prompt_storage_id),
        ("context.instructions", metadata.instructions_storage_id),
        ("context.judge_rubric", metadata.judge_rubric_storage_id),
    )
    return tuple((path, text) for path, text in named if text is not None)


def _reason_of(faults: tuple[ResultDetail, ...]) -> str:
    """Why a batch with these overrides is refused: for its judge, for its price, or for anything else."""
    codes = {fault.code for fault in faults}
    if codes <= {"unknown_provider", "unknown_model"}:
        return "judge_unknown"
    return "price_unknown" if codes == {"price_unknown"} else "overrides_refused"


def _unread(batch: CJBatchPrepared, gathered: Gathered) -> tuple[ResultDetail, ...]:
    """Every text that could not be read: those of the context by role, then the essays."""
    named = (
        *_context_texts(batch),
        *((_path_of(essay), essay.text_storage_id) for essay in batch.request.essays),
    )
    details = [
        ResultDetail(path=path, code=gathered.faults[text])
        for path, text in named
        if text in gathered.faults
    ]
    return tuple(sorted(details, key=lambda detail: detail.code))


def _path_of(essay: Essay) -> str:
    return f"essays.{essay.essay_id}"


def _too_long(
    batch: CJBatchPrepared, sizes: Sequence[int], shared: Prompt, model: Model
) -> tuple[ResultDetail, ...]:
    """The two longest essays, if their prompt may not fit into the model's context window."""
    by_size = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)[:2]
    size = prompt_bytes(shared) + sum(sizes[number] for number in by_size)
    if -(-size // BYTES_PER_TOKEN) <= model.input_tokens_max:
        return ()
    longest = (batch.request.essays[number] for number in by_size)
    return tuple(ResultDetail(path=_path_of(essay), code="texts_too_long") for essay in longest)


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
    overrides: Overrides,
    policy: JudgingPolicy,
    opened_at_ms: int,
    seed: int,
    shared: Prompt,
    sizes: Sequence[int],
) -> JudgingOpened:
    event, request, metadata = batch.event, batch.event.request, batch.event.processing_metadata
    per_item_max = overrides.per_item_max or policy.limits.per_item_max
    latest_ms = opened_at_ms + overrides.max_seconds * 1000
    return JudgingOpened(
        run_id=event.event_id,
        batch_id=request.batch_id,
        batch=batch.at,
        batch_key=batch.key,
        request=event.provenance.request,
        opened_at_ms=opened_at_ms,
        engine=ENGINE,
        seed=seed,
        judge=_judge(overrides, shared),
        prompt=JudgePrompt(
            recipe=RECIPE,
            task=metadata.student_prompt_storage_id,
            criteria=metadata.instructions_storage_id,
            rubric=_storage_id(overrides.rubric) or metadata.judge_rubric_storage_id,
            system=_storage_id(overrides.system),
        ),
        context=context_of(event),
        essays=tuple(
            RunItem(id=essay.essay_id, storage_id=essay.text_storage_id, size_bytes=size)
            for essay, size in zip(request.essays, sizes, strict=True)
        ),
        anchors=(),
        anchors_position=0,
        policy=canonical_json(_targets(overrides, policy, per_item_max)).decode(),
        max_comparisons=overrides.max_comparisons
        or all_comparisons(len(request.essays), per_item_max),
        max_cost_pusd=overrides.max_cost_pusd,
        deadline_at_ms=min(latest_ms, request.due_at_ms or latest_ms),
        warnings=overrides.warnings,
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
    """When the run stops, as its policy; target_grades is left out unless it is wanted."""
    is_simulated = overrides.model.adapter == "simulated"
    quorum = policy.simulated_quorum if is_simulated else policy.quorum
    grades = {} if overrides.target_grades is None else {"target_grades": overrides.target_grades}
    return {
        "target_bound": policy.target_bound
        if overrides.target_bound is None
        else overrides.target_bound,
        "per_item_max": per_item_max,
        "quorum": quorum if overrides.quorum is None else overrides.quorum,
        **grades,
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
