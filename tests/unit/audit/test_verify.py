"""Outcomes compared with their requests and the uploads of their time: right ones pass, altered ones are reported."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.kafka.records import log_record_of
from processors.outcomes.recipes import RECIPE
from processors.outcomes.splice import Splicer
from processors.policy import Policy
from schemas.codec import FRAME
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import OUTCOME_REFUSED, Refused, dead_letter
from schemas.errors import Malformed
from schemas.events import CJBatchPrepared, CJBatchUnresolved, Essay
from schemas.partitioner import partition_for
from schemas.topics import MAX_REQUEST_BYTES, MIB, Topics
from tables.scan.scanner import Engine
from tables.upload_record import UploadRecord
from tests.support.builders import (
    OF_LATER_RELEASE,
    TOPIC_OF,
    essays,
    handwritten,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)
from tests.support.engines import ENGINES, NAME_OF
from tests.support.installation_in_memory import (
    CODEC,
    REQUESTS,
    SETTINGS,
    TOPICS,
    InMemory,
    Installation,
    message,
)
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.findings import Note, NotVerifiable, Violation
from tools.audit.check.outcome_with_request import OutcomeWithRequest

SCOPES = ("a1", "a2")
EVENTS = (
    instructions_uploaded,
    instructions_deleted,
    prompt_uploaded,
    prompt_deleted,
    rubric_uploaded,
)


@st.composite
def installations(draw: st.DrawFn) -> Installation:
    """An installation with uploads, some damaged, and requests of every kind, answered, parked and released."""
    installation = Installation()
    for number in range(draw(st.integers(1, 25))):
        scope = draw(st.sampled_from(SCOPES))
        match draw(
            st.sampled_from(("upload", "upload", "damage", "course", "ask", "ask", "release"))
        ):
            case "upload":
                installation.upload(an_upload(draw, scope, number))
            case "damage":
                installation.upload(an_upload(draw, scope, number), b"\1damaged")
            case "course":
                installation.upload(instructions_uploaded(assignment_id=None, course_id="ENG5"))
            case "ask":
                key = draw(st.sampled_from((None, b"", b"k")))
                installation.request_and_join(
                    a_request(draw, scope, number), key, park=draw(st.booleans())
                )
            case "release":
                installation.release()
    return installation


def an_upload(draw: st.DrawFn, scope: str, number: int) -> Any:
    event = draw(st.sampled_from(EVENTS))(assignment_id=scope, event_id=f"e-{number}")
    return replace(event, version=number + 1)


def a_request(draw: st.DrawFn, scope: str, number: int) -> bytes | None:
    changes: dict[str, Any] = draw(
        st.sampled_from(
            (
                {"assignment_id": scope},
                {"assignment_id": scope, "student_prompt_ref": "own"},
                {"assignment_id": None},
                {"assignment_id": None, "course_code": "GUEST"},
            )
        )
    )
    request = requested(batch_id=f"b-{number}", **changes)
    encoding = draw(
        st.sampled_from(
            ("canonical", "canonical", "earlier version", "not canonical", "damaged", "none")
        )
    )
    match encoding:
        case "canonical":
            return CODEC.encode(request)
        case "earlier version":
            return CODEC.encode(request, version=1)
        case "not canonical":
            return handwritten(request, padding=2)
        case "damaged":
            return CODEC.encode(request) + b"\0"
        case _:
            return None


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
@given(installation=installations())
def test_the_outcomes_of_batch_preparation_have_no_findings(
    engine: Engine, installation: Installation
) -> None:
    findings, tally = installation.audit(engine=engine)
    assert findings == []
    assert tally.requests["requests"] == len(installation.requests)
    assert tally.requests["waiting"] == len(installation.parked)
    deadlines = [entry.deadline_at_ms for entry in installation.parked.values()]
    assert tally.deadlines_ms == ([min(deadlines), max(deadlines)] if deadlines else [])
    assert (
        tally.outcomes.total()
        == len(installation.outcomes)
        == len(installation.requests) - len(installation.parked)
    )


@given(installations())
def test_outcomes_with_requests_are_read_as_they_were_written(installation: Installation) -> None:
    log = InMemory(installation)
    scan_range = installation.scan_range()
    check = CompletenessCheck(SETTINGS, CODEC, scan_range, 0, log, installation.now_ms)
    pairs = [pair for portion in check.run() for pair in portion.outcomes]
    assert [OutcomeWithRequest.of_row(pair.row) for pair in pairs] == pairs
    assert len(pairs) == len(installation.outcomes)


@settings(max_examples=3 * settings().max_examples)
@given(installations().filter(lambda installation: installation.outcomes), st.data())
def test_a_flipped_byte_in_an_outcome_is_reported_with_its_coordinates(
    installation: Installation, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(installation.outcomes) - 1))
    altered = installation.replace_outcome(number, **flipped(installation, number, data))
    assert altered in {violation.at for violation in installation.findings()}


def flipped(installation: Installation, number: int, data: st.DataObject) -> dict[str, Any]:
    """The outcome's value, key or headers, with a flipped byte."""
    outcome = log_record_of(installation.outcomes[number])
    parts: dict[str, Any] = {}
    if outcome.value:
        parts["value"] = lambda: with_flipped_byte(outcome.value or b"", data)
    if outcome.key:
        parts["key"] = lambda: with_flipped_byte(outcome.key or b"", data)
    if outcome.headers:
        parts["headers"] = lambda: with_flipped_header(outcome.headers, data)
    part = data.draw(st.sampled_from(sorted(parts)))
    return {part: parts[part]()}


