"""Reads an installation back and checks its requests, uploads, table and parked requests."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import Topics
from tests.faults.checker import (
    ROLES,
    Changes,
    Findings,
    Outcome,
    Terms,
    changes_of,
    check_outcomes,
    dead_letter_of,
    is_request,
    outcome_of,
)
from tests.faults.reading import (
    Coordinates,
    Read,
    committed_offsets,
    decode_or_none,
    decoded,
    end_offsets,
    read_all,
)

EVENTS = {
    "instructions": {"InstructionsUploaded", "InstructionsDeleted"},
    "student_prompt": {"StudentPromptUploaded", "StudentPromptDeleted"},
    "judge_rubric": {"JudgeRubricUploaded", "JudgeRubricDeleted"},
}


@dataclass(frozen=True)
class Installation:
    """What the checker reads: brokers, topics, their number of partitions, and the groups that commit offsets."""

    bootstrap: str
    topics: Topics
    group: str
    fold_group: str
    partitions: int

    def read(self, topic: str, *, raw: bool = False) -> list[Read]:
        """Every record of a topic."""
        return read_all(self.bootstrap, topic, self.partitions, raw=raw)


def check(installation: Installation, terms: Terms, *, table: bool = False) -> Findings:
    """Read everything back and check it; the table and the uploads only on demand, as the fold may be behind."""
    topics = installation.topics
    by_role = {
        role: installation.read(topic.name)
        for role, topic in zip(ROLES, topics.uploads, strict=True)
    }
    valid = {
        role: [record for record in records if is_upload(record, role)]
        for role, records in by_role.items()
    }
    changes = changes_of(valid)
    requests = installation.read(topics.requests.name, raw=True)
    outcomes = [
        *map(outcome_of, installation.read(topics.batches.name)),
        *map(outcome_of, installation.read(topics.unresolved.name)),
        *map(dead_letter_of, installation.read(topics.requests_dlq.name)),
    ]
    parked = live_parked(installation.read(topics.parked.name))
    found = check_outcomes(requests, outcomes, changes, terms, parked)
    with_outcome = {outcome.request_at for outcome in outcomes}
    now_ms = time.time() * 1000  # the brokers run on this machine: its clock is theirs
    check_parked(found, parked, requests, with_outcome, changes, terms, now_ms)
    if table:
        valid_at = {record.at for records in valid.values() for record in records}
        damaged = [
            record
            for records in by_role.values()
            for record in records
            if record.at not in valid_at
        ]
        check_uploads(
            found, damaged, map(dead_letter_of, installation.read(topics.uploads_dlq.name))
        )
        found.reverted = reverted(changes)
        found.wrong_rows = check_table(installation.read(topics.context.name), changes)
        found.counts["uploads"] = sum(len(records) for records in valid.values())
        found.counts["damaged uploads"] = len(damaged)
    found.uncommitted = _uncommitted(installation, installation.group, [topics.requests.name])
    if table:  # what is missing below a committed offset was skipped; what is missing above it is only late
        found.uncommitted += unfolded(installation)
    found.open_transactions = _open_transactions(installation)
    return found


def unfolded(installation: Installation) -> list[str]:
    """The upload partitions that are not folded to their end; needs offsets only, so it is cheap."""
    return _uncommitted(
        installation,
        installation.fold_group,
        [topic.name for topic in installation.topics.uploads],
    )


def is_upload(record: Read, role: str) -> bool:
    """Whether a record of a role's topic is a valid upload or deletion with its scope as key."""
    found = decode_or_none(record.value)
    if found is None or found.name not in EVENTS[role]:
        return False
    assignment, course = found.fields["assignment_id"], found.fields.get("course_id")
    scope_key = f"course:{course}" if assignment is None else f"assignment:{assignment}"
    return record.key == scope_key.encode()


def check_uploads(found: Findings, damaged: Sequence[Read], letters: Iterable[Outcome]) -> None:
    """Check that every damaged upload, and nothing else, has one or more dead letters, byte for byte."""
    known = {record.at: record for record in damaged}
    with_letter = set[Coordinates]()
    for letter in letters:
        with_letter.add(letter.request_at)
        record = known.get(letter.request_at)
        if record is None:
            found.invented.append(f"{letter.at} of {letter.request_at}: {letter.reason}")
        elif letter.request != record.value:
            found.altered.append(str(letter.at))
    found.no_dead_letter = [at for at in known if at not in with_letter]


def reverted(changes: Changes) -> list[str]:
    """The uploads that were appended anew, after a record that hid them, although a newer one followed them."""
    return [
        f"{later.at} again has {later.event_id}, after {earlier.event_id} at {earlier.at}"
        for of_role in changes.values()
        for number, (earlier, later) in enumerate(pairwise(of_role), 1)
        if later.event_id != earlier.event_id
        and later.event_id in {change.event_id for change in of_role[:number]}
    ]


