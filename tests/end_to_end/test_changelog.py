"""The published changelog beside a real worker: nothing is written for lag, and what is wrong is mended."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import orjson
import pytest
from confluent_kafka import Message
from rocksdict import Options, Rdict

from processors.fold.changelog_watch import ChangelogWatch, IsOwnRow
from processors.kafka.clients import plain_producer
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_record_of
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Unreachable
from schemas.events import AssignmentContext, UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topic
from tables.changelog_row import RowChecker
from tables.context import context_from, fold
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import read_upload
from tests.end_to_end.serving import ready_api
from tests.faults.running import Process, StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested
from tests.support.run_command import run_text
from tests.support.until import until

CODEC = Codec()
MENDED = "changelog rows were wrong: written anew"
ASSIGNMENTS, REQUESTS = 10_000, 100_000


def no_own_rows() -> IsOwnRow:
    """For a watch without a fold: every row may be wrong."""
    return lambda partition, offset: False


def append_uploads(settings: Settings, uploads: Iterator[UploadEvent]) -> None:
    deliver(plain_producer(settings), [upload_record(settings, event) for event in uploads])


def upload_record(settings: Settings, event: UploadEvent) -> Record:
    key = scope_key_of(event).encode()
    is_prompt = type(event).__name__.startswith("StudentPrompt")
    topic = settings.topics.student_prompts if is_prompt else settings.topics.instructions
    return Record(topic.name, partition_for(key, settings.partitions), key, CODEC.encode(event))


def complete(number: int) -> list[UploadEvent]:
    """What an assignment needs for its requests to be prepared."""
    return [
        instructions_uploaded(assignment_id=f"a{number}"),
        prompt_uploaded(assignment_id=f"a{number}"),
    ]


def messages_of(settings: Settings, topic: Topic) -> list[Message]:
    with LogReader(settings, settings.partitions_of(topic)) as log:
        ends = log.seek_to_start()
        return [message for messages in log.messages_until(ends) for message in messages]


def folded(settings: Settings) -> dict[bytes, bytes]:
    """The rows that folding the uploads gives, by key."""
    rows: dict[str, AssignmentContext] = {}
    for topic in settings.topics.uploads:
        for record in map(upload_record_of, messages_of(settings, topic)):
            event = read_upload(record, CODEC, upload_topics(settings))
            fold(rows, event, record.at, record.appended_at_ms)
    return {key.encode(): CODEC.encode(row) for key, row in rows.items()}


def view(settings: Settings) -> dict[tuple[int | None, bytes], bytes]:
    """The changelog as compaction would leave it, by partition and key."""
    rows: dict[tuple[int | None, bytes], bytes] = {}
    for message in messages_of(settings, settings.topics.context):
        rows.pop((message.partition(), message.key() or b""), None)
        if (value := message.value()) is not None:
            rows[message.partition(), message.key() or b""] = value
    return rows


def expected_view(settings: Settings) -> dict[tuple[int | None, bytes], bytes]:
    return {
        (partition_for(key, settings.partitions), key): row for key, row in folded(settings).items()
    }


def complaints(worker: Process) -> list[str]:
    """The lines of the log above level info, and those that are no log lines."""
    lines = worker.log.read_bytes().splitlines()
    return [
        line.decode()
        for line in lines
        if not line.startswith(b"{") or orjson.loads(line)["level"] not in ("info", "debug")
    ]


def compared(settings: Settings) -> list[tuple[str, str]]:
    """The scope keys and kinds of the differences that `audit replay --compare` names in the changelog."""
    code, output, messages = run_text(settings, "audit", "replay", "--compare", "--json")
    documents = [orjson.loads(line) for line in output.splitlines()]
    found = [line["difference"] for line in documents if "difference" in line]
    assert code == (3 if found else 0), messages
    topic = settings.topics.context.name
    return sorted((one["scope_key"], one["kind"]) for one in found if one["target"] == topic)


def forged_rows(settings: Settings) -> list[Record]:
    """A row of each sort that no fold writes."""
    topic, key = settings.topics.context.name, b"assignment:a1"
    partition = partition_for(key, settings.partitions)

    def row(scope: str, offset: int, *, version: int = 9) -> AssignmentContext:
        event = instructions_uploaded(assignment_id=scope, version=version)
        number = partition_for(f"assignment:{scope}".encode(), settings.partitions)
        at = Coordinates(settings.topics.instructions.name, number, offset)
        return context_from(event, at, 1000)

    def record(scope: str, value: bytes | None) -> Record:
        name = f"assignment:{scope}".encode()
        return Record(topic, partition_for(name, settings.partitions), name, value)

    return [
        record("a1", CODEC.encode(row("a1", 2**40))),
        record("a2", CODEC.encode(row("a2", 0))),
        record("a3", b"damaged"),
        record("a4", None),
        record("a5", CODEC.encode(replace(row("a1", 0), scope_key="assignment:a1"))),
        record("nobody", CODEC.encode(row("nobody", 2**40))),
        record("nobody2", CODEC.encode(row("nobody2", 0))),
        record("nobody3", b"damaged"),
        Record(topic, (partition + 1) % settings.partitions, key, CODEC.encode(row("a1", 0))),
        Record(topic, 0, b"\xff\xfe", CODEC.encode(row("a1", 0))),
        Record(topic, 1, b"\xff\xfd", b"damaged"),
        Record(topic, 2, b"__faust\0offset__", b"no number"),
    ]


@pytest.mark.thorough
def test_forged_rows_are_named_by_the_comparison_and_mended_by_a_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    """Beside a running worker, while it is stopped, and in its table: they are there when it recovers it."""
    append_uploads(settings, (event for n in range(40) for event in complete(n)))
    worker = start_worker("one")
    until(lambda: view(settings) == expected_view(settings), seconds=60)
    deliver(plain_producer(settings), forged_rows(settings))
    until(lambda: view(settings) == expected_view(settings), seconds=60)
    assert worker.stop() == 0
    assert len([line for line in complaints(worker) if MENDED in line]) in (1, 2, 3)
    assert [line for line in complaints(worker) if MENDED not in line] == []

    deliver(plain_producer(settings), forged_rows(settings))
    assert compared(settings) == [
        ("\\xff\\xfd", "misplaced"),
        ("\\xff\\xfe", "misplaced"),
        ("__faust\x00offset__", "damaged"),
        ("assignment:a1", "ahead"),
        ("assignment:a1", "misplaced"),
        ("assignment:a1", "missing"),
        ("assignment:a2", "missing"),
        ("assignment:a2", "other"),
        ("assignment:a3", "damaged"),
        ("assignment:a4", "missing"),
        ("assignment:a4", "missing"),
        ("assignment:a5", "damaged"),
        ("assignment:nobody", "ahead"),
        ("assignment:nobody2", "ahead"),
        ("assignment:nobody3", "damaged"),
    ]
    worker.start()
    append_uploads(
        settings, iter([instructions_uploaded(assignment_id=f"a{n}", version=2) for n in range(9)])
    )
    until(lambda: view(settings) == expected_view(settings), seconds=60)
    append_uploads(
        settings, iter([prompt_uploaded(assignment_id=f"a{n}", version=2) for n in range(9)])
    )
    append_uploads(settings, iter([prompt_uploaded(assignment_id="nobody")]))
    until(lambda: view(settings) == expected_view(settings), seconds=60)
    assert compared(settings) == []


def append_requests(settings: Settings, count: int, assignments: int) -> None:
    topic, producer = settings.topics.requests.name, plain_producer(settings)
    numbers = range(count)
    for first in range(0, count, 10_000):
        records = [
            Record(
                topic,
                number % settings.partitions,
                f"b{number}".encode(),
                CODEC.encode(
                    requested(batch_id=f"b{number}", assignment_id=f"a{number % assignments}")
                ),
            )
            for number in numbers[first : first + 10_000]
        ]
        deliver(producer, records)


def prepared(settings: Settings) -> int:
    """The number of requests that are committed; no other record is in their topic."""
    partitions = settings.partitions_of(settings.topics.requests)
    return sum(committed(settings, settings.prep_group, partitions).values())


def committed(settings: Settings, group: str, partitions: Sequence[Partition]) -> Positions:
    """The committed offsets; none while the group's coordinator does not answer."""
    try:
        return committed_offsets(settings, group, partitions)
    except Unreachable:
        return {}