def with_flipped_byte(content: bytes, data: st.DataObject) -> bytes:
    index = data.draw(st.integers(0, len(content) - 1))
    mask = data.draw(st.integers(1, 255))
    return content[:index] + bytes([content[index] ^ mask]) + content[index + 1 :]


def with_flipped_header(
    headers: tuple[tuple[str, bytes | None], ...], data: st.DataObject
) -> tuple[tuple[str, bytes | None], ...]:
    index = data.draw(st.integers(0, len(headers) - 1))
    name, value = headers[index]
    return (*headers[:index], (name, with_flipped_byte(value or b"", data)), *headers[index + 1 :])


@given(installations().filter(lambda installation: installation.outcomes), st.data())
def test_a_doubled_outcome_is_reported_with_its_coordinates(
    installation: Installation, data: st.DataObject
) -> None:
    first = log_record_of(
        installation.outcomes[data.draw(st.integers(0, len(installation.outcomes) - 1))]
    )
    second = installation.outcome(first.at.topic, first.key, first.value, list(first.headers))
    assert [(violation.kind, violation.at) for violation in installation.findings()] == [
        ("doubled", log_record_of(second).at)
    ]


@given(installations().filter(lambda installation: installation.outcomes), st.data())
def test_a_missing_outcome_is_reported_with_the_coordinates_of_its_request(
    installation: Installation, data: st.DataObject
) -> None:
    missing = installation.outcomes.pop(data.draw(st.integers(0, len(installation.outcomes) - 1)))
    (found,) = installation.findings()
    assert found.kind == "missing"
    assert str(found.at).encode() in (missing.value() or b"") + repr(
        missing.headers()
    ).encode() or (missing.topic() == TOPICS.requests_dlq.name)


def with_one_batch() -> Installation:
    """An installation with complete uploads for assignment a1, and one prepared batch."""
    installation = Installation()
    installation.upload(instructions_uploaded())
    installation.upload(prompt_uploaded())
    installation.request_and_join(CODEC.encode(requested()))
    return installation


DECOMPOSED = "a\u030ar"  # år, as some systems write it
EARLIER = CODEC.as_earlier()
OF_EARLIER_RELEASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "decomposed": ({"assignment_id": DECOMPOSED}, {}),
    "blank at the end": ({"assignment_id": "a1 "}, {}),
    "course": ({"course_code": DECOMPOSED}, {}),
    "deadline in seconds": ({"due_at_ms": 1_900_000_000}, {}),
    "language": ({}, {"language": "Svenska"}),
    "essays of one id": ({"essays": essays(2) + essays(2)}, {}),
}


