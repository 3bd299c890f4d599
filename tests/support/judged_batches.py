"""Prepared batches with texts in the content store, and what a judge makes of them."""

from collections.abc import Sequence

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.log.judging_log import JudgingLog
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import Essay
from schemas.judging_events import CJBatchJudged, JudgingEvent
from tables.content_store import ContentStore
from tests.faults.reading import read_all
from tests.support.builders import (
    context_after,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)
from tools.audit.check.findings import Finding
from tools.audit.judging.judging_range import judging_range_of
from tools.audit.judging.partition_check import check_partitions

TASK, CRITERIA = "Should homework be banned?", "Judge the argument."
CONTEXT = context_after(instructions_uploaded(CRITERIA), prompt_uploaded(TASK))
JUDGE = ("-m", "tools", "judge")
CODEC = Codec()


def append_batches(
    settings: Settings,
    count: int,
    essays: int = 6,
    first_number: int = 0,
    request_essays: tuple[Essay, ...] = (),
    overrides: str | None = None,
) -> list[str]:
    """Append prepared batches whose texts are stored, unless they are given; returns their run ids."""
    store = ContentStore.open(settings.content)
    for text in (TASK, CRITERIA):
        store.put(text.encode())
    outcomes = list[tuple[Record, str]]()
    for number in range(first_number, first_number + count):
        stored = request_essays or _stored_essays(store, number, essays)
        outcomes.append(_batch(settings, number, stored, overrides))
    deliver(plain_producer(settings), [record for record, _ in outcomes])
    return [run_id for _, run_id in outcomes]


def _stored_essays(store: ContentStore, number: int, count: int) -> tuple[Essay, ...]:
    texts = [f"Essay {essay} of batch {number}." for essay in range(count)]
    return tuple(
        Essay(essay_id=f"e-{n}", text_storage_id=store.put(text.encode()).storage_id)
        for n, text in enumerate(texts)
    )


def _batch(
    settings: Settings, number: int, essays: tuple[Essay, ...], overrides: str | None
) -> tuple[Record, str]:
    request = requested(batch_id=f"batch-{number}", essays=essays, llm_config_overrides=overrides)
    partition = number % settings.partitions
    at = Coordinates(settings.topics.requests.name, partition, number)
    outcome = outcome_of(request, at, resolve(request, CONTEXT, Policy()))
    value = CODEC.encode(outcome)
    key = request.batch_id.encode()
    return Record(settings.topics.batches.name, partition, key, value), outcome.event_id


def results_of(settings: Settings) -> list[CJBatchJudged]:
    """Every committed result."""
    records = read_all(
        settings.bootstrap_servers, settings.topics.results.name, settings.partitions
    )
    return [CODEC.decode_as(CJBatchJudged, record.value) for record in records]


def judging_of(settings: Settings) -> dict[str, Sequence[JudgingEvent]]:
    """The committed judging records of each run."""
    runs: dict[str, list[JudgingEvent]] = {}
    for record in read_all(
        settings.bootstrap_servers, settings.topics.judging.name, settings.partitions
    ):
        event = judging_event(record.value)
        runs.setdefault(event.run_id, []).append(event)
    return dict(runs)


def judging_event(value: bytes | None) -> JudgingEvent:
    """A record of the judging log."""
    event = CODEC.decode(value)
    assert isinstance(event, JudgingEvent)
    return event


def judging_findings(settings: Settings) -> list[Finding]:
    """What `audit verify` finds about judging."""
    judging_range = judging_range_of(JudgingLog(settings))
    portions = check_partitions(settings, judging_range, range(settings.partitions), texts=True)
    return [finding for portion in portions for finding in portion.findings]
