"""Asks from outside whether every request has its one outcome: from the topics alone, by a plain consumer.

It shares nothing with what it checks but the names of the topics and the `.avsc` files. `judge` is pure.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.reading import Coordinates, Read, decoded, readable

ROLES = ("instructions", "student_prompt", "judge_rubric")
MAX_REQUEST_BYTES = 640 * 1024
TOO_LARGE = "too large"
SHOWN = 10


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
    is_prepared: bool = False
    used: Mapping[str, Used] = {}
    reason: str = ""  # of a dead letter

    @property
    def brings_prompt(self) -> bool:
        """Whether the request has a prompt of its own."""
        return isinstance(self.request, Mapping) and self.request["student_prompt_ref"] is not None

    @property
    def names_an_assignment(self) -> bool:
        """Whether the request asks for an assignment's context."""
        return isinstance(self.request, Mapping) and self.request["assignment_id"] is not None


Changes = Mapping[tuple[str, str], Sequence[Change]]  # by scope key and role, in log order


@dataclass(frozen=True)
class Terms:
    """What was promised, and what the sender knows."""

    required: Collection[str] = ()  # the roles that an assignment has to have
    patience_s: float = 0  # how long a request waits for them
    # when the sender had the broker's word for an upload, in ms; None: as soon as it was appended
    acknowledged: Mapping[Coordinates, int] | None = None

    def is_known_before(self, change: Change, at_ms: int) -> bool:
        """Whether an upload was acknowledged before a moment; one that never was need not be seen."""
        if self.acknowledged is None:
            return change.appended_at_ms < at_ms
        known = self.acknowledged.get(change.at)
        return known is not None and known < at_ms


