"""`audit replay`: folding the log again, by range, in one or more processes, and comparing with the stored rows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.fold.replica_feed import open_replica
from processors.kafka.records import Record
from processors.log.compacted_rows import newest_rows
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_record_of as read
from processors.log.upload_topics import upload_topic_ids
from processors.settings import Settings, administered_topics, upload_topics
from schemas.coordinates import Coordinates, Partition
from schemas.events import ROLES, AssignmentContext
from schemas.partitioner import partition_for
from tables.context import FOLD_VERSION, component_of, context_from
from tables.history.bulk_fold import Counts
from tables.upload_record import UploadTopics
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import anchor, anchors_uploaded, instructions_uploaded, prompt_uploaded
from tests.support.run_command import run_json, run_text
from tests.support.until import until
from tools.audit.replay.replay import ContextLines, ReplaySummary, range_of, replay, rows_of


@pytest.fixture
def uploads(settings: Settings) -> Sequence[Coordinates]:
    """Six assignments, two of them replaced, and a damaged upload."""
    names = [*map("a{}".format, range(6))]
    coordinates = [at for name in names for at in send(settings, *assignment(name))]
    for name in names[:2]:
        again = [replace(event, previous_event_id=None) for event in assignment(name, version=2)]
        coordinates += send(settings, *again)
    damaged = record_of(settings, prompt_uploaded(assignment_id="a1"))
    append(settings, [Record(damaged.topic, damaged.partition, damaged.key, b"\1?")])
    return coordinates


def lines(settings: Settings, *options: str) -> tuple[int, list[Any], str]:
    code, shown, messages = run_text(settings, "audit", "replay", *options, "--json")
    return code, [json.loads(line) for line in shown.splitlines()], messages


def test_the_whole_log_is_folded_again_and_summarized(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    code, documents, messages = lines(settings)
    assert (code, messages) == (0, "")
    *contexts, last = documents
    found = {line["context"]["scope_key"]: line["context"] for line in contexts}
    assert sorted(found) == [f"assignment:a{number}" for number in range(6)]
    assert [found[f"assignment:a{n}"]["instructions"]["version"] for n in (0, 5)] == [2, 1]
    assert all(context["broken"] == [] for context in found.values())
    summary = last["summary"]
    assert (summary["records"], summary["damaged"], summary["scopes"]) == (25, 1, 6)
    assert (summary["broken"], summary["gaps"]) == (0, [])
    assert sum(position["next_offset"] for position in summary["to"]) == 25
    code, shown, _ = run_text(settings, "audit", "replay")
    assert (code, "25 records of 6 scopes" in shown, "1 damaged" in shown) == (0, True, True)


def test_a_range_begins_and_ends_with_the_given_records_inclusive(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    by_role = {at.topic: at for at in uploads[:3]}  # the first assignment's
    until_records = ",".join(map(str, by_role.values()))
    _, documents, _ = lines(settings, "--to", until_records, "--scope", "a0")
    (context, _) = documents
    versions = [context["context"][role]["version"] for role in ("instructions", "judge_rubric")]
    assert versions == [1, 1]
    since = ",".join(str(at) for at in uploads[-6:-3])
    code, documents, _ = lines(settings, "--from", since, "--scope", "a0", "--scope", "a5")
    assert (code, [line["context"]["instructions"]["version"] for line in documents[:-1]]) == (
        0,
        [2],
    )
    assert documents[0]["context"]["broken"] == []  # versions before the range are not missing


def test_two_processes_find_what_one_finds(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    replay_range = range_of(settings, None, None)

    def found(processes: int) -> tuple[list[Any], Counts]:
        rows, counts = list[Any](), Counts()
        for message in replay(settings, replay_range, processes=processes):
            if isinstance(message, ContextLines):
                rows += rows_of(message.lines)
            elif isinstance(message, ReplaySummary):
                counts = message.counts
        return sorted(rows, key=lambda row: str(row["scope_key"])), counts

    assert found(2) == found(1)
    assert found(1)[1] == Counts(25, 1, 6, 0)


@pytest.mark.thorough
def test_a_stopped_workers_rows_equal_the_fold_and_every_planted_difference_is_found(
    settings: Settings, start_worker: StartWorker, uploads: Sequence[Coordinates]
) -> None:
    worker = start_worker("one")
    until(lambda: _is_published(settings), seconds=60)
    # the upload that a damaged one hides was appended anew, and is published, too
    until(lambda: worker.log_count("a good upload was appended anew") == 1)
    until(lambda: lines(settings, "--compare")[0] == 0)
    worker.stop()  # which flushes its replica
    code, (*found, last), messages = lines(settings, "--compare")
    assert found == []
    assert (code, messages, last["summary"]["differences"]) == (0, "", 0)
    compared = {target["target"]: target["rows"] for target in last["summary"]["compared"]}
    folder = settings.model_copy(update={"slot": "one"}).worker_dir / "replica"
    assert compared == {settings.topics.context.name: 6, str(folder): 6}

    context = settings.topics.context.name
    stale = AssignmentContext(scope_key="assignment:a3", fold_version=FOLD_VERSION)
    nobody = _row("nobody", 3)
    append(
        settings,
        [
            Record(
                context,
                partition_for(row.scope_key.encode(), 4),
                row.scope_key.encode(),
                CODEC.encode(row),
            )
            for row in (stale, nobody)
        ],
    )
    code, documents, messages = lines(settings, "--compare")
    found = [line["difference"] for line in documents[:-1]]
    assert code == 3
    assert "4 roles differ from what the log says" in messages
    assert sorted((each["scope_key"], each["role"], each["kind"]) for each in found) == [
        ("assignment:a3", "instructions", "missing"),
        ("assignment:a3", "judge_rubric", "missing"),
        ("assignment:a3", "student_prompt", "missing"),
        ("assignment:nobody", "instructions", "ahead"),
    ]
    assert {each["target"] for each in found} == {context}
    assert found[0]["expected"]["source"]["topic"].startswith(settings.topic_prefix)
    code, shown, _ = run_text(settings, "audit", "replay", "--compare", "--replica", str(folder))
    assert (code, "0 differences" in shown) == (0, True)


def _is_published(settings: Settings) -> bool:
    """Whether the changelog has every scope, the two replaced ones in version 2."""
    rows = newest_rows(settings, range(4), lambda _: True).by_key.values()
    contexts = [CODEC.decode_as(AssignmentContext, row) for row in rows]
    found = sorted(
        tuple(
            component.version if (component := component_of(context, role)) else 0 for role in ROLES
        )
        for context in contexts
    )
    return found == [(1, 1, 1)] * 4 + [(2, 2, 2)] * 2


def _row(name: str, offset: int) -> AssignmentContext:
    event = instructions_uploaded(assignment_id=name)
    number = partition_for(f"assignment:{name}".encode(), 4)
    return context_from(event, Coordinates("elsewhere", number, offset), 1)


def test_a_replica_is_compared_at_its_own_positions_and_refused_if_it_is_past_the_log(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    own = settings.model_copy(update={"slot": "other"})
    replica = open_replica(own, CODEC, own.worker_dir)
    replica.open(upload_topic_ids(settings))
    partitions = [Partition(name, n) for name in upload_topics(settings).by_name for n in range(4)]
    with LogReader(settings, partitions) as log:
        half = {partition: end // 2 for partition, (_, end) in log.offset_ranges().items()}
        log.seek(dict.fromkeys(half, 0))
        records = [read(message) for batch in log.messages_until(half) for message in batch]
    replica.fold(records, half)
    replica.close()
    folder = str(own.worker_dir)
    code, documents, messages = lines(settings, "--compare", "--replica", folder)
    assert (code, messages, documents[-1]["summary"]["differences"]) == (0, "", 0)

    opened = open_replica(own, CODEC, own.worker_dir)
    opened.open(upload_topic_ids(settings))
    opened.fold((), dict.fromkeys(half, 1000))
    opened.close()
    code, _, messages = lines(settings, "--compare", "--replica", folder)
    assert (code, "the log ends at" in messages) == (3, True)


def test_the_anchors_of_a_replica_are_compared_if_it_is_folded_from_them(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    old = anchors_uploaded(anchor("one", "C"), assignment_id="a1")
    new = anchors_uploaded(anchor("one", "A"), assignment_id="a1", version=2)
    kept, lost = send(settings, old, new)
    for slot, topics, forgotten in (
        ("api", administered_topics(settings), None),
        ("worker", upload_topics(settings), None),
        ("stale", administered_topics(settings), lost),
    ):
        _write_replica(settings, slot, topics, forgotten)
    folders = {slot: str(settings.data_dir / slot) for slot in ("api", "worker", "stale")}
    for slot in ("api", "worker"):
        code, documents, messages = lines(settings, "--compare", "--replica", folders[slot])
        assert (code, documents, messages) == (0, documents[-1:], ""), slot
    code, (found, _), _ = lines(settings, "--compare", "--replica", folders["stale"])
    assert code == 3
    difference = found["difference"]
    assert [difference[name] for name in ("scope_key", "role", "kind")] == [
        "assignment:a1",
        "anchors",
        "behind",
    ]
    versions = [difference[name]["source"]["offset"] for name in ("found", "expected")]
    assert versions == [kept.offset, lost.offset]


def _write_replica(
    settings: Settings, slot: str, topics: UploadTopics, forgotten: Coordinates | None
) -> None:
    """Write a replica that has folded the log up to its end, but for one record."""
    replica = open_replica(settings, CODEC, settings.data_dir / slot, topics=topics)
    ids = upload_topic_ids(settings)
    replica.open({name: ids[name] for name in topics.by_name})
    with LogReader(settings, topics.every_partition) as log:
        ends = log.seek_to_start()
        records = [read(message) for batch in log.messages_until(ends) for message in batch]
    replica.fold([record for record in records if record.at != forgotten], ends)
    replica.close()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--from", "soon"], 2, "--from: not a time"),
        (["--compare", "--to", "1h"], 2, "--compare takes the whole log"),
        (["--compare", "--replica", "nowhere"], 2, "no replica to read in nowhere"),
        (["--scope", "a/b"], 2, "not an id"),
    ],
)
def test_bad_input_is_a_one_line_error(
    settings: Settings, options: list[str], code: int, message: str
) -> None:
    ended, _, messages = run_json(settings, "audit", "replay", *options)
    assert (ended, message in messages, messages.count("\n")) == (code, True, 1)


@pytest.mark.thorough
def test_without_a_broker_the_exit_code_is_4(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    code, _, messages = run_json(away, "audit", "replay")
    assert (code, messages.count("\n")) == (4, 1)