@pytest.mark.parametrize("name", OF_EARLIER_RELEASES)
def test_what_earlier_releases_accepted_and_prepared_is_verified(name: str) -> None:
    of_request, of_prompt = OF_EARLIER_RELEASES[name]
    request = requested(**of_request)
    installation = Installation(codec=EARLIER)
    installation.upload(instructions_uploaded(assignment_id=request.assignment_id))
    installation.upload(prompt_uploaded(assignment_id=request.assignment_id, **of_prompt))
    installation.request_and_join(CODEC.encode(request))
    assert {outcome.topic() for outcome in installation.outcomes} == {TOPICS.batches.name}
    assert installation.audit()[0] == []
    other = CODEC.encode(requested(batch_id="another"))
    installation.replace_outcome(0, value=EARLIER.encode(CODEC.decode(other)))
    assert installation.findings() != []


@pytest.mark.parametrize("name", OF_EARLIER_RELEASES)
def test_what_only_earlier_releases_accepted_is_refused_now_and_that_is_verified(name: str) -> None:
    of_request, of_prompt = OF_EARLIER_RELEASES[name]
    request = requested(**of_request)
    installation = Installation()
    installation.upload(instructions_uploaded(assignment_id=request.assignment_id))
    installation.upload(prompt_uploaded(assignment_id=request.assignment_id, **of_prompt))
    installation.request_and_join(CODEC.encode(request))
    topic = TOPICS.unresolved if of_prompt else TOPICS.requests_dlq
    assert {outcome.topic() for outcome in installation.outcomes} == {topic.name}
    assert installation.audit()[0] == []


def test_an_upload_that_was_not_the_current_one_is_reported() -> None:
    installation = Installation()
    old = installation.upload(instructions_uploaded())
    installation.upload(prompt_uploaded())
    early = installation.positions()
    new = installation.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    request = installation.request(CODEC.encode(requested()))
    installation.join(request, positions=early)
    early_headers = log_record_of(installation.outcomes[0]).headers
    installation.outcomes.clear()
    installation.join(request)
    current_headers = log_record_of(installation.outcomes[0]).headers
    installation.outcomes.clear()
    installation.join(request, positions=early)
    assert early_headers != current_headers
    installation.replace_outcome(0, headers=current_headers)
    (found,) = installation.findings()
    assert (found.kind, found.at) == ("not_current", log_record_of(installation.outcomes[0]).at)
    assert str(old) in found.sentence
    assert str(new) in found.sentence


def test_an_early_upload_beyond_the_positions_is_found_behind_a_late_record_that_is_damaged() -> (
    None
):
    """Append times can go back: a broker's clock was set."""
    installation = Installation()
    before = installation.positions()
    request = installation.request(CODEC.encode(requested(assignment_id="a1")))
    installation.join(request, positions=before)
    event = instructions_uploaded(assignment_id="a1")
    installation.upload(event, b"damaged")
    installation.upload(event)
    assert installation.findings() == []
    early = replace(installation.uploads[-1], appended_at_ms=1)
    installation.uploads[-1] = early
    assert [finding.kind for finding in installation.findings()] == ["stale"]


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
def test_a_record_of_a_later_release_in_a_wrong_partition_stops_nothing(engine: Engine) -> None:
    installation, key = Installation(), b"assignment:a1"
    wrong = 1 - partition_for(key, SETTINGS.partitions)
    at = Coordinates(TOPIC_OF["instructions"], wrong, 0)
    request = installation.request(CODEC.encode(requested(assignment_id="a1")))
    beyond = {**installation.positions(), Partition(at.topic, wrong): 1}
    installation.join(request, positions=beyond)
    installation.uploads.append(UploadRecord(at, key, OF_LATER_RELEASE, 1))
    assert installation.audit(engine=engine)[0] == []


@pytest.mark.parametrize(("seconds", "kinds"), [(4, []), (6, ["stale"])])
def test_a_join_that_missed_an_upload_older_than_its_request_is_reported(
    seconds: int, kinds: list[str]
) -> None:
    installation = with_one_batch()
    early = installation.positions()
    installation.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    installation.now_ms += (seconds - 1) * 1000
    installation.join(installation.request(CODEC.encode(requested())), positions=early)
    assert [violation.kind for violation in installation.findings()] == kinds