def is_folded(settings: Settings) -> bool:
    partitions = settings.upload_partitions
    ends = high_watermarks_when_reachable(settings, partitions)
    folded = committed(settings, settings.fold_group, partitions)
    return all(folded.get(partition, 0) == end for partition, end in ends.items())


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_healthy_system_writes_no_warning_and_no_row_twice(
    settings: Settings, start_worker: StartWorker
) -> None:
    """The first start over many assignments, a backlog of requests, and a worker that joins and leaves."""
    append_uploads(settings, (event for n in range(ASSIGNMENTS) for event in complete(n)))
    append_requests(settings, REQUESTS, ASSIGNMENTS)
    one = start_worker("one")
    until(lambda: prepared(settings) == REQUESTS, seconds=240)
    until(lambda: is_folded(settings), seconds=240)  # a rebalance lets it send again what is not
    append_requests(settings, REQUESTS, ASSIGNMENTS)
    two = start_worker("two")
    until(lambda: two.log_count('"fetching from the committed offsets"') > 0, seconds=60)
    until(lambda: prepared(settings) == 2 * REQUESTS, seconds=240)
    assert two.stop() == 0
    append_requests(settings, 100, ASSIGNMENTS)
    until(lambda: prepared(settings) == 2 * REQUESTS + 100, seconds=60)
    assert one.stop() == 0
    assert complaints(one) + complaints(two) == []
    rows = [(row.key(), row.value()) for row in messages_of(settings, settings.topics.context)]
    assert len(rows) == len(set(rows)) >= ASSIGNMENTS
    assert dict(rows) == folded(settings)
    assert len(messages_of(settings, settings.topics.batches)) == 2 * REQUESTS + 100


