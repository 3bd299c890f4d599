"""The grades of anchors: a CSV file with the columns anchor_id (or ANCHOR-ID) and grade."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.scales import get_scale, is_grade
from tools.runner.input_text import id_of

MAX_FILE_BYTES = 1024 * 1024
ID_COLUMNS = ("anchor_id", "anchor-id")  # in lower case
GRADE_COLUMN = "grade"
SEPARATORS = ",;\t"
PARTS = re.compile(r"[\s_]+")


@dataclass(frozen=True, slots=True)
class Grades:
    """The grade of each anchor by its id, and what is wrong with the file."""

    by_id: dict[str, str]
    faults: tuple[str, ...]


def read_grades(path: Path, scale_id: str) -> Grades:
    """The grades in a file; a fault names the line. Nothing is raised."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as fault:
        return Grades({}, (f"{path.name}: cannot be read: {fault.strerror}",))
    except UnicodeDecodeError as fault:
        return Grades({}, (f"{path.name}: not UTF-8 at byte {fault.start}: save it as CSV UTF-8",))
    if len(content) > MAX_FILE_BYTES:
        return Grades({}, (f"{path.name}: more than {MAX_FILE_BYTES} bytes",))
    by_id, faults = dict[str, str](), list[str]()
    try:
        for line, anchor_id, grade in _rows(text):
            name = f"{path.name}, line {line}"
            if not is_grade(scale_id, grade):
                known = ", ".join(get_scale(scale_id).grades)
                faults.append(f"{name}: not a grade of {scale_id}; its grades are {known}")
            elif not anchor_id:
                faults.append(f"{name}: no anchor id")
            elif anchor_id in by_id:
                faults.append(f"{name}: the anchor {anchor_id} has a row before")
            else:
                by_id[anchor_id] = grade
    except (csv.Error, ValueError) as fault:
        faults.append(f"{path.name}: {fault}")
    return Grades(by_id, tuple(faults))


def _rows(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, anchor id and grade of each row. Raises ValueError, csv.Error."""
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = [name.strip().lower() for name in next(reader, [])]
    at_id = next((columns.index(name) for name in ID_COLUMNS if name in columns), None)
    if at_id is None or GRADE_COLUMN not in columns:
        raise ValueError("its first line must name the columns anchor_id and grade")
    at_grade = columns.index(GRADE_COLUMN)
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(at_id, at_grade):
            raise ValueError(f"line {reader.line_num} has too few cells")
        # a name with a suffix is a file's name
        anchor_id = row[at_id].strip()
        has_suffix = anchor_id.lower().endswith((".docx", ".txt"))
        yield (
            reader.line_num,
            id_of(anchor_id if has_suffix else f"{anchor_id}.txt"),
            row[at_grade].strip(),
        )


def grade_in_name(file_name: str, scale_id: str) -> str | None:
    """The grade that the last part of a file's name is, such as C+ in `anchor_07_C+.docx`; None if it is none."""
    parts: Sequence[str] = PARTS.split(Path(file_name).stem)
    last = parts[-1].upper()
    return last if len(parts) > 1 and not last.isdigit() and is_grade(scale_id, last) else None
