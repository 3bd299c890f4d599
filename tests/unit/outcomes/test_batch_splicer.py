"""The outcomes of whole batches are those of the slow path, byte by byte, while contexts change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.outcomes.batch_splicer import BatchSplicer, OutcomeParts, Spliced
from processors.outcomes.compiled_splicer import CompiledSplicer
from processors.outcomes.encoded_rows import RowsOf
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.plain_splicer import PlainSplicer
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.resolve import Prepared, Unresolved
from processors.policy import Policy
from schemas.codec import Codec, canonical
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import (
    ROLES,
    AssignmentContext,
    CJAssessmentRequested,
    UploadEvent,
    role_of,
    scope_key_of,
)
from schemas.released_schemas import released
from schemas.topics import MAX_REQUEST_BYTES, Topics
from tables.context import fold
from tables.replica import HEAD
from tests.support.builders import (
    READY,
    at,
    context_after,
    damaged,
    essays,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    requests,
    rubric_deleted,
    rubric_uploaded,
    uploads_of,
    uploads_of_courses,
)

CODEC = Codec()
TOPIC = Topics().requests.name
MEGABYTE = 1024 * 1024
SPLICERS: dict[str, Callable[[OutcomeParts, int], BatchSplicer]] = {
    "numba": CompiledSplicer,
    "plain": PlainSplicer,
}
NAMES = list(SPLICERS)
Table = Mapping[str, AssignmentContext]
Places = Sequence[tuple[int, int]]  # partitions and offsets


def unreadable_rows(keys: Sequence[bytes]) -> list[bytes | None]:
    """Rows that no scan accepts: the contexts are decoded."""
    return [b""] * (len(ROLES) * len(keys))


def splicer_of(
    name: str,
    table: Table,
    policy: Policy | None = None,
    *,
    rows_of: RowsOf = unreadable_rows,
    recipe: int = RECIPE,
    max_bytes: int = 8 * MEGABYTE,
    codec: Codec = CODEC,
) -> BatchSplicer:
    parts = OutcomeParts(codec, policy or Policy(), table.get, rows_of, Topics(), recipe)
    return SPLICERS[name](parts, max_bytes)


class Uploads:
    """The contexts of some uploads, and the replica's rows of them."""

    def __init__(self) -> None:
        self.contexts: dict[str, AssignmentContext] = {}
        self.rows: dict[tuple[bytes, str], bytes] = {}

    def fold(self, event: UploadEvent, upload_at: Coordinates, upload: bytes | None) -> None:
        """Fold an upload with these bytes; None: with some that no scan accepts."""
        fold(self.contexts, event, upload_at, 0)
        row = HEAD.pack(upload_at.partition, upload_at.offset, 0) + (upload or b"")
        self.rows[scope_key_of(event).encode(), role_of(event)] = row

    def rows_of(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get((key, role)) for key in keys for role in ROLES]


def spliced(splicer: BatchSplicer, records: Sequence[bytes], places: Places) -> Spliced:
    return splicer.splice(records, *zip(*places, strict=True))


def places_of(records: Sequence[bytes]) -> Places:
    """Different partitions, and offsets of every number of digits."""
    return [(number % 3, 10 ** (number % 19) - number % 2) for number in range(len(records))]


def differences(
    result: Spliced,
    records: Sequence[bytes],
    places: Places,
    table: Table,
    policy: Policy,
    recipe: int = RECIPE,
    *,
    all_fit: bool = True,
) -> list[object]:
    """What differs from the slow path; a request that is left counts only if it needed not to be.

    all_fit: whether the splicer's table has room for all contexts; if not, any request may be left.
    """
    slow = OutcomeBuilder(CODEC, policy, table.get, recipe)
    different = list[object]()
    for record, (partition, offset), value, is_prepared in zip(
        records, places, *result, strict=True
    ):
        request_at = Coordinates(TOPIC, partition, offset)
        is_too_large = len(record) > MAX_REQUEST_BYTES
        must_be_left = is_too_large or slow.spliced(record, request_at) is None
        try:
            expected = slow.encoded(record, request_at)
        except BadRecord:
            must_be_left = True
        else:
            resolution = expected.resolution
            may_wait = isinstance(resolution, Unresolved) and resolution.may_wait
            must_be_left |= may_wait and policy.patience_s > 0
        if must_be_left or (value is None and not all_fit):
            different += [] if value is None else [record]
        elif (value, is_prepared) != (expected.value, isinstance(resolution, Prepared)):
            different.append((record, value, expected))
    return different