@dataclass
class Findings:
    """What is wrong, by kind; `counts` says how many were looked at."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: list[Coordinates] = field(default_factory=list)
    duplicated: list[Coordinates] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    misjudged: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)  # parked, and nobody releases it
    unfolded: list[str] = field(default_factory=list)  # the table's changelog is not the fold
    swallowed: list[Coordinates] = field(default_factory=list)  # damaged uploads without a letter
    uncommitted: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """The kinds of fault found, each with its number."""
        found = {name: len(value) for name, value in vars(self).items() if name != "counts"}
        return {name: number for name, number in found.items() if number}

    @property
    def is_final(self) -> bool:
        """Whether no waiting can mend what was found."""
        return bool(
            self.duplicated
            or self.invented
            or self.misplaced
            or self.altered
            or self.misjudged
            or self.stale
        )

    def __str__(self) -> str:
        shown = {name: getattr(self, name)[:SHOWN] for name in self.faults}
        return f"{dict(self.counts)} faults: {self.faults} {shown}"


def judge(
    requests: Sequence[Read],
    outcomes: Sequence[Outcome],
    changes: Changes,
    terms: Terms,
    parked: Collection[Coordinates] = (),
) -> Findings:
    """Hold outcomes against the requests and the uploads of the log; parked requests may have none yet."""
    found = Findings()
    by_request = defaultdict[Coordinates, list[Outcome]](list)
    for outcome in outcomes:
        by_request[outcome.request_at].append(outcome)
    known = {request.at: request for request in requests}
    found.invented = [str(at) for at in by_request if at not in known]
    for request in requests:
        its = by_request[request.at]
        if not its and request.at not in parked:
            found.missing.append(request.at)
        found.duplicated += [request.at] * (len(its) - 1)
        for outcome in its:
            _judge_one(found, request, outcome, changes, terms)
    found.counts["requests"] = len(requests)
    found.counts.update(outcome.at.topic.partition("-")[2] for outcome in outcomes)
    return found


def _judge_one(
    found: Findings, request: Read, outcome: Outcome, changes: Changes, terms: Terms
) -> None:
    if outcome.at.partition != request.at.partition:
        found.misplaced.append(f"{outcome.at} of {request.at}")
    if told := _misjudged(request, outcome, terms):
        found.misjudged.append(f"{outcome.at} of {request.at}: {told}")
    if isinstance(outcome.request, bytes | None):
        if outcome.request != request.value:
            found.altered.append(str(outcome.at))
        return
    asked = readable(request.value)
    if asked is None or outcome.request != asked.fields:
        found.altered.append(str(outcome.at))
    for role in ROLES:
        if role == "student_prompt" and outcome.brings_prompt:
            continue
        of_role = changes.get((outcome.scope_key or "", role), ())
        if told := _implausible(outcome.used.get(role), of_role, request, outcome, terms):
            found.stale.append(f"{outcome.at} of {request.at} {role}: {told}")
    found.counts["mixed"] += _is_mixed(outcome, changes)


def is_request(value: bytes | None) -> bool:
    """Whether bytes are a request that is to be answered."""
    if value is None or len(value) > MAX_REQUEST_BYTES:
        return False
    found = readable(value)
    return found is not None and found.name == "CJAssessmentRequested"


def _misjudged(request: Read, outcome: Outcome, terms: Terms) -> str | None:
    """Why an outcome is of the wrong kind for its request; None where it is of the right one."""
    is_letter = isinstance(outcome.request, bytes | None)
    if is_letter:
        refused = is_request(request.value) and TOO_LARGE not in outcome.reason
        return f"a dead letter of a valid request: {outcome.reason}" if refused else None
    if not is_request(request.value):
        return "no dead letter, and the request is damaged"
    brought = {"student_prompt"} if outcome.brings_prompt else set()
    lacks = set(terms.required) - outcome.used.keys() - brought
    if not outcome.names_an_assignment:
        return None if outcome.is_prepared else "unresolved, and it names no assignment"
    if outcome.is_prepared:
        return f"prepared without {sorted(lacks)}" if lacks else None
    if terms.required and not lacks:
        return "unresolved, and nothing lacks"
    early_ms = request.appended_at_ms + terms.patience_s * 1000 - outcome.appended_at_ms
    return f"unresolved {early_ms:g} ms before its deadline" if early_ms > 0 else None


def _implausible(
    used: Used | None, changes: Sequence[Change], request: Read, outcome: Outcome, terms: Terms
) -> str | None:
    """Why an outcome cannot rest on this upload, or on none; None where it can.

    It has to be the newest one known before the request was appended, or a later one that was there before
    the outcome.
    """
    known = [
        place
        for place, one in enumerate(changes)
        if terms.is_known_before(one, request.appended_at_ms)
    ]
    newest = known[-1] if known else 0
    may_be = [
        one
        for place, one in enumerate(changes)
        if place >= newest and one.appended_at_ms <= outcome.appended_at_ms
    ]
    if used is None:
        absent = not known or any(one.sha256 is None for one in may_be)
        return None if absent else f"none, and {changes[newest].at} was there"
    if used in [(one.at, one.version, one.event_id, one.sha256) for one in may_be]:
        return None
    return f"{used.at}, not one of {[one.at.offset for one in may_be]}"


def _is_mixed(outcome: Outcome, changes: Changes) -> bool:
    """Whether the uploads used never stood together: roles are consistent one by one, so this is no fault."""
    since, until = 0.0, float("inf")
    for role, used in outcome.used.items():
        of_role = changes.get((outcome.scope_key or "", role), ())
        stood = [place for place, one in enumerate(of_role) if one.at == used.at]
        for place in stood:
            since = max(since, of_role[place].appended_at_ms)
            if place + 1 < len(of_role):
                until = min(until, of_role[place + 1].appended_at_ms)
    return since > until


def outcome_of(record: Read) -> Outcome:
    """A committed record of one of the two outcome topics that carry events."""
    found = readable(record.value)
    assert found is not None, f"{record.at} is no event"
    provenance = found.fields["provenance"]
    request = found.fields["request"]
    assignment = request["assignment_id"]
    scope_key = f"assignment:{assignment}" if assignment else f"course:{request['course_code']}"
    return Outcome(
        record.at,
        record.appended_at_ms,
        Coordinates(**provenance["request"]),
        request,
        scope_key,
        found.name == "CJBatchPrepared",
        {role: _used(provenance[role]) for role in ROLES if provenance[role]},
    )


def _used(fields: Mapping[str, Any]) -> Used:
    return Used(
        Coordinates(**fields["source"]), fields["version"], fields["event_id"], fields["sha256"]
    )


def dead_letter_of(record: Read) -> Outcome:
    """A committed record of the dead letters: what it was is told by its headers."""
    told = {name: (value or b"").decode() for name, value in record.headers}
    at = Coordinates(
        told["kafka_dlt-original-topic"],
        int(told["kafka_dlt-original-partition"]),
        int(told["kafka_dlt-original-offset"]),
    )
    reason = told.get("kafka_dlt-exception-message", "")
    return Outcome(record.at, record.appended_at_ms, at, record.value, reason=reason)


def changes_of(uploads: Mapping[str, Iterable[Read]]) -> Changes:
    """The uploads and deletions of the log by scope and role; `uploads`, by role, holds valid ones only."""
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
