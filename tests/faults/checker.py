"""Checks that every request has exactly one correct outcome, from the records of the topics alone.

It shares only the topic names and the `.avsc` files with the product that it checks. `check_outcomes` is pure.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.reading import Coordinates, Read, decode_or_none, decoded

ROLES = ("instructions", "student_prompt", "judge_rubric")
MAX_REQUEST_BYTES = 640 * 1024
TOO_LARGE = "too large"
SHOWN = 10


class Used(NamedTuple):
    """An upload that an outcome used, according to its provenance."""

    at: Coordinates
    version: int
    event_id: str
    sha256: str


class Change(NamedTuple):
    """An upload or a deletion of one role of one scope; a deletion has no sha256."""

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
    request: bytes | Mapping[str, Any] | None  # bytes in a dead letter, otherwise decoded
    scope_key: str | None = None  # None in a dead letter
    is_prepared: bool = False
    used: Mapping[str, Used] = {}
    reason: str = ""  # of a dead letter

    @property
    def brings_prompt(self) -> bool:
        """Whether the request brings its own prompt."""
        return isinstance(self.request, Mapping) and self.request["student_prompt_ref"] is not None

    @property
    def names_an_assignment(self) -> bool:
        """Whether the request has an assignment id."""
        return isinstance(self.request, Mapping) and self.request["assignment_id"] is not None


Changes = Mapping[tuple[str, str], Sequence[Change]]  # by scope key and role, in log order


@dataclass(frozen=True)
class Terms:
    """What the outcomes have to satisfy, and what the sender knows."""

    required: Collection[str] = ()  # the roles that an assignment must have
    patience_s: float = 0  # how long a request waits for its context
    # when the broker acknowledged each upload, in ms; None: acknowledged when it was appended
    acknowledged: Mapping[Coordinates, int] | None = None

    def is_known_before(self, change: Change, at_ms: int) -> bool:
        """Whether an upload was acknowledged before a time; an outcome may miss one that never was."""
        if self.acknowledged is None:
            return change.appended_at_ms < at_ms
        acknowledged_ms = self.acknowledged.get(change.at)
        return acknowledged_ms is not None and acknowledged_ms < at_ms


@dataclass
class Findings:
    """What is wrong, by kind; `counts` has the number of records that were checked."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: list[Coordinates] = field(default_factory=list)
    duplicated: list[Coordinates] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)  # outcomes without a request
    wrong_partition: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    wrong_kind: list[str] = field(default_factory=list)  # prepared, unresolved or dead letter
    stale: list[str] = field(default_factory=list)
    not_released: list[str] = field(default_factory=list)  # parked requests that should be released
    wrong_rows: list[str] = field(default_factory=list)  # the changelog differs from the fold
    no_dead_letter: list[Coordinates] = field(default_factory=list)  # of damaged uploads
    uncommitted: list[str] = field(default_factory=list)
    open_transactions: list[str] = field(default_factory=list)
    reverted: list[str] = field(default_factory=list)  # uploads appended anew over newer ones

    @property
    def faults(self) -> dict[str, int]:
        """The number of faults of each kind; kinds without a fault are left out."""
        found = {name: len(value) for name, value in vars(self).items() if name != "counts"}
        return {name: number for name, number in found.items() if number}

    @property
    def is_final(self) -> bool:
        """Whether a fault was found that waiting longer cannot remove."""
        return bool(
            self.duplicated
            or self.invented
            or self.wrong_partition
            or self.altered
            or self.wrong_kind
            or self.stale
            or self.reverted
        )

    def __str__(self) -> str:
        shown = {name: getattr(self, name)[:SHOWN] for name in self.faults}
        return f"{dict(self.counts)} faults: {self.faults} {shown}"


def check_outcomes(
    requests: Sequence[Read],
    outcomes: Sequence[Outcome],
    changes: Changes,
    terms: Terms,
    parked: Collection[Coordinates] = (),
) -> Findings:
    """Compare the outcomes with the requests and uploads in the log; parked requests may have no outcome yet."""
    found = Findings()
    by_request = defaultdict[Coordinates, list[Outcome]](list)
    for outcome in outcomes:
        by_request[outcome.request_at].append(outcome)
    known = {request.at: request for request in requests}
    found.invented = [str(at) for at in by_request if at not in known]
    for request in requests:
        request_outcomes = by_request[request.at]
        if not request_outcomes and request.at not in parked:
            found.missing.append(request.at)
        found.duplicated += [request.at] * (len(request_outcomes) - 1)
        for outcome in request_outcomes:
            _check_outcome(found, request, outcome, changes, terms)
    found.counts["requests"] = len(requests)
    found.counts.update(outcome.at.topic.partition("-")[2] for outcome in outcomes)
    return found


