"""Which texts the log says are erased, and who else names a text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.kafka.records import LogRecord
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Misconfigured
from schemas.events import CJAssessmentRequested, Deletion, UploadEvent, role_of, scope_key_of
from schemas.judging_events import JudgingEvent
from schemas.partitioner import partition_for
from tables.history.text_references import MissingVersions, erased_texts, gaps_in
from tests.support.builders import (
    TOPIC_OF,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_deleted,
    rubric_uploaded,
    sha256_of,
)
from tests.support.judging_builders import CONTEXT, call_answered, call_failed, judging_opened
from tools.audit.erase.erase import erase_request, grace_of
from tools.audit.erase.run_responses import responses_in
from tools.audit.erase.text_referrers import TextReferrers

CODEC = Codec()
SETTINGS = Settings()
SAME, OTHER = "Judge the argument.", "Judge the style."


def test_a_text_is_erased_by_an_erasure_and_not_by_a_deletion() -> None:
    uploaded = instructions_uploaded(SAME)
    assert erased_texts([uploaded]) == set()
    assert erased_texts([uploaded, instructions_deleted()]) == set()
    gone: list[UploadEvent] = [uploaded, instructions_deleted(), instructions_deleted(erased=True)]
    assert erased_texts(gone) == {sha256_of(SAME)}


def test_an_erasure_covers_every_version_but_not_a_text_uploaded_again() -> None:
    events: list[UploadEvent] = [
        instructions_uploaded(SAME),
        instructions_uploaded(OTHER, version=2),
        instructions_deleted(erased=True, version=3),
    ]
    assert erased_texts(events) == {sha256_of(SAME), sha256_of(OTHER)}
    assert erased_texts([*events, instructions_uploaded(SAME, version=4)]) == {sha256_of(OTHER)}


def test_a_text_that_another_role_still_names_is_not_erased() -> None:
    events: list[UploadEvent] = [
        prompt_uploaded(SAME),
        rubric_uploaded(SAME),
        rubric_deleted(erased=True),
    ]
    assert erased_texts(events) == set()
    assert erased_texts([*events, prompt_deleted(erased=True)]) == {sha256_of(SAME)}


EVENTS = st.one_of(
    st.sampled_from([SAME, OTHER, "third"]).flatmap(
        lambda text: st.sampled_from(
            [instructions_uploaded(text), prompt_uploaded(text), rubric_uploaded(text)]
        )
    ),
    st.booleans().flatmap(
        lambda erased: st.sampled_from(
            [
                instructions_deleted(erased=erased),
                prompt_deleted(erased=erased),
                rubric_deleted(erased=erased),
            ]
        )
    ),
)


def is_erased(text: str, events: Sequence[UploadEvent]) -> bool:
    """The rule, directly: in every role that ever named the text, an erasure follows the last upload that did."""
    named_in = {role_of(event) for event in events if getattr(event, "storage_id", None) == text}
    for role in named_in:
        own = [event for event in events if role_of(event) == role]
        last = max(n for n, event in enumerate(own) if getattr(event, "storage_id", None) == text)
        if not any(isinstance(event, Deletion) and event.erased for event in own[last:]):
            return False
    return bool(named_in)


@given(st.lists(EVENTS, max_size=12))
def test_the_erased_texts_are_those_of_the_rule(events: list[UploadEvent]) -> None:
    texts = {sha256_of(text) for text in (SAME, OTHER, "third")}
    assert erased_texts(events) == {text for text in texts if is_erased(text, events)}


def test_versions_missing_from_the_log_are_gaps_by_role() -> None:
    events: list[UploadEvent] = [
        instructions_uploaded(version=3),
        prompt_uploaded(version=1),
        instructions_uploaded(version=4),
        instructions_deleted(version=7),
        prompt_uploaded(version=1),  # a foreign producer repeats a number
        prompt_deleted(version=2),
    ]
    assert gaps_in(events) == (
        MissingVersions("instructions", 0, 3),
        MissingVersions("instructions", 4, 7),
    )


# Who else names a text

TEXT = sha256_of(SAME)


def upload(event: UploadEvent, offset: int = 0) -> LogRecord:
    key = scope_key_of(event).encode()
    number = partition_for(key, SETTINGS.partitions)
    return record(TOPIC_OF[role_of(event)], CODEC.encode(event), key, number, offset)


def request(**changes: Any) -> LogRecord:
    event: CJAssessmentRequested = requested(**changes)
    return record(SETTINGS.topics.requests.name, CODEC.encode(event))


def record(
    topic: str, value: bytes | None, key: bytes = b"k", partition: int = 0, offset: int = 0
) -> LogRecord:
    return LogRecord(Coordinates(topic, partition, offset), key, value, (), 0)


def referrers(*records: LogRecord) -> set[str]:
    found = TextReferrers(SETTINGS, CODEC, b"assignment:a1", {TEXT.encode()})
    for each in records:
        found.add(each)
    return {name for names in found.by_text().values() for name in names}


def test_a_scopes_own_events_requests_and_dead_letters_are_not_referrers() -> None:
    own = request(student_prompt_ref=TEXT)
    dead = record(SETTINGS.topics.uploads_dlq.name, TEXT.encode(), b"assignment:a1")
    assert referrers(upload(instructions_uploaded(SAME)), own, dead) == set()


def test_another_scope_is_a_referrer_until_its_own_erasure() -> None:
    uploaded = upload(prompt_uploaded(SAME, assignment_id="b2"))
    assert referrers(uploaded) == {"assignment:b2"}
    deleted = upload(prompt_deleted(assignment_id="b2"), 1)
    assert referrers(uploaded, deleted) == {"assignment:b2"}
    erased = upload(prompt_deleted(assignment_id="b2", erased=True), 2)
    assert referrers(uploaded, erased) == set()
    assert referrers(uploaded, erased, uploaded) == {"assignment:b2"}
    another = upload(prompt_deleted(assignment_id="c3", erased=True), 2)
    assert referrers(uploaded, another) == {"assignment:b2"}
    other_text = upload(prompt_uploaded(OTHER, assignment_id="b2"))
    assert referrers(other_text, record(SETTINGS.topics.requests.name, None)) == set()


def test_requests_of_other_scopes_are_referrers() -> None:
    assert referrers(request(assignment_id="b2", student_prompt_ref=TEXT)) == {
        "a request of assignment:b2"
    }
    assert referrers(request(assignment_id=None, student_prompt_ref=TEXT)) == {
        "a request of course:ENG5"
    }


@pytest.mark.parametrize(
    "topic",
    [
        SETTINGS.topics.requests.name,
        SETTINGS.topics.judge_rubrics.name,
        SETTINGS.topics.requests_dlq.name,
        SETTINGS.topics.uploads_dlq.name,
    ],
)
def test_an_unreadable_record_is_a_referrer_of_every_id_in_its_bytes(topic: str) -> None:
    for value in (b"?" + TEXT.encode(), b"\0\x7f\0\0\0" + TEXT.encode()):
        assert referrers(record(topic, value, offset=7)) == {f"{topic}/0@7"}
    assert referrers(record(topic, b"?" + TEXT[1:].encode())) == set()


@pytest.mark.parametrize("scope", ["", "a1", "assignment:", "school:s1", "course:a\nb"])
def test_an_invalid_scope_is_refused(scope: str) -> None:
    with pytest.raises(Misconfigured, match="SCOPE"):
        erase_request(scope, "dpo", "gdpr-17", grace_of("1h"))


@pytest.mark.parametrize(("actor", "reason"), [("", "r"), (" ", "r"), ("a" * 256, "r"), ("a", "")])
def test_actor_and_reason_code_are_required_and_checked(actor: str, reason: str) -> None:
    with pytest.raises(Misconfigured):
        erase_request("course:ENG5", actor, reason, grace_of("0s"))
    with pytest.raises(Misconfigured):
        erase_request("course:ENG5", "dpo", "Because of GDPR", grace_of("0s"))
    with pytest.raises(Misconfigured):
        grace_of("1 hour")


def judging_record(event: JudgingEvent, offset: int) -> LogRecord:
    at = Coordinates(SETTINGS.topics.judging.name, 0, offset)
    return LogRecord(at, event.run_id.encode(), CODEC.encode(event), (), 0)


def run_records(assignment_id: str | None, run_id: str, *responses: str) -> list[LogRecord]:
    """The records of a run whose calls were answered so."""
    context = replace(CONTEXT, assignment_id=assignment_id)
    events: list[JudgingEvent] = [judging_opened(run_id=run_id, context=context)]
    for number, response in enumerate(responses):
        storage_id = sha256_of(response)
        events.append(call_answered(number, run_id=run_id, response_storage_id=storage_id))
    events.append(call_failed(9, run_id=run_id, response_storage_id=sha256_of("garbage")))
    return [judging_record(event, offset) for offset, event in enumerate(events)]


def test_the_responses_of_a_scopes_runs_are_its_texts() -> None:
    records = [
        *run_records("a1", "run-1", "A wins.", "B wins."),
        *run_records("b2", "run-2", "A wins, too."),
        *run_records("a1", "run-3", "No."),
        judging_record(call_answered(1, run_id="gone"), 90),
    ]
    expected = {sha256_of(text) for text in ("A wins.", "B wins.", "No.", "garbage")}
    assert responses_in(records, CODEC, "assignment:a1") == expected
    assert responses_in(records, CODEC, "course:a1") == set()


def test_a_run_of_another_scope_is_a_referrer_of_its_responses() -> None:
    texts = {sha256_of(text) for text in ("A wins.", "B wins.")}
    referrers = TextReferrers(SETTINGS, CODEC, b"assignment:a1", {text.encode() for text in texts})
    for record in (
        *run_records("a1", "run-1", "A wins.", "B wins."),
        *run_records("b2", "run-2", "A wins."),
        *run_records(None, "run-3", "A wins."),
    ):
        referrers.add(record)
    named = {"a run of assignment:b2", "run run-3"}
    assert referrers.by_text() == {sha256_of("A wins."): named}
