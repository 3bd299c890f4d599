"""`requests reset-offsets` on topics as batch preparation and strangers write them."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from processors.kafka.clients import group_reader, transactional_producer
from processors.kafka.consumer_groups import committed_offsets, set_committed_offsets
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed, Refusal
from schemas.events import CJBatchPrepared, ParkedRequest
from tests.faults.load import CODEC, append
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.run_command import document_if_done, run_json, run_text
from tests.support.until import until

RESET = ("requests", "reset-offsets")
REQUEST = CODEC.encode(requested(assignment_id=None, course_code="GUEST"))
EACH = 6  # requests in each partition


def at(settings: Settings, partition: int, offset: int) -> Coordinates:
    return Coordinates(settings.topics.requests.name, partition, offset)


def append_requests(settings: Settings) -> None:
    name = settings.topics.requests.name
    append(
        settings,
        [Record(name, number, b"k", REQUEST) for number in range(4) for _ in range(EACH)],
    )


def outcome(settings: Settings, request_at: Coordinates, partition: int | None = None) -> Record:
    """A guest's batch, as batch preparation encodes it."""
    builder = OutcomeBuilder(CODEC, settings.policy, lambda _scope_key: None)
    built = builder.build(REQUEST, request_at)
    number = request_at.partition if partition is None else partition
    return Record(settings.topics.batches.name, number, b"k", built.value)


def parked(settings: Settings, request_at: Coordinates, **changes: object) -> Record:
    """An entry of a request, as batch preparation writes it, with changes."""
    waiting = ParkedRequest(
        request_at=request_at,
        scope_key="assignment:late",
        missing=("student_prompt",),
        appended_at_ms=1_000,
        deadline_at_ms=901_000,
        request_key=b"k",
        request=REQUEST,
    )
    value = CODEC.encode(replace(waiting, **changes))  # type: ignore[arg-type]
    return Record(
        settings.topics.parked.name, request_at.partition, str(request_at).encode(), value
    )


def found_by(settings: Settings) -> dict[int, Any]:
    exit_code, document, messages = run_json(settings, *RESET)
    assert (exit_code, messages) == (0, "")
    return {one["partition"]: one for one in document["partitions"]}


def test_each_partition_continues_above_the_highest_request_that_is_done(
    settings: Settings,
) -> None:
    append_requests(settings)
    letter = dead_letter_headers(at(settings, 2, 4), 1, Malformed("x"))
    append(
        settings,
        [
            *(outcome(settings, at(settings, 0, offset)) for offset in (0, 1, 3, 2)),
            outcome(settings, at(settings, 1, 0)),
            parked(settings, at(settings, 1, 2)),
            parked(settings, at(settings, 1, 1)),
            Record(settings.topics.requests_dlq.name, 2, b"k", b"see /2@5", letter),
        ],
    )
    found = found_by(settings)
    assert [found[number]["last_done"] for number in range(4)] == [3, 2, 4, None]
    assert [found[number]["offset"] for number in range(4)] == [4, 3, 5, 0]
    assert {one["committed"] for one in found.values()} == {None}

    exit_code, out, _ = run_text(settings, *RESET, "--yes")
    assert exit_code == 0
    assert "Set" in out
    requests = settings.partitions_of(settings.topics.requests)
    committed = committed_offsets(settings, settings.prep_group, requests)
    assert [committed[partition] for partition in requests] == [4, 3, 5, 0]
    _, again, _ = run_json(settings, *RESET, "--yes")
    assert [one["was_set"] for one in again["partitions"]] == [False] * 4


def test_an_outcome_of_an_aborted_transaction_does_not_count(settings: Settings) -> None:
    append_requests(settings)
    record = outcome(settings, at(settings, 0, 5))
    producer = transactional_producer(settings, settings.topic_prefix)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(record.topic, record.value, record.key, record.partition)
    producer.flush(30)
    exit_code, _, message = run_text(settings, *RESET)
    assert exit_code == 3
    assert f"open transactions hide records in {record.topic}/0: " in message
    producer.abort_transaction(30)
    assert found_by(settings)[0]["last_done"] is None


