"""Whether an outcome is what its request and the uploads of its time make: the plain spelling. Pure.

A request's record, an outcome's record and the contexts as they stood at the outcome's positions; what comes of them
is held against what stands there, byte for byte. What today's settings say does not count, for policy is not in
the log: a prepared batch is made again as if every role were optional, an unresolved one as if just the roles
were required that it says are missing.
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
    read_refusal,
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

CLOCKS_AGREE_MS = 5000  # brokers' clocks are taken to agree by so much


def request_of(outcome: LogRecord, codec: Codec, topics: Topics) -> Coordinates | Violation:
    """The request that an outcome says it is of."""
    try:
        if outcome.at.topic == topics.requests_dlq.name:
            return read_refusal(outcome.headers).at
        event = event_of(outcome, codec, topics)
    except BadRecord as fault:
        return Violation("unreadable", outcome.at, f"it is no outcome: {fault}")
    at = event.provenance.request
    if event.event_id != event_id_of(at):
        return Violation("event_id", outcome.at, f"its event id is not that of its request {at}")
    return at


def event_of(outcome: LogRecord, codec: Codec, topics: Topics) -> Outcome:
    """The event of an outcome that is no dead letter. Raises BadRecord."""
    if outcome.at.topic == topics.batches.name:
        return codec.decode_as(CJBatchPrepared, outcome.value)
    return codec.decode_as(CJBatchUnresolved, outcome.value)


class FullCheck:
    """Judges outcomes, one after the other; upload_ends is how far the upload records that it was lent reach."""

    def __init__(
        self,
        codec: Codec,
        topics: Topics,
        policy: Policy,
        standing: UploadsAsOf,
        texts: Texts,
        upload_ends: Positions,
    ) -> None:
        self._codec = codec
        self._topics = topics
        self._policy = policy
        self._standing = standing
        self._contexts = ContextsAsOf(standing, texts)
        self._upload_ends = upload_ends

    def check(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """What is to be said of an outcome, given the request that stands where `request_of` says."""
        if outcome.at.partition != request.at.partition:
            yield Violation(
                "misplaced", outcome.at, f"its request is in another partition: {request.at}"
            )
        if outcome.key != request.key:
            yield Violation("key", outcome.at, f"its key is not that of its request, {request.at}")
        if outcome.at.topic == self._topics.requests_dlq.name:
            yield from self._judge_letter(outcome, request)
            return
        event = event_of(outcome, self._codec, self._topics)
        try:
            ((name, told),) = outcome.headers
            if name != POSITIONS_HEADER:
                raise Malformed(f"its header is not {POSITIONS_HEADER}")
            positions = read_positions(told or b"", self._topics)
            self._standing.set_positions(positions)
        except ValueError:
            yield Violation(
                "positions", outcome.at, f"it has not the one header {POSITIONS_HEADER}"
            )
            return
        except Malformed as fault:
            yield Violation("positions", outcome.at, str(fault))
            return
        yield from self._judge_positions(outcome, positions)
        asked = asked_of(self._codec, request.value)
        if isinstance(asked, BadRecord):
            yield Violation("request", outcome.at, f"its request {request.at} is none: {asked}")
            return
        remarks = list(self._judge_event(outcome, event, asked, request))
        yield from remarks
        if not any(isinstance(one, NotVerifiable) for one in remarks):
            yield from self._judge_cause(outcome, scope_key_for(asked), request)

    def _judge_positions(self, outcome: LogRecord, positions: Positions) -> Iterator[Finding]:
        for one, position in positions.items():
            if position > self._upload_ends[one]:
                beyond = f"{one.topic}/{one.partition} ends at {self._upload_ends[one]}"
                yield Violation(
                    "positions", outcome.at, f"it was joined at {position}, and {beyond}"
                )

    def _judge_event(
        self, outcome: LogRecord, event: Outcome, asked: CJAssessmentRequested, request: LogRecord
    ) -> Iterator[Finding]:
        """Its request as it says, its uploads, then all of its bytes."""
        if event.recipe not in RECIPES:
            yield Violation(
                "recipe", outcome.at, f"recipe {event.recipe} is not known to this release"
            )
            return
        if event.request != asked:
            which = differing(asdict(asked), asdict(event.request))
            yield Violation("request", outcome.at, f"it is not its request {request.at}: {which}")
            return
        scope_key = scope_key_for(asked)
        of_uploads = list(self._judge_uploads(outcome, event, scope_key))
        yield from of_uploads
        if not of_uploads:
            yield from self._judge_bytes(outcome, event, request)

    def _judge_uploads(
        self, outcome: LogRecord, event: Outcome, scope_key: str
    ) -> Iterator[Finding]:
        """Each upload named stands where it says, is what it says, and was the current one."""
        context = self._contexts.context(scope_key)
        for role in ROLES:
            used: UploadUsed | None = getattr(event.provenance, role)
            if used is None:
                continue
            is_gone = self._contexts.is_before_all(scope_key, used.source)
            if component_of(context, role) is None and is_gone:
                yield NotVerifiable(
                    "upload_gone",
                    outcome.at,
                    f"the log no longer has its {role}, {used.source}",
                )
                continue
            upload = self._contexts.upload(scope_key, used.source)
            if upload is None or role_of(upload.event) != role:
                yield Violation(
                    "upload", outcome.at, f"no {role} of {scope_key} is at {used.source}"
                )
                continue
            of = upload.event
            told = (of.version, of.event_id, getattr(of, "sha256", None))
            if told != (used.version, used.event_id, used.sha256):
                yield Violation(
                    "upload",
                    outcome.at,
                    f"the {role} at {used.source} has another version, event id or sha256 than it says",
                )
                continue
            current = component_of(context, role)
            if current is None or current.source != used.source:
                stood = current.source if current else "none"
                yield Violation(
                    "not_current",
                    outcome.at,
                    f"its {role} is {used.source}; at its positions the current one was {stood}",
                )

    def _judge_bytes(
        self, outcome: LogRecord, event: Outcome, request: LogRecord
    ) -> Iterator[Finding]:
        if isinstance(event, CJBatchUnresolved):
            if not set(event.missing) <= set(ROLES):
                yield Violation("bytes", outcome.at, "what it says is missing is no role")
                return
            policy = Policy(event.missing, guests_allowed=False)
        else:
            policy = Policy((), guests_allowed=True)
        made = self._made(request, policy, event.recipe)
        if self._is_same(made, outcome.value or b"", type(event)):
            if self._made(request, self._policy, event.recipe) != made:
                yield Note("policy", outcome.at, "today's policy would have decided otherwise")
            return
        yield Violation(
            "bytes", outcome.at, f"recomputed it is another: {self._which(made, outcome)}"
        )

    def _made(self, request: LogRecord, policy: Policy, recipe: int) -> bytes:
        answers = OutcomeBuilder(self._codec, policy, self._contexts.context, recipe)
        return answers.build(request.value, request.at).value

    def _is_same(self, made: bytes, stands: bytes, outcome: type) -> bool:
        """Byte for byte; one schema may have two ids, its own and a registry's."""
        version = self._codec.version_of(outcome, made)
        is_framed_alike = version is not None and version == self._codec.version_of(outcome, stands)
        return is_framed_alike and made[FRAME.size :] == stands[FRAME.size :]

    def _which(self, made: bytes, outcome: LogRecord) -> str:
        stands = outcome.value or b""
        expected, found = self._codec.decode(made), self._codec.decode(stands)
        if type(expected) is not type(found):
            return f"a {type(expected).__name__}"
        pairs = enumerate(zip(made, stands, strict=False))
        byte = next((n for n, (a, b) in pairs if a != b), min(len(made), len(stands)))
        return f"{differing(asdict(expected), asdict(found))}, from byte {byte} on"

    def _judge_cause(
        self, outcome: LogRecord, scope_key: str, request: LogRecord
    ) -> Iterator[Finding]:
        """No upload of its scope that was appended before the request lies beyond the positions.

        Append times are compared where they cannot be mistaken: clocks may differ by CLOCKS_AGREE_MS.
        """
        for upload in self._contexts.first_after(scope_key):
            if upload.appended_at_ms < request.appended_at_ms - CLOCKS_AGREE_MS:
                yield Violation(
                    "stale",
                    outcome.at,
                    f"its join did not see {upload.at}, appended before its request {request.at}",
                )

    def _judge_letter(self, outcome: LogRecord, request: LogRecord) -> Iterator[Finding]:
        """A dead letter keeps the request whole, and says why it is none."""
        refusal = read_refusal(outcome.headers)
        if outcome.value != request.value:
            yield Violation("bytes", outcome.at, f"its bytes are not those of {request.at}")
            return
        fault = asked_of(self._codec, request.value)
        if not isinstance(fault, BadRecord):
            yield _not_refused(outcome, refusal)
            return
        expected = dead_letter_headers(request.at, request.appended_at_ms, fault, request.headers)
        if list(outcome.headers) == expected:
            return
        by_other_words = [*expected[:-2], *outcome.headers[-2:]]
        if list(outcome.headers) == by_other_words:
            yield Violation(
                "reason", outcome.at, f"it gives another reason than this release: {fault}"
            )
        else:
            yield Violation("headers", outcome.at, f"its headers are not those of {request.at}")


