"""Outcomes held against their requests and the uploads of their time: right ones pass, altered ones are named."""

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
from schemas.coordinates import Coordinates
from schemas.events import CJBatchPrepared, CJBatchUnresolved, Essay
from schemas.topics import MAX_REQUEST_BYTES
from tests.support.builders import (
    handwritten,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)
from tests.support.installation_in_memory import CODEC, TOPICS, Installation
from tools.audit.check.findings import Note, NotVerifiable, Violation

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
    """A history of uploads, some of them damaged, and of requests of every kind, joined, parked and released."""
    own = Installation()
    for number in range(draw(st.integers(1, 25))):
        scope = draw(st.sampled_from(SCOPES))
        match draw(
            st.sampled_from(("upload", "upload", "damage", "course", "ask", "ask", "release"))
        ):
            case "upload":
                own.upload(an_upload(draw, scope, number))
            case "damage":
                own.upload(an_upload(draw, scope, number), b"\1damaged")
            case "course":
                own.upload(instructions_uploaded(assignment_id=None, course_id="ENG5"))
            case "ask":
                key = draw(st.sampled_from((None, b"", b"k")))
                own.ask(a_request(draw, scope, number), key, park=draw(st.booleans()))
            case "release":
                own.release()
    return own


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
    asked = requested(batch_id=f"b-{number}", **changes)
    form = draw(
        st.sampled_from(("canonical", "canonical", "earlier", "strange", "damaged", "none"))
    )
    match form:
        case "canonical":
            return CODEC.encode(asked)
        case "earlier":
            return CODEC.encode(asked, version=1)
        case "strange":
            return handwritten(asked, padding=2)
        case "damaged":
            return CODEC.encode(asked) + b"\0"
        case _:
            return None


@given(installations())
def test_what_batch_preparation_makes_is_found_right(own: Installation) -> None:
    remarks, tally = own.audit()
    assert remarks == []
    assert tally.requests["requests"] == len(own.requests)
    assert tally.requests["waiting"] == len(own.waiting)
    deadlines = [one.deadline_at_ms for one in own.waiting.values()]
    assert tally.deadlines_ms == ([min(deadlines), max(deadlines)] if deadlines else [])
    assert tally.outcomes.total() == len(own.outcomes) == len(own.requests) - len(own.waiting)


@settings(max_examples=300)
@given(installations().filter(lambda own: own.outcomes), st.data())
def test_one_flipped_byte_of_an_outcome_is_found_and_named(
    own: Installation, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(own.outcomes) - 1))
    altered = own.replace_outcome(number, **flipped(own, number, data))
    assert altered in {one.at for one in own.findings()}


def flipped(own: Installation, number: int, data: st.DataObject) -> dict[str, Any]:
    """The outcome's value, key or headers with one byte flipped."""
    stands = log_record_of(own.outcomes[number])
    parts: dict[str, Any] = {}
    if stands.value:
        parts["value"] = lambda: one_flipped(stands.value or b"", data)
    if stands.key:
        parts["key"] = lambda: one_flipped(stands.key or b"", data)
    if stands.headers:
        parts["headers"] = lambda: header_flipped(stands.headers, data)
    part = data.draw(st.sampled_from(sorted(parts)))
    return {part: parts[part]()}


def one_flipped(whole: bytes, data: st.DataObject) -> bytes:
    place = data.draw(st.integers(0, len(whole) - 1))
    mask = data.draw(st.integers(1, 255))
    return whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :]


def header_flipped(
    headers: tuple[tuple[str, bytes | None], ...], data: st.DataObject
) -> tuple[tuple[str, bytes | None], ...]:
    which = data.draw(st.integers(0, len(headers) - 1))
    name, value = headers[which]
    return (*headers[:which], (name, one_flipped(value or b"", data)), *headers[which + 1 :])


@given(installations().filter(lambda own: own.outcomes), st.data())
def test_a_doubled_outcome_is_found_and_named(own: Installation, data: st.DataObject) -> None:
    stands = log_record_of(own.outcomes[data.draw(st.integers(0, len(own.outcomes) - 1))])
    again = own.outcome(stands.at.topic, stands.key, stands.value, list(stands.headers))
    assert [(one.kind, one.at) for one in own.findings()] == [("doubled", log_record_of(again).at)]