def test_positions_beyond_the_end_of_the_uploads_are_reported() -> None:
    installation = with_one_batch()
    beyond = {partition: position + 1 for partition, position in installation.positions().items()}
    installation.join(installation.request(CODEC.encode(requested())), positions=beyond)
    assert {violation.kind for violation in installation.findings()} == {"positions"}


def test_a_prepared_batch_in_the_topic_and_frame_of_unresolved_ones_is_reported() -> None:
    installation = with_one_batch()
    batch = log_record_of(installation.outcomes.pop())
    frame = CODEC.frame_of(CJBatchUnresolved, RECIPE)
    value = frame + (batch.value or b"")[FRAME.size :]
    installation.outcome(TOPICS.unresolved.name, batch.key, value, list(batch.headers))
    assert [violation.kind for violation in installation.findings()] == ["unreadable"]


def test_an_outcome_with_a_wrong_header_is_reported() -> None:
    installation = with_one_batch()
    ((_, value),) = log_record_of(installation.outcomes[0]).headers
    installation.replace_outcome(0, headers=[("another", value)])
    assert [violation.kind for violation in installation.findings()] == ["positions"]


def test_an_altered_byte_after_a_request_of_an_earlier_version_is_reported() -> None:
    installation = Installation()
    installation.upload(instructions_uploaded())
    installation.upload(prompt_uploaded())
    installation.request_and_join(CODEC.encode(requested(), version=1))
    assert installation.findings() == []
    value = log_record_of(installation.outcomes[0]).value or b""
    installation.replace_outcome(0, value=value[:-1] + b"\2")
    assert [violation.at.offset for violation in installation.findings()] == [0]


def test_a_batch_of_a_request_that_is_too_large_is_reported() -> None:
    essays = tuple(
        Essay(essay_id=f"{number}".ljust(120, "x"), text_storage_id="t" * 120)
        for number in range(2800)
    )
    installation = Installation()
    installation.upload(instructions_uploaded())
    installation.upload(prompt_uploaded())
    large = CODEC.encode(requested(essays=essays))
    assert MAX_REQUEST_BYTES < len(large) < 2**20
    installation.request_and_join(large)
    assert installation.findings() == []
    installation.outcomes.clear()
    batch = Splicer(CODEC, Policy(), installation.contexts().get).spliced(
        large, Coordinates(TOPICS.requests.name, 0, 0)
    )
    assert batch is not None
    installation.outcome(TOPICS.batches.name, b"k", batch.value, installation.header())
    assert [violation.kind for violation in installation.findings()] == ["request"]
    new = instructions_uploaded("New", version=2, event_id="i-2")
    installation.upload(new)  # so that the batch gets the full check
    installation.replace_outcome(0, appended_at_ms=installation.now_ms + 1)
    assert [violation.kind for violation in installation.findings()] == ["request"]


def test_an_outcome_with_another_request_is_checked_in_the_scope_of_the_real_one() -> None:
    installation = Installation()
    for scope in SCOPES:
        installation.upload(instructions_uploaded(assignment_id=scope, event_id=f"i-{scope}"))
        installation.upload(prompt_uploaded(assignment_id=scope, event_id=f"p-{scope}"))
    early = installation.positions()
    installation.upload(instructions_uploaded("New", assignment_id="a2", version=2, event_id="i-2"))
    installation.now_ms += 10_000
    installation.join(
        installation.request(CODEC.encode(requested(assignment_id="a1"))), positions=early
    )
    assert installation.findings() == []
    batch = CODEC.decode_as(CJBatchPrepared, installation.outcomes[0].value())
    other = replace(batch, request=replace(batch.request, assignment_id="a2"))
    installation.replace_outcome(0, value=CODEC.encode(other))
    assert [violation.kind for violation in installation.findings()] == ["request"]


def test_a_dead_letter_of_a_valid_request_is_reported() -> None:
    installation = Installation()
    installation.request_and_join(b"\1damaged")
    headers = log_record_of(installation.outcomes[0]).headers
    valid = CODEC.encode(requested())
    installation.requests.clear()
    installation.request(valid)
    installation.replace_outcome(0, value=valid, headers=headers)
    assert [violation.kind for violation in installation.findings()] == ["not_refused"]


