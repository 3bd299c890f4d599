"""Records in the parked topic that batch preparation did not write: named, skipped, and nothing is lost or doubled."""

import random
import time
from dataclasses import replace

import pytest

from processors.kafka.consumer_groups import committed_offsets, group_state
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.parking.entry_check import NOT_IN_LOG
from processors.parking.open_requests import RequestState
from processors.parking.parked_record import MAX_PATIENCE_MS
from processors.settings import Settings
from schemas.codec import FRAME
from schemas.coordinates import Coordinates
from schemas.events import CJAssessmentRequested, ParkedRequest
from tests.faults.asking import Progress
from tests.faults.load import CODEC, append, assignment, send, send_in_transaction
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.run_command import run_json
from tests.support.until import until

PATIENT = {"patience_s": 600}
FAR_MS = 2**62
Sent = tuple[Coordinates, CJAssessmentRequested]


def send_requests(settings: Settings, *names: str, assignment_id: str) -> list[Sent]:
    requests = [requested(batch_id=name, assignment_id=assignment_id) for name in names]
    return list(zip(send(settings, *requests), requests, strict=True))


def entry_of(sent: Sent, **changes: object) -> ParkedRequest:
    """A good entry of a request that was sent, with changes."""
    at, request = sent
    parked = ParkedRequest(
        request_at=at,
        scope_key=f"assignment:{request.assignment_id}",
        missing=("instructions",),
        appended_at_ms=1,
        deadline_at_ms=600_001,
        request_key=request.batch_id.encode(),
        request=CODEC.encode(request),
    )
    return replace(parked, **changes)  # type: ignore[arg-type]


def delaying_entry(at: Coordinates) -> ParkedRequest:
    """An entry that lets a request wait for another assignment, as long as a deadline can be."""
    now_ms = time.time_ns() // 1_000_000
    deadline_at_ms = now_ms + MAX_PATIENCE_MS
    of_another = (at, requested(assignment_id="nobody"))
    return entry_of(of_another, appended_at_ms=now_ms, deadline_at_ms=deadline_at_ms)


def record(settings: Settings, key: object, value: ParkedRequest | bytes | None) -> Record:
    """A record of the parked topic; a key of coordinates goes to their partition."""
    partition = key.partition if isinstance(key, Coordinates) else 0
    payload = CODEC.encode(value) if isinstance(value, ParkedRequest) else value
    return Record(settings.topics.parked.name, partition, str(key).encode(), payload)