def test_what_is_no_outcome_of_a_request_in_the_log_is_named_and_skipped(
    settings: Settings,
) -> None:
    append_requests(settings)
    batches, parked_topic = settings.topics.batches.name, settings.topics.parked.name
    append(
        settings,
        [
            outcome(settings, at(settings, 0, 2)),
            Record(batches, 0, b"k", b"garbage /0@5"),
            Record(batches, 0, b"k", None),
            outcome(settings, at(settings, 0, EACH)),  # no such request
            outcome(settings, at(settings, 3, 5), partition=0),
            replace(parked(settings, at(settings, 1, 0)), key=b"another key"),
            Record(parked_topic, 1, b"k", b"garbage"),
        ],
    )
    exit_code, document, _ = run_json(settings, *RESET)
    assert exit_code == 0
    assert [one["last_done"] for one in document["partitions"]] == [2, None, None, None]
    assert sorted(document["strangers"]) == [
        *(f"{batches}/0@{offset}" for offset in (1, 2, 3, 4)),
        *(f"{parked_topic}/1@{offset}" for offset in (0, 1)),
    ]
    _, _, messages = run_text(settings, *RESET)
    assert f"{batches}/0@1 does not count: the record is not a valid outcome" in messages


def test_a_forged_entry_moves_no_offset_beyond_a_request_without_outcome_and_entry(
    settings: Settings,
) -> None:
    append_requests(settings)
    changed = CODEC.encode(requested(assignment_id=None, course_code="OTHER"))
    at_0_1 = at(settings, 0, 1)
    entries = {
        parked(settings, at(settings, 0, 5)): f"request {at_0_1}, before it, has neither",
        parked(settings, at(settings, 0, EACH)): "its request is not in the log",
        parked(settings, at(settings, 1, 0), request=changed): "it differs from its request",
        parked(settings, at(settings, 2, 0), request_key=b"j"): "it differs from its request",
        replace(parked(settings, at(settings, 0, 1)), partition=3): "no request of its partition",
        replace(
            parked(settings, at_0_1), partition=3, key=str(at(settings, 3, 0)).encode()
        ): "does not name its request",
    }
    released = parked(settings, at(settings, 3, 0))
    append(
        settings,
        [outcome(settings, at(settings, 0, 0)), released, replace(released, value=None)],
    )
    forged = dict(zip(map(str, append(settings, entries)), entries.values(), strict=True))
    exit_code, document, _ = run_json(settings, *RESET)
    assert exit_code == 0
    assert [one["offset"] for one in document["partitions"]] == [1, 0, 0, 0]
    assert document["strangers"].keys() == forged.keys()
    for one, reason in forged.items():
        assert reason in document["strangers"][one]


@pytest.mark.thorough
def test_after_a_forged_entry_every_request_has_exactly_one_outcome(
    settings: Settings, start_worker: StartWorker
) -> None:
    append_requests(settings)
    append(
        settings,
        [
            outcome(settings, at(settings, 0, 0)),
            parked(settings, at(settings, 0, 1)),  # as good as one of batch preparation
            parked(settings, at(settings, 0, 5)),
            parked(settings, at(settings, 1, 3)),
        ],
    )
    assert run_json(settings, *RESET, "--yes")[0] == 0
    start_worker()
    batches = settings.partitions_of(settings.topics.batches)

    def answered() -> list[str]:
        with LogReader(settings, batches) as log:
            records = [*log.records_until(log.seek_to_start())]
        return sorted(str(CODEC.decode_as(CJBatchPrepared, one.value).event_id) for one in records)

    until(lambda: len(answered()) >= 4 * EACH, seconds=60)
    assert len(set(answered())) == len(answered()) == 4 * EACH


def commit(settings: Settings, *offsets: int) -> None:
    requests = settings.partitions_of(settings.topics.requests)
    committed = dict(zip(requests, offsets, strict=True))
    set_committed_offsets(settings, settings.prep_group, committed)


def doctors_finding(settings: Settings) -> dict[str, Any]:
    """What doctor says of the committed offsets."""
    _, document, _ = run_json(settings, "doctor")
    (check,) = [
        one for one in document["checks"] if one["name"] == "committed offsets fit the outcomes"
    ]
    return dict(check)