@given(installations().filter(lambda own: own.outcomes), st.data())
def test_a_lost_outcome_is_found_and_its_request_named(
    own: Installation, data: st.DataObject
) -> None:
    gone = own.outcomes.pop(data.draw(st.integers(0, len(own.outcomes) - 1)))
    (found,) = own.findings()
    assert found.kind == "missing"
    assert str(found.at).encode() in (gone.value() or b"") + repr(gone.headers()).encode() or (
        gone.topic() == TOPICS.requests_dlq.name
    )


def ready() -> Installation:
    """Assignment a1 with all that it needs, and one prepared batch."""
    own = Installation()
    own.upload(instructions_uploaded())
    own.upload(prompt_uploaded())
    own.ask(CODEC.encode(requested()))
    return own


def test_an_upload_that_was_not_the_current_one_is_found() -> None:
    own = Installation()
    old = own.upload(instructions_uploaded())
    own.upload(prompt_uploaded())
    early = own.positions()
    new = own.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    asked = own.request(CODEC.encode(requested()))
    own.join(asked, positions=early)
    late = log_record_of(own.outcomes[0]).headers
    own.outcomes.clear()
    own.join(asked)
    honest = log_record_of(own.outcomes[0]).headers
    own.outcomes.clear()
    own.join(asked, positions=early)
    assert late != honest
    own.replace_outcome(0, headers=honest)
    (found,) = own.findings()
    assert (found.kind, found.at) == ("not_current", log_record_of(own.outcomes[0]).at)
    assert str(old) in found.sentence
    assert str(new) in found.sentence


@pytest.mark.parametrize(("seconds", "kinds"), [(4, []), (6, ["stale"])])
def test_a_join_that_missed_an_upload_appended_before_its_request_is_found(
    seconds: int, kinds: list[str]
) -> None:
    own = ready()
    early = own.positions()
    own.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    own.now_ms += (seconds - 1) * 1000
    own.join(own.request(CODEC.encode(requested())), positions=early)
    assert [one.kind for one in own.findings()] == kinds


def test_positions_beyond_the_end_of_the_uploads_are_found() -> None:
    own = ready()
    beyond = {one: position + 1 for one, position in own.positions().items()}
    own.join(own.request(CODEC.encode(requested())), positions=beyond)
    assert {one.kind for one in own.findings()} == {"positions"}


def test_a_batch_in_the_topic_and_frame_of_unresolved_ones_is_found() -> None:
    own = ready()
    stands = log_record_of(own.outcomes.pop())
    frame = CODEC.frame_of(CJBatchUnresolved, RECIPE)
    value = frame + (stands.value or b"")[FRAME.size :]
    own.outcome(TOPICS.unresolved.name, stands.key, value, list(stands.headers))
    assert [one.kind for one in own.findings()] == ["unreadable"]


def test_an_outcome_with_another_header_is_found() -> None:
    own = ready()
    ((_, told),) = log_record_of(own.outcomes[0]).headers
    own.replace_outcome(0, headers=[("another", told)])
    assert [one.kind for one in own.findings()] == ["positions"]


def test_the_byte_behind_a_request_of_an_earlier_version_is_looked_at() -> None:
    own = Installation()
    own.upload(instructions_uploaded())
    own.upload(prompt_uploaded())
    own.ask(CODEC.encode(requested(), version=1))
    assert own.findings() == []
    stands = log_record_of(own.outcomes[0]).value or b""
    own.replace_outcome(0, value=stands[:-1] + b"\2")
    assert [one.at.offset for one in own.findings()] == [0]


def test_a_batch_of_a_request_that_is_too_large_is_found() -> None:
    essays = tuple(
        Essay(essay_id=f"{number}".ljust(120, "x"), text_storage_id="t" * 120)
        for number in range(2800)
    )
    own = Installation()
    own.upload(instructions_uploaded())
    own.upload(prompt_uploaded())
    large = CODEC.encode(requested(essays=essays))
    assert MAX_REQUEST_BYTES < len(large) < 2**20
    own.ask(large)
    assert own.findings() == []
    own.outcomes.clear()
    answer = Splicer(CODEC, Policy(), own.contexts().get).spliced(
        large, Coordinates(TOPICS.requests.name, 0, 0)
    )
    assert answer is not None
    own.outcome(TOPICS.batches.name, b"k", answer.value, own.header())
    assert [one.kind for one in own.findings()] == ["request"]
    own.upload(
        instructions_uploaded("New", version=2, event_id="i-2")
    )  # so that it is judged in full
    own.replace_outcome(0, appended_at_ms=own.now_ms + 1)
    assert [one.kind for one in own.findings()] == ["request"]


