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
    TRUNCATED,
    DeadLetterHeaders,
    Refused,
    dead_letter,
    dead_letter_headers,
    read_dead_letter_headers,
)
from schemas.errors import BadRecord, Malformed, UnknownSchema
from schemas.events import (
    ROLES,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    Component,
    Outcome,
    UploadUsed,
    role_of,
)
from schemas.topics import Topics
from tables.context import component_of
from tools.audit.check.contexts_as_of import ContextsAsOf
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation
from tools.audit.check.outcome_with_request import Headers

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


def positions_of(headers: Headers, topics: Topics) -> Positions:
    """The upload positions in an outcome's headers. Raises Malformed."""
    if len(headers) != 1:
        raise Malformed(f"it must have exactly one header, {POSITIONS_HEADER}")
    ((name, value),) = headers
    if name != POSITIONS_HEADER:
        raise Malformed(f"its only header is not {POSITIONS_HEADER}")
    return read_positions(value or b"", topics)


class FullCheck:
    """Checks outcomes, one after the other; `contexts` are made of the upload records up to `upload_ends`."""

    def __init__(
        self,
        codec: Codec,
        topics: Topics,
        policy: Policy,
        contexts: ContextsAsOf,
        upload_ends: Positions,
    ) -> None:
        self._codec = codec
        self._topics = topics
        self._policy = policy
        self._contexts = contexts
        self._upload_ends = upload_ends

    def check(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """Check an outcome, given the record at its `request_coordinates`."""
        at = outcome.at
        named = request_coordinates(outcome, self._codec, self._topics)
        if isinstance(named, Violation):
            yield named
            return
        if at.partition != request.at.partition:
            yield Violation("misplaced", at, f"its request is in another partition: {request.at}")
        if at.topic == self._topics.requests_dlq.name:
            yield from self._check_dead_letter(outcome, request)
            return
        if outcome.key != request.key:
            yield Violation("key", at, _wrong_key(request))
        event = event_of(outcome, self._codec, self._topics)
        try:
            positions = positions_of(outcome.headers, self._topics)
            self._contexts.set_positions(positions)
        except Malformed as fault:
            yield Violation("positions", at, str(fault))
            return
        for partition, position in positions.items():
            if position > (end := self._upload_ends[partition]):
                where = f"{partition.topic}/{partition.partition} ends at {end}"
                yield Violation("positions", at, f"its position {position} is too high: {where}")
        requested = read_request(self._codec, request.value)
        if isinstance(requested, BadRecord):
            sentence = f"its request {request.at} is not valid: {requested}"
            yield Violation("request", at, sentence)
            return
        findings = list(self._check_event(outcome, event, requested, request))
        yield from findings
        if not any(isinstance(finding, NotVerifiable) for finding in findings):
            yield from self._check_causality(at, scope_key_for(requested), request)

    def _check_event(
        self,
        outcome: LogRecord,
        event: Outcome,
        requested: CJAssessmentRequested,
        request: LogRecord,
    ) -> Iterator[Finding]:
        """Check the embedded request, the uploads, and then all bytes."""
        at = outcome.at
        if event.recipe not in RECIPES:
            yield Violation("recipe", at, f"this release does not know recipe {event.recipe}")
            return
        if event.request != requested:
            field = first_difference(asdict(requested), asdict(event.request))
            sentence = f"its copy of the request {request.at} differs: {field}"
            yield Violation("request", at, sentence)
            return
        context, findings = self._contexts.context(scope_key_for(requested)), list[Finding]()
        for role in ROLES:
            used: UploadUsed | None = getattr(event.provenance, role)
            if used is not None:
                current = component_of(context, role)
                findings += self._check_upload(at, role, used, current, scope_key_for(requested))
        yield from findings or self._check_bytes(outcome, event, request)

    def _check_upload(
        self,
        at: Coordinates,
        role: str,
        used: UploadUsed,
        current: Component | None,
        scope_key: str,
    ) -> Iterator[Finding]:
        """Check that an upload that an outcome names is at its coordinates, is as named, and was the current one."""
        source = used.source
        if current is None and self._contexts.has_only_later(scope_key, source):
            yield NotVerifiable("upload_gone", at, f"the log no longer has its {role} {source}")
            return
        upload = self._contexts.upload(scope_key, source)
        if upload is None or role_of(upload.event) != role:
            yield Violation("upload", at, f"there is no {role} of {scope_key} at {source}")
            return
        uploaded = upload.event
        identity = (uploaded.version, uploaded.event_id, getattr(uploaded, "sha256", None))
        if identity != (used.version, used.event_id, used.sha256):
            sentence = f"the {role} at {source} has a different version, event id or sha256"
            yield Violation("upload", at, sentence)
        elif current is None or current.source != source:
            was_current = current.source if current else "none"
            sentence = f"its {role} is {source}; the current one at its positions was {was_current}"
            yield Violation("not_current", at, sentence)

    def _check_bytes(
        self, outcome: LogRecord, event: Outcome, request: LogRecord
    ) -> Iterator[Finding]:
        # the policy of that time is not in the log: take the one under which this outcome must follow
        at = outcome.at
        policy = Policy((), guests_allowed=True)
        if isinstance(event, CJBatchUnresolved):
            if not set(event.missing) <= set(ROLES):
                yield Violation("bytes", at, "it names a missing role that does not exist")
                return
            policy = Policy(event.missing, guests_allowed=False)
        expected = self._computed(request, policy, event.recipe)
        if not self._is_same(expected, outcome.value or b"", type(event)):
            difference = self._difference(expected, outcome.value or b"")
            yield Violation("bytes", at, f"it differs from the recomputed outcome: {difference}")
        elif self._computed(request, self._policy, event.recipe) != expected:
            yield Note("policy", at, "today's policy would decide differently")

    def _computed(self, request: LogRecord, policy: Policy, recipe: int) -> bytes:
        builder = OutcomeBuilder(self._codec, policy, self._contexts.context, recipe)
        return builder.build(request.value, request.at).value

    def _is_same(self, expected: bytes, actual: bytes, outcome: type) -> bool:
        """Whether schema version and body are equal; a schema may have two ids, its own and a registry's."""
        version = self._codec.version_of(outcome, expected)
        has_same_schema = version is not None and version == self._codec.version_of(outcome, actual)
        return has_same_schema and expected[FRAME.size :] == actual[FRAME.size :]

    def _difference(self, expected: bytes, actual: bytes) -> str:
        expected_event, event = self._codec.decode(expected), self._codec.decode(actual)
        if type(expected_event) is not type(event):
            return f"its type should be {type(expected_event).__name__}"
        pairs = enumerate(zip(expected, actual, strict=False))
        byte = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(actual)))
        return f"{first_difference(asdict(expected_event), asdict(event))}, from byte {byte} on"

    def _check_causality(
        self, at: Coordinates, scope_key: str, request: LogRecord
    ) -> Iterator[Finding]:
        """Check that no upload of its scope beyond the positions was appended before the request.

        Brokers' clocks may differ, so an upload counts only if it is older by more than CLOCK_TOLERANCE_MS.
        """
        for upload in self._contexts.first_beyond(scope_key):
            if upload.appended_at_ms < request.appended_at_ms - CLOCK_TOLERANCE_MS:
                before = f"which was appended before its request {request.at}"
                yield Violation("stale", at, f"it was joined without {upload.at}, {before}")

    def _check_dead_letter(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """Check that a dead letter has the request's content, or its checksums, and the right reason."""
        at, headers = outcome.at, list(outcome.headers)
        refusal, fault = read_dead_letter_headers(headers), read_request(self._codec, request.value)
        reason = fault if isinstance(fault, BadRecord) else Malformed(refusal.message)
        expected = _expected_letter(request, reason, is_truncated=refusal.truncated is not None)
        if outcome.key != expected.key:
            yield Violation("key", at, _wrong_key(request))
        if outcome.value != expected.value:
            yield Violation("bytes", at, f"its bytes differ from the request {request.at}")
            return
        if not isinstance(fault, BadRecord):
            yield (finding := _not_refused(at, refusal))
            if isinstance(finding, Violation):
                return
        # of the reason, before the checksums
        start = len(expected.headers) - 2 - (0 if refusal.truncated is None else len(TRUNCATED))
        own_reason = headers[start : start + 2]
        if headers != [*expected.headers[:start], *own_reason, *expected.headers[start + 2 :]]:
            yield Violation("headers", at, f"its headers do not match the request {request.at}")
        elif isinstance(fault, BadRecord) and own_reason != list(expected.headers)[start:][:2]:
            sentence = f"its reason differs from the one that this release gives: {fault}"
            yield Violation("reason", at, sentence)


def _wrong_key(request: LogRecord) -> str:
    return f"its key differs from the key of its request {request.at}"


def _expected_letter(request: LogRecord, fault: BadRecord, *, is_truncated: bool) -> Refused:
    """The dead letter of a request; one that is not truncated was kept whole, perhaps by an earlier release."""
    at, appended_at_ms = request.at, request.appended_at_ms
    refused = Refused(request.key, request.value, request.headers)
    if is_truncated:
        return dead_letter(at, appended_at_ms, fault, refused)
    return refused._replace(headers=dead_letter_headers(at, appended_at_ms, fault, request.headers))


def read_request(codec: Codec, payload: bytes | None) -> CJAssessmentRequested | BadRecord:
    """The request, or the error if the bytes are not a valid one."""
    try:
        check_size(payload)
        return codec.decode_as(CJAssessmentRequested, payload)
    except BadRecord as fault:
        return fault


def _not_refused(at: Coordinates, refusal: DeadLetterHeaders) -> Finding:
    """The finding for a dead letter whose bytes are a valid request for this release."""
    if refusal.message == OUTCOME_REFUSED:
        sentence = "the broker refused its outcome, which the log cannot show"
        return NotVerifiable("outcome_refused", at, sentence)
    if refusal.fault.endswith(f".{UnknownSchema.__name__}"):
        sentence = "the release that refused it did not know its schema"
        return NotVerifiable("unknown_then", at, sentence)
    return Violation("not_refused", at, f"it refuses a valid request: {refusal.at}")


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
