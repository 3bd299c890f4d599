"""The checker's rounds: reads an installation back, and judges requests, uploads, table and parked requests."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    dead_letter_of,
    is_request,
    judge,
    outcome_of,
)
from tests.faults.reading import Coordinates, Read, committed_by, ends_of, read_all, readable

EVENTS = {
    "instructions": {"InstructionsUploaded", "InstructionsDeleted"},
    "student_prompt": {"StudentPromptUploaded", "StudentPromptDeleted"},
    "judge_rubric": {"JudgeRubricUploaded", "JudgeRubricDeleted"},
}


@dataclass(frozen=True)
class Installation:
    """Where to look: brokers, topics, how they are cut, and who commits requests and uploads."""

    bootstrap: str
    topics: Topics
    group: str
    fold_group: str
    partitions: int

    def read(self, topic: str, *, raw: bool = False) -> list[Read]:
        """Every record of a topic."""
        return read_all(self.bootstrap, topic, self.partitions, raw=raw)


def check(at: Installation, terms: Terms, *, table: bool = False) -> Findings:
    """Read everything back and judge it; with the table, which may still be folding, only on demand."""
    topics = at.topics
    by_role = {role: at.read(topic.name) for role, topic in zip(ROLES, topics.uploads, strict=True)}
    good = {role: [one for one in its if is_upload(one, role)] for role, its in by_role.items()}
    changes = changes_of(good)
    requests = at.read(topics.requests.name, raw=True)
    outcomes = [
        *map(outcome_of, at.read(topics.batches.name)),
        *map(outcome_of, at.read(topics.unresolved.name)),
        *map(dead_letter_of, at.read(topics.requests_dlq.name)),
    ]
    parked = live_parked(at.read(topics.parked.name))
    found = judge(requests, outcomes, changes, terms, parked)
    answered = {outcome.request_at for outcome in outcomes}
    now_ms = time.time() * 1000  # the brokers', too: they run here
    judge_parked(found, parked, requests, answered, changes, terms, now_ms)
    if table:
        bad = [one for role, its in by_role.items() for one in its if one not in good[role]]
        judge_uploads(found, bad, map(dead_letter_of, at.read(topics.uploads_dlq.name)))
        found.unfolded = judge_table(at.read(topics.context.name), changes)
        found.counts["uploads"] = sum(len(its) for its in good.values())
        found.counts["damaged uploads"] = len(bad)
    found.uncommitted = _uncommitted(at, at.group, [topics.requests.name])
    if table:  # what lacks below a committed offset was skipped, what lacks above it is just late
        found.uncommitted += unfolded(at)
    found.hanging = _hanging(at)
    return found


def unfolded(at: Installation) -> list[str]:
    """The partitions whose uploads have not been folded to their end; cheap to ask."""
    return _uncommitted(at, at.fold_group, [topic.name for topic in at.topics.uploads])


def is_upload(record: Read, role: str) -> bool:
    """Whether a record of a role's topic is an upload or a deletion, under the key of its scope."""
    found = readable(record.value)
    if found is None or found.name not in EVENTS[role]:
        return False
    assignment, course = found.fields["assignment_id"], found.fields.get("course_id")
    scope_key = f"course:{course}" if assignment is None else f"assignment:{assignment}"
    return record.key == scope_key.encode()


def judge_uploads(found: Findings, bad: Sequence[Read], letters: Iterable[Outcome]) -> None:
    """Every damaged upload has a dead letter or more, byte for byte, and nothing else has one."""
    known = {record.at: record for record in bad}
    told = set[Coordinates]()
    for letter in letters:
        told.add(letter.request_at)
        record = known.get(letter.request_at)
        if record is None:
            found.invented.append(f"{letter.at} of {letter.request_at}: {letter.reason}")
        elif record.value != letter.request:
            found.altered.append(str(letter.at))
    found.swallowed = [at for at in known if at not in told]


