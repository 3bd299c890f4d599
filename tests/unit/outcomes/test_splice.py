"""The fast path gives the same bytes as the slow path, and never accepts damaged bytes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import RequestScanner, ScannedFields, scan_request
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
from tables.scan.layout import FRAME_BYTES, MAX_TEXT_BYTES
from tables.scan.scanner import Engine
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
    is_stable,
    prompt_deleted,
    prompt_uploaded,
    requested,
    requests,
    uploads_of,
    uploads_of_courses,
)
from tests.support.engines import ENGINES, NAME_OF

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


# recipe number, and a request version that this recipe splices
PAIRS = [(recipe.number, version) for recipe in RECIPES.values() for version in recipe.spliced]
SCANNED_VERSIONS = (1, 2)
LATEST = max(SCANNED_VERSIONS)


def builder(table: Table, policy: Policy | None = None, recipe: int = RECIPE) -> OutcomeBuilder:
    return OutcomeBuilder(CODEC, policy or Policy(), table.get, recipe)


def encoded_as(request: CJAssessmentRequested, version: int | None) -> bytes:
    """The request as a producer of this version writes it, without newer fields."""
    return CODEC.encode(request if version == LATEST else replace(request, due_at_ms=None), version)


def scanned(payload: bytes) -> ScannedFields | None:
    return scan_request(payload, CODEC.version_of(CJAssessmentRequested, payload))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Possible contexts of one assignment and one course."""
    rows = {
        "assignment:a1": draw(contexts_of_assignment("a1")),
        "course:ENG5": draw(contexts_of_course("ENG5")),
    }
    return {scope_key: row for scope_key, row in rows.items() if row is not None}


def can_be_scanned(request: CJAssessmentRequested) -> bool:
    """Whether every text is within its limit, counted in bytes, ids are plain, and the times are below 2**62."""
    parts = [request, *request.essays]
    if not is_stable(request.course_code + (request.assignment_id or "")):
        return False
    times = (request.occurred_at_ms, request.due_at_ms or 0)
    return max(times) < 2**62 and all(
        len(value.encode()) <= min(rule.maximum, MAX_TEXT_BYTES)
        for part in parts
        for name, rule in RULES.items()
        if isinstance(rule, TextLimit | IdLimit)
        and (value := getattr(part, name, None)) is not None
    )


@given(requests(), st.sampled_from(SCANNED_VERSIONS))
def test_exactly_the_canonical_encodings_within_byte_limits_are_accepted(
    request: CJAssessmentRequested, version: int
) -> None:
    payload = encoded_as(request, version)
    request = CODEC.decode_as(CJAssessmentRequested, payload)
    expected = ScannedFields(request.assignment_id, request.course_code, request.student_prompt_ref)
    assert scanned(payload) == (expected if can_be_scanned(request) else None)


@given(SMALL, tables(), POLICIES, COORDINATES, st.sampled_from(PAIRS))
@settings(max_examples=3 * settings().max_examples)
def test_spliced_equals_encoded(
    request: CJAssessmentRequested,
    table: Table,
    policy: Policy,
    request_at: object,
    pair: tuple[int, int | None],
) -> None:
    recipe, version = pair
    payload = encoded_as(request, version)
    request = CODEC.decode_as(CJAssessmentRequested, payload)
    outcomes = builder(table, policy, recipe)
    spliced = outcomes.spliced(payload, request_at)  # type: ignore[arg-type]
    if spliced is None:
        assert not can_be_scanned(request)
    else:
        assert spliced == outcomes.encoded(payload, request_at)  # type: ignore[arg-type]


STEPS = st.one_of(
    uploads_of(st.sampled_from(["a1", "a2"])),
    uploads_of_courses(st.just("ENG5")),
    SMALL.filter(can_be_scanned),
    st.sampled_from(
        [requested(), requested(student_prompt_ref="own"), requested(assignment_id=None)]
    ),
)


@given(st.lists(STEPS, max_size=25), POLICIES, st.sampled_from(PAIRS))
def test_spliced_equals_encoded_while_the_contexts_change(
    steps: list[object], policy: Policy, pair: tuple[int, int | None]
) -> None:
    rows: dict[str, AssignmentContext] = {}
    recipe, version = pair
    outcomes = builder(rows, policy, recipe)
    for offset, step in enumerate(steps):
        if isinstance(step, CJAssessmentRequested):
            payload = encoded_as(step, version)
            assert outcomes.spliced(payload, REQUEST_AT) == outcomes.encoded(payload, REQUEST_AT)
        else:
            fold(rows, step, at(step, offset), offset)  # type: ignore[arg-type]