def test_offsets_that_somebody_has_set_are_named(settings: Settings) -> None:
    append_requests(settings)
    done = {0: (0, 1, 2, 3), 1: (0, 1, 2, 3), 2: (0, 1), 3: ()}
    append(
        settings,
        [outcome(settings, at(settings, n, one)) for n, some in done.items() for one in some],
    )
    commit(settings, 4, 1, 5, 1)
    found = doctors_finding(settings)
    group, topic = settings.prep_group, settings.topics.requests.name
    too_low, too_high, nothing_done = found["detail"].replace("; stop", ", stop").split("; ")
    assert too_low.startswith(f"group {group} has 1 committed for {topic}/1, but {topic}/1@")
    assert "has an outcome already" in too_low
    lost = "before it, has neither an outcome nor a parked entry"
    assert too_high.startswith(
        f"group {group} has 5 committed for {topic}/2, but {topic}/2@4, {lost}"
    )
    assert nothing_done.startswith(
        f"group {group} has 1 committed for {topic}/3, but {topic}/3@0, {lost}"
    )
    assert "`cjstream requests reset-offsets`" in found["detail"]
    assert not found["ok"]
    assert run_json(settings, *RESET, "--yes")[0] == 0
    assert doctors_finding(settings)["detail"] == "all"


def test_offsets_that_fit_are_not_named(settings: Settings) -> None:
    append_requests(settings)
    topics = settings.topics
    letter = dead_letter_headers(at(settings, 1, 4), 1, Malformed("x"))
    entry, forged = parked(settings, at(settings, 3, 5)), outcome(settings, at(settings, 3, 5))
    append(
        settings,
        [
            *(outcome(settings, at(settings, n, one)) for n in range(3) for one in range(4)),
            parked(settings, at(settings, 0, 4)),  # still waits
            parked(settings, at(settings, 0, 5)),  # not consumed yet: another producer wrote it
            Record(topics.requests_dlq.name, 1, b"k", b"x", letter),
            *(outcome(settings, at(settings, 2, 0)) for _ in range(60)),  # the newest are others'
            entry,
            replace(entry, value=None),  # lost without an outcome: `parked restore` is for that
            replace(forged, value=(forged.value or b"")[:40]),
        ],
    )
    commit(settings, 5, 5, 4, 6)
    assert doctors_finding(settings)["detail"] == "all"


@pytest.mark.thorough
@pytest.mark.parametrize("to", ["earliest", "latest"])
def test_a_worker_refuses_offsets_that_somebody_has_set(
    settings: Settings, start_worker: StartWorker, to: str
) -> None:
    append_requests(settings)
    batches = settings.partitions_of(settings.topics.batches)

    def answered() -> list[str]:
        with LogReader(settings, batches) as log:
            records = [*log.records_until(log.seek_to_start())]
        return sorted(str(CODEC.decode_as(CJBatchPrepared, one.value).event_id) for one in records)

    worker = start_worker(session_timeout_s=6)
    until(lambda: len(answered()) >= 4 * EACH, seconds=60)
    assert worker.stop() == 0
    append_requests(settings)
    # a member that has not left stays in the group until its session times out
    until(lambda: run_json(settings, *RESET)[1]["members"] == 0, seconds=60)
    commit(settings, *[0 if to == "earliest" else 2 * EACH] * 4)
    worker.log.unlink()
    worker.start()
    assert worker.wait_for_exit(60) == 3, worker.log_tail()
    (message,) = [line for line in worker.log_tail(1000).splitlines() if not line.startswith("{")]
    assert message.startswith("cjstream: group ")
    assert "`cjstream requests reset-offsets`" in message
    assert settings.topics.requests.name in message
    assert not doctors_finding(settings)["ok"]
    assert len(answered()) == 4 * EACH
    done = until(lambda: document_if_done(settings, *RESET, "--yes"), seconds=60)
    assert {one["offset"] for one in done["partitions"]} == {EACH}
    worker.start()
    until(lambda: len(answered()) >= 8 * EACH, seconds=60)
    assert len(set(answered())) == len(answered()) == 8 * EACH


def test_the_offsets_of_a_group_with_members_are_not_set(settings: Settings) -> None:
    member = group_reader(settings, settings.prep_group)
    with closing(member):
        member.subscribe([settings.topics.requests.name])
        until(lambda: member.poll(0.2) is None and bool(member.assignment()))
        with pytest.raises(Refusal, match="has members"):
            set_committed_offsets(
                settings, settings.prep_group, {Partition(settings.topics.requests.name, 0): 1}
            )
        exit_code, _, message = run_text(settings, *RESET, "--yes")
        assert exit_code == 1
        assert message.startswith("cjstream: the group has 1 member: stop all workers first")
        assert run_json(settings, *RESET)[1]["members"] == 1  # a dry run is allowed
