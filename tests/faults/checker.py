"""Asks from outside whether every request has its one outcome: from the topics alone, by a plain consumer.

It shares nothing with what it checks but the names of the topics and the `.avsc` files.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.topics import Topics
from tests.waiting import until

SCHEMAS = Path(__file__).parents[2] / "schemas"
ROLES = ("instructions", "student_prompt", "judge_rubric")
FRAME_BYTES = 5
SHOWN = 10


class Coordinates(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Read(NamedTuple):
    """A record as a plain consumer got it."""

    at: Coordinates
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Used(NamedTuple):
    """What an outcome says of an upload that it rests on."""

    at: Coordinates
    version: int
    event_id: str
    sha256: str


class Change(NamedTuple):
    """An upload or a deletion of one role at one scope; a deletion has no sha256."""

    at: Coordinates
    appended_at_ms: int
    version: int
    event_id: str
    sha256: str | None


class Outcome(NamedTuple):
    """One committed record of an outcome topic."""

    at: Coordinates
    appended_at_ms: int
    request_at: Coordinates
    request: bytes | Mapping[str, Any] | None  # raw in a dead letter, else as decoded
    scope_key: str | None = None  # None in a dead letter
    brings_prompt: bool = False
    used: Mapping[str, Used] = {}


Changes = Mapping[tuple[str, str], Sequence[Change]]  # by scope key and role, in log order


@dataclass
class Findings:
    """What is wrong, by kind; `counts` says how many were looked at."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: list[Coordinates] = field(default_factory=list)
    duplicated: list[Coordinates] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    uncommitted: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """The kinds of fault found, each with its number."""
        found = {name: len(value) for name, value in vars(self).items() if name != "counts"}
        return {name: number for name, number in found.items() if number}

    def __str__(self) -> str:
        shown = {name: getattr(self, name)[:SHOWN] for name in self.faults}
        return f"{dict(self.counts)} faults: {self.faults} {shown}"


def judge(requests: Sequence[Read], outcomes: Sequence[Outcome], changes: Changes) -> Findings:
    """Hold outcomes against the requests and the uploads of the log."""
    found = Findings()
    by_request = defaultdict[Coordinates, list[Outcome]](list)
    for outcome in outcomes:
        by_request[outcome.request_at].append(outcome)
    known = {request.at: request for request in requests}
    found.invented = [str(at) for at in by_request if at not in known]
    for request in requests:
        its = by_request[request.at]
        if not its:
            found.missing.append(request.at)
        found.duplicated += [request.at] * (len(its) - 1)
        for outcome in its:
            _judge_one(found, request, outcome, changes)
    found.counts["requests"] = len(requests)
    found.counts.update(outcome.at.topic.partition("-")[2] for outcome in outcomes)
    return found


def _judge_one(found: Findings, request: Read, outcome: Outcome, changes: Changes) -> None:
    if outcome.at.partition != request.at.partition:
        found.misplaced.append(f"{outcome.at} of {request.at}")
    if isinstance(outcome.request, bytes | None):
        if outcome.request != request.value:
            found.altered.append(str(outcome.at))
        return
    if outcome.request != decoded(request.value):
        found.altered.append(str(outcome.at))
    for role in ROLES:
        if role == "student_prompt" and outcome.brings_prompt:
            continue
        of_role = changes.get((outcome.scope_key or "", role), ())
        if told := _implausible(outcome.used.get(role), of_role, request, outcome):
            found.stale.append(f"{outcome.at} {role}: {told}")


def _implausible(
    used: Used | None, changes: Sequence[Change], request: Read, outcome: Outcome
) -> str | None:
    """Why an outcome cannot rest on this upload, or on none; None where it can.

    It has to be the newest one appended before the request, or a later one that was there before the outcome.
    """
    before = [one for one in changes if one.appended_at_ms < request.appended_at_ms]
    later = [
        one
        for one in changes
        if request.appended_at_ms <= one.appended_at_ms <= outcome.appended_at_ms
    ]
    may_be = [*before[-1:], *later]
    if used is None:
        absent = not before or any(one.sha256 is None for one in may_be)
        return None if absent else f"none, and {before[-1].at} was there"
    if used in [(one.at, one.version, one.event_id, one.sha256) for one in may_be]:
        return None
    return f"{used.at}, not one of {[one.at.offset for one in may_be]}"


def _schemas() -> dict[int, Any]:
    ids = orjson.loads((SCHEMAS / "schema_ids.json").read_bytes())
    return {
        number: fastavro.parse_schema(orjson.loads((SCHEMAS / name).read_bytes()))
        for name, number in ids.items()
    }


BY_ID = _schemas()


def decoded(value: bytes | None) -> Any:
    """The record's fields, by the schema that its frame names."""
    assert value is not None
    body = BytesIO(value)
    assert body.read(1) == b"\0"
    schema = BY_ID[int.from_bytes(body.read(FRAME_BYTES - 1), "big")]
    fields = fastavro.schemaless_reader(body, schema, None)
    assert not body.read(1), "bytes left over"
    return fields


def outcome_of(record: Read) -> Outcome:
    """A committed record of one of the two outcome topics that carry events."""
    fields = decoded(record.value)
    provenance = fields["provenance"]
    request = fields["request"]
    assignment = request["assignment_id"]
    scope_key = f"assignment:{assignment}" if assignment else f"course:{request['course_code']}"
    return Outcome(
        record.at,
        record.appended_at_ms,
        Coordinates(**provenance["request"]),
        request,
        scope_key,
        request["student_prompt_ref"] is not None,
        {role: _used(provenance[role]) for role in ROLES if provenance[role]},
    )


