"""Erasure as the log tells it, and who else names a text."""

from collections.abc import Sequence
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
from tools.audit.erase.erase import erase_request, grace_of
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


def test_every_version_is_erased_and_one_that_is_uploaded_again_is_not() -> None:
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
        lambda said: st.sampled_from(
            [instructions_uploaded(said), prompt_uploaded(said), rubric_uploaded(said)]
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
    """As the rule is told: in every role that ever named it, an erasure follows the last upload that did."""
    named_in = {role_of(one) for one in events if getattr(one, "storage_id", None) == text}
    for role in named_in:
        own = [one for one in events if role_of(one) == role]
        last = max(n for n, one in enumerate(own) if getattr(one, "storage_id", None) == text)
        if not any(isinstance(one, Deletion) and one.erased for one in own[last:]):
            return False
    return bool(named_in)


@given(st.lists(EVENTS, max_size=12))
def test_what_is_erased_is_what_the_rule_says(events: list[UploadEvent]) -> None:
    texts = {sha256_of(said) for said in (SAME, OTHER, "third")}
    assert erased_texts(events) == {text for text in texts if is_erased(text, events)}


def test_versions_that_the_log_no_longer_has_are_gaps_by_role() -> None:
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


def who(*records: LogRecord) -> set[str]:
    naming = TextReferrers(SETTINGS, CODEC, b"assignment:a1", {TEXT.encode()})
    for one in records:
        naming.take(one)
    return {name for names in naming.by_text().values() for name in names}


def test_a_scopes_own_events_and_requests_name_nothing_elsewhere() -> None:
    own = request(student_prompt_ref=TEXT)
    dead = record(SETTINGS.topics.uploads_dlq.name, TEXT.encode(), b"assignment:a1")
    assert who(upload(instructions_uploaded(SAME)), own, dead) == set()


def test_another_scope_names_a_text_until_its_own_erasure() -> None:
    uploaded = upload(prompt_uploaded(SAME, assignment_id="b2"))
    assert who(uploaded) == {"assignment:b2"}
    deleted = upload(prompt_deleted(assignment_id="b2"), 1)
    assert who(uploaded, deleted) == {"assignment:b2"}
    erased = upload(prompt_deleted(assignment_id="b2", erased=True), 2)
    assert who(uploaded, erased) == set()
    assert who(uploaded, erased, uploaded) == {"assignment:b2"}
    another = upload(prompt_deleted(assignment_id="c3", erased=True), 2)
    assert who(uploaded, another) == {"assignment:b2"}
    other_text = upload(prompt_uploaded(OTHER, assignment_id="b2"))
    assert who(other_text, record(SETTINGS.topics.requests.name, None)) == set()


def test_requests_of_other_scopes_name_a_text() -> None:
    assert who(request(assignment_id="b2", student_prompt_ref=TEXT)) == {
        "a request of assignment:b2"
    }
    assert who(request(assignment_id=None, student_prompt_ref=TEXT)) == {"a request of course:ENG5"}


@pytest.mark.parametrize(
    "topic",
    [
        SETTINGS.topics.requests.name,
        SETTINGS.topics.judge_rubrics.name,
        SETTINGS.topics.requests_dlq.name,
        SETTINGS.topics.uploads_dlq.name,
    ],
)
def test_what_nobody_can_read_names_the_texts_whose_ids_it_has(topic: str) -> None:
    for value in (b"?" + TEXT.encode(), b"\0\x7f\0\0\0" + TEXT.encode()):
        assert who(record(topic, value, offset=7)) == {f"{topic}/0@7"}
    assert who(record(topic, b"?" + TEXT[1:].encode())) == set()


@pytest.mark.parametrize("scope", ["", "a1", "assignment:", "school:s1", "course:a\nb"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(Misconfigured, match="SCOPE"):
        erase_request(scope, "dpo", "gdpr-17", grace_of("1h"))


@pytest.mark.parametrize(("actor", "reason"), [("", "r"), (" ", "r"), ("a" * 256, "r"), ("a", "")])
def test_who_and_why_are_to_be_told(actor: str, reason: str) -> None:
    with pytest.raises(Misconfigured):
        erase_request("course:ENG5", actor, reason, grace_of("0s"))
    with pytest.raises(Misconfigured):
        erase_request("course:ENG5", "dpo", "Because of GDPR", grace_of("0s"))
    with pytest.raises(Misconfigured):
        grace_of("1 hour")