def _check_outcome(
    found: Findings, request: Read, outcome: Outcome, changes: Changes, terms: Terms
) -> None:
    if outcome.at.partition != request.at.partition:
        found.wrong_partition.append(f"{outcome.at} of {request.at}")
    if problem := _kind_problem(request, outcome, terms):
        found.wrong_kind.append(f"{outcome.at} of {request.at}: {problem}")
    if isinstance(outcome.request, bytes | None):
        if outcome.request != request.value:
            found.altered.append(str(outcome.at))
        return
    decoded_request = decode_or_none(request.value)
    if decoded_request is None or outcome.request != decoded_request.fields:
        found.altered.append(str(outcome.at))
    for role in ROLES:
        if role == "student_prompt" and outcome.brings_prompt:
            continue
        of_role = changes.get((outcome.scope_key or "", role), ())
        if problem := _context_problem(outcome.used.get(role), of_role, request, outcome, terms):
            found.stale.append(f"{outcome.at} of {request.at} {role}: {problem}")
    found.counts["mixed"] += _is_mixed_context(outcome, changes)


def is_request(value: bytes | None) -> bool:
    """Whether a record's value is a valid request."""
    if value is None or len(value) > MAX_REQUEST_BYTES:
        return False
    found = decode_or_none(value)
    return found is not None and found.name == "CJAssessmentRequested"


def _kind_problem(request: Read, outcome: Outcome, terms: Terms) -> str | None:
    """Why an outcome has the wrong kind for its request; None if the kind is right."""
    is_dead_letter = isinstance(outcome.request, bytes | None)
    if is_dead_letter:
        is_valid = is_request(request.value) and TOO_LARGE not in outcome.reason
        return f"a dead letter of a valid request: {outcome.reason}" if is_valid else None
    if not is_request(request.value):
        return "not a dead letter, although the request is damaged"
    brought = {"student_prompt"} if outcome.brings_prompt else set()
    missing = set(terms.required) - outcome.used.keys() - brought
    if not outcome.names_an_assignment:
        return (
            None if outcome.is_prepared else "unresolved, although the request names no assignment"
        )
    if outcome.is_prepared:
        return f"prepared without {sorted(missing)}" if missing else None
    if terms.required and not missing:
        return "unresolved, although nothing is missing"
    early_ms = request.appended_at_ms + terms.patience_s * 1000 - outcome.appended_at_ms
    return f"unresolved {early_ms:g} ms before its deadline" if early_ms > 0 else None


def _context_problem(
    used: Used | None, changes: Sequence[Change], request: Read, outcome: Outcome, terms: Terms
) -> str | None:
    """Why the upload that an outcome used for one role, or its absence, is wrong; None if it is right.

    It must be the newest upload known before the request was appended, or a later one appended before the
    outcome.
    """
    appended_before = bisect_left(changes, request.appended_at_ms, key=_append_time)
    known = (
        index
        for index in reversed(range(appended_before))
        if terms.is_known_before(changes[index], request.appended_at_ms)
    )
    newest = next(known, None)
    allowed = changes[newest or 0 : bisect_right(changes, outcome.appended_at_ms, key=_append_time)]
    if used is None:
        if newest is None or any(change.sha256 is None for change in allowed):
            return None
        return f"none used, although {changes[newest].at} was known"
    if used in [(change.at, change.version, change.event_id, change.sha256) for change in allowed]:
        return None
    return f"{used.at}, not one of {[change.at.offset for change in allowed]}"


def _append_time(change: Change) -> int:
    return change.appended_at_ms


def _is_mixed_context(outcome: Outcome, changes: Changes) -> bool:
    """Whether the uploads used were never current together; not a fault, as only each role is consistent."""
    since, until = 0.0, float("inf")
    for role, used in outcome.used.items():
        of_role = changes.get((outcome.scope_key or "", role), ())
        index = bisect_left(of_role, used.at, key=lambda change: change.at)
        current = of_role[index : index + 2]  # and the next one
        if current and current[0].at == used.at:
            since = max(since, current[0].appended_at_ms)
            until = min([until, *(change.appended_at_ms for change in current[1:])])
    return since > until


def outcome_of(record: Read) -> Outcome:
    """The outcome in a committed record of the batches or the unresolved topic."""
    found = decode_or_none(record.value)
    assert found is not None, f"{record.at} is not an event"
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
    """The outcome in a committed dead letter; its headers have the coordinates of the original record."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    at = Coordinates(
        headers["kafka_dlt-original-topic"],
        int(headers["kafka_dlt-original-partition"]),
        int(headers["kafka_dlt-original-offset"]),
    )
    reason = headers.get("kafka_dlt-exception-message", "")
    return Outcome(record.at, record.appended_at_ms, at, record.value, reason=reason)


def changes_of(uploads: Mapping[str, Iterable[Read]]) -> Changes:
    """The uploads and deletions of the log by scope and role; `uploads` has the valid records of each role."""
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