POLICIES = st.builds(
    Policy,
    required=st.lists(
        st.sampled_from(("instructions", "student_prompt", "judge_rubric")), unique=True
    ).map(tuple),
    guests_allowed=st.booleans(),
    patience_s=st.sampled_from([0, 900]),
)
SMALL = requests(st.none() | st.sampled_from(["a1", "a2"]), st.sampled_from(["ENG5", "SV2"]))
UPLOADS = uploads_of(st.sampled_from(["a1", "a2"])) | uploads_of_courses(st.just("ENG5"))
RECIPE_NUMBERS = st.sampled_from(list(RECIPES))
TABLE_BYTES = st.sampled_from([8 * MEGABYTE, 1500, 1])  # all contexts fit, some of them, none


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), policy=POLICIES, recipe=RECIPE_NUMBERS, max_bytes=TABLE_BYTES)
@settings(max_examples=2 * settings().max_examples)
def test_batches_are_spliced_as_the_slow_path_encodes_them_while_contexts_change(
    name: str, data: st.DataObject, policy: Policy, recipe: int, max_bytes: int
) -> None:
    uploads = Uploads()
    rows = uploads.contexts
    splicer = splicer_of(
        name, rows, policy, rows_of=uploads.rows_of, recipe=recipe, max_bytes=max_bytes
    )
    offset, partition = data.draw(st.integers(0, 2**62)), data.draw(st.integers(0, 2**31 - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        for event in data.draw(st.lists(UPLOADS, max_size=6)):
            before = dict(rows)
            offset += 1
            uploads.fold(event, at(event, offset, partition), data.draw(encodings(event)))
            splicer.forget([key for key, row in rows.items() if before.get(key) is not row])
        versions = st.sampled_from([version for version in RECIPES[recipe].spliced if version])
        records = [
            data.draw(st.just(record) | damaged(record))
            for event in data.draw(st.lists(SMALL, max_size=8))
            for record in [encoded_as(event, data.draw(versions))]
        ]
        if records:
            places = places_of(records)
            result = spliced(splicer, records, places)
            all_fit = max_bytes >= MEGABYTE
            assert differences(result, records, places, rows, policy, recipe, all_fit=all_fit) == []


def encodings(event: UploadEvent) -> st.SearchStrategy[bytes | None]:
    """The bytes of an upload of any version that holds it; None for bytes that no scan accepts."""
    encoded = [CODEC.encode(event)]
    if getattr(event, "language", "") is None:
        encoded.append(CODEC.encode(event, 1))
    return st.sampled_from([*encoded, None])


INSTRUCTIONS: tuple[UploadEvent | None, ...] = (
    None,
    instructions_uploaded(version=2**40, event_id="i" * 64),
    instructions_deleted(),
)
PROMPTS: tuple[UploadEvent | None, ...] = (None, prompt_uploaded(event_id="å"), prompt_deleted())
RUBRICS: tuple[UploadEvent | None, ...] = (
    None,
    rubric_uploaded(storage_id="s" * 63),
    rubric_deleted(),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(patience_s=0),
        Policy(("judge_rubric",), guests_allowed=False, patience_s=0),
        Policy((), patience_s=0),
    ],
    ids=str,
)
def test_rows_of_every_state_of_the_roles_give_what_their_decoded_contexts_give(
    name: str, policy: Policy
) -> None:
    uploads, records = Uploads(), list[bytes]()
    states: Iterable[tuple[UploadEvent | None, ...]] = product(INSTRUCTIONS, PROMPTS, RUBRICS)
    for number, events in enumerate(states):
        for event in [one for one in events if one is not None]:
            one = replace(event, assignment_id=f"a{number}")
            uploads.fold(one, at(one, 2**50 + number, 1000), CODEC.encode(one))
        for prompt in (None, "own"):
            request = requested(assignment_id=f"a{number}", student_prompt_ref=prompt)
            records.append(CODEC.encode(request))
    for number, state in enumerate(INSTRUCTIONS):
        if state is not None:
            of_course: dict[str, Any] = {"assignment_id": None, "course_id": f"C{number}"}
            one = replace(state, **of_course)
            uploads.fold(one, at(one, 2**50 + number, 1000), CODEC.encode(one))
        for prompt in (None, "own"):
            course: dict[str, Any] = {"assignment_id": None, "course_code": f"C{number}"}
            records.append(CODEC.encode(requested(**course, student_prompt_ref=prompt)))

    def unused(scope_key: str) -> AssignmentContext | None:
        raise AssertionError(f"{scope_key} was decoded")

    parts = OutcomeParts(CODEC, policy, unused, uploads.rows_of, Topics())
    result = spliced(SPLICERS[name](parts, MEGABYTE), records, places_of(records))
    assert differences(result, records, places_of(records), uploads.contexts, policy) == []
    assert len(records) == 2 * (27 + 3)


def test_contexts_are_made_from_rows_and_decoded_only_if_no_scan_accepts_a_row() -> None:
    """Of both engines, for they make the same parts."""
    uploads, decoded = Uploads(), list[str]()
    for number in range(3):
        ready: tuple[UploadEvent, ...] = READY
        for offset, event in enumerate(ready):
            one = replace(event, assignment_id=f"a{number}")
            is_readable = (number, role_of(event)) != (1, "judge_rubric")
            uploads.fold(one, at(one, offset), CODEC.encode(one) if is_readable else None)

    class Counted(dict[str, AssignmentContext]):
        def get(self, key: str, default: object = None) -> AssignmentContext | None:  # type: ignore[override]
            decoded.append(key)
            return super().get(key)

    records = [CODEC.encode(requested(assignment_id=f"a{number}")) for number in range(4)]
    for name in NAMES:
        table = Counted(uploads.contexts)
        splicer = splicer_of(name, table, rows_of=uploads.rows_of)
        result = spliced(splicer, records, places_of(records))
        assert decoded == ["assignment:a1"]
        assert differences(result, records, places_of(records), uploads.contexts, Policy()) == []
        decoded.clear()


def encoded_as(request: CJAssessmentRequested, version: int) -> bytes:
    return CODEC.encode(request if version > 1 else replace(request, due_at_ms=None), version)


def many(count: int) -> tuple[dict[str, AssignmentContext], list[bytes]]:
    """So many assignments with their contexts, and a request for each."""
    rows, records = {}, []
    for number in range(count):
        an_id = f"assignment-{number}"
        rows[f"assignment:{an_id}"] = context_after(
            *(replace(event, assignment_id=an_id) for event in READY)
        )
        records.append(CODEC.encode(requested(assignment_id=an_id)))
    return rows, records


ROWS, RECORDS = many(3000)
PLACES = [(number % 4, number) for number in range(len(RECORDS))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_bytes", [8 * MEGABYTE, 400_000, 1], ids=["all fit", "some", "none"])
def test_outcomes_are_right_with_more_contexts_than_the_table_holds(
    name: str, max_bytes: int
) -> None:
    splicer = splicer_of(name, ROWS, max_bytes=max_bytes)
    expected = [
        OutcomeBuilder(CODEC, Policy(), ROWS.get).encoded(record, Coordinates(TOPIC, *place)).value
        for record, place in zip(RECORDS, PLACES, strict=True)
    ]
    for first in (0, 1000, 0, 2000, 1500):
        chunk = slice(first, first + 1000)
        result = spliced(splicer, RECORDS[chunk], PLACES[chunk])
        pairs = zip(result.values, expected[chunk], strict=True)
        assert all(value in (None, right) for value, right in pairs)
        if name == "plain" or max_bytes > MEGABYTE:
            assert None not in result.values


@pytest.mark.parametrize("name", NAMES)
def test_each_context_is_prepared_once_until_it_changes(name: str) -> None:
    read = list[str]()

    class Counted(dict[str, AssignmentContext]):
        def get(self, key: str, default: object = None) -> AssignmentContext | None:  # type: ignore[override]
            read.append(key)
            return super().get(key)

    rows = Counted(ROWS)
    splicer = splicer_of(name, rows)
    records = RECORDS[:50] * 3
    for _ in range(2):
        spliced(splicer, records, places_of(records))
    assert len(read) == 50
    changed = context_after(instructions_uploaded(), prompt_uploaded("Another."))
    rows["assignment:assignment-7"] = changed
    splicer.forget(["assignment:assignment-7", "course:unknown", "assignment:unknown"])
    result = spliced(splicer, records, places_of(records))
    assert read[50:] == ["assignment:assignment-7"]
    assert differences(result, records, places_of(records), rows, Policy()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_context_that_was_prepared_in_advance_is_not_read_again_until_it_changes(
    name: str,
) -> None:
    read = list[str]()

    class Counted(dict[str, AssignmentContext]):
        def get(self, key: str, default: object = None) -> AssignmentContext | None:  # type: ignore[override]
            read.append(key)
            return super().get(key)

    records = RECORDS[:50]
    rows = Counted(islice(ROWS.items(), 50))
    splicer = splicer_of(name, rows)
    assert splicer.prepare(list(rows))
    assert read == list(rows)
    spliced(splicer, records, places_of(records))
    assert len(read) == 50
    changed = context_after(instructions_uploaded(), prompt_uploaded("Another."))
    rows["assignment:assignment-7"] = changed
    splicer.forget(["assignment:assignment-7"])
    result = spliced(splicer, records, places_of(records))
    assert read[50:] == ["assignment:assignment-7"]
    assert differences(result, records, places_of(records), rows, Policy()) == []


@pytest.mark.parametrize("name", NAMES)
def test_contexts_are_prepared_in_advance_only_as_far_as_they_fit(name: str) -> None:
    splicer = splicer_of(name, ROWS, max_bytes=64 * 1024)
    assert not splicer.prepare(list(ROWS))
    records = RECORDS[-20:]  # their contexts are not among the first
    result = spliced(splicer, records, places_of(records))
    assert differences(result, records, places_of(records), ROWS, Policy()) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_context_that_did_not_fit_is_forgotten_when_it_changes(name: str) -> None:
    rows = dict(ROWS)
    splicer = splicer_of(name, rows, max_bytes=64 * 1024)
    changed = context_after(instructions_uploaded(), prompt_uploaded("Another."))
    for number, record in enumerate(RECORDS[:300]):
        spliced(splicer, [record], [PLACES[number]])
        rows[f"assignment:assignment-{number}"] = changed
        splicer.forget([f"assignment:assignment-{number}"])
        result = spliced(splicer, [record], [PLACES[number]])
        assert differences(result, [record], [PLACES[number]], rows, Policy(), all_fit=False) == []


LARGE = tuple(replace(one, essay_id=f"{one.essay_id:-<200}") for one in essays(3200))
assert len(CODEC.encode(requested(essays=LARGE))) > MAX_REQUEST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_records_of_every_kind_in_one_batch_stay_in_order(name: str) -> None:
    table = {"assignment:a1": context_after(*READY)}
    own = requested(student_prompt_ref="öwn prompt " * 10)
    records = [
        b"",
        CODEC.encode(requested()),
        b"junk",
        CODEC.encode(own),
        CODEC.encode(requested(assignment_id="a9")),
        CODEC.encode(requested(assignment_id=None, course_code="C")),
        CODEC.encode(requested(essays=essays(200))),
        CODEC.encode(requested(), 1),
        CODEC.encode(requested())[:-1],
        CODEC.encode(requested(essays=LARGE)),
    ]
    for policy in (Policy(), Policy(patience_s=0), Policy(guests_allowed=False)):
        result = spliced(splicer_of(name, table, policy), records, places_of(records))
        assert differences(result, records, places_of(records), table, policy) == []
        assert [value is None for value in result.values] == [
            True, False, True, False, policy.patience_s > 0, False, False, False, True, True,
        ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_id_of_a_registry_is_spliced_as_soon_as_the_codec_knows_it(name: str) -> None:
    form = next(form for form in forms() if '"due_at_ms"' in form and '"essays"' in form)
    codec = Codec(form_of=lambda schema_id: form if schema_id == 77 else None)
    record = b"\0\0\0\0\x4d" + CODEC.encode(requested())[5:]
    table = {"assignment:a1": context_after(*READY)}
    splicer = splicer_of(name, table, codec=codec)
    assert spliced(splicer, [record], [(0, 1)]).values == [None]
    expected = OutcomeBuilder(codec, Policy(), table.get).encoded(record, Coordinates(TOPIC, 0, 2))
    assert spliced(splicer, [record], [(0, 2)]).values == [expected.value]


def forms() -> list[str]:
    return [
        canonical(orjson.dumps(one.schema))
        for one in released()
        if one.name == CJAssessmentRequested.__name__
    ]