def parked_records(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values of the parked topic."""
    with LogReader(settings, settings.partitions_of(settings.topics.parked)) as log:
        return [(one.key, one.value) for one in log.records_until(log.seek_to_start())]


def waiting_keys(settings: Settings) -> set[bytes | None]:
    """The keys in the parked topic whose newest record has a value."""
    newest = dict(parked_records(settings))
    return {key for key, value in newest.items() if value is not None}


def outcomes_by_request(settings: Settings) -> dict[Coordinates, str]:
    """The topic of the outcome of each request that has exactly one; a second one fails."""
    topics, found = settings.topics, dict[Coordinates, str]()
    with LogReader(settings, settings.partitions_of(topics.batches, topics.unresolved)) as log:
        for one in log.records_until(log.seek_to_start()):
            at = CODEC.decode(one.value).provenance.request  # type: ignore[union-attr]
            assert at not in found
            found[at] = one.at.topic
    return found


def poison(settings: Settings, parked: Sent, ready: Sent, answered: Sent) -> list[Record]:
    """One record of each sort; parked and answered: sent requests, ready: a request of a complete assignment."""
    at, _ = parked
    never_made = replace(at, offset=at.offset + 100_000)
    elsewhere = replace(at, partition=(at.partition + 1) % settings.partitions)
    of_ready = CODEC.encode(ready[1])
    good = entry_of(parked)
    return [
        record(settings, "who", b"garbage"),
        record(settings, "who", None),
        record(settings, "clock", b"a clock has no value"),
        record(settings, "a" * 2000 + "/0@1", None),
        record(settings, f"{at.topic}/0@{'9' * 19}", None),
        record(settings, f"{at.topic}/00@1", good),
        Record(settings.topics.parked.name, 0, b"\xff\xfe", b"\0"),
        Record(settings.topics.parked.name, 0, b"", b"\0"),
        record(settings, "big", b"\0" * 1_900_000),
        record(settings, "id of a later release", FRAME.pack(0, 1_000_000_100) + b"?"),
        # of requests that were never made, or of another partition
        record(settings, never_made, entry_of(ready, request_at=never_made)),
        record(settings, never_made, None),
        record(settings, elsewhere, entry_of(ready)),
        record(settings, elsewhere, entry_of(ready, request_at=elsewhere)),
        Record(
            settings.topics.parked.name,
            elsewhere.partition,
            str(at).encode(),
            CODEC.encode(entry_of(ready, request_at=at)),
        ),
        # of a request that has its outcome
        record(settings, answered[0], entry_of(answered)),
        record(settings, answered[0], entry_of(answered, scope_key="assignment:ready")),
        record(settings, answered[0], b"garbage"),
        record(settings, answered[0], None),
        record(settings, answered[0], entry_of(answered)),
        # of a request that is parked: other bytes, broken bytes, other times, other scope, twice
        record(settings, at, b"garbage"),
        record(settings, at, entry_of(parked, request=of_ready)),
        record(settings, at, entry_of(parked, request=b"broken")),
        record(settings, at, entry_of(parked, request=b"\0" * 1_900_000)),
        record(settings, at, entry_of(parked, appended_at_ms=FAR_MS, deadline_at_ms=FAR_MS + 1)),
        record(settings, at, entry_of(parked, deadline_at_ms=FAR_MS)),
        record(settings, at, entry_of(parked, deadline_at_ms=-FAR_MS)),
        record(settings, at, entry_of(parked, scope_key="assignment:ready", missing=("x",))),
        record(settings, at, good),
        record(settings, at, good),
    ]


@pytest.mark.thorough
def test_good_requests_come_out_once_beside_every_sort_of_poison(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("ready"))
    worker = start_worker(**PATIENT)
    (ready, answered, *_) = send_requests(
        settings, *(f"r{n}" for n in range(200)), assignment_id="ready"
    )
    waiting = send_requests(settings, *(f"w{n}" for n in range(300)), assignment_id="late")
    lonely = send_requests(settings, "lonely", assignment_id="nobody")
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    records = poison(settings, waiting[0], ready, answered)
    records += poison(settings, waiting[1], ready, answered)  # the latter keep another order
    random.Random(1).shuffle(records)
    # at the end, so that no tombstone removes them
    records.append(record(settings, answered[0], entry_of(answered)))
    records.append(record(settings, ready[0], b"garbage"))
    append(settings, records)
    more = send_requests(settings, *(f"m{n}" for n in range(100)), assignment_id="ready")
    until(lambda: len(outcomes_by_request(settings)) == 300)
    assert worker.is_alive
    worker.kill()
    # while no worker runs, too: the next one reads them at its takeover
    append(settings, records)
    append(settings, [record(settings, f"noise {n}", b"?") for n in range(20_000)])
    last = send_requests(settings, *(f"l{n}" for n in range(50)), assignment_id="late")
    worker.start()
    send(settings, *assignment("late"))
    until(lambda: len(outcomes_by_request(settings)) == 650, 60)
    found = outcomes_by_request(settings)
    assert {at for at, _ in [*waiting, *more, *last]} <= found.keys()
    assert lonely[0][0] not in found
    assert set(found.values()) == {settings.topics.batches.name}
    all_good = {str(at).encode() for at, _ in lonely}
    assert all_good <= waiting_keys(settings)
    assert worker.is_alive
    assert worker.log_count("more records of the parked topic are skipped") >= 1
    assert worker.log_count(RequestState.ANSWERED.value) >= 1  # refused at the release


@pytest.mark.thorough
def test_skipped_records_are_named_and_the_committed_offset_passes_them(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(**PATIENT)
    worker.wait_until_it_runs()
    partitions = settings.partitions_of(settings.topics.parked)
    at = append(settings, [Record(*partition, b"who", b"garbage") for partition in partitions])

    def all_are_committed() -> bool:
        committed = committed_offsets(settings, settings.prep_group, partitions)
        return all(committed.get(partition, 0) > 0 for partition in partitions)

    until(all_are_committed)
    assert [worker.log_count(f'"at":"{one}"') for one in at] == [1] * len(at)


@pytest.mark.thorough
def test_a_skipped_record_that_is_read_again_is_not_named_again(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(session_timeout_s=6, **PATIENT)
    (first,) = send_requests(settings, "w", assignment_id="late")
    until(lambda: waiting_keys(settings))  # the committed offset stays at this entry
    never_made = replace(first[0], offset=first[0].offset + 100)
    append(settings, [record(settings, never_made, entry_of(first, request_at=never_made))])
    until(lambda: worker.log_count(RequestState.NOT_PARKED.value))
    starts = worker.log_count("fetching from the committed offsets")
    worker.freeze()
    until(lambda: not group_state(settings, settings.prep_group, []).members)
    worker.thaw()
    until(lambda: worker.log_count("fetching from the committed offsets") > starts)
    assert worker.log_count(RequestState.NOT_PARKED.value) == 1


@pytest.mark.thorough
def test_entries_forged_while_no_worker_ran_are_compared_with_the_request_log(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("ready"))
    worker = start_worker(**PATIENT)
    send_in_transaction(settings, requested(batch_id="ready", assignment_id="ready"))
    (ready,) = send_requests(settings, "ready", assignment_id="ready")
    marker = replace(ready[0], offset=ready[0].offset - 1)
    waiting = send_requests(settings, "w0", "w1", "w2", "w3", assignment_id="late")
    until(lambda: len(waiting_keys(settings)) == len(waiting))
    until(lambda: len(outcomes_by_request(settings)) == 2)
    worker.kill()
    append(settings, [record(settings, marker, entry_of(ready, request_at=marker))])
    forged: list[ParkedRequest | bytes] = [
        b"garbage",
        entry_of(waiting[1], deadline_at_ms=-FAR_MS),
        entry_of(ready, request_at=waiting[2][0]),  # the context of its scope is complete
    ]
    for (at, _), value in zip(waiting[:3], forged, strict=True):
        append(settings, [record(settings, at, None), record(settings, at, value)])
    last, _ = waiting[3]
    append(settings, [record(settings, last, delaying_entry(last))])  # after the own one
    worker.start()
    until(lambda: worker.log_count(NOT_IN_LOG), 60)
    until(lambda: worker.log_count(f"it differs from its request {waiting[2][0]}"))
    send(settings, *assignment("late"))
    until(lambda: len(outcomes_by_request(settings)) == 6)
    assert set(outcomes_by_request(settings).values()) == {settings.topics.batches.name}


@pytest.mark.thorough
def test_entries_before_and_in_place_of_those_of_this_worker_do_not_decide_when_requests_are_due(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(**PATIENT)
    (first,) = send_requests(settings, "w", assignment_id="late")
    until(lambda: waiting_keys(settings))
    at = replace(first[0], offset=first[0].offset + 1)
    append(
        settings,
        [
            record(settings, at, delaying_entry(at)),
            record(settings, first[0], None),
            record(settings, first[0], delaying_entry(first[0])),
        ],
    )
    until(lambda: worker.log_count(RequestState.NOT_PARKED.value))
    until(lambda: worker.log_count("another entry of its request counts"))
    (second,) = send_requests(settings, "w", assignment_id="late")
    assert second[0] == at
    until(lambda: [key for key, _ in parked_records(settings)].count(str(at).encode()) == 2)
    send(settings, *assignment("late"))
    until(lambda: outcomes_by_request(settings).keys() == {first[0], at})


@pytest.mark.thorough
def test_a_request_whose_entry_was_taken_away_is_named_and_parked_again(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(**PATIENT)
    sent = send_requests(settings, *(f"w{n}" for n in range(20)), assignment_id="late")
    until(lambda: len(waiting_keys(settings)) == 20)
    lost, _ = sent[3]
    append(settings, [record(settings, lost, None)])
    send(settings, *assignment("late"))
    until(lambda: len(outcomes_by_request(settings)) == 19)
    until(lambda: not waiting_keys(settings))
    named = str(lost)

    code, report, _ = run_json(settings, "doctor")
    (check,) = (one for one in report["checks"] if named in one["detail"])
    assert (code, check["ok"], "cjstream parked restore" in check["detail"]) == (3, False, True)
    code, report, stderr = run_json(settings, "audit", "verify", "--no-texts")
    assert (code, [one["kind"] for one in report["findings"]]) == (3, ["missing"]), stderr
    code, dry, stderr = run_json(settings, "parked", "restore")
    assert (code, dry["dry_run"]) == (0, True), stderr
    assert dry["requests"] == [{"request": named, "entry": "", "reason": ""}]
    assert lost not in outcomes_by_request(settings)

    code, done, stderr = run_json(settings, "parked", "restore", "--yes", named)
    assert (code, [one["request"] for one in done["requests"]]) == (0, [named]), stderr
    until(lambda: lost in outcomes_by_request(settings))
    code, report, stderr = run_json(settings, "audit", "verify", "--no-texts")
    assert (code, report["findings"]) == (0, []), stderr
    code, again, _ = run_json(settings, "parked", "restore", "--yes")
    assert (code, again["requests"]) == (0, [])
    code, _, stderr = run_json(settings, "parked", "restore", "--yes", named)
    assert (code, "its outcome is" in stderr) == (3, True), stderr
    assert worker.is_alive
