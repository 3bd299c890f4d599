"""`audit replay`: the fold again from the log, by range, in one process or several, and held against what is kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.app import open_replica
from processors.kafka.records import Record
from processors.log.compacted_rows import newest_rows
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_record_of as read
from processors.log.upload_topics import upload_topic_ids
from processors.settings import Settings, upload_topics
from schemas.coordinates import Coordinates, Partition
from schemas.events import ROLES, AssignmentContext
from schemas.partitioner import partition_for
from tables.context import FOLD_VERSION, component_of, only
from tables.history.bulk_fold import Counts
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded
from tests.support.run_command import printed, told
from tests.support.until import until
from tools.audit.replay.replay import ContextLines, ReplaySummary, range_of, replay, rows_of


@pytest.fixture
def uploads(settings: Settings) -> Sequence[Coordinates]:
    """Six assignments, two of them replaced, and a damaged upload."""
    names = [*map("a{}".format, range(6))]
    places = [at for name in names for at in send(settings, *assignment(name))]
    for name in names[:2]:
        again = [replace(one, previous_event_id=None) for one in assignment(name, version=2)]
        places += send(settings, *again)
    damaged = record_of(settings, prompt_uploaded(assignment_id="a1"))
    append(settings, [Record(damaged.topic, damaged.partition, damaged.key, b"\1?")])
    return places


def lines(settings: Settings, *options: str) -> tuple[int, list[Any], str]:
    code, shown, grumbled = printed(settings, "audit", "replay", *options, "--json")
    return code, [json.loads(line) for line in shown.splitlines()], grumbled


def test_the_whole_log_is_folded_again_and_summed_up(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    code, documents, grumbled = lines(settings)
    assert (code, grumbled) == (0, "")
    *contexts, last = documents
    found = {one["context"]["scope_key"]: one["context"] for one in contexts}
    assert sorted(found) == [f"assignment:a{number}" for number in range(6)]
    assert [found[f"assignment:a{n}"]["instructions"]["version"] for n in (0, 5)] == [2, 1]
    assert all(one["broken"] == [] for one in found.values())
    summary = last["summary"]
    assert (summary["records"], summary["damaged"], summary["scopes"]) == (25, 1, 6)
    assert (summary["broken"], summary["gaps"]) == (0, [])
    assert sum(one["next_offset"] for one in summary["to"]) == 25
    code, shown, _ = printed(settings, "audit", "replay")
    assert (code, "25 records of 6 scopes" in shown, "1 damaged" in shown) == (0, True, True)


def test_a_range_ends_with_its_records_and_begins_at_them(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    by_role = {at.topic: at for at in uploads[:3]}  # the first assignment's
    upto = ",".join(map(str, by_role.values()))
    _, documents, _ = lines(settings, "--to", upto, "--scope", "a0")
    (context, _) = documents
    told_versions = [
        context["context"][role]["version"] for role in ("instructions", "judge_rubric")
    ]
    assert told_versions == [1, 1]
    since = ",".join(str(at) for at in uploads[-6:-3])
    code, documents, _ = lines(settings, "--from", since, "--scope", "a0", "--scope", "a5")
    assert (code, [one["context"]["instructions"]["version"] for one in documents[:-1]]) == (0, [2])
    assert documents[0]["context"]["broken"] == []  # what was before the range is not missing


def test_two_processes_find_what_one_finds(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    of = range_of(settings, None, None)

    def found(processes: int) -> tuple[list[Any], Counts]:
        rows, counts = list[Any](), Counts()
        for said in replay(settings, of, processes=processes):
            if isinstance(said, ContextLines):
                rows += rows_of(said.lines)
            elif isinstance(said, ReplaySummary):
                counts = said.counts
        return sorted(rows, key=lambda one: str(one["scope_key"])), counts

    assert found(2) == found(1)
    assert found(1)[1] == Counts(25, 1, 6, 0)


def test_a_worker_at_rest_keeps_what_the_log_says_and_every_planted_difference_is_found(
    settings: Settings, start_worker: StartWorker, uploads: Sequence[Coordinates]
) -> None:
    worker = start_worker("one")
    until(lambda: _is_published(settings), seconds=60)
    worker.stop()  # which flushes its replica
    code, (last,), grumbled = lines(settings, "--compare")
    assert (code, grumbled, last["summary"]["differences"]) == (0, "", 0)
    compared = {one["target"]: one["rows"] for one in last["summary"]["compared"]}
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
                partition_for(one.scope_key.encode(), 4),
                one.scope_key.encode(),
                CODEC.encode(one),
            )
            for one in (stale, nobody)
        ],
    )
    code, documents, grumbled = lines(settings, "--compare")
    found = [one["difference"] for one in documents[:-1]]
    assert code == 3
    assert "4 roles are kept otherwise than the log says" in grumbled
    assert sorted((one["scope_key"], one["role"], one["kind"]) for one in found) == [
        ("assignment:a3", "instructions", "missing"),
        ("assignment:a3", "judge_rubric", "missing"),
        ("assignment:a3", "student_prompt", "missing"),
        ("assignment:nobody", "instructions", "ahead"),
    ]
    assert {one["target"] for one in found} == {context}
    assert found[0]["expected"]["source"]["topic"].startswith(settings.topic_prefix)
    code, shown, _ = printed(settings, "audit", "replay", "--compare", "--replica", str(folder))
    assert (code, "0 differences" in shown) == (0, True)


def _is_published(settings: Settings) -> bool:
    """Whether the changelog has every scope, and the two replaced ones in their second version."""
    rows = newest_rows(settings, range(4), lambda _: True).values()
    contexts = [CODEC.decode_as(AssignmentContext, row) for row in rows]
    found = sorted(
        tuple(one.version if (one := component_of(context, role)) else 0 for role in ROLES)
        for context in contexts
    )
    return found == [(1, 1, 1)] * 4 + [(2, 2, 2)] * 2


def _row(name: str, offset: int) -> AssignmentContext:
    event = instructions_uploaded(assignment_id=name)
    here = partition_for(f"assignment:{name}".encode(), 4)
    return only(event, Coordinates("elsewhere", here, offset), 1)


def test_a_replica_is_compared_as_of_its_own_positions_and_refused_where_its_topic_is_another(
    settings: Settings, uploads: Sequence[Coordinates]
) -> None:
    own = settings.model_copy(update={"slot": "other"})
    replica = open_replica(own, CODEC, own.worker_dir)
    replica.open(upload_topic_ids(settings))
    partitions = [Partition(name, n) for name in upload_topics(settings).by_name for n in range(4)]
    with LogReader(settings, partitions) as log:
        half = {one: end // 2 for one, (_, end) in log.offset_ranges().items()}
        log.seek(dict.fromkeys(half, 0))
        for messages in log.messages_until(half):
            replica.fold(map(read, messages), half)
    replica.fold((), half)
    replica.close()
    folder = str(own.worker_dir)
    code, documents, grumbled = lines(settings, "--compare", "--replica", folder)
    assert (code, grumbled, documents[-1]["summary"]["differences"]) == (0, "", 0)

    opened = open_replica(own, CODEC, own.worker_dir)
    opened.open(upload_topic_ids(settings))
    opened.fold((), dict.fromkeys(half, 1000))
    opened.close()
    code, _, grumbled = lines(settings, "--compare", "--replica", folder)
    assert (code, "the log ends at" in grumbled) == (3, True)


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["--from", "soon"], 2, "--from: not a time"),
        (["--compare", "--to", "1h"], 2, "--compare takes the whole log"),
        (["--compare", "--replica", "nowhere"], 2, "no replica to read in nowhere"),
        (["--scope", "a/b"], 2, "not an id"),
    ],
)
def test_bad_input_is_one_line(settings: Settings, options: list[str], code: int, why: str) -> None:
    ended, _, grumbled = told(settings, "audit", "replay", *options)
    assert (ended, why in grumbled, grumbled.count("\n")) == (code, True, 1)


def test_without_a_broker_it_ends_with_4(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    code, _, grumbled = told(away, "audit", "replay")
    assert (code, grumbled.count("\n")) == (4, 1)
