"""The inputs of a run, found and checked: its texts, the files that are skipped, and every fault at once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.errors import CJStreamError, Discrepancy
from tools.runner.grades_file import Grades, grade_in_name, read_grades
from tools.runner.input_text import InputText, id_of, is_text_file, read_input

ESSAYS_MIN = 2
REQUIRED = ("instructions", "prompt", "students")
FILES = ("instructions", "prompt", "rubric", "system")
FOLDERS = ("anchors", "students")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPaths:
    """Where the inputs are; None: not given. The first four and grades are files, the others folders."""

    instructions: Path | None = None
    prompt: Path | None = None
    rubric: Path | None = None
    system: Path | None = None
    anchors: Path | None = None
    grades: Path | None = None
    students: Path | None = None

    def within(self, root: Path | None) -> "InputPaths":
        """The same paths; one that is not given is the file or folder with its name in the root, if that is there."""
        if root is None:
            return self
        found: dict[str, Path | None] = {name: _text_named(root, name) for name in FILES}
        found |= {name: root / name if (root / name).is_dir() else None for name in FOLDERS}
        found["grades"] = root / "grades.csv" if (root / "grades.csv").is_file() else None
        return InputPaths(**{name: getattr(self, name) or path for name, path in found.items()})


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not an input, and why."""

    file_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every text of a run: roles, then anchors and students by id."""

    texts: tuple[InputText, ...]
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, kind: str) -> tuple[InputText, ...]:
        """The texts of a kind."""
        return tuple(text for text in self.texts if text.kind == kind)

    def one(self, kind: str) -> InputText | None:
        """The text of a role; None if it has none."""
        return next(iter(self.of(kind)), None)


class FaultyInputs(Discrepancy):
    """Everything that is wrong with the inputs, one line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


def take_inventory(paths: InputPaths, scale_id: str) -> Inventory:
    """The inputs of a run. Raises FaultyInputs."""
    faults = [
        f"--{name}: missing; give it, or a root folder that has it"
        for name in REQUIRED
        if getattr(paths, name) is None
    ]
    texts, skipped = list[InputText](), list[SkippedFile]()
    for kind in FILES:
        if (path := getattr(paths, kind)) is not None:
            texts += _read(kind, [path], faults)
    for kind, folder in (("anchor", paths.anchors), ("student", paths.students)):
        if folder is not None:
            files = _files_in(folder, kind, skipped, faults)
            texts += sorted(_read(kind, files, faults), key=lambda text: text.id)
    texts = _graded(texts, paths, scale_id, faults)
    faults += _collisions(texts)
    students = sum(text.kind == "student" for text in texts)
    if paths.students is not None and students < ESSAYS_MIN and not faults:
        faults.append(
            f"{paths.students.name}: {students} texts of students, {ESSAYS_MIN} are needed"
        )
    if faults:
        raise FaultyInputs(faults)
    return Inventory(tuple(texts), tuple(skipped), tuple(_notes(texts)))


def take_anchors(folder: Path, grades: Path, scale_id: str) -> Inventory:
    """The anchors in a folder, with their grades. Raises FaultyInputs."""
    faults, skipped = list[str](), list[SkippedFile]()
    files = list(_files_in(folder, "anchor", skipped, faults))
    texts = sorted(_read("anchor", files, faults), key=lambda text: text.id)
    texts = _graded(texts, InputPaths(anchors=folder, grades=grades), scale_id, faults)
    faults += _collisions(texts)
    if not files and not faults:
        faults.append(f"{folder.name}: no anchors")
    if faults:
        raise FaultyInputs(faults)
    return Inventory(tuple(texts), tuple(skipped))


def _text_named(root: Path, name: str) -> Path | None:
    candidates = (root / f"{name}{suffix}" for suffix in (".docx", ".txt"))
    return next((path for path in candidates if path.is_file()), None)


def _files_in(
    folder: Path, kind: str, skipped: list[SkippedFile], faults: list[str]
) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as fault:
        faults.append(f"{folder.name}: cannot be read: {fault.strerror}")
        return
    for path in entries:
        if path.is_dir():
            skipped.append(SkippedFile(f"{folder.name}/{path.name}", "a folder"))
        elif is_text_file(path):
            yield path
        else:
            skipped.append(
                SkippedFile(f"{folder.name}/{path.name}", f"no {kind}: not .docx or .txt")
            )


def _read(kind: str, files: Iterable[Path], faults: list[str]) -> list[InputText]:
    texts = []
    for path in files:
        try:
            texts.append(read_input(kind, path))
        except CJStreamError as fault:
            faults.append(f"{kind} {path.name}: {fault}")
    return texts


def _graded(
    texts: list[InputText], paths: InputPaths, scale_id: str, faults: list[str]
) -> list[InputText]:
    """The texts, anchors with their grades; rows and files must match one to one."""
    if paths.anchors is None and paths.grades is None:
        return texts
    if paths.anchors is None or paths.grades is None:
        lacking = "--grades" if paths.grades is None else "--anchors"
        faults.append(f"{lacking}: missing: anchors need their grades, and grades their anchors")
        return texts
    grades = read_grades(paths.grades, scale_id)
    faults += grades.faults
    # also of files whose text cannot be read: they are no second fault
    names = {id_of(path.name): path.name for path in _names_in(paths.anchors)}
    faults += [
        f"{paths.grades.name}: {row} has no file in {paths.anchors.name}"
        for row in sorted(grades.by_id.keys() - names.keys())
    ]
    if not grades.faults:
        faults += [
            f"anchor {names[one]}: no row in {paths.grades.name}"
            for one in sorted(names.keys() - grades.by_id.keys())
        ]
    for anchor_id, name in names.items():
        if fault := _other_grade(anchor_id, name, grades, scale_id):
            faults.append(fault)
    return [
        replace(text, grade=grades.by_id.get(text.id)) if text.kind == "anchor" else text
        for text in texts
    ]


def _names_in(folder: Path) -> list[Path]:
    return (
        [path for path in sorted(folder.iterdir()) if is_text_file(path)] if folder.is_dir() else []
    )


def _other_grade(anchor_id: str, name: str, grades: Grades, scale_id: str) -> str | None:
    named, given = grade_in_name(name, scale_id), grades.by_id.get(anchor_id)
    if named is None or given is None or named == given:
        return None
    return f"anchor {name}: its name says {named}, its row {given}"


def _collisions(texts: Iterable[InputText]) -> list[str]:
    names = defaultdict[str, list[str]](list)
    for text in texts:
        if text.kind in ("anchor", "student"):
            names[text.id].append(f"{text.kind} {text.file_name}")
    return [
        f"{', '.join(files)}: have the same id {one}: rename all but one"
        for one, files in sorted(names.items())
        if len(files) > 1
    ]


def _notes(texts: Iterable[InputText]) -> list[str]:
    names = defaultdict[bytes, list[str]](list)
    for text in texts:
        names[text.text].append(text.file_name)
    return [f"{', '.join(files)}: the same text" for files in names.values() if len(files) > 1]
