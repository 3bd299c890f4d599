"""Contexts as of upload positions: in full as the plain fold has them, in Avro as the full ones are spelled."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from processors.outcomes.encoding import encode_roles
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from tables.context import fold
from tables.history.upload_scan import UploadScanner
from tables.upload_record import UploadRecord, read_upload
from tests.support.builders import damaged, uploads_of, uploads_of_courses
from tests.support.installation_in_memory import CODEC, UPLOADS, Installation
from tools.audit.check.contexts_as_of import ContextsAsOf, TextReference, Texts, note
from tools.audit.check.encoded_contexts_as_of import NEVER, EncodedContext, EncodedContextsAsOf
from tools.audit.check.encoded_contexts_as_of import encoded_roles as told_of_raw
from tools.audit.check.upload_timelines import UploadTimelines
from tools.audit.check.uploads_as_of import UploadsAsOf, below_of

SCOPE_KEYS = ("assignment:a1", "assignment:a2", "course:ENG5", "assignment:unknown")
EVENTS = uploads_of(st.sampled_from(["a1", "a2"])) | uploads_of_courses(st.just("ENG5"))


@st.composite
def installations(draw: st.DrawFn) -> Installation:
    """Uploads of every kind and any value, some of them damaged."""
    own = Installation()
    for event in draw(st.lists(EVENTS, max_size=14)):
        value = CODEC.encode(event)
        if draw(st.integers(0, 4)) == 0:
            value = value[:5] + draw(damaged(value[5:]))  # another schema id would stop the fold
        own.upload(event, value)
    return own


@st.composite
def somewhere(draw: st.DrawFn, ends: Positions) -> Positions:
    """Positions up to these ends."""
    return {one: draw(st.integers(0, end)) for one, end in ends.items()}


class Contexts:
    """The three ways to a context, over one installation's records."""

    def __init__(self, own: Installation) -> None:
        self.records = own.uploads
        timelines = UploadTimelines(UPLOADS)
        timelines.add_records(own.uploads)
        self.texts, self.raw_texts = Texts(), Texts()
        self.standing = UploadsAsOf(timelines, CODEC, UPLOADS)
        self.full = ContextsAsOf(self.standing, self.texts)
        self.raw = EncodedContextsAsOf(
            timelines, UploadScanner(CODEC, UPLOADS), CODEC, UPLOADS, self.raw_texts
        )

    def raw_at(self, scope_key: str, below: Positions) -> tuple[EncodedContext | None, int]:
        """From the uploads' own bytes."""
        return self.raw.as_of(scope_key.encode(), below_of(below, UPLOADS))

    def folded(self, below: Positions) -> dict[str, object]:
        """The plain fold of the records below these positions."""
        rows: dict[str, object] = {}
        for one in self.records:
            if one.at.offset < below[Partition(one.at.topic, one.at.partition)]:
                self._fold(rows, one)
        return rows

    def _fold(self, rows: dict[str, object], record: UploadRecord) -> None:
        try:
            event = read_upload(record, CODEC, UPLOADS)
        except Malformed:
            return
        fold(rows, event, record.at, record.appended_at_ms)  # type: ignore[arg-type]


@given(installations(), st.data())
def test_a_context_is_what_the_fold_of_the_records_below_gives(
    own: Installation, data: st.DataObject
) -> None:
    ways = Contexts(own)
    for _ in range(3):
        below = data.draw(somewhere(own.positions()))
        ways.standing.set_positions(below)
        rows = ways.folded(below)
        for scope_key in SCOPE_KEYS:
            assert ways.full.context(scope_key) == rows.get(scope_key)


@given(installations(), st.data())
def test_what_outcomes_tell_of_a_context_is_the_same_from_its_bytes(
    own: Installation, data: st.DataObject
) -> None:
    ways = Contexts(own)
    for _ in range(4):
        below = data.draw(somewhere(own.positions()))
        ways.standing.set_positions(below)
        for scope_key in SCOPE_KEYS:
            full, (raw, _) = ways.full.context(scope_key), ways.raw_at(scope_key, below)
            assert (raw and told_of_raw(raw)) == (full and encode_roles(full))
    assert ways.raw_texts.keys() == ways.texts.keys()


@given(installations(), st.data())
def test_the_first_record_at_the_positions_or_later_is_told_by_its_time(
    own: Installation, data: st.DataObject
) -> None:
    ways = Contexts(own)
    for _ in range(3):
        below = data.draw(somewhere(own.positions()))
        for scope_key in SCOPE_KEYS:
            left = [
                one.appended_at_ms
                for one in own.uploads
                if one.key == scope_key.encode()
                and one.at.offset >= below[Partition(one.at.topic, one.at.partition)]
            ]
            assert ways.raw_at(scope_key, below)[1] == min(left, default=NEVER)


def test_the_first_upload_of_a_text_is_kept_whatever_the_order() -> None:
    text, ats = (
        TextReference("t", "s"),
        [Coordinates("a", 1, 5), Coordinates("a", 0, 9), Coordinates("b", 0, 0)],
    )
    for order in permutations(ats):
        texts = Texts()
        for one in order:
            note(texts, text, one)
        assert texts == {text: Coordinates("a", 0, 9)}