@given(st.data(), SMALL, st.sampled_from(PAIRS))
@settings(max_examples=3 * settings().max_examples)
def test_the_slow_path_gives_the_same_bytes_for_damaged_bytes_that_are_accepted(
    data: st.DataObject, request: CJAssessmentRequested, pair: tuple[int, int | None]
) -> None:
    recipe, version = pair
    payload = data.draw(damaged(encoded_as(request, version)))
    if scanned(payload) is None:
        return
    framed_version = CODEC.version_of(CJAssessmentRequested, payload)
    assert CODEC.encode(CODEC.decode(payload), framed_version) == payload
    if framed_version not in RECIPES[recipe].spliced:
        return
    outcomes = builder(TABLE, recipe=recipe)
    assert outcomes.spliced(payload, REQUEST_AT) == outcomes.encoded(payload, REQUEST_AT)


@given(st.data(), st.sampled_from(SCANNED_VERSIONS))
def test_both_paths_agree_on_any_bytes(data: st.DataObject, version: int) -> None:
    payload = data.draw(st.binary(max_size=40) | damaged(CODEC.encode(requested(), version)))
    outcomes = builder(TABLE)
    try:
        slow = outcomes.encoded(payload, REQUEST_AT)
    except BadRecord:
        slow = None
    assert outcomes.spliced(payload, REQUEST_AT) in (slow, None)


@pytest.mark.parametrize("version", SCANNED_VERSIONS)
def test_both_paths_agree_on_every_change_of_one_byte(version: int) -> None:
    due_at_ms = 1_700_000_000_000
    request = requested(
        batch_id="bätch", student_prompt_ref="own", user_id="u", due_at_ms=due_at_ms
    )
    original = encoded_as(request, version)
    outcomes = builder(TABLE)
    differences = []
    for index in range(FRAME_BYTES, len(original)):
        for value in (0, 1, 2, 3, 4, 0x2F, 0x7F, 0x80, 0xC3, 0xED, 0xFF, original[index] ^ 1):
            payload = original[:index] + bytes([value]) + original[index + 1 :]
            spliced = outcomes.spliced(payload, REQUEST_AT)
            if spliced is not None and spliced != _encoded_or_none(outcomes, payload):
                differences.append((index, value))
    assert differences == []


def _encoded_or_none(outcomes: OutcomeBuilder, payload: bytes) -> BuiltOutcome | None:
    try:
        return outcomes.encoded(payload, REQUEST_AT)
    except BadRecord:
        return None


NOT_CANONICAL = {
    "padded varints": handwritten(requested(), padding=1),
    "varints padded twice": handwritten(requested(), padding=2),
    "two blocks": handwritten(requested(essays=essays(5)), blocks=2),
    "a block for each essay": handwritten(requested(essays=essays(5)), blocks=5),
    "a block with its size": handwritten(requested(), with_block_sizes=True),
    "blocks with their sizes": handwritten(
        requested(essays=essays(5)), blocks=2, with_block_sizes=True
    ),
    "padded varints in v1": handwritten(requested(), 1, padding=1),
    "two blocks in v1": handwritten(requested(essays=essays(5)), 1, blocks=2),
    "a padded time": handwritten(requested(due_at_ms=1_900_000_000_007), padding=1),
}