HUGE = bytes(3 * MIB)


def with_truncated_letters() -> Installation:
    """Damaged requests whose value, key or header is too large, and a valid one whose key is, with their outcomes."""
    installation = Installation()
    installation.request_and_join(HUGE)
    installation.request_and_join(b"damaged", HUGE)
    installation.requests.append(
        message(REQUESTS.topic, 2, b"k", b"damaged", [("h", HUGE)], installation.now_ms)
    )
    installation.join(installation.requests[-1])
    valid = log_record_of(installation.request(CODEC.encode(requested()), HUGE))
    refused = Refused(valid.key, valid.value, valid.headers)
    letter = dead_letter(valid.at, valid.appended_at_ms, Malformed(OUTCOME_REFUSED), refused)
    installation.outcome(TOPICS.requests_dlq.name, letter.key, letter.value, list(letter.headers))
    return installation


def test_truncated_dead_letters_are_right_if_the_checksums_are_those_of_their_requests() -> None:
    installation = with_truncated_letters()
    assert [outcome.value() for outcome in installation.outcomes] == [None] * 4
    (finding,), _ = installation.audit()
    assert isinstance(finding, NotVerifiable)
    assert finding.kind == "outcome_refused"


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cjstream-truncated-key", "headers"),
        ("cjstream-truncated-value", "headers"),
        ("cjstream-truncated-headers", "headers"),
        ("kafka_dlt-original-timestamp", "headers"),
        ("kafka_dlt-exception-message", "reason"),
    ],
)
def test_a_truncated_dead_letter_with_another_header_is_reported(
    number: int, name: str, kind: str
) -> None:
    installation = with_truncated_letters()
    headers = dict(log_record_of(installation.outcomes[number]).headers)
    headers[name] = b"1 0" if kind == "reason" else (headers[name] or b"") + b"0"
    installation.replace_outcome(number, headers=tuple(headers.items()))
    expected = "not_refused" if (number, kind) == (3, "reason") else kind
    assert [violation.kind for violation in installation.findings()] == [expected]


def test_a_truncated_dead_letter_with_a_value_or_another_key_is_reported() -> None:
    installation = with_truncated_letters()
    installation.replace_outcome(0, value=b"x")
    installation.replace_outcome(1, key=b"k")
    installation.replace_outcome(2, key=None)
    kinds = [violation.kind for violation in installation.findings()]
    assert sorted(kinds) == ["bytes", "key", "key"]


def test_a_truncated_dead_letter_of_a_request_that_fits_is_reported() -> None:
    installation = with_truncated_letters()
    at = Coordinates(REQUESTS.topic, 0, 0)
    installation.requests[0] = message(REQUESTS.topic, 0, b"k", b"damaged", [], 5)
    letter = dead_letter(at, 5, Malformed("x"), Refused(b"k", HUGE, ()))
    installation.replace_outcome(0, key=letter.key, headers=tuple(letter.headers))
    assert [violation.kind for violation in installation.findings()] == ["bytes"]


