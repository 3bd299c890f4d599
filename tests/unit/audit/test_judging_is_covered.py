"""Seals and sweep cover judging: its records are sealed, and what they name is no orphan."""

from typing import Any

import pytest

from processors.judging.record_checksum import checksum_headers
from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.judging_events import JudgePrompt
from schemas.topics import Topics
from tests.support.builders import sha256_of
from tests.support.judging_builders import (
    call_answered,
    call_failed,
    judging_opened,
)
from tools.audit.seal.seal_create import sealed_topics
from tools.sweep import names_in

TEXT = sha256_of("a text in the store")
CODEC = Codec()


def test_the_topics_of_judging_are_sealed() -> None:
    topics = Topics()
    assert {topics.judging, topics.results} <= set(sealed_topics(topics))


@pytest.mark.parametrize(
    "event",
    [
        call_answered(0, response_storage_id=TEXT),
        call_failed(0, response_storage_id=TEXT),
        judging_opened(prompt=JudgePrompt(recipe=1, system=TEXT)),
    ],
)
def test_a_text_that_a_judging_record_names_is_no_orphan(event: Any) -> None:
    value = CODEC.encode(event)
    at = Coordinates(Topics().judging.name, 0, 0)
    record = LogRecord(at, event.run_id.encode(), value, tuple(checksum_headers(value)), 0)
    assert names_in([record], {TEXT.encode()}) == (1, {TEXT.encode()})
