"""A prepared batch becomes a run, or a result that refuses it with every reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from processors.judging.prompt import PromptTexts, build_prompt, judge_sha256
from processors.judging.run_items import Gathered, read_texts, texts_of
from processors.judging.run_opening import (
    JudgingPolicy,
    Opened,
    PreparedBatch,
    asked_judge,
    open_run,
    seed_of,
)
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from schemas.codec import Codec
from schemas.events import CJBatchPrepared, Essay
from schemas.judging_events import CJBatchJudged, RunItem
from schemas.models import PUSD_PER_USD, Models
from schemas.overrides import JudgingLimits
from tables.content_location import ContentLocation
from tables.content_store import ContentStore
from tests.support.builders import (
    REQUEST_AT,
    context_after,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
    sha256_of,
)
from tests.support.judging_builders import BATCH_AT
from tests.unit.schemas.test_overrides import ALL, SIMULATED

TASK, CRITERIA, RUBRIC = "Ska läxor förbjudas?", "Bedöm argumentationen.", "Structure first."
ESSAYS = ("Ja.", "Nej.", "Kanske, för läxor tar tid.")
TEXTS = {sha256_of(text): text for text in (TASK, CRITERIA, RUBRIC, *ESSAYS)}
CONTEXT = context_after(
    instructions_uploaded(CRITERIA), prompt_uploaded(TASK), rubric_uploaded(RUBRIC)
)
POLICY = JudgingPolicy(
    models=Models(ALL.all),
    default=SIMULATED,
    limits=JudgingLimits(max_cost_pusd=5 * PUSD_PER_USD, max_seconds=3600),
    items_max=1000,
    guests_allowed=True,
)
NOW_MS = 1_700_000_300_000
NO_FAULTS: Mapping[str, str] = {}


def prepared(overrides: Any = None, **changes: Any) -> PreparedBatch:
    """A batch of three essays of assignment a1."""
    request = requested(
        essays=tuple(
            Essay(essay_id=f"e-{n}", text_storage_id=sha256_of(text))
            for n, text in enumerate(ESSAYS)
        )
        if "essays" not in changes
        else changes.pop("essays"),
        llm_config_overrides=None if overrides is None else orjson.dumps(overrides).decode(),
        **changes,
    )
    context = CONTEXT if request.assignment_id else None
    outcome = outcome_of(request, REQUEST_AT, resolve(request, context, Policy()))
    assert isinstance(outcome, CJBatchPrepared)
    return PreparedBatch(BATCH_AT, b"batch-1", outcome)


def opened(
    batch: PreparedBatch, policy: JudgingPolicy = POLICY, texts: dict[str, str] = TEXTS
) -> Opened:
    found = open_run(batch, Gathered(texts, {}), policy, NOW_MS)
    assert isinstance(found, Opened)
    return found


def refusal(
    batch: PreparedBatch,
    policy: JudgingPolicy = POLICY,
    faults: Mapping[str, str] = NO_FAULTS,
) -> tuple[str, list[tuple[str, str]]]:
    """The reason and the details of a refusal; faults by text."""
    by_id = {sha256_of(text): code for text, code in faults.items()}
    result = open_run(batch, Gathered(TEXTS, by_id), policy, NOW_MS)
    assert isinstance(result, CJBatchJudged)
    assert result.outcome == "refused"
    assert (result.run_id, result.batch_id) == (batch.event.event_id, "batch-1")
    assert result.provenance.judging is None
    return result.reason, [(detail.path, detail.code) for detail in result.details]


def test_a_run_has_the_id_of_its_batch_and_names_where_everything_is() -> None:
    batch = prepared()
    record = opened(batch).record
    assert record.run_id == batch.event.event_id == str(REQUEST_AT)
    assert (record.batch, record.request, record.batch_key) == (BATCH_AT, REQUEST_AT, b"batch-1")
    assert record.essays == tuple(
        RunItem(id=f"e-{n}", storage_id=sha256_of(text), size_bytes=len(text.encode()))
        for n, text in enumerate(ESSAYS)
    )
    assert (record.prompt.task, record.prompt.criteria, record.prompt.rubric) == tuple(
        map(sha256_of, (TASK, CRITERIA, RUBRIC))
    )
    assert record.context.student_prompt == sha256_of(TASK)
    assert record.context.grade_scale == "swedish_8_anchor"
    assert Codec().decode(Codec().encode(record)) == record


def test_without_overrides_the_limits_are_the_installations() -> None:
    record = opened(prepared()).record
    assert record.max_cost_pusd == 5 * PUSD_PER_USD
    assert record.deadline_at_ms == NOW_MS + 3_600_000
    assert record.max_comparisons == 36 + 2  # 24 of each of three essays, and 5 % repeats
    assert orjson.loads(record.policy) == {
        "per_item_max": 24,
        "quorum": 1.0,
        "target_bound": 0.7,
    }
    assert record.seed == seed_of(record.run_id)
    assert 0 <= record.seed < 2**53


def test_a_live_judge_needs_a_smaller_quorum() -> None:
    live = replace(SIMULATED, adapter="openai_chat")
    record = opened(prepared(), replace(POLICY, default=live)).record
    assert orjson.loads(record.policy)["quorum"] == 0.9


def test_overrides_change_judge_texts_and_limits_and_their_texts_are_to_be_stored() -> None:
    overrides = {
        "temperature_override": 0,
        "max_tokens_override": 100,
        "system_prompt_override": "Be strict.",
        "judge_rubric_override": "Only style.",
        "judging": {"seed": 7, "max_comparisons": 5, "max_cost_usd": 0.1, "max_seconds": 60},
    }
    found = opened(prepared(overrides))
    record = found.record
    assert found.own_texts == ("Be strict.", "Only style.")
    assert (record.prompt.system, record.prompt.rubric) == (
        sha256_of("Be strict."),
        sha256_of("Only style."),
    )
    assert record.context.judge_rubric == sha256_of(RUBRIC)
    assert (record.seed, record.max_comparisons, record.max_cost_pusd) == (7, 5, 10**11)
    assert record.deadline_at_ms == NOW_MS + 60_000
    assert record.judge.max_output_tokens == 100
    assert orjson.loads(record.judge.parameters) == {"temperature": 0, "max_tokens": 100}


def test_a_result_that_is_due_earlier_moves_the_deadline() -> None:
    assert opened(prepared(due_at_ms=NOW_MS + 5)).record.deadline_at_ms == NOW_MS + 5
    assert opened(prepared(due_at_ms=2**45)).record.deadline_at_ms == NOW_MS + 3_600_000


def test_the_judges_checksum_is_that_of_every_prompt_of_the_run() -> None:
    record = opened(prepared()).record
    texts = {"task": TASK, "criteria": CRITERIA, "rubric": RUBRIC}
    prompt = build_prompt(
        asked_judge(SIMULATED, {}), PromptTexts(**texts), ESSAYS[0], ESSAYS[1], record.seed, 17
    )
    assert record.judge.judge_sha256 == judge_sha256(prompt)


def test_a_guest_is_judged_without_texts_of_an_assignment_or_refused() -> None:
    guest = prepared(assignment_id=None)
    record = opened(guest).record
    assert (record.prompt.task, record.prompt.criteria, record.context.context_source) == (
        None,
        None,
        "guest",
    )
    assert refusal(guest, replace(POLICY, guests_allowed=False)) == ("guests_refused", [])
    assert opened(prepared(), replace(POLICY, guests_allowed=False))


def test_more_essays_than_allowed_are_refused() -> None:
    assert opened(prepared(), replace(POLICY, items_max=3))
    assert refusal(prepared(), replace(POLICY, items_max=2)) == ("too_many_items", [])


def test_a_batch_of_an_earlier_release_with_an_id_of_two_essays_is_refused() -> None:
    names = ("e-0", "e-1", "e-0", "e-1", "e-2")
    twice = tuple(Essay(essay_id=name, text_storage_id=sha256_of(ESSAYS[0])) for name in names)
    assert refusal(prepared(essays=twice)) == (
        "essays_repeated",
        [("essays.e-0", "essays_repeated"), ("essays.e-1", "essays_repeated")],
    )


@pytest.mark.parametrize(
    ("overrides", "reason", "codes"),
    [
        ({"x": 1, "model_override": "nothing"}, "overrides_refused", 2),
        ({"model_override": "nothing"}, "judge_unknown", 1),
        ({"provider_override": "nobody"}, "judge_unknown", 1),
        ({"model_override": "llama"}, "price_unknown", 1),
        ({"model_override": "llama", "x": 1}, "overrides_refused", 2),
    ],
)
def test_overrides_that_cannot_be_followed_are_refused(
    overrides: Any, reason: str, codes: int
) -> None:
    found, details = refusal(prepared(overrides))
    assert (found, len(details)) == (reason, codes)


def test_texts_that_are_not_there_are_named() -> None:
    faults = {ESSAYS[1]: "texts_missing", TASK: "texts_missing", ESSAYS[0]: "texts_unreadable"}
    assert refusal(prepared(), faults=faults) == (
        "texts_missing",
        [
            ("context.student_prompt", "texts_missing"),
            ("essays.e-1", "texts_missing"),
            ("essays.e-0", "texts_unreadable"),
        ],
    )
    assert refusal(prepared(), faults={CRITERIA: "texts_unreadable"})[0] == "texts_unreadable"


def test_the_longest_pair_must_fit_into_the_context_window() -> None:
    long = dict.fromkeys(map(sha256_of, ESSAYS[1:]), "å" * 3000)
    narrow = replace(POLICY, default=replace(SIMULATED, context_window=4500))
    assert opened(prepared(), narrow)
    result = open_run(prepared(), Gathered({**TEXTS, **long}, {}), narrow, NOW_MS)
    assert isinstance(result, CJBatchJudged)
    assert result.reason == "texts_too_long"
    assert {detail.path for detail in result.details} == {"essays.e-1", "essays.e-2"}
    assert opened(prepared(), POLICY, {**TEXTS, **long})


def test_a_refusal_can_be_written() -> None:
    result = open_run(prepared({"x": 1}), Gathered(TEXTS, {}), POLICY, NOW_MS)
    assert isinstance(result, CJBatchJudged)
    assert Codec().decode(Codec().encode(result)) == result


def test_texts_are_read_from_the_store_and_faults_have_their_codes() -> None:
    store = ContentStore.open(ContentLocation("memory:///"))
    good, latin = store.put(b"good").storage_id, store.put(b"\xe5").storage_id
    missing = sha256_of("never stored")
    found = read_texts(store, (good, latin, missing, "not an id"))
    assert found.texts == {good: "good"}
    assert found.faults == {
        latin: "texts_unreadable",
        missing: "texts_missing",
        "not an id": "texts_missing",
    }


def test_every_text_is_read_once() -> None:
    same = tuple(Essay(essay_id=f"e-{n}", text_storage_id=sha256_of(ESSAYS[0])) for n in range(3))
    assert texts_of(prepared(essays=same).event) == tuple(
        map(sha256_of, (TASK, CRITERIA, RUBRIC, ESSAYS[0]))
    )