@pytest.mark.parametrize("assignment_id", ["a1", "unknown"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_an_outcome_of_another_prefix_is_a_finding_of_its_own_and_not_verified(
    assignment_id: str, is_damaged: bool
) -> None:
    elsewhere = Coordinates(Topics().under("other-").requests.name, 0, 0)
    installation = with_one_batch()
    request = CODEC.encode(requested(assignment_id=assignment_id)) + b"\0" * is_damaged
    installation.join(installation.request(request))
    original = log_record_of(installation.outcomes[1])
    if is_damaged:
        refused = Refused(b"k", request, ())
        letter = dead_letter(elsewhere, 5, Malformed("x"), refused)
        installation.replace_outcome(1, headers=tuple(letter.headers))
    else:
        event = CODEC.decode(original.value)
        assert isinstance(event, CJBatchPrepared | CJBatchUnresolved)
        provenance = replace(event.provenance, request=elsewhere)
        copy = replace(event, event_id=str(elsewhere), provenance=provenance)
        installation.replace_outcome(1, value=CODEC.encode(copy))
    findings, tally = installation.audit()
    assert {(found.kind, found.at.offset) for found in findings} == {("copied", 1), ("missing", 1)}
    assert tally.outcomes.total() == 1


def test_on_a_copy_with_other_offsets_no_outcome_is_right() -> None:
    installation = with_one_batch()
    for number in range(3):
        installation.request_and_join(CODEC.encode(requested(batch_id=f"b-{number}")))
    kept = [log_record_of(request) for request in installation.requests[1:]]
    installation.requests = [
        message(REQUESTS.topic, offset, one.key, one.value, list(one.headers), one.appended_at_ms)
        for offset, one in enumerate(kept)
    ]
    wrong = {
        found.at.offset for found in installation.findings() if found.at.topic != REQUESTS.topic
    }
    assert wrong == {outcome.offset() for outcome in installation.outcomes}


def test_an_outcome_without_a_request_is_reported() -> None:
    installation = with_one_batch()
    installation.join(installation.request(CODEC.encode(requested())))
    installation.requests.pop()
    (found,) = installation.findings()
    assert (found.kind, found.at.offset) == ("no_request", 1)


def test_a_batch_whose_upload_was_compacted_is_not_verifiable() -> None:
    installation = with_one_batch()
    installation.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    del installation.uploads[0]
    (finding,), tally = installation.audit()
    assert isinstance(finding, NotVerifiable)
    assert (finding.kind, finding.at) == ("upload_gone", log_record_of(installation.outcomes[0]).at)
    assert tally.findings == {}


def test_an_upload_that_nothing_replaced_cannot_have_been_compacted() -> None:
    installation = with_one_batch()
    neighbour = next(
        name
        for name in map(str, range(100))
        if installation.upload(instructions_uploaded(assignment_id=name)).partition
        == installation.uploads[0].at.partition
    )
    assert neighbour != "a1"
    del installation.uploads[0]
    assert [violation.kind for violation in installation.findings()] == ["upload"]


def test_a_missing_outcome_is_not_verifiable_if_the_outcomes_of_its_time_were_removed() -> None:
    installation = with_one_batch()
    installation.complete_since_ms = installation.now_ms
    installation.outcomes.clear()
    (finding,), _ = installation.audit()
    assert isinstance(finding, NotVerifiable)
    assert finding.kind == "outcome_gone"


def test_a_request_beyond_the_committed_offset_is_no_finding() -> None:
    installation = with_one_batch()
    installation.request(CODEC.encode(requested()))
    installation.committed = 1
    findings, tally = installation.audit()
    assert findings == []
    assert tally.requests["not_yet_prepared"] == 1


def test_a_request_that_is_parked_long_after_its_deadline_is_reported() -> None:
    installation = Installation()
    installation.request_and_join(CODEC.encode(requested()), park=True)
    installation.now_ms += 900_000
    assert installation.findings() == []
    installation.now_ms += 60_000
    assert [(violation.kind, violation.at) for violation in installation.findings()] == [
        ("late", Coordinates(TOPICS.requests.name, 0, 0))
    ]


def test_a_parked_request_that_has_its_outcome_is_reported() -> None:
    installation = Installation()
    installation.request_and_join(CODEC.encode(requested()), park=True)
    installation.release()
    installation.entries.pop()
    assert [violation.kind for violation in installation.findings()] == ["not_released"]


def test_a_batch_that_todays_policy_would_not_prepare_gets_a_note() -> None:
    installation = Installation(policy=Policy(("instructions",)))
    installation.upload(instructions_uploaded())
    installation.request_and_join(CODEC.encode(requested()))
    ((finding,), tally) = installation.audit()
    assert isinstance(finding, Note)
    assert tally.findings == {}


def test_the_first_field_that_differs_is_named() -> None:
    installation = with_one_batch()
    batch = CODEC.decode_as(CJBatchPrepared, installation.outcomes[0].value())
    metadata = replace(batch.processing_metadata, grade_scale="other")
    installation.replace_outcome(
        0, value=CODEC.encode(replace(batch, processing_metadata=metadata))
    )
    (found,) = installation.findings()
    assert found.kind == "bytes"
    assert "processing_metadata.grade_scale" in found.sentence
    assert isinstance(found, Violation)
    assert len(installation.outcomes[0].value() or b"") > FRAME.size
