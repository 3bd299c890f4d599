"""Input files of uploads and requests: what is accepted, and error messages that never contain the text."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import docx
import pytest

from schemas.errors import Malformed
from tools.demo.play import DATA
from tools.inputs import FaultyLines, GivenRequest, GivenUpload, read_requests, read_uploads

Write = Callable[[str | bytes], str]
UPLOAD = {"type": "student_prompt", "assignment_id": "a1", "text": "Should homework be banned?"}
INSTRUCTIONS = {**UPLOAD, "type": "instructions", "grade_scale": "swedish_8_anchor"}
DELETION = {"type": "student_prompt", "assignment_id": "a1", "delete": True}
ESSAYS = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]
REQUEST = {"batch_id": "b1", "course_code": "ENG5", "language": "en", "essays": ESSAYS}
DATA_OF_ENVELOPE = {
    "entity_id": "b1",
    "essays_for_cj": ESSAYS,
    "language": "en",
    "course_code": "ENG5",
    "llm_config_overrides": {"temperature": 0.2, "model": "å"},
}
ENVELOPE = {
    "event_id": "q-1",
    "event_type": "CJAssessmentRequested",
    "event_timestamp": "2030-01-15T10:30:00.250+01:00",
    "source_service": "batch-orchestrator",
    "correlation_id": "c-1",
    "data": DATA_OF_ENVELOPE,
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: str | bytes) -> str:
        path = tmp_path / "given.jsonl"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return to_file


def lines(*documents: object) -> str:
    return "\n".join(map(json.dumps, documents))


def requests_in(file: str) -> list[GivenRequest]:
    return read_requests([file], 7, iter("xyzxyz").__next__)


def uploads_in(file: str) -> list[GivenUpload]:
    return read_uploads([file])


@pytest.mark.parametrize(
    "content",
    [
        lines(UPLOAD, INSTRUCTIONS),
        f"\n{lines(UPLOAD)}\r\n\n  {lines(INSTRUCTIONS)}\n",
        "\ufeff" + lines([UPLOAD, INSTRUCTIONS]),
        json.dumps([UPLOAD, INSTRUCTIONS], indent=2),
        f"{json.dumps(UPLOAD, indent=1)}\n{json.dumps(INSTRUCTIONS, indent=1)}",
    ],
)
def test_lines_arrays_and_objects_give_the_same_documents(write: Write, content: str) -> None:
    given = uploads_in(write(content))
    assert [upload.line.type for upload in given] == ["student_prompt", "instructions"]


def test_a_document_has_the_number_of_its_first_line(write: Write) -> None:
    pretty = json.dumps([REQUEST, REQUEST], indent=1)
    second = pretty.rindex('"batch_id"')
    (_, given) = requests_in(write(pretty))
    assert given.document.line == pretty.count("\n", 0, second)


def test_texts_and_ids_are_trimmed_and_line_breaks_in_texts_stay(write: Write) -> None:
    decomposed = {"assignment_id": " a\u030a1 ", "text": "\ufeff\u00a0Compare,\r\nthen choose.\n"}
    (given,) = uploads_in(write(lines({**UPLOAD, **decomposed})))
    assert (given.scope_key, given.text) == ("assignment:å1", b"Compare,\r\nthen choose.")


def test_a_text_may_be_in_a_separate_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "task.txt").write_text("Write about a journey.\n", encoding="utf-8")
    document = {"type": "judge_rubric", "assignment_id": "a1", "text_file": "texts/task.txt"}
    (given,) = uploads_in(write(lines(document)))
    assert given.text == b"Write about a journey."


def test_an_essay_may_bring_its_text_or_the_file_of_its_text(write: Write, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("\ufeffThe town needs a youth centre.\n", encoding="utf-8")
    document = docx.Document()
    document.add_paragraph("The town needs a youth centre.")
    document.save(str(tmp_path / "word.docx"))
    essays = [
        {"essay_id": "stored", "text_storage_id": "t-1"},
        {"essay_id": "inline", "text": " The town needs a library. "},
        {"essay_id": "plain", "text_file": "plain.txt"},
        {"essay_id": "word", "text_file": "word.docx"},
    ]
    plain, enveloped = (
        requests_in(write(content))[0]
        for content in (
            changed(REQUEST, essays=essays),
            changed(ENVELOPE, data={**DATA_OF_ENVELOPE, "essays_for_cj": essays}),
        )
    )
    library, centre = b"The town needs a library.", b"The town needs a youth centre."
    assert plain.texts == enveloped.texts == (library, centre, centre)
    ids = [sha256(text).hexdigest() for text in plain.texts]
    assert [essay.text_storage_id for essay in plain.request.essays] == ["t-1", *ids]
    assert enveloped.request.essays == plain.request.essays


def test_omitted_fields_of_a_plain_request_are_filled_in(write: Write) -> None:
    (given,) = requests_in(write(lines(REQUEST)))
    request = given.request
    assert (request.event_id, request.correlation_id, request.occurred_at_ms) == ("x", "y", 7)


def test_a_request_may_have_a_due_time(write: Write) -> None:
    (given,) = requests_in(write(changed(REQUEST, due_at_ms=1_700_000_900_000)))
    assert given.request.due_at_ms == 1_700_000_900_000


def test_a_prompt_may_have_a_language(write: Write) -> None:
    (given,) = uploads_in(write(changed(UPLOAD, language=" sv ")))
    assert given.line.language == "sv"


def test_an_envelope_gives_the_same_request_as_the_plain_form(write: Write) -> None:
    plain = {
        **REQUEST,
        "event_id": "q-1",
        "occurred_at_ms": 1_894_699_800_250,
        "source_service": "batch-orchestrator",
        "correlation_id": "c-1",
        "llm_config_overrides": '{"model": "å", "temperature": 0.2}',
    }
    from_plain, from_envelope = requests_in(write(lines(plain, ENVELOPE)))
    assert from_plain.request == from_envelope.request
    assert from_plain.request.llm_config_overrides == '{"model":"å","temperature":0.2}'


def test_the_uploads_of_the_demo_are_valid() -> None:
    given = read_uploads([str(path) for path in sorted(DATA.glob("*.jsonl"))])
    assert {"course:ENG5", "assignment:sve1-debattartikel"} < {upload.scope_key for upload in given}
    assert [upload.text is None for upload in given].count(True) == 1


def changed(document: dict[str, Any], **changes: Any) -> str:
    return lines({**document, **changes})


def without(document: dict[str, Any], name: str) -> str:
    return lines({key: value for key, value in document.items() if key != name})


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "has no entries"),
        ("[]", "has no entries"),
        (b'{"type": "\xff"}', "line 1: not UTF-8 at byte 10"),
        (lines(UPLOAD) + "\n{", "line 2: not JSON: Expecting property name enclosed in double"),
        (
            lines(UPLOAD, UPLOAD).replace("\n", " "),
            "line 1: not JSON: more than one value in the line",
        ),
        ("[" + lines(UPLOAD), "line 1: not JSON: `,` or `]` is missing"),
        (lines([UPLOAD]) + "x", "not JSON: the array does not end at the end of the file"),
        ('{"type": 1, "type": 2}', "line 1: not JSON: the field type occurs twice"),
        ('{"type": NaN}', "not JSON: NaN and Infinity are not JSON numbers"),
        ('{"type": "\\ud800"}', "not JSON: it contains a lone surrogate"),
        ('{"a":' * 100_000, "not JSON: nested too deeply"),
        ("7", "line 1: not a JSON object"),
        (changed(UPLOAD, type="essay"), "line 1: type: Input should be"),
        (without(UPLOAD, "type"), "type: missing"),
        (changed(UPLOAD, system_prompt="Be kind."), "system_prompt: no such field"),
        (
            changed(UPLOAD, **{"Secret words of a text": 1}),
            r"\(a name of 22 characters\): no such field",
        ),
        (changed(UPLOAD, language=""), "language: not a BCP 47 language tag"),
        (changed(INSTRUCTIONS, language="sv"), "language: only a student prompt has it"),
        (changed(UPLOAD, assignment_id=7), "assignment_id: Input should be a valid string"),
        (changed(UPLOAD, assignment_id="a/1"), "assignment_id: not an id"),
        (
            changed(UPLOAD, assignment_id="a" * 101),
            "assignment_id: 101 characters, allowed are 1 to 100",
        ),
        (changed(UPLOAD, assignment_id=" "), "assignment_id: 0 characters"),
        (changed(UPLOAD, course_id="ENG5"), "exactly one of assignment_id and course_id"),
        (without(UPLOAD, "assignment_id"), "exactly one of assignment_id and course_id"),
        (
            changed(UPLOAD, assignment_id=None, course_id="ENG5"),
            "course_id: a course has only instructions",
        ),
        (without(UPLOAD, "text"), "exactly one of text and text_file"),
        (changed(UPLOAD, text=" too short "), "text: 9 characters, at least 10"),
        (changed(UPLOAD, text="ö" * 65_537), "text: 131074 bytes, at most 131072"),
        (changed(INSTRUCTIONS, text="x" * 65_537), "text: 65537 bytes, at most 65536"),
        (changed(UPLOAD, text="a text with \0 in it"), r"text: contains U\+0000"),
        (
            changed(UPLOAD, text=None, text_file="../given.jsonl"),
            "text_file: not in or below the folder",
        ),
        (
            changed(UPLOAD, text=None, text_file="/etc/hosts"),
            "text_file: not in or below the folder",
        ),
        (
            changed(UPLOAD, text=None, text_file="nowhere"),
            "text_file: cannot be read: No such file",
        ),
        (without(INSTRUCTIONS, "grade_scale"), "grade_scale: missing"),
        (
            changed(INSTRUCTIONS, grade_scale="swedish"),
            "grade_scale: unknown grade scale; the scales are",
        ),
        (changed(INSTRUCTIONS, context_origin="My Class"), "context_origin: does not match"),
        (changed(UPLOAD, grade_scale="swedish_8_anchor"), "grade_scale: only instructions have it"),
        (changed(UPLOAD, actor="x" * 256), "actor: 256 characters"),
        (changed(DELETION, text="Should it be banned?"), "text: not allowed in a deletion"),
        (changed(DELETION, delete="yes"), "delete: Input should be a valid boolean"),
    ],
)
def test_an_invalid_upload_is_refused_with_its_line_and_field(
    write: Write, content: str | bytes, rule: str
) -> None:
    with pytest.raises(Malformed, match=rule) as refusal:
        uploads_in(write(content))
    assert "homework" not in str(refusal.value)
    assert "Secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (without(REQUEST, "batch_id"), "line 1: batch_id: missing"),
        (changed(REQUEST, batch_id=""), "batch_id: 0 characters"),
        (
            changed(REQUEST, course_code="ENG5" * 13),
            "course_code: 52 characters, allowed are 1 to 50",
        ),
        (changed(REQUEST, essays=ESSAYS[:1]), "essays: 1 items, allowed are 2 to 5000"),
        (
            changed(REQUEST, essays=[ESSAYS[0], {"essay_id": "e"}]),
            "essays.1: exactly one of text_storage_id, text and text_file",
        ),
        (
            changed(REQUEST, essays=[ESSAYS[0], {**ESSAYS[1], "text": "Be kind to youth."}]),
            "essays.1: exactly one of text_storage_id, text and text_file",
        ),
        (
            changed(REQUEST, essays=[ESSAYS[0], {"essay_id": "e", "text": "kind"}]),
            r"essays.1.text: 4 characters, at least 10",
        ),
        (
            changed(REQUEST, essays=[ESSAYS[0], {"essay_id": "e", "text_file": "../e.txt"}]),
            "essays.1.text_file: not in or below the folder",
        ),
        (
            changed(REQUEST, essays=[ESSAYS[0], {"essay_id": "e", "text": "kind " * 30_000}]),
            "essays.1.text: 149999 bytes, at most 131072",
        ),
        (changed(REQUEST, occurred_at_ms=True), "occurred_at_ms: Input should be a valid integer"),
        (changed(REQUEST, occurred_at_ms=-1), "occurred_at_ms: allowed are 0"),
        (changed(REQUEST, llm_config_overrides="[1]"), "llm_config_overrides: not a JSON object"),
        (
            changed(REQUEST, llm_config_overrides=7),
            "llm_config_overrides: Input should be a valid string",
        ),
        (changed(REQUEST, system_prompt="Be kind."), "system_prompt: no such field"),
        (
            changed(ENVELOPE, data={**DATA_OF_ENVELOPE, "entity_id": None}),
            "data.entity_id: Input should",
        ),
        (
            changed(ENVELOPE, event_timestamp="2030-01-15T10:30:00"),
            "event_timestamp: not an ISO 8601 time",
        ),
        (changed(ENVELOPE, event_timestamp=1_894_699_800), "event_timestamp: not an ISO 8601 time"),
        (without(ENVELOPE, "correlation_id"), "correlation_id: missing"),
    ],
)
def test_an_invalid_request_is_refused_with_its_line_and_field(
    write: Write, content: str, rule: str
) -> None:
    with pytest.raises(Malformed, match=rule) as refusal:
        requests_in(write(content))
    assert "kind" not in str(refusal.value)


def test_every_line_is_checked_and_faulty_lines_are_counted(write: Write) -> None:
    content = lines(UPLOAD, {**UPLOAD, "text": "short"}, UPLOAD, {})
    with pytest.raises(Malformed, match=r"line 2: text: .*line 4: .*nothing was sent"):
        uploads_in(write(content))


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Malformed, match=r"cannot read nowhere\.json: No such file"):
        uploads_in("nowhere.json")


@pytest.mark.parametrize(
    ("found", "content"),
    {
        "UTF-16 text": b"\xff\xfe" + '{"a": 1}'.encode("utf-16-le"),  # as PowerShell redirects
        "UTF-16 text ": '{"a": 1}'.encode("utf-16-le"),
        "gzip data": b"\x1f\x8b\x08",
        "an Excel workbook": b"PK\x03\x04 xl/workbook.xml",
        "an HTML page": b"<!DOCTYPE html><html>",  # of a page for signing in
    }.items(),
)
def test_a_file_of_another_format_is_named(tmp_path: Path, found: str, content: bytes) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(content)
    with pytest.raises(Malformed, match=f"requests.jsonl: {found.strip()}: save it as JSON"):
        read_requests([str(file)], 1, lambda: "id")


def test_standard_input_is_read_once() -> None:
    with pytest.raises(Malformed, match="standard input can be read only once"):
        read_uploads(["-", "-"])


def test_every_faulty_line_is_named(write: Write) -> None:
    content = lines({**UPLOAD, "text": "short"}, UPLOAD, {**UPLOAD, "actor": 7}, {})
    with pytest.raises(FaultyLines) as fault:
        read_uploads([write(content)])
    named = [re.search(r"line (\d+)", line) for line in fault.value.lines[:-1]]
    assert [found and found[1] for found in named] == ["1", "3", "4"]
    assert fault.value.lines[-1] == "nothing was sent"


@pytest.mark.parametrize("name", ["text_file", "course_id", "context_origin", "actor", "language"])
def test_a_field_that_is_null_counts_as_left_out(write: Write, name: str) -> None:
    (with_null,) = uploads_in(write(lines({**UPLOAD, name: None})))
    (without,) = uploads_in(write(lines({k: v for k, v in UPLOAD.items() if k != name})))
    assert with_null.line == without.line


@pytest.mark.parametrize("tag", ["sv", "en-GB", "zh-Hant-TW", "de-CH-1996", "x-class-7b", "sv-x-a"])
def test_a_language_is_a_bcp_47_tag(write: Write, tag: str) -> None:
    assert one_request(write, language=tag).language == tag


@pytest.mark.parametrize("name", ["Svenska", "swedish", "sv_SE", "s", "sv-", "sv SE", "å", "1"])
def test_the_name_of_a_language_is_refused(write: Write, name: str) -> None:
    with pytest.raises(Malformed, match="language: not a BCP 47 language tag"):
        one_request(write, language=name)


@pytest.mark.parametrize("due", [1, 1_900_000_000, 17_179_869_183, 1_900_000_000_000_000])
def test_a_deadline_in_seconds_or_microseconds_is_refused(write: Write, due: int) -> None:
    with pytest.raises(Malformed, match=r"due_at_ms: allowed are .* ms since 1970"):
        one_request(write, due_at_ms=due)
    assert one_request(write, due_at_ms=1_900_000_000_000).due_at_ms == 1_900_000_000_000


def test_an_essay_is_in_a_batch_once(write: Write) -> None:
    twice = [{"essay_id": "e1", "text_storage_id": name} for name in ("t1", "t2")]
    with pytest.raises(Malformed, match="essays: items 0 and 1 have the same essay_id"):
        one_request(write, essays=twice)


def one_request(write: Write, **fields: Any) -> Any:
    return read_requests([write(lines({**REQUEST, **fields}))], 1, lambda: "id")[0].request