def judge_table(rows: Sequence[Read], changes: Changes) -> list[str]:
    """Where the changelog, as compaction would leave it, is not the fold of the uploads."""
    by_key = {(row.at.partition, row.key): row for row in rows}
    kept = [row for row in by_key.values() if row.value is not None]
    found = {(row.key or b"").decode(): _row(row) for row in kept}
    wanted = dict[str, dict[str, object]]()
    for (scope_key, role), of_role in changes.items():
        last = of_role[-1]
        wanted.setdefault(scope_key, {})[role] = (*last[:1], *last[2:])
    twice = [f"{len(kept)} rows of {len(found)} scopes"] if len(kept) > len(found) else []
    keys = sorted(found.keys() | wanted.keys())
    return twice + [
        f"{key}: {found.get(key)}, not {wanted.get(key)}"
        for key in keys
        if found.get(key) != wanted.get(key)
    ]


def _row(row: Read) -> Mapping[str, object] | None:
    read = readable(row.value)
    if read is None or read.name != "AssignmentContext":
        return None
    components = {role: read.fields[role] for role in ROLES if read.fields[role] is not None}
    if any(one["source"]["partition"] != row.at.partition for one in components.values()):
        return None
    return {
        role: (Coordinates(**one["source"]), one["version"], one["event_id"], one["sha256"])
        for role, one in components.items()
    }


def live_parked(records: Iterable[Read]) -> dict[Coordinates, Read]:
    """The parked requests that no tombstone has released, by their request's coordinates."""
    last = {record.key: record for record in records}
    found = [record for record in last.values() if record.value is not None]
    return {Coordinates(**_parked(record)["request_at"]): record for record in found}


def _parked(record: Read) -> Mapping[str, Any]:
    read = readable(record.value)
    assert read is not None, f"{record.at} is no event"
    assert read.name == "ParkedRequest", f"{record.at} is a {read.name}"
    return read.fields


def judge_parked(
    found: Findings,
    parked: Mapping[Coordinates, Read],
    requests: Sequence[Read],
    answered: Collection[Coordinates],
    changes: Changes,
    terms: Terms,
    now_ms: float,
) -> None:
    """What waits is a request byte for byte, without an outcome, and rightly waits."""
    known = {request.at: request for request in requests}
    for at, record in parked.items():
        if at not in known:
            found.invented.append(f"{record.at} of {at}")
        elif _parked(record)["request"] != known[at].value:
            found.altered.append(str(record.at))
        why = "it has its outcome" if at in answered else ownerless(record, changes, terms, now_ms)
        if why:
            found.waiting.append(f"{at}: {why}")
    found.counts["parked"] = len(parked)


def ownerless(record: Read, changes: Changes, terms: Terms, now_ms: float) -> str | None:
    """Why a parked request should have been released; None where it rightly waits."""
    fields = _parked(record)
    request = readable(fields["request"])
    if request is None or not is_request(fields["request"]):
        return "its request is damaged"
    scope_key = f"assignment:{request.fields['assignment_id']}"
    roles = set(terms.required)
    if request.fields["student_prompt_ref"] is not None:
        roles.discard("student_prompt")
    lasts = [changes.get((scope_key, role), ())[-1:] for role in roles]
    if all(last and last[0].sha256 is not None for last in lasts):
        return "its context is complete"
    if fields["deadline_at_ms"] < now_ms:
        return "its deadline has passed"
    return None


def _uncommitted(at: Installation, group: str, topics: Iterable[str]) -> list[str]:
    asked = [TopicPartition(topic, one) for topic in topics for one in range(at.partitions)]
    member = Consumer({"bootstrap.servers": at.bootstrap, "group.id": group, "log_level": 0})
    try:
        committed = committed_by(member, asked)
    finally:
        member.close()
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 0})
    ends = ends_of(admin, asked, IsolationLevel.READ_UNCOMMITTED)
    return [
        f"{place}: {offset} of {ends[place]}"
        for place, offset in committed.items()
        if offset < ends[place]
    ]


def _hanging(at: Installation) -> list[str]:
    """Where an open transaction holds readers back."""
    admin = AdminClient({"bootstrap.servers": at.bootstrap, "log_level": 0})
    asked = [
        TopicPartition(topic.name, one) for topic in at.topics.all for one in range(at.partitions)
    ]
    stable = ends_of(admin, asked, IsolationLevel.READ_COMMITTED)
    high = ends_of(admin, asked, IsolationLevel.READ_UNCOMMITTED)
    return [
        f"{place}: {stable[place]} of {end}" for place, end in high.items() if stable[place] < end
    ]
