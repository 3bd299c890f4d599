"""The fast path says what the slow path says, byte for byte, and never takes damaged bytes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import (
    FRAME_BYTES,
    SCANNED_VERSIONS,
    TWO_BYTE_LENGTH,
    ScannedFields,
    scan_request,
)
from processors.outcomes.splice import BuiltOutcome
from processors.policy import Policy
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import (
    ROLES,
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
)
from schemas.field_limits import MAX_ESSAYS, RULES, IdLimit, TextLimit
from tables.context import fold
from tests.support.builders import (
    COORDINATES,
    READY,
    REQUEST_AT,
    at,
    context_after,
    contexts_of_assignment,
    contexts_of_course,
    damaged,
    essays,
    handwritten,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    requests,
    uploads_of,
    uploads_of_courses,
)

CODEC = Codec()
Table = Mapping[str, AssignmentContext]
POLICIES = st.builds(
    Policy,
    required=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
    guests_allowed=st.booleans(),
)
FULL = context_after(*READY)
COURSE = context_after(instructions_uploaded(assignment_id=None, course_id="ENG5"))
TABLE: Table = {"assignment:a1": FULL, "course:ENG5": COURSE}
SMALL = requests(st.none() | st.just("a1") | st.just("a2"), st.sampled_from(["ENG5", "SV2"]))


# which recipe splices which version of the request
PAIRS = [(one.number, version) for one in RECIPES.values() for version in one.spliced]
LATEST = max(SCANNED_VERSIONS)


def answers(table: Table, policy: Policy | None = None, recipe: int = RECIPE) -> OutcomeBuilder:
    return OutcomeBuilder(CODEC, policy or Policy(), table.get, recipe)


def written(request: CJAssessmentRequested, version: int | None) -> bytes:
    """The request by a producer of that version, which says what it can."""
    return CODEC.encode(request if version == LATEST else replace(request, due_at_ms=None), version)


def walked(payload: bytes) -> ScannedFields | None:
    return scan_request(payload, CODEC.version_of(CJAssessmentRequested, payload))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """What may be known of one assignment and one course."""
    rows = {
        "assignment:a1": draw(contexts_of_assignment("a1")),
        "course:ENG5": draw(contexts_of_course("ENG5")),
    }
    return {scope_key: row for scope_key, row in rows.items() if row is not None}


def fits_the_walk(request: CJAssessmentRequested) -> bool:
    """Whether every text is within its limit even when counted in bytes, and the times below 2**62."""
    texts = [request, *request.essays]
    times = (request.occurred_at_ms, request.due_at_ms or 0)
    return max(times) < 2**62 and all(
        len(value.encode()) <= min(rule.most, TWO_BYTE_LENGTH)
        for one in texts
        for name, rule in RULES.items()
        if isinstance(rule, TextLimit | IdLimit) and (value := getattr(one, name, None)) is not None
    )


@given(requests(), st.sampled_from(SCANNED_VERSIONS))
def test_just_the_canonical_encodings_within_byte_limits_are_certified(
    request: CJAssessmentRequested, version: int
) -> None:
    payload = written(request, version)
    request = CODEC.decode_as(CJAssessmentRequested, payload)
    asked = ScannedFields(request.assignment_id, request.course_code, request.student_prompt_ref)
    assert walked(payload) == (asked if fits_the_walk(request) else None)


@given(SMALL, tables(), POLICIES, COORDINATES, st.sampled_from(PAIRS))
@settings(max_examples=240)
def test_spliced_is_encoded(
    request: CJAssessmentRequested,
    table: Table,
    policy: Policy,
    where: object,
    pair: tuple[int, int | None],
) -> None:
    recipe, version = pair
    payload = written(request, version)
    request = CODEC.decode_as(CJAssessmentRequested, payload)
    both = answers(table, policy, recipe)
    spliced = both.spliced(payload, where)  # type: ignore[arg-type]
    if spliced is None:
        assert not fits_the_walk(request)
    else:
        assert spliced == both.encoded(payload, where)  # type: ignore[arg-type]


STEPS = st.one_of(
    uploads_of(st.sampled_from(["a1", "a2"])),
    uploads_of_courses(st.just("ENG5")),
    SMALL.filter(fits_the_walk),
    st.sampled_from(
        [requested(), requested(student_prompt_ref="own"), requested(assignment_id=None)]
    ),
)


@given(st.lists(STEPS, max_size=25), POLICIES, st.sampled_from(PAIRS))
def test_spliced_stays_encoded_while_the_contexts_change(
    steps: list[object], policy: Policy, pair: tuple[int, int | None]
) -> None:
    rows: dict[str, AssignmentContext] = {}
    recipe, version = pair
    both = answers(rows, policy, recipe)
    for offset, step in enumerate(steps):
        if isinstance(step, CJAssessmentRequested):
            payload = written(step, version)
            assert both.spliced(payload, REQUEST_AT) == both.encoded(payload, REQUEST_AT)
        else:
            fold(rows, step, at(step, offset), offset)  # type: ignore[arg-type]


@given(st.data(), SMALL, st.sampled_from(PAIRS))
@settings(max_examples=300)
def test_what_is_certified_after_damage_is_what_the_slow_path_takes_to_the_byte(
    data: st.DataObject, request: CJAssessmentRequested, pair: tuple[int, int | None]
) -> None:
    recipe, version = pair
    payload = data.draw(damaged(written(request, version)))
    if walked(payload) is None:
        return
    named = CODEC.version_of(CJAssessmentRequested, payload)
    assert CODEC.encode(CODEC.decode(payload), named) == payload
    if named not in RECIPES[recipe].spliced:
        return
    both = answers(TABLE, recipe=recipe)
    assert both.spliced(payload, REQUEST_AT) == both.encoded(payload, REQUEST_AT)


@given(st.data(), st.sampled_from(SCANNED_VERSIONS))
def test_whatever_comes_both_paths_agree(data: st.DataObject, version: int) -> None:
    payload = data.draw(st.binary(max_size=40) | damaged(CODEC.encode(requested(), version)))
    both = answers(TABLE)
    try:
        slow = both.encoded(payload, REQUEST_AT)
    except BadRecord:
        slow = None
    assert both.spliced(payload, REQUEST_AT) in (slow, None)


@pytest.mark.parametrize("version", SCANNED_VERSIONS)
def test_every_change_of_one_byte_is_judged_alike_by_both_paths(version: int) -> None:
    due = 1_700_000_000_000
    request = requested(batch_id="bätch", student_prompt_ref="own", user_id="u", due_at_ms=due)
    whole = written(request, version)
    both = answers(TABLE)
    wrong = []
    for place in range(FRAME_BYTES, len(whole)):
        for value in (0, 1, 2, 3, 4, 0x2F, 0x7F, 0x80, 0xC3, 0xED, 0xFF, whole[place] ^ 1):
            payload = whole[:place] + bytes([value]) + whole[place + 1 :]
            spliced = both.spliced(payload, REQUEST_AT)
            if spliced is not None and spliced != _encoded_or_none(both, payload):
                wrong.append((place, value))
    assert wrong == []


def _encoded_or_none(both: OutcomeBuilder, payload: bytes) -> BuiltOutcome | None:
    try:
        return both.encoded(payload, REQUEST_AT)
    except BadRecord:
        return None


NOT_CANONICAL = {
    "padded varints": handwritten(requested(), padding=1),
    "varints padded twice": handwritten(requested(), padding=2),
    "two blocks": handwritten(requested(essays=essays(5)), blocks=2),
    "a block for each essay": handwritten(requested(essays=essays(5)), blocks=5),
    "a block that tells its size": handwritten(requested(), told_sizes=True),
    "blocks that tell their sizes": handwritten(
        requested(essays=essays(5)), blocks=2, told_sizes=True
    ),
    "padded varints in v1": handwritten(requested(), 1, padding=1),
    "two blocks in v1": handwritten(requested(essays=essays(5)), 1, blocks=2),
    "a padded time": handwritten(requested(due_at_ms=7), padding=1),
}


@pytest.mark.parametrize("payload", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_an_encoding_that_is_not_canonical_takes_the_slow_path_to_an_equal_outcome(
    payload: bytes,
) -> None:
    canonical = CODEC.encode(CODEC.decode(payload))
    both = answers(TABLE)
    assert walked(payload) is None
    assert both.spliced(payload, REQUEST_AT) is None
    assert both.build(payload, REQUEST_AT) == both.build(canonical, REQUEST_AT)


def test_the_handwritten_encoding_is_the_canonical_one_where_nothing_is_odd() -> None:
    request = requested(batch_id="bätch", student_prompt_ref="own", essays=essays(70))
    assert handwritten(request) == CODEC.encode(request)
    assert handwritten(request, 1) == CODEC.encode(request, 1)
    due = requested(due_at_ms=1_700_000_000_000)
    assert handwritten(due) == CODEC.encode(due)


REFUSED = {
    "nothing but a frame": CODEC.frame_of(CJAssessmentRequested),
    "bytes left over": CODEC.encode(requested()) + b"\x00",
    "a byte short": CODEC.encode(requested())[:-1],
    "a lone surrogate": CODEC.encode(requested(batch_id="xyz")).replace(b"xyz", b"\xed\xa0\x80"),
    "an overlong null": CODEC.encode(requested(batch_id="xy")).replace(b"xy", b"\xc0\x80"),
    "a null character": CODEC.encode(requested(batch_id="xy")).replace(b"xy", b"x\0"),
    "a character torn over two texts": CODEC.encode(
        requested(course_code="x\u20ac", language="\u20acy")
    ).replace("x\u20ac".encode() + b"\x08" + "\u20acy".encode(), b"xx\xe2\x82\x08\xacyyy"),
    "half a character at the end of a text": CODEC.encode(requested(language="xö")).replace(
        b"\xc3\xb6", b"x\xc3"
    ),
    "an empty text": CODEC.encode(requested(user_id="")),
    "one essay": CODEC.encode(requested(essays=essays(1))),
    "too many essays": CODEC.encode(requested(essays=essays(MAX_ESSAYS + 1))),
    "a slash in the assignment": CODEC.encode(requested(assignment_id="a/1")),
    "a course that is a dot": CODEC.encode(requested(course_code="..")),
    "v1 with the field of v2": CODEC.encode(requested(), 1) + b"\x00",
    "v2 without its field": CODEC.encode(requested())[:-1],
    "a negative due time": CODEC.encode(requested(due_at_ms=-1)),
    "a third branch of the due time": CODEC.encode(requested())[:-1] + b"\x04\x0e",
    "a negative time": CODEC.encode(requested(occurred_at_ms=-1)),
    "a third union branch": CODEC.encode(requested(user_id=None, org_id="o-1")).replace(
        b"\x02\x06o-1", b"\x04\x06o-1"
    ),
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_what_no_path_takes_is_not_certified(payload: bytes) -> None:
    assert walked(payload) is None
    with pytest.raises(BadRecord):
        answers(TABLE).build(payload, REQUEST_AT)


@pytest.mark.parametrize("version", SCANNED_VERSIONS)
def test_every_truncation_is_refused(version: int) -> None:
    whole = CODEC.encode(requested(essays=essays(70)), version)
    assert [n for n in range(len(whole)) if scan_request(whole[:n], version) is not None] == []


KINDS = {
    "assignment": (requested(), CJBatchPrepared),
    "explicit prompt": (requested(student_prompt_ref="öwn"), CJBatchPrepared),
    "unknown assignment": (requested(assignment_id="a9"), CJBatchUnresolved),
    "unknown assignment, explicit prompt": (
        requested(assignment_id="a9", student_prompt_ref="own"),
        CJBatchUnresolved,
    ),
    "course": (requested(assignment_id=None), CJBatchPrepared),
    "course, explicit prompt": (
        requested(assignment_id=None, student_prompt_ref="own"),
        CJBatchPrepared,
    ),
    "guest": (requested(assignment_id=None, course_code="SV2"), CJBatchPrepared),
    "guest, explicit prompt": (
        requested(assignment_id=None, course_code="SV2", student_prompt_ref="own"),
        CJBatchPrepared,
    ),
    "a due time": (requested(due_at_ms=1_700_000_000_000), CJBatchPrepared),
    "a prompt of two length bytes": (requested(student_prompt_ref="x" * 255), CJBatchPrepared),
}


@pytest.mark.parametrize(("recipe", "version"), PAIRS)
@pytest.mark.parametrize(("request_", "outcome"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_of_request_is_spliced_to_its_outcome(
    request_: CJAssessmentRequested, outcome: type, recipe: int, version: int | None
) -> None:
    payload = written(request_, version)
    both = answers(TABLE, recipe=recipe)
    spliced = both.spliced(payload, REQUEST_AT)
    assert spliced is not None
    assert spliced.value.startswith(CODEC.frame_of(outcome, RECIPES[recipe].outcome))
    told = CODEC.decode(spliced.value)
    assert isinstance(told, CJBatchPrepared | CJBatchUnresolved)
    assert (type(told), told.recipe) == (outcome, recipe)
    assert told.request == CODEC.decode(payload)
    assert spliced == both.encoded(payload, REQUEST_AT)


def test_requests_of_one_scope_do_not_borrow_each_others_explicit_prompt() -> None:
    both = answers(TABLE)
    for prompt in ("one", None, "another", "one"):
        payload = CODEC.encode(requested(student_prompt_ref=prompt))
        assert both.spliced(payload, REQUEST_AT) == both.encoded(payload, REQUEST_AT)


def test_a_changed_context_is_never_joined_in_its_old_state() -> None:
    rows = {"assignment:a1": FULL}
    both = answers(rows)
    payload = CODEC.encode(requested())
    seen = [both.build(payload, REQUEST_AT)]
    rows["assignment:a1"] = context_after(instructions_uploaded(), prompt_uploaded("Another."))
    seen.append(both.build(payload, REQUEST_AT))
    rows["assignment:a1"] = context_after(*READY, prompt_deleted())
    seen.append(both.build(payload, REQUEST_AT))
    assert len(set(seen)) == 3
    assert seen[-1] == both.encoded(payload, REQUEST_AT)


def test_a_scope_that_becomes_known_is_no_guest_any_more() -> None:
    rows: dict[str, AssignmentContext] = {}
    both = answers(rows)
    payload = CODEC.encode(requested(assignment_id=None))
    guest = both.build(payload, REQUEST_AT)
    rows["course:ENG5"] = COURSE
    assert both.build(payload, REQUEST_AT) == both.encoded(payload, REQUEST_AT) != guest


def test_more_scopes_than_are_kept_are_still_answered_right() -> None:
    both = answers(TABLE)
    first = CODEC.encode(requested())
    expected = both.encoded(first, REQUEST_AT)
    answered = []
    for n in range(20_050):  # more than processors.outcomes.CACHED
        course = f"C{n:05}".encode()
        payload = COURSELESS.replace(b"C00000", course)
        answered.append(both.spliced(payload, REQUEST_AT))
    assert None not in answered
    assert both.spliced(first, REQUEST_AT) == expected


COURSELESS = CODEC.encode(requested(assignment_id=None, course_code="C00000"))