def check_table(rows: Sequence[Read], changes: Changes) -> list[str]:
    """The rows in which the changelog, as compaction leaves it, differs from the fold of the uploads."""
    by_key = {(row.at.partition, row.key): row for row in rows}
    live = [row for row in by_key.values() if row.value is not None]
    found = {(row.key or b"").decode(): _row(row) for row in live}
    expected = dict[str, dict[str, object]]()
    for (scope_key, role), of_role in changes.items():
        last = of_role[-1]
        expected.setdefault(scope_key, {})[role] = (*last[:1], *last[2:])
    duplicates = [f"{len(live)} rows of {len(found)} scopes"] if len(live) > len(found) else []
    keys = sorted(found.keys() | expected.keys())
    return duplicates + [
        f"{key}: {found.get(key)}, not {expected.get(key)}"
        for key in keys
        if found.get(key) != expected.get(key)
    ]


def _row(row: Read) -> Mapping[str, object] | None:
    read = decode_or_none(row.value)
    if read is None or read.name != "AssignmentContext":
        return None
    components = {role: read.fields[role] for role in ROLES if read.fields[role] is not None}
    if any(
        component["source"]["partition"] != row.at.partition for component in components.values()
    ):
        return None
    return {
        role: (
            Coordinates(**component["source"]),
            component["version"],
            component["event_id"],
            component["sha256"],
        )
        for role, component in components.items()
    }


def live_parked(records: Iterable[Read]) -> dict[Coordinates, Read]:
    """The parked requests that no tombstone has released, by the coordinates of their requests."""
    last = {record.key: record for record in records}
    found = [(record, decode_or_none(record.value)) for record in last.values()]
    return {
        Coordinates(**entry.fields["request_at"]): record
        for record, entry in found
        if entry is not None and entry.name == "ParkedRequest"  # else: poison, or released
    }


def check_parked(
    found: Findings,
    parked: Mapping[Coordinates, Read],
    requests: Sequence[Read],
    with_outcome: Collection[Coordinates],
    changes: Changes,
    terms: Terms,
    now_ms: float,
) -> None:
    """Check that every parked request is byte for byte its request, has no outcome, and is not due for release."""
    known = {request.at: request for request in requests}
    for at, record in parked.items():
        if at not in known:
            found.invented.append(f"{record.at} of {at}")
        elif decoded(record.value)["request"] != known[at].value:
            found.altered.append(str(record.at))
        problem = (
            "it has its outcome"
            if at in with_outcome
            else release_reason(record, changes, terms, now_ms)
        )
        if problem:
            found.not_released.append(f"{at}: {problem}")
    found.counts["parked"] = len(parked)


def release_reason(record: Read, changes: Changes, terms: Terms, now_ms: float) -> str | None:
    """Why a parked request should have been released; None if it still has to wait."""
    fields = decoded(record.value)
    request = decode_or_none(fields["request"])
    if request is None or not is_request(fields["request"]):
        return "its request is damaged"
    scope_key = f"assignment:{request.fields['assignment_id']}"
    roles = set(terms.required)
    if request.fields["student_prompt_ref"] is not None:
        roles.discard("student_prompt")
    newest = [changes.get((scope_key, role), ())[-1:] for role in roles]
    if all(change and change[0].sha256 is not None for change in newest):
        return "its context is complete"
    if fields["deadline_at_ms"] < now_ms:
        return "its deadline has passed"
    return None


def _uncommitted(installation: Installation, group: str, topics: Iterable[str]) -> list[str]:
    partitions = [
        TopicPartition(topic, number)
        for topic in topics
        for number in range(installation.partitions)
    ]
    consumer = Consumer(
        {"bootstrap.servers": installation.bootstrap, "group.id": group, "log_level": 0}
    )
    try:
        committed = committed_offsets(consumer, partitions)
    finally:
        consumer.close()
    admin = AdminClient({"bootstrap.servers": installation.bootstrap, "log_level": 0})
    ends = end_offsets(admin, partitions, IsolationLevel.READ_UNCOMMITTED)
    return [
        f"{tp}: {offset} of {ends[tp]}" for tp, offset in committed.items() if offset < ends[tp]
    ]


def _open_transactions(installation: Installation) -> list[str]:
    """The partitions in which an open transaction blocks readers of committed records."""
    admin = AdminClient({"bootstrap.servers": installation.bootstrap, "log_level": 0})
    partitions = [
        TopicPartition(topic.name, number)
        for topic in installation.topics.all
        for number in range(installation.partitions)
    ]
    stable = end_offsets(admin, partitions, IsolationLevel.READ_COMMITTED)
    high = end_offsets(admin, partitions, IsolationLevel.READ_UNCOMMITTED)
    return [f"{tp}: {stable[tp]} of {end}" for tp, end in high.items() if stable[tp] < end]