@pytest.mark.parametrize("payload", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_an_encoding_that_is_not_canonical_takes_the_slow_path_to_an_equal_outcome(
    payload: bytes,
) -> None:
    canonical = CODEC.encode(CODEC.decode(payload))
    outcomes = builder(TABLE)
    assert scanned(payload) is None
    assert outcomes.spliced(payload, REQUEST_AT) is None
    assert outcomes.build(payload, REQUEST_AT) == outcomes.build(canonical, REQUEST_AT)


def test_the_handwritten_encoding_is_canonical_by_default() -> None:
    request = requested(batch_id="bätch", student_prompt_ref="own", essays=essays(70))
    assert handwritten(request) == CODEC.encode(request)
    assert handwritten(request, 1) == CODEC.encode(request, 1)
    with_due_time = requested(due_at_ms=1_700_000_000_000)
    assert handwritten(with_due_time) == CODEC.encode(with_due_time)


REFUSED = {
    "nothing but a frame": CODEC.frame_of(CJAssessmentRequested),
    "bytes left over": CODEC.encode(requested()) + b"\x00",
    "a byte short": CODEC.encode(requested())[:-1],
    "a lone surrogate": CODEC.encode(requested(batch_id="xyz")).replace(b"xyz", b"\xed\xa0\x80"),
    "an overlong null": CODEC.encode(requested(batch_id="xy")).replace(b"xy", b"\xc0\x80"),
    "a null character": CODEC.encode(requested(batch_id="xy")).replace(b"xy", b"x\0"),
    "a character split over two texts": CODEC.encode(
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
def test_bytes_that_no_path_accepts_are_not_scanned(payload: bytes) -> None:
    assert scanned(payload) is None
    with pytest.raises(BadRecord):
        builder(TABLE).build(payload, REQUEST_AT)


@pytest.mark.parametrize("version", SCANNED_VERSIONS)
def test_every_truncation_is_refused(version: int) -> None:
    original = CODEC.encode(requested(essays=essays(70)), version)
    assert [
        n for n in range(len(original)) if scan_request(original[:n], version) is not None
    ] == []


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
    payload = encoded_as(request_, version)
    outcomes = builder(TABLE, recipe=recipe)
    spliced = outcomes.spliced(payload, REQUEST_AT)
    assert spliced is not None
    assert spliced.value.startswith(CODEC.frame_of(outcome, RECIPES[recipe].outcome))
    event = CODEC.decode(spliced.value)
    assert isinstance(event, CJBatchPrepared | CJBatchUnresolved)
    assert (type(event), event.recipe) == (outcome, recipe)
    assert event.request == CODEC.decode(payload)
    assert spliced == outcomes.encoded(payload, REQUEST_AT)


def test_requests_of_one_scope_do_not_share_their_explicit_prompts() -> None:
    outcomes = builder(TABLE)
    for prompt in ("one", None, "another", "one"):
        payload = CODEC.encode(requested(student_prompt_ref=prompt))
        assert outcomes.spliced(payload, REQUEST_AT) == outcomes.encoded(payload, REQUEST_AT)


def test_a_changed_context_is_never_used_in_its_old_state() -> None:
    rows = {"assignment:a1": FULL}
    outcomes = builder(rows)
    payload = CODEC.encode(requested())
    built = [outcomes.build(payload, REQUEST_AT)]
    rows["assignment:a1"] = context_after(instructions_uploaded(), prompt_uploaded("Another."))
    built.append(outcomes.build(payload, REQUEST_AT))
    rows["assignment:a1"] = context_after(*READY, prompt_deleted())
    built.append(outcomes.build(payload, REQUEST_AT))
    assert len(set(built)) == 3
    assert built[-1] == outcomes.encoded(payload, REQUEST_AT)


def test_a_course_that_becomes_known_is_used_for_the_next_request() -> None:
    rows: dict[str, AssignmentContext] = {}
    outcomes = builder(rows)
    payload = CODEC.encode(requested(assignment_id=None))
    guest = outcomes.build(payload, REQUEST_AT)
    rows["course:ENG5"] = COURSE
    assert outcomes.build(payload, REQUEST_AT) == outcomes.encoded(payload, REQUEST_AT) != guest


def test_outcomes_are_right_with_more_scopes_than_the_cache_holds() -> None:
    outcomes = builder(TABLE)
    first = CODEC.encode(requested())
    expected = outcomes.encoded(first, REQUEST_AT)
    spliced = []
    for n in range(20_050):  # more than processors.outcomes.splice.MAX_CACHED_CONTEXTS
        course = f"C{n:05}".encode()
        payload = UNKNOWN_COURSE.replace(b"C00000", course)
        spliced.append(outcomes.spliced(payload, REQUEST_AT))
    assert None not in spliced
    assert outcomes.spliced(first, REQUEST_AT) == expected


UNKNOWN_COURSE = CODEC.encode(requested(assignment_id=None, course_code="C00000"))


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
@given(data=st.data())
def test_many_requests_are_scanned_as_each_by_itself(engine: Engine, data: st.DataObject) -> None:
    events = data.draw(st.lists(requests(), max_size=4))
    encoded = [CODEC.encode(event) for event in events]
    records = [data.draw(st.just(record) | damaged(record)) for record in (*encoded, b"")]
    assert RequestScanner(CODEC, engine).scan(records) == list(map(scanned, records))