def test_an_outcome_of_another_request_is_not_judged_by_the_scope_of_that() -> None:
    own = Installation()
    for scope in SCOPES:
        own.upload(instructions_uploaded(assignment_id=scope, event_id=f"i-{scope}"))
        own.upload(prompt_uploaded(assignment_id=scope, event_id=f"p-{scope}"))
    early = own.positions()
    own.upload(instructions_uploaded("New", assignment_id="a2", version=2, event_id="i-2"))
    own.now_ms += 10_000
    own.join(own.request(CODEC.encode(requested(assignment_id="a1"))), positions=early)
    assert own.findings() == []
    batch = CODEC.decode_as(CJBatchPrepared, own.outcomes[0].value())
    other = replace(batch, request=replace(batch.request, assignment_id="a2"))
    own.replace_outcome(0, value=CODEC.encode(other))
    assert [one.kind for one in own.findings()] == ["request"]


def test_a_dead_letter_of_a_valid_request_is_found() -> None:
    own = Installation()
    own.ask(b"\1damaged")
    told = log_record_of(own.outcomes[0]).headers
    valid = CODEC.encode(requested())
    own.requests.clear()
    own.request(valid)
    own.replace_outcome(0, value=valid, headers=told)
    assert [one.kind for one in own.findings()] == ["not_refused"]


def test_an_outcome_of_no_request_is_found() -> None:
    own = ready()
    asked = own.request(CODEC.encode(requested()))
    own.join(asked)
    own.requests.pop()
    (found,) = own.findings()
    assert (found.kind, found.at.offset) == ("no_request", 1)


def test_an_upload_that_compaction_took_makes_its_batch_not_verifiable() -> None:
    own = ready()
    own.upload(instructions_uploaded("New", version=2, event_id="i-2"))
    del own.uploads[0]
    (told,), tally = own.audit()
    assert isinstance(told, NotVerifiable)
    assert (told.kind, told.at) == ("upload_gone", log_record_of(own.outcomes[0]).at)
    assert tally.findings == {}


def test_an_upload_that_nothing_replaced_cannot_have_been_compacted() -> None:
    own = ready()
    neighbour = next(
        name
        for name in map(str, range(100))
        if own.upload(instructions_uploaded(assignment_id=name)).partition
        == own.uploads[0].at.partition
    )
    assert neighbour != "a1"
    del own.uploads[0]
    assert [one.kind for one in own.findings()] == ["upload"]


def test_a_missing_outcome_is_not_verifiable_where_those_of_its_time_are_not_kept() -> None:
    own = ready()
    own.kept_since_ms = own.now_ms
    own.outcomes.clear()
    (told,), _ = own.audit()
    assert isinstance(told, NotVerifiable)
    assert told.kind == "outcome_gone"


def test_a_request_that_the_group_has_not_reached_is_no_finding() -> None:
    own = ready()
    own.request(CODEC.encode(requested()))
    own.committed = 1
    remarks, tally = own.audit()
    assert remarks == []
    assert tally.requests["not_yet_prepared"] == 1


def test_a_request_that_waits_long_past_its_deadline_is_found() -> None:
    own = Installation()
    own.ask(CODEC.encode(requested()), park=True)
    own.now_ms += 900_000
    assert own.findings() == []
    own.now_ms += 60_000
    assert [(one.kind, one.at) for one in own.findings()] == [
        ("late", Coordinates(TOPICS.requests.name, 0, 0))
    ]


def test_what_waits_although_it_has_its_outcome_is_found() -> None:
    own = Installation()
    own.ask(CODEC.encode(requested()), park=True)
    own.release()
    own.entries.pop()
    assert [one.kind for one in own.findings()] == ["not_released"]


def test_a_batch_that_todays_policy_would_not_have_prepared_is_noted() -> None:
    own = Installation(policy=Policy(("instructions",)))
    own.upload(instructions_uploaded())
    own.ask(CODEC.encode(requested()))
    ((told,), tally) = own.audit()
    assert isinstance(told, Note)
    assert tally.findings == {}


def test_the_first_field_that_differs_is_named() -> None:
    own = ready()
    batch = CODEC.decode_as(CJBatchPrepared, own.outcomes[0].value())
    metadata = replace(batch.processing_metadata, grade_scale="other")
    own.replace_outcome(0, value=CODEC.encode(replace(batch, processing_metadata=metadata)))
    (found,) = own.findings()
    assert found.kind == "bytes"
    assert "processing_metadata.grade_scale" in found.sentence
    assert isinstance(found, Violation)
    assert len(own.outcomes[0].value() or b"") > FRAME.size