def asked_of(codec: Codec, payload: bytes | None) -> CJAssessmentRequested | BadRecord:
    """The request, or why the bytes are none."""
    try:
        check_size(payload)
        return codec.decode_as(CJAssessmentRequested, payload)
    except BadRecord as fault:
        return fault


def _not_refused(outcome: LogRecord, refusal: DeadLetterHeaders) -> Finding:
    """Of a dead letter whose bytes are a request by what this release knows."""
    if refusal.message == OUTCOME_REFUSED:
        return NotVerifiable(
            "outcome_refused", outcome.at, "that the broker refused its outcome is not in the log"
        )
    if refusal.fault.endswith(f".{UnknownSchema.__name__}"):
        return NotVerifiable(
            "unknown_then", outcome.at, "its schema was not known to the release that refused it"
        )
    return Violation("not_refused", outcome.at, f"its bytes are a request: {refusal.at}")


def differing(expected: object, found: object, path: str = "") -> str:
    """The first field in which two documents differ, by its path."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in expected:
            if expected[name] != found.get(name):
                below = f"{path}.{name}" if path else str(name)
                return differing(expected[name], found.get(name), below)
    if isinstance(expected, tuple) and isinstance(found, tuple) and len(expected) == len(found):
        for number, pair in enumerate(zip(expected, found, strict=True)):
            if pair[0] != pair[1]:
                return differing(*pair, f"{path}[{number}]")
    return path or "the same values, encoded otherwise"
