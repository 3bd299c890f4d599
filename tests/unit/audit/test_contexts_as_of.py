"""Contexts as of upload positions: the full ones equal the plain fold, and the encoded ones equal the full ones."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.outcomes.encoded_rows import CAPTURED
from processors.outcomes.encoding import encode_roles
from processors.outcomes.encoding import encoded_roles as encode_context
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from tables.context import fold
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.upload_check import UploadCheck
from tables.upload_record import UploadRecord, read_upload
from tests.support.builders import damaged, prompt_uploaded, uploads_of, uploads_of_courses
from tests.support.engines import ENGINES, NAME_OF
from tests.support.installation_in_memory import CODEC, UPLOADS, Installation
from tools.audit.check.contexts_as_of import ContextsAsOf, TextReference, Texts, add_text
from tools.audit.check.encoded_contexts import AsOf, EncodedContextsAsOf
from tools.audit.check.newest_rows import NO_LATER_RECORD
from tools.audit.check.upload_rows import UploadRows, position_table

SCOPE_KEYS = ("assignment:a1", "assignment:a2", "course:ENG5", "assignment:unknown")
EVENTS = uploads_of(st.sampled_from(["a1", "a2"])) | uploads_of_courses(st.just("ENG5"))


@st.composite
def installations(draw: st.DrawFn) -> Installation:
    """Uploads of every kind with any values, some of them damaged."""
    installation = Installation()
    for event in draw(st.lists(EVENTS, max_size=14)):
        value = CODEC.encode(event)
        if draw(st.integers(0, 4)) == 0:
            value = value[:5] + draw(
                damaged(value[5:])
            )  # the frame stays: an unknown schema id would stop the fold
        installation.upload(event, value)
    return installation


@st.composite
def positions_up_to(draw: st.DrawFn, ends: Positions) -> Positions:
    """Positions up to these ends."""
    return {partition: draw(st.integers(0, end)) for partition, end in ends.items()}


class Contexts:
    """Three ways to compute a context from the records of one installation."""

    def __init__(self, installation: Installation, engine: Engine = PLAIN_ENGINE) -> None:
        self.records = installation.uploads
        rows = UploadRows(UPLOADS)
        rows.add_records(installation.uploads)
        self.texts, self.encoded_texts = Texts(), Texts()
        self.full = ContextsAsOf(rows, CODEC, self.texts)
        check = UploadCheck(CODEC, UPLOADS, engine, CAPTURED)
        self.encoded = EncodedContextsAsOf(rows, check, CODEC, self.encoded_texts)

    def encoded_at(self, wanted: Sequence[tuple[str, Positions]]) -> list[AsOf]:
        """The encoded contexts, from the uploads' own bytes."""
        return self.encoded.as_of(
            [(key.encode(), position_table(positions, UPLOADS)) for key, positions in wanted]
        )

    def folded(self, positions: Positions) -> dict[str, object]:
        """The plain fold of the records below these positions."""
        rows: dict[str, object] = {}
        for record in self.records:
            if record.at.offset < positions[Partition(record.at.topic, record.at.partition)]:
                self._fold(rows, record)
        return rows

    def _fold(self, rows: dict[str, object], record: UploadRecord) -> None:
        try:
            event = read_upload(record, CODEC, UPLOADS)
        except Malformed:
            return
        fold(rows, event, record.at, record.appended_at_ms)  # type: ignore[arg-type]


@given(installations(), st.data())
def test_a_context_equals_the_fold_of_the_records_below_the_positions(
    installation: Installation, data: st.DataObject
) -> None:
    contexts = Contexts(installation)
    for _ in range(3):
        positions = data.draw(positions_up_to(installation.positions()))
        contexts.full.set_positions(positions)
        rows = contexts.folded(positions)
        for scope_key in SCOPE_KEYS:
            assert contexts.full.context(scope_key) == rows.get(scope_key)


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
@given(installations(), st.data())
def test_the_encoded_contexts_equal_the_encoding_of_the_full_contexts(
    engine: Engine, installation: Installation, data: st.DataObject
) -> None:
    contexts, ends = Contexts(installation, engine), installation.positions()
    for _ in range(3):
        wanted = data.draw(
            st.lists(st.tuples(st.sampled_from(SCOPE_KEYS), positions_up_to(ends)), max_size=8)
        )
        found = contexts.encoded_at(wanted)
        for (scope_key, positions), (encoded, _) in zip(wanted, found, strict=True):
            contexts.full.set_positions(positions)
            full = contexts.full.context(scope_key)
            assert (encoded and encode_context(encoded)) == (full and encode_roles(full))
    assert contexts.encoded_texts.keys() == contexts.texts.keys()


@given(installations(), st.data())
def test_the_append_time_of_the_earliest_record_beyond_the_positions_is_returned(
    installation: Installation, data: st.DataObject
) -> None:
    contexts = Contexts(installation)
    for _ in range(3):
        positions = data.draw(positions_up_to(installation.positions()))
        for scope_key in SCOPE_KEYS:
            beyond_ms = [
                record.appended_at_ms
                for record in installation.uploads
                if record.key == scope_key.encode()
                and record.at.offset >= positions[Partition(record.at.topic, record.at.partition)]
            ]
            ((_, later_ms),) = contexts.encoded_at([(scope_key, positions)])
            assert later_ms == min(beyond_ms, default=NO_LATER_RECORD)


class CountingCodec(Codec):
    """Counts what it decodes."""

    decoded = 0

    def decode(self, value: bytes | None) -> Any:
        self.decoded += 1
        return super().decode(value)


def test_a_damaged_record_is_read_once_however_many_positions_follow_it() -> None:
    installation, codec = Installation(), CountingCodec()
    event = prompt_uploaded(assignment_id="a1")
    installation.upload(event, CODEC.encode(event))
    for _ in range(200):
        installation.upload(event, CODEC.encode(event) + b"\0")
    rows = UploadRows(UPLOADS)
    rows.add_records(installation.uploads)
    contexts = EncodedContextsAsOf(
        rows, UploadCheck(codec, UPLOADS, PLAIN_ENGINE, CAPTURED), codec, None
    )
    ends = installation.positions()
    for lasts in ((100, 50), (200, 199, 150), range(1, 202)):
        positions = [
            {partition: min(end, last) for partition, end in ends.items()} for last in lasts
        ]
        wanted = [(b"assignment:a1", position_table(one, UPLOADS)) for one in positions]
        for found in contexts.as_of(wanted):
            assert found.context is not None
            assert found.context.student_prompt is not None
    assert codec.decoded == 200


def test_the_first_upload_of_a_text_is_kept_in_any_order() -> None:
    text, coordinates = (
        TextReference("t", "s"),
        [Coordinates("a", 1, 5), Coordinates("a", 0, 9), Coordinates("b", 0, 0)],
    )
    for order in permutations(coordinates):
        texts = Texts()
        for at in order:
            add_text(texts, text, at)
        assert texts == {text: Coordinates("a", 0, 9)}
