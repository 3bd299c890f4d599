"""Both engines accept exactly the canonical encodings within byte limits, of requests and of uploads."""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import events
from schemas.codec import Codec
from schemas.errors import BadRecord, Misconfigured
from schemas.events import CJAssessmentRequested, Essay, UploadEvent
from schemas.field_limits import RULES, IdLimit, TextLimit
from schemas.released_schemas import released
from tables.scan.engine import CACHE_VARIABLE, load_engine
from tables.scan.layout import FRAME_BYTES, MAX_TEXT_BYTES, STABLE, Boolean, layout_of
from tables.scan.plain import PlainEngine
from tables.scan.scanner import SLOW_PATH, Engine, Scanner
from tests.support.builders import (
    UPLOADS,
    damaged,
    essays,
    instructions_uploaded,
    is_stable,
    requested,
    requests,
    uploads,
)

ROOT = Path(__file__).parents[3]
CODEC = Codec()
CAPTURED = ("assignment_id", "course_id", "course_code", "student_prompt_ref", "version", "sha256")
SCANNED = {
    name
    for name, of_name in vars(events).items()
    if of_name is CJAssessmentRequested
    or (isinstance(of_name, type) and issubclass(of_name, UploadEvent))
} - {"AnchorsUploaded"}  # is not flat: it takes the slow path
SCHEMAS = [schema for schema in released() if schema.name in SCANNED]
FRAMES = [CODEC.frame_of(getattr(events, one.name), one.version) for one in SCHEMAS]
LAYOUTS = [layout_of(one.schema, CAPTURED) for one in SCHEMAS]
EVENTS = st.one_of(requests(), uploads())
ENGINES: dict[str, Engine] = {
    "numba": load_engine("numba", Path(os.environ[CACHE_VARIABLE])),
    "plain": PlainEngine(),
}
SCANNERS: dict[str, Scanner] = {
    name: engine.scanner(list(zip(FRAMES, LAYOUTS, strict=True)))
    for name, engine in ENGINES.items()
}


def scanned(name: str, *records: bytes) -> list[tuple[int, tuple[int, ...]] | None]:
    """The layout and the places of each record; None for one that takes the slow path."""
    found = SCANNERS[name].scan(records)
    return [
        None if layout == SLOW_PATH else (layout, tuple(places))
        for layout, places in zip(found.layouts, found.places, strict=True)
    ]


def can_be_scanned(event: Any) -> bool:
    """Whether texts are within their limits in bytes, no number takes ten bytes, and ids and tags are plain."""
    for part in (event, *getattr(event, "essays", ())):
        for field in fields(part):
            value, rule = getattr(part, field.name), RULES.get(field.name)
            if isinstance(value, str) and isinstance(rule, TextLimit | IdLimit):
                if len(value.encode()) > min(rule.maximum, MAX_TEXT_BYTES):
                    return False
                if isinstance(rule, IdLimit) and not is_stable(value):
                    return False
                if field.name == "language" and isinstance(event, UploadEvent) and len(value) > 3:
                    return False
            elif isinstance(value, int) and value >= 2**62:
                return False
    return True


def captured(event: Any, record: bytes, places: tuple[int, ...]) -> Iterator[tuple[object, object]]:
    """The value of each captured text in the event and in the record."""
    for number, name in enumerate(CAPTURED):
        start, end = places[2 * number : 2 * number + 2]
        expected = getattr(event, name, None)
        if name == "version" and expected is not None:
            yield expected, _number_in(record[start:end])
        else:
            yield expected, None if start < 0 else record[start:end].decode()


def _number_in(varint: bytes) -> int:
    return sum((byte & 127) << 7 * index for index, byte in enumerate(varint)) >> 1


@pytest.mark.parametrize("name", SCANNERS)
@given(event=EVENTS)
def test_exactly_the_canonical_encodings_within_byte_limits_are_accepted(
    name: str, event: Any
) -> None:
    record = CODEC.encode(event)
    (found,) = scanned(name, record)
    assert (found is not None) == can_be_scanned(event)
    if found is not None:
        assert FRAMES[found[0]] == record[:FRAME_BYTES]
        assert all(expected == read for expected, read in captured(event, record, found[1]))


