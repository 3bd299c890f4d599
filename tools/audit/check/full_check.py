"""The full check of an outcome: compute it again and compare.

The outcome is computed again from its request and from the contexts as they were at the outcome's positions, and
compared byte for byte. Today's settings do not matter, because the log does not contain the policy of the time: a
prepared batch is computed as if every role were optional, an unresolved one as if exactly the roles that it names as
missing were required.
"""

from collections.abc import Iterator
from dataclasses import asdict

from processors.kafka.records import LogRecord
from processors.outcomes.encoding import event_id_of
from processors.outcomes.outcome_builder import OutcomeBuilder, check_size
from processors.outcomes.positions_header import POSITIONS_HEADER, read_positions
from processors.outcomes.recipes import RECIPES
from processors.outcomes.resolve import scope_key_for
from processors.policy import Policy
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates, Positions
from schemas.dead_letters import (
    OUTCOME_REFUSED,
    DeadLetterHeaders,
    dead_letter_headers,
    read_dead_letter_headers,
)
from schemas.errors import BadRecord, Malformed, UnknownSchema
from schemas.events import (
    ROLES,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    Outcome,
    UploadUsed,
    role_of,
)
from schemas.topics import Topics
from tables.context import component_of
from tools.audit.check.contexts_as_of import ContextsAsOf, Texts
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation
from tools.audit.check.uploads_as_of import UploadsAsOf

CLOCK_TOLERANCE_MS = 5000  # how much the clocks of brokers may differ


def request_coordinates(
    outcome: LogRecord, codec: Codec, topics: Topics
) -> Coordinates | Violation:
    """The coordinates of the request that an outcome names, or the violation if they are not readable or not valid."""
    try:
        if outcome.at.topic == topics.requests_dlq.name:
            return read_dead_letter_headers(outcome.headers).at
        event = event_of(outcome, codec, topics)
    except BadRecord as fault:
        return Violation("unreadable", outcome.at, f"the record is not a valid outcome: {fault}")
    at = event.provenance.request
    if event.event_id != event_id_of(at):
        return Violation("event_id", outcome.at, f"its event id does not match its request {at}")
    return at


def event_of(outcome: LogRecord, codec: Codec, topics: Topics) -> Outcome:
    """The event of an outcome other than a dead letter. Raises BadRecord."""
    if outcome.at.topic == topics.batches.name:
        return codec.decode_as(CJBatchPrepared, outcome.value)
    return codec.decode_as(CJBatchUnresolved, outcome.value)