def _used(fields: Mapping[str, Any]) -> Used:
    return Used(
        Coordinates(**fields["source"]), fields["version"], fields["event_id"], fields["sha256"]
    )


def dead_letter_of(record: Read) -> Outcome:
    """A committed record of the requests' dead letters: its request is told by its headers."""
    told = {name: (value or b"").decode() for name, value in record.headers}
    at = Coordinates(
        told["kafka_dlt-original-topic"],
        int(told["kafka_dlt-original-partition"]),
        int(told["kafka_dlt-original-offset"]),
    )
    return Outcome(record.at, record.appended_at_ms, at, record.value)


def changes_of(uploads: Mapping[str, Iterable[Read]]) -> Changes:
    """The uploads and deletions of the log by scope and role; `uploads` is by role."""
    changes = defaultdict[tuple[str, str], list[Change]](list)
    for role, records in uploads.items():
        for record in records:
            fields = decoded(record.value)
            change = Change(
                record.at,
                record.appended_at_ms,
                fields["version"],
                fields["event_id"],
                fields.get("sha256"),
            )
            changes[((record.key or b"").decode(), role)].append(change)
    return changes


def check(bootstrap: str, topics: Topics, group: str, partitions: int) -> Findings:
    """Read everything back and judge it; group is the one that commits the requests' offsets."""
    by_role = dict(zip(ROLES, (topic.name for topic in topics.uploads), strict=True))
    uploads = {role: read_all(bootstrap, name, partitions) for role, name in by_role.items()}
    requests = read_all(bootstrap, topics.requests.name, partitions, raw=True)
    outcomes = [
        *map(outcome_of, read_all(bootstrap, topics.batches.name, partitions)),
        *map(outcome_of, read_all(bootstrap, topics.unresolved.name, partitions)),
        *map(dead_letter_of, read_all(bootstrap, topics.requests_dlq.name, partitions)),
    ]
    found = judge(requests, outcomes, changes_of(uploads))
    found.uncommitted = _uncommitted(bootstrap, group, topics.requests.name, partitions)
    found.hanging = _hanging(bootstrap, [topic.name for topic in topics.all], partitions)
    return found


def _uncommitted(bootstrap: str, group: str, topic: str, partitions: int) -> list[str]:
    asked = [At(topic, one) for one in range(partitions)]
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        committed = committed_by(member, asked)
    finally:
        member.close()
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    ends = ends_of(admin, asked, IsolationLevel.READ_UNCOMMITTED)
    return [
        f"{at}: {offset} of {ends[at]}" for at, offset in committed.items() if offset < ends[at]
    ]


def _hanging(bootstrap: str, topics: Iterable[str], partitions: int) -> list[str]:
    """Where an open transaction holds readers back."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = [At(topic, one) for topic in topics for one in range(partitions)]
    stable = ends_of(admin, asked, IsolationLevel.READ_COMMITTED)
    high = ends_of(admin, asked, IsolationLevel.READ_UNCOMMITTED)
    return [f"{at}: {stable[at]} of {end}" for at, end in high.items() if stable[at] < end]


def committed_by(member: Consumer, partitions: Sequence[At]) -> dict[tuple[str, int], int]:
    """The committed offsets of the consumer's group; negative where there is none."""
    found = member.committed(list(partitions), timeout=10)
    return {(at.topic, at.partition): at.offset for at in found}


def ends_of(
    admin: AdminClient, partitions: Iterable[At], isolation: IsolationLevel
) -> dict[tuple[str, int], int]:
    """Where partitions end; for committed readers, where the first open transaction begins."""
    asked = {at: OffsetSpec.latest() for at in partitions}
    futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=10)
    return {(at.topic, at.partition): one.result().offset for at, one in futures.items()}


def read_all(bootstrap: str, topic: str, partitions: int, *, raw: bool = False) -> list[Read]:
    """Every record of a topic in log order, committed ones only; raw: whatever became of them."""
    isolation = "read_uncommitted" if raw else "read_committed"
    level = IsolationLevel.READ_UNCOMMITTED if raw else IsolationLevel.READ_COMMITTED
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = [At(topic, one) for one in range(partitions)]
    ends = ends_of(admin, asked, level)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checker",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    records = list[Read]()
    try:
        consumer.assign([At(topic, one, OFFSET_BEGINNING) for one in range(partitions)])
        until(lambda: _read_on(consumer, records, ends), seconds=60)
    finally:
        consumer.close()
    return sorted(one for one in records if one.at.offset < ends[one.at[:2]])


def _read_on(consumer: Consumer, records: list[Read], ends: Mapping[tuple[str, int], int]) -> bool:
    records.extend(_records(consumer))
    positions = consumer.position([At(*at) for at in ends])
    return all(max(at.offset, 0) >= ends[at.topic, at.partition] for at in positions)


def _records(consumer: Consumer) -> Iterator[Read]:
    for message in consumer.consume(10_000, 0.2):
        error = message.error()
        assert error is None or error.retriable(), error
        if error is None:
            at = Coordinates(
                str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
            )
            headers = [
                (str(name), value.encode() if isinstance(value, str) else value)
                for name, value in dict(message.headers() or ()).items()
            ]
            yield Read(at, message.timestamp()[1], message.key(), message.value(), headers)