@given(st.data(), st.lists(EVENTS, min_size=1, max_size=4))
def test_engines_agree_on_damaged_records_and_accept_what_the_slow_path_accepts(
    data: st.DataObject, some_events: list[Any]
) -> None:
    records = [
        data.draw(st.just(record) | damaged(record)) for record in map(CODEC.encode, some_events)
    ]
    compiled = scanned("numba", *records)
    assert compiled == scanned("plain", *records)
    for record, found in zip(records, compiled, strict=True):
        if found is not None and not is_of_no_scope(found[1]):
            event = CODEC.decode(record)
            version = SCHEMAS[found[0]].version
            assert CODEC.encode(event, version) == record
            assert all(expected == read for expected, read in captured(event, record, found[1]))


def is_of_no_scope(places: tuple[int, ...]) -> bool:
    """Whether an upload has both ids or none, which no engine checks."""
    assignment, course, code = places[0], places[2], places[4]
    return code < 0 and (assignment < 0) == (course < 0)


SAMPLES = [
    requested(batch_id="bätch", student_prompt_ref="own", user_id="u", due_at_ms=2**34),
    *UPLOADS,
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_engines_agree_on_every_change_of_one_byte_and_on_every_truncation(event: Any) -> None:
    original = CODEC.encode(event)
    values = (0, 1, 2, 3, 4, 0x2E, 0x2F, 0x5C, 0x7F, 0x80, 0xC2, 0xC3, 0xED, 0xFF)
    changed = [
        original[:index] + bytes([value]) + original[index + 1 :]
        for index in range(len(original))
        for value in (*values, original[index] ^ 1)
    ]
    records = [*changed, *(original[:size] for size in range(len(original))), original + b"\0"]
    compiled = scanned("numba", *records)
    assert compiled == scanned("plain", *records)
    wrong = []
    for record, found in zip(records, compiled, strict=True):
        if found is not None and not is_of_no_scope(found[1]):
            again = b""
            with suppress(BadRecord):
                again = CODEC.encode(CODEC.decode(record), SCHEMAS[found[0]].version)
            wrong += [] if again == record else [record]
    assert wrong == []


@pytest.mark.parametrize("name", SCANNERS)
def test_records_of_another_frame_take_the_slow_path(name: str) -> None:
    record = CODEC.encode(requested())
    others = [b"", b"\0", record[:FRAME_BYTES], b"\1" + record[1:], b"\0\0\0\0\7" + record[5:]]
    assert scanned(name, *others, record)[:-1] == [None] * len(others)
    assert scanned(name, record, *others, record)[0] is not None


def test_every_field_of_the_scanned_schemas_has_a_limit() -> None:
    unlimited = {
        field.name
        for layout in LAYOUTS
        for field in layout.fields
        if field.name not in RULES and not isinstance(field.value, Boolean)
    }
    assert unlimited == set()


def test_the_plain_engine_replaces_one_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('no compiler here')")
    code = (
        "from pathlib import Path; from tables.scan.engine import load_engine;"
        "print(load_engine('auto', Path('unused')).name); load_engine('numba', Path('unused'))"
    )
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "plain\n"
    assert (
        f"{Misconfigured.__name__}: numba cannot be loaded (ImportError: no compiler here)"
        in done.stderr
    )
    assert not Path("unused").exists()


def test_only_who_loads_the_engine_imports_numba() -> None:
    code = "import sys, processors.app, tools.cli, tools.api.server; print('numba' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.thorough
def test_what_a_worker_has_compiled_is_compiled_by_nobody_again(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tables.scan.engine import load_engine; import sys;"
        "load_engine('numba', Path(sys.argv[1]), sys.argv[2:]);"
        "from tables.scan.compiled import scan_records; print(sum(scan_records.stats.cache_hits.values()))"
    )
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", code, str(tmp_path)]
    hits = [
        subprocess.run(
            [*command, *modules], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for modules in (["processors.outcomes.splice_kernels"], [])  # of a worker, of the audit
    ]
    assert hits == ["0\n", "1\n"]


def test_every_text_of_stable_characters_is_normal() -> None:
    stable = {chr(one) for first, last in STABLE for one in range(first, last + 1)}
    decompositions = map(unicodedata.decomposition, map(chr, range(sys.maxunicode + 1)))
    composed = [one.split() for one in decompositions if one and not one.startswith("<")]
    seconds = {chr(int(parts[1], 16)) for parts in composed if len(parts) == 2}
    jamo = {chr(one) for one in range(0x1100, 0x1200)}
    assert stable.isdisjoint(seconds | jamo)  # none is joined to the one before it
    assert [one for one in stable if unicodedata.combining(one)] == []
    assert [one for one in stable if not unicodedata.is_normalized("NFC", one)] == []
    assert [one for one in stable if one.isspace()] == [" "]


IDS = {  # whether each is scanned, or left to the slow path
    "uppsats-år9": True,
    "Übung ½": True,
    "сочинение": True,
    "δοκίμιο": True,
    "한국어 수필": True,
    "作文": True,
    "さくぶん": True,
    "مقال": True,
    "a\u030ar": False,  # a decomposed å
    "\u1112\u1161\u11ab": False,  # a decomposed syllable
    "\u212b": False,  # the sign of the unit angstrom
    " a": False,
    "a ": False,
    "a\u00a0": False,
    "\ufeffa": False,
    "a\u00adb": False,  # an invisible hyphen
    "a\u200bb": False,  # a space without width
    "«a»": True,
    "\u0387": False,
    "e\u0323\u0301": False,
    "🎓": False,
}


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("an_id", IDS, ids=ascii)
def test_ids_of_every_script_are_scanned_and_ids_not_in_normal_form_are_not(
    name: str, an_id: str
) -> None:
    requests_of = (requested(assignment_id=an_id), requested(course_code=an_id))
    upload = instructions_uploaded(assignment_id=an_id)
    found = scanned(name, *(CODEC.encode(event) for event in (*requests_of, upload)))
    assert [one is not None for one in found] == [IDS[an_id]] * 3


@pytest.mark.parametrize("name", SCANNERS)
def test_deadlines_in_seconds_or_microseconds_are_not_scanned(name: str) -> None:
    deadlines = (2**34, 1_900_000_000_000, 2**48 - 1, 2**34 - 1, 1_900_000_000, 1, 0, 2**48, 2**62)
    found = scanned(name, *(CODEC.encode(requested(due_at_ms=one)) for one in deadlines))
    assert [one is not None for one in found] == [True] * 3 + [False] * 6


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("count", [2, 3, 28, 63, 64, 65, 5000])
def test_essays_of_one_id_are_not_scanned_wherever_they_are(name: str, count: int) -> None:
    distinct = essays(count)
    places = {(0, 1), (0, count - 1), (count // 2, count - 1), (count - 2, count - 1)}
    repeated = [
        (*distinct[:to], replace(distinct[to], essay_id=distinct[of].essay_id), *distinct[to + 1 :])
        for of, to in places
        if of != to
    ]
    found = scanned(name, *(CODEC.encode(requested(essays=one)) for one in (distinct, *repeated)))
    assert [one is not None for one in found] == [True] + [False] * len(repeated)


@pytest.mark.parametrize("name", SCANNERS)
@given(ids=st.lists(st.text("ab\u00e5\u20ac", min_size=1, max_size=20), min_size=2, max_size=30))
def test_essays_are_scanned_if_their_ids_are_distinct(name: str, ids: list[str]) -> None:
    some = tuple(Essay(essay_id=one, text_storage_id="t") for one in ids)
    (found,) = scanned(name, CODEC.encode(requested(essays=some)))
    assert (found is not None) == (len(set(ids)) == len(ids))


BOUNDS = (0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("around", [b"", b"ten bytes."])
def test_a_text_is_what_python_decodes_but_for_a_zero(name: str, around: bytes) -> None:
    texts = [
        bytes((first, second, third, 0xBF))[:size]
        for first in range(256)
        for second in BOUNDS
        for third in (0x41, 0x7F, 0x80, 0xBF, 0xC0)
        for size in range(1, 5)
    ]
    head, _, tail = CODEC.encode(requested(batch_id="here")).partition(b"\x08here")
    records = []
    for text in texts:
        whole = around + text
        records.append(head + bytes([2 * len(whole)]) + whole + tail)
    is_accepted = [found is not None for found in scanned(name, *records)]
    assert is_accepted == [_is_text(text) for text in texts]


def _is_text(text: bytes) -> bool:
    try:
        return "\0" not in text.decode()
    except UnicodeDecodeError:
        return False