class FullCheck:
    """Checks outcomes, one after the other; `uploads` contains the upload records up to `upload_ends`."""

    def __init__(
        self,
        codec: Codec,
        topics: Topics,
        policy: Policy,
        uploads: UploadsAsOf,
        texts: Texts,
        upload_ends: Positions,
    ) -> None:
        self._codec = codec
        self._topics = topics
        self._policy = policy
        self._uploads = uploads
        self._contexts = ContextsAsOf(uploads, texts)
        self._upload_ends = upload_ends

    def check(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """Check an outcome, given the record at its `request_coordinates`."""
        if outcome.at.partition != request.at.partition:
            yield Violation(
                "misplaced", outcome.at, f"its request is in another partition: {request.at}"
            )
        if outcome.key != request.key:
            yield Violation(
                "key", outcome.at, f"its key differs from the key of its request {request.at}"
            )
        if outcome.at.topic == self._topics.requests_dlq.name:
            yield from self._check_dead_letter(outcome, request)
            return
        event = event_of(outcome, self._codec, self._topics)
        try:
            ((name, value),) = outcome.headers
            if name != POSITIONS_HEADER:
                raise Malformed(f"its only header is not {POSITIONS_HEADER}")
            positions = read_positions(value or b"", self._topics)
            self._uploads.set_positions(positions)
        except ValueError:
            yield Violation(
                "positions", outcome.at, f"it must have exactly one header, {POSITIONS_HEADER}"
            )
            return
        except Malformed as fault:
            yield Violation("positions", outcome.at, str(fault))
            return
        yield from self._check_positions(outcome, positions)
        requested = read_request(self._codec, request.value)
        if isinstance(requested, BadRecord):
            yield Violation(
                "request", outcome.at, f"its request {request.at} is not valid: {requested}"
            )
            return
        findings = list(self._check_event(outcome, event, requested, request))
        yield from findings
        if not any(isinstance(finding, NotVerifiable) for finding in findings):
            yield from self._check_causality(outcome, scope_key_for(requested), request)

    def _check_positions(self, outcome: LogRecord, positions: Positions) -> Iterator[Finding]:
        for partition, position in positions.items():
            if position > self._upload_ends[partition]:
                end = f"{partition.topic}/{partition.partition} ends at {self._upload_ends[partition]}"
                yield Violation(
                    "positions", outcome.at, f"its position {position} is too high: {end}"
                )

    def _check_event(
        self,
        outcome: LogRecord,
        event: Outcome,
        requested: CJAssessmentRequested,
        request: LogRecord,
    ) -> Iterator[Finding]:
        """Check the embedded request, the uploads, and then all bytes."""
        if event.recipe not in RECIPES:
            yield Violation(
                "recipe", outcome.at, f"this release does not know recipe {event.recipe}"
            )
            return
        if event.request != requested:
            field = first_difference(asdict(requested), asdict(event.request))
            yield Violation(
                "request", outcome.at, f"its copy of the request {request.at} differs: {field}"
            )
            return
        scope_key = scope_key_for(requested)
        findings = list(self._check_uploads(outcome, event, scope_key))
        yield from findings
        if not findings:
            yield from self._check_bytes(outcome, event, request)

    def _check_uploads(
        self, outcome: LogRecord, event: Outcome, scope_key: str
    ) -> Iterator[Finding]:
        """Check that each upload named is at its coordinates, is as named, and was the current one."""
        context = self._contexts.context(scope_key)
        for role in ROLES:
            used: UploadUsed | None = getattr(event.provenance, role)
            if used is None:
                continue
            is_compacted = self._contexts.has_only_later(scope_key, used.source)
            if component_of(context, role) is None and is_compacted:
                yield NotVerifiable(
                    "upload_gone",
                    outcome.at,
                    f"the log no longer has its {role} {used.source}",
                )
                continue
            upload = self._contexts.upload(scope_key, used.source)
            if upload is None or role_of(upload.event) != role:
                yield Violation(
                    "upload", outcome.at, f"there is no {role} of {scope_key} at {used.source}"
                )
                continue
            uploaded = upload.event
            identity = (uploaded.version, uploaded.event_id, getattr(uploaded, "sha256", None))
            if identity != (used.version, used.event_id, used.sha256):
                yield Violation(
                    "upload",
                    outcome.at,
                    f"the {role} at {used.source} has a different version, event id or sha256",
                )
                continue
            current = component_of(context, role)
            if current is None or current.source != used.source:
                was_current = current.source if current else "none"
                yield Violation(
                    "not_current",
                    outcome.at,
                    f"its {role} is {used.source}; the current one at its positions was {was_current}",
                )

    def _check_bytes(
        self, outcome: LogRecord, event: Outcome, request: LogRecord
    ) -> Iterator[Finding]:
        # the policy of that time is not in the log: take the one under which this outcome must follow
        if isinstance(event, CJBatchUnresolved):
            if not set(event.missing) <= set(ROLES):
                yield Violation("bytes", outcome.at, "it names a missing role that does not exist")
                return
            policy = Policy(event.missing, guests_allowed=False)
        else:
            policy = Policy((), guests_allowed=True)
        expected = self._computed(request, policy, event.recipe)
        if self._is_same(expected, outcome.value or b"", type(event)):
            if self._computed(request, self._policy, event.recipe) != expected:
                yield Note("policy", outcome.at, "today's policy would decide differently")
            return
        yield Violation(
            "bytes",
            outcome.at,
            f"it differs from the recomputed outcome: {self._difference(expected, outcome)}",
        )

    def _computed(self, request: LogRecord, policy: Policy, recipe: int) -> bytes:
        builder = OutcomeBuilder(self._codec, policy, self._contexts.context, recipe)
        return builder.build(request.value, request.at).value

    def _is_same(self, expected: bytes, actual: bytes, outcome: type) -> bool:
        """Whether schema version and body are equal; a schema may have two ids, its own and a registry's."""
        version = self._codec.version_of(outcome, expected)
        has_same_schema = version is not None and version == self._codec.version_of(outcome, actual)
        return has_same_schema and expected[FRAME.size :] == actual[FRAME.size :]

    def _difference(self, expected: bytes, outcome: LogRecord) -> str:
        actual = outcome.value or b""
        expected_event, event = self._codec.decode(expected), self._codec.decode(actual)
        if type(expected_event) is not type(event):
            return f"its type should be {type(expected_event).__name__}"
        pairs = enumerate(zip(expected, actual, strict=False))
        byte = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(actual)))
        return f"{first_difference(asdict(expected_event), asdict(event))}, from byte {byte} on"

    def _check_causality(
        self, outcome: LogRecord, scope_key: str, request: LogRecord
    ) -> Iterator[Finding]:
        """Check that no upload of its scope beyond the positions was appended before the request.

        Brokers' clocks may differ, so an upload counts only if it is older by more than CLOCK_TOLERANCE_MS.
        """
        for upload in self._contexts.first_beyond(scope_key):
            if upload.appended_at_ms < request.appended_at_ms - CLOCK_TOLERANCE_MS:
                yield Violation(
                    "stale",
                    outcome.at,
                    f"it was joined without {upload.at}, which was appended before its request {request.at}",
                )

    def _check_dead_letter(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """Check that a dead letter has the request's bytes and the right reason."""
        refusal = read_dead_letter_headers(outcome.headers)
        if outcome.value != request.value:
            yield Violation("bytes", outcome.at, f"its bytes differ from the request {request.at}")
            return
        fault = read_request(self._codec, request.value)
        if not isinstance(fault, BadRecord):
            yield _not_refused(outcome, refusal)
            return
        expected = dead_letter_headers(request.at, request.appended_at_ms, fault, request.headers)
        if list(outcome.headers) == expected:
            return
        with_own_reason = [*expected[:-2], *outcome.headers[-2:]]
        if list(outcome.headers) == with_own_reason:
            yield Violation(
                "reason",
                outcome.at,
                f"its reason differs from the one that this release gives: {fault}",
            )
        else:
            yield Violation(
                "headers", outcome.at, f"its headers do not match the request {request.at}"
            )


def read_request(codec: Codec, payload: bytes | None) -> CJAssessmentRequested | BadRecord:
    """The request, or the error if the bytes are not a valid one."""
    try:
        check_size(payload)
        return codec.decode_as(CJAssessmentRequested, payload)
    except BadRecord as fault:
        return fault


def _not_refused(outcome: LogRecord, refusal: DeadLetterHeaders) -> Finding:
    """The finding for a dead letter whose bytes are a valid request for this release."""
    if refusal.message == OUTCOME_REFUSED:
        return NotVerifiable(
            "outcome_refused",
            outcome.at,
            "the broker refused its outcome, which the log cannot show",
        )
    if refusal.fault.endswith(f".{UnknownSchema.__name__}"):
        return NotVerifiable(
            "unknown_then", outcome.at, "the release that refused it did not know its schema"
        )
    return Violation("not_refused", outcome.at, f"it refuses a valid request: {refusal.at}")


def first_difference(expected: object, found: object, path: str = "") -> str:
    """The path of the first field in which two documents differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in expected:
            if expected[name] != found.get(name):
                below = f"{path}.{name}" if path else str(name)
                return first_difference(expected[name], found.get(name), below)
    if isinstance(expected, tuple) and isinstance(found, tuple) and len(expected) == len(found):
        for number, pair in enumerate(zip(expected, found, strict=True)):
            if pair[0] != pair[1]:
                return first_difference(*pair, f"{path}[{number}]")
    return path or "the same values, encoded differently"
