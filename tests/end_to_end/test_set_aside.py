"""An upload of a later release stops its partition alone, and a command lets the fold go on behind it."""

from typing import Any

import pytest

from processors.dead_letters.open_letters import read_dead_letters
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import FRAME
from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import OF_LATER_RELEASE, prompt_uploaded, requested
from tests.support.run_command import run_json
from tests.support.until import until


def number_of(assignment_id: str) -> int:
    return partition_for(f"assignment:{assignment_id}".encode(), 4)


# two assignments whose uploads are in one partition, and one in another
STOPPED, NEIGHBOUR, FREE = (
    "a1",
    *(
        next(
            name
            for name in (f"b{n}" for n in range(100))
            if (number_of(name) == number_of("a1")) is same
        )
        for same in (True, False)
    ),
)


def append_later(settings: Settings, assignment_id: str) -> Coordinates:
    """Append a student prompt of a later release."""
    good = record_of(settings, prompt_uploaded(assignment_id=assignment_id))
    (at,) = append(
        settings, [Record(good.topic, number_of(assignment_id), good.key, OF_LATER_RELEASE)]
    )
    return at


def outcomes(settings: Settings) -> dict[str, Any]:
    """The outcomes so far, by batch id."""
    topics = settings.topics
    with LogReader(settings, settings.partitions_of(topics.batches, topics.unresolved)) as log:
        events: list[Any] = [
            CODEC.decode(one.value) for one in log.records_until(log.seek_to_start())
        ]
    return {event.request.batch_id: event for event in events}


def stopping_in_doctor(settings: Settings) -> str:
    (_, document, _) = run_json(settings, "doctor")
    (check,) = (one for one in document["checks"] if one["name"] == "uploads of a later release")
    assert check["ok"] is (check["detail"] == "none")
    detail: str = check["detail"]
    return detail


def prompt_version(event: Any) -> int:
    version: int = event.provenance.student_prompt.version
    return version


@pytest.mark.thorough
def test_requests_of_other_partitions_are_prepared_and_the_others_wait_until_it_is_set_aside(
    settings: Settings, start_worker: StartWorker
) -> None:
    for name in (STOPPED, NEIGHBOUR, FREE):
        send(settings, *assignment(name))
    later = append_later(settings, STOPPED)
    send(settings, prompt_uploaded(assignment_id=NEIGHBOUR, version=2))
    worker = start_worker(patience_s=1)
    for name in (STOPPED, NEIGHBOUR, FREE):
        send(settings, requested(batch_id=name, assignment_id=name))
    until(lambda: set(outcomes(settings)) == {FREE})
    send(settings, requested(batch_id="again", assignment_id=FREE))
    until(lambda: set(outcomes(settings)) == {FREE, "again"})
    (_, parked, _) = run_json(settings, "parked", "list")
    assert {one["scope_key"] for one in parked["parked"]} == {
        f"assignment:{STOPPED}",
        f"assignment:{NEIGHBOUR}",
    }
    assert worker.log_count("the fold of an upload partition has stopped") == 1

    assert f"`cjstream uploads set-aside {later}`" in stopping_in_doctor(settings)
    code, dry, _ = run_json(settings, "uploads", "set-aside", str(later))
    assert (code, dry["dry_run"], dry["by"], dry["has_upload"]) == (0, True, None, True)
    code, done, _ = run_json(settings, "uploads", "set-aside", str(later), "--yes")
    assert (code, done["dry_run"], done["key"]) == (0, False, f"assignment:{STOPPED}")
    until(lambda: len(outcomes(settings)) == 4)
    found = outcomes(settings)
    assert prompt_version(found[STOPPED]) == 1
    assert str(found[STOPPED].provenance.student_prompt.source) == done["by"]
    assert prompt_version(found[NEIGHBOUR]) == 2
    until(lambda: read_dead_letters(settings, [settings.topics.uploads_dlq]).letters)
    (letter,) = read_dead_letters(settings, [settings.topics.uploads_dlq]).letters
    assert letter.refusal.at == later

    assert stopping_in_doctor(settings) == "none"
    code, report, stderr = run_json(settings, "audit", "verify", "--no-texts")
    assert (code, report["findings"]) == (0, []), stderr
    code, _, stderr = run_json(settings, "audit", "replay", "--compare")
    assert code == 0, stderr
    code, _, stderr = run_json(settings, "uploads", "set-aside", str(later), "--yes")
    assert (code, "is set aside already" in stderr) == (3, True)


def test_a_key_without_a_good_upload_is_set_aside_by_a_record_without_a_value(
    settings: Settings,
) -> None:
    send(settings, prompt_uploaded(assignment_id=NEIGHBOUR))
    later = append_later(settings, STOPPED)
    send(settings, prompt_uploaded(assignment_id=NEIGHBOUR, version=2))
    code, done, _ = run_json(settings, "uploads", "set-aside", str(later), "--yes")
    assert (code, done["has_upload"]) == (0, False)
    contexts = folded(settings)
    assert contexts[f"assignment:{NEIGHBOUR}"].student_prompt.version == 2
    assert f"assignment:{STOPPED}" not in contexts


def folded(settings: Settings) -> dict[str, Any]:
    """The contexts of a new replica that has folded every upload."""
    replica = open_replica(settings, CODEC, settings.data_dir / "new")
    faults: list[BaseException] = []
    feed = ReplicaFeed(settings, replica, faults.append)
    feed.start(replica.open({}))
    ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
    until(lambda: faults or not replica.wait_past(ends, 0))
    contexts = {context.scope_key: context for context in replica.contexts()}
    feed.stop()
    replica.close()
    assert not faults
    return contexts


@pytest.mark.parametrize(
    ("name", "exit_code", "problem"),
    [
        ("nonsense", 2, "topic/partition@offset"),
        ("cj.requests.v1/0@0", 2, "not in a partition of an upload topic"),
        ("assessment.student-prompts.v1/9@0", 2, "not in a partition of an upload topic"),
        ("assessment.student-prompts.v1/{number}@99", 3, "is not in the log"),
        ("assessment.student-prompts.v1/{number}@0", 3, "it is a valid upload"),
        ("assessment.student-prompts.v1/{number}@1", 3, "it is a dead letter"),
    ],
)
def test_what_stops_nothing_is_not_set_aside(
    settings: Settings, name: str, exit_code: int, problem: str
) -> None:
    good = record_of(settings, prompt_uploaded(assignment_id=STOPPED))
    number = number_of(STOPPED)
    append(
        settings,
        [good, Record(good.topic, number, good.key, FRAME.pack(0, 7) + b"of another registry")],
    )
    coordinates = settings.topic_prefix + name.format(number=number)
    code, _, stderr = run_json(settings, "uploads", "set-aside", coordinates, "--yes")
    assert (code, problem in stderr) == (exit_code, True), stderr
