"""The inputs of a research run: found, checked, and every fault named at once."""

import io
import unicodedata
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from tools.runner.grades_file import grade_in_name, read_grades
from tools.runner.input_text import MAX_ID, id_of
from tools.runner.inventory import FaultyInputs, InputPaths, Inventory, take_inventory

SCALE = "swedish_8_anchor"
GRADES = ("F", "E", "D", "C", "B", "A")
W = nsdecls("w")
ESSAY = "Homework teaches pupils to plan their time, but too much of it takes their evenings. "


def document(*paragraphs: str, header: str = "", tracked: str = "") -> bytes:
    """A Word document; `tracked` is the name of an element of a tracked change in it."""
    made = docx.Document()
    for paragraph in paragraphs:
        made.add_paragraph(paragraph)
    made.sections[0].header.paragraphs[0].text = header
    if tracked:
        change = f"<w:{tracked} {W} w:id='1'><w:r><w:t>new</w:t></w:r></w:{tracked}>"
        made.add_paragraph("")._p.append(parse_xml(change))  # noqa: SLF001
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with everything that a run can have."""
    for folder in ("anchors", "students"):
        (tmp_path / folder).mkdir()
    for name in ("instructions", "prompt", "rubric", "system"):
        (tmp_path / f"{name}.txt").write_text(f"The {name} of this run.")
    for number, grade in enumerate(GRADES):
        (tmp_path / "anchors" / f"anchor {number}_{grade}.txt").write_text(f"{ESSAY * 2}{number}")
    for number in range(4):
        (tmp_path / "students" / f"Pupil {number}.txt").write_text(f"{ESSAY}{number}")
    rows = [f"anchor_{number}_{grade},{grade}" for number, grade in enumerate(GRADES)]
    (tmp_path / "grades.csv").write_text("\n".join(["ANCHOR-ID,Grade", *rows]))
    return tmp_path


def inventory_of(root: Path) -> Inventory:
    return take_inventory(InputPaths().within(root), SCALE)


def faults_of(root: Path) -> tuple[str, ...]:
    with pytest.raises(FaultyInputs) as raised:
        inventory_of(root)
    assert raised.value.exit_code == 3
    return raised.value.lines


def test_a_root_folder_has_every_input(root: Path) -> None:
    inventory = inventory_of(root)
    kinds = [text.kind for text in inventory.texts]
    roles = ["instructions", "prompt", "rubric", "system"]
    assert kinds == [*roles, *["anchor"] * 6, *["student"] * 4]
    assert [(one.id, one.grade) for one in inventory.of("anchor")] == [
        (f"anchor_{number}_{grade.lower()}", grade) for number, grade in enumerate(GRADES)
    ]
    assert [one.id for one in inventory.of("student")] == [f"pupil_{n}" for n in range(4)]
    assert (inventory.skipped, inventory.notes) == ((), ())


def test_an_option_goes_before_the_root_folder(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "another.txt"
    other.write_text("Another set of instructions.")
    found = take_inventory(InputPaths(instructions=other).within(root), SCALE).one("instructions")
    assert found is not None
    assert (found.file_name, found.text) == ("another.txt", b"Another set of instructions.")


def test_other_files_are_on_the_skip_list(root: Path) -> None:
    for name in ("notes.pdf", "~$pupil.docx", ".DS_Store", "old.doc"):
        (root / "students" / name).write_bytes(b"x")
    (root / "students" / "drafts").mkdir()
    skipped = {one.file_name: one.reason for one in inventory_of(root).skipped}
    assert skipped.keys() == {
        f"students/{name}"
        for name in ("notes.pdf", "~$pupil.docx", ".DS_Store", "old.doc", "drafts")
    }
    assert skipped["students/drafts"] == "a folder"


def test_the_text_of_a_word_document_has_no_header_and_no_footer(root: Path) -> None:
    content = document("First paragraph.", "Second one.", header="Ada Lovelace, class 9b")
    (root / "students" / "Pupil 0.txt").unlink()
    (root / "students" / "Pupil 0.docx").write_bytes(content)
    assert inventory_of(root).of("student")[0].text == b"First paragraph.\nSecond one."


@pytest.mark.parametrize("change", ["ins", "del", "moveFrom", "moveTo"])
def test_a_document_with_tracked_changes_is_refused(root: Path, change: str) -> None:
    content = document("A text that somebody has changed.", tracked=change)
    (root / "students" / "changed.docx").write_bytes(content)
    (fault,) = faults_of(root)
    assert fault.startswith("student changed.docx: has tracked changes")


def test_every_bad_file_is_named_at_once(root: Path) -> None:
    students = root / "students"
    (students / "damaged.docx").write_bytes(document("Whole.")[:-400])
    (students / "empty.txt").write_text(" \n ")
    (students / "picture.txt").write_bytes(b"\x89PNG\r\n and more")
    (students / "latin.txt").write_bytes("Läxor är bra för alla elever.".encode("latin-1"))
    (root / "anchors" / "anchor 0_F.txt").write_text("Too short for an anchor.")
    (root / "prompt.txt").unlink()
    named = "\n".join(faults_of(root))
    for part in ("damaged.docx", "empty.txt: has no text", "picture.txt", "latin.txt", "--prompt"):
        assert part in named
    assert "anchor 0_F.txt: has 24 characters, an anchor needs 100" in named
    assert len(named.splitlines()) == 6
    assert "Läxor" not in named


def test_two_files_with_one_id_are_refused(root: Path) -> None:
    (root / "students" / "PUPIL-0.txt").write_text(f"{ESSAY}again")
    assert len(inventory_of(root).of("student")) == 5  # - is not _
    (root / "students" / "pupil_0.docx").write_bytes(document(f"{ESSAY}once more"))
    (fault,) = faults_of(root)
    assert "student Pupil 0.txt" in fault
    assert "student pupil_0.docx" in fault
    assert "the same id pupil_0" in fault


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (["anchor_id,grade", "missing,A"], "grades.csv: missing has no file in anchors"),
        (["anchor_id,grade", "anchor_0_f,F"], "anchor anchor 1_E.txt: no row in grades.csv"),
        (["anchor_id,grade", "anchor_0_f,A"], "anchor 0_F.txt: its name says F, its row A"),
        (["anchor_id,grade", "anchor_0_f,Z"], "grades.csv, line 2: not a grade of swedish"),
        (["anchor_id,grade", "a,A", "A,B"], "grades.csv, line 3: the anchor a has a row before"),
        (["name,grade", "anchor_0_f,F"], "must name the columns anchor_id and grade"),
        (["anchor_id,grade", "anchor_0_f"], "line 2 has too few cells"),
    ],
)
def test_a_wrong_grades_file_is_named(root: Path, rows: list[str], fault: str) -> None:
    (root / "grades.csv").write_text("\n".join(rows))
    assert any(fault in one for one in faults_of(root))


def test_grades_may_be_separated_as_spreadsheets_do(root: Path) -> None:
    file = root / "grades.csv"
    for separator in (";", "\t"):
        file.write_bytes(f"\ufeffanchor_id{separator}grade\r\nA 1.docx{separator}C+\r\n".encode())
        found = read_grades(file, SCALE)
        assert (found.by_id, found.faults) == ({"a_1": "C+"}, ())


def test_anchors_need_grades_and_grades_need_anchors(root: Path) -> None:
    grades = root / "grades.csv"
    content = grades.read_bytes()
    grades.unlink()
    assert any(one.startswith("--grades: missing") for one in faults_of(root))
    grades.write_bytes(content)
    for file in (root / "anchors").iterdir():
        file.unlink()
    (root / "anchors").rmdir()
    assert any(one.startswith("--anchors: missing") for one in faults_of(root))


def test_equal_texts_are_noted(root: Path) -> None:
    (root / "students" / "copy.txt").write_text(f"{ESSAY}0")
    assert inventory_of(root).notes == ("copy.txt, Pupil 0.txt: the same text",)


def test_an_id_is_normal_and_short() -> None:
    assert id_of("Pupil Å (1).docx") == "pupil_å__1_"
    assert id_of(unicodedata.normalize("NFD", "Pupil Å.docx")) == id_of("pupil å.txt")
    assert len(id_of("x" * 100 + ".txt")) == MAX_ID


@pytest.mark.parametrize(
    ("name", "grade"),
    [
        ("anchor_07_C+.docx", "C+"),
        ("anchor 7 b.txt", "B"),
        ("a.txt", None),  # its whole name
        ("anchor_7.txt", None),
        ("anchor_essay.txt", None),
    ],
)
def test_the_grade_in_a_name_is_its_last_part(name: str, grade: str | None) -> None:
    assert grade_in_name(name, SCALE) == grade