@pytest.mark.thorough
def test_a_row_that_was_only_in_the_table_when_the_worker_was_killed_is_published(
    settings: Settings, start_worker: StartWorker
) -> None:
    """The table is written first: a kill may come before the changelog has the row."""
    append_uploads(settings, iter(complete(1)))
    worker = start_worker("one")
    until(lambda: view(settings) == expected_view(settings), seconds=60)
    assert worker.stop() == 0
    append_uploads(settings, iter([instructions_uploaded(assignment_id="a2")]))
    key = b"assignment:a2"
    number = partition_for(key, settings.partitions)
    folder = settings.model_copy(update={"slot": "one"}).worker_dir / "faust"
    (database,) = folder.glob(f"**/context-{number}.db")
    table = Rdict(str(database), Options(raw_mode=True))
    table[key] = folded(settings)[key]
    table.close()
    worker.start()
    until(lambda: view(settings) == expected_view(settings), seconds=60)


def test_two_healthy_instances_of_the_api_that_write_in_turn_write_no_warning(
    settings: Settings,
) -> None:
    """Each write of one fences the writer of the other."""
    other = settings.model_copy(update={"data_dir": settings.data_dir / "other"})
    with ready_api(settings) as first, ready_api(other) as second:
        for version in range(4):
            api = (first, second)[version % 2]
            body = {
                "instructions_text": f"Judge the argument, {version}.",
                "grade_scale": "swedish_8_anchor",
            }
            path = "/admin/v1/assessment-instructions/assignment/a1"
            written = api("PUT", path, {"assignment_id": "a1", **body})
            assert written.status_code in (200, 201), written.text
        assert (first.stop(), second.stop()) == (0, 0)
        assert complaints(first) + complaints(second) == []


def test_more_wrong_rows_than_are_kept_are_all_found(settings: Settings) -> None:
    append_uploads(settings, (event for n in range(60) for event in complete(n)))
    replica = ContextReplica(MemoryStore(), CODEC, upload_topics(settings))
    replica.open({})
    records = [
        upload_record_of(message)
        for topic in settings.topics.uploads
        for message in messages_of(settings, topic)
    ]
    ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
    replica.fold(records, ends)
    topic, producer = settings.topics.context.name, plain_producer(settings)
    right = folded(settings)
    partition_of = {key: partition_for(key, settings.partitions) for key in right}
    deliver(
        producer, [Record(topic, number, key, b"wrong") for key, number in partition_of.items()]
    )
    checker = RowChecker(CODEC, tuple(one.name for one in settings.topics.uploads), 4)
    faults: list[BaseException] = []
    watch = ChangelogWatch(
        settings, checker, replica, lambda: ends, no_own_rows, faults.append, lambda _: 0, 10
    )
    watch.own(frozenset(range(4)))
    watch.start()
    found = set[bytes]()

    def repair() -> bool:
        wrong = [(row.partition, row.key) for row in watch.wrong_rows()]
        found.update(key for _, key in wrong)
        deliver(producer, [Record(topic, number, key, right[key]) for number, key in wrong])
        return found == right.keys()

    until(repair, seconds=60)
    watch.stop()
    assert faults == []
