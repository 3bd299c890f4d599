"""Assignments and courses as rows of a table: CSV or JSON lines, read and written; an absent value is null."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from schemas.errors import Malformed
from tools.json_files import DECODER, MAX_FILE_BYTES, STDIN, name_of, safe_name

Format = Literal["csv", "jsonl"]
COLUMNS = (
    "assignment_id",
    "course_id",
    "grade_scale",
    "context_origin",
    "instructions_text",
    "prompt_text",
    "rubric_text",
    "student_prompt_storage_id",
    "judge_rubric_storage_id",
)
OF_DATABASES = {"id", "created_at", "updated_at"}  # columns that a table of assignments has, too
NULLS = {"", "NULL", r"\N"}  # as databases write it into CSV
DELIMITERS = ",;\t"
MAX_FIELD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row that are not null, and the line in which it begins; or why it cannot be read."""

    line: int
    values: Mapping[str, object]
    fault: str = ""

    @property
    def scope(self) -> str:
        """The assignment or course, for messages; its id may be invalid."""
        for kind in ("assignment", "course"):
            if isinstance(value := self.values.get(f"{kind}_id"), str):
                return f"{kind} {safe_id(value)}"
        return "no scope"


def safe_id(value: str) -> str:
    """An id for messages; a misplaced text is not shown."""
    return value if len(value) <= 100 and value.isprintable() else f"({len(value)} characters)"


def format_of(file: str, chosen: Format | None) -> Format:
    """The chosen format, or else that of the file's name; CSV if the name does not tell."""
    is_json = Path(file).suffix.lower() in (".jsonl", ".ndjson", ".json")
    return chosen or ("jsonl" if is_json else "csv")


def rows_in(file: str, form: Format) -> list[Row]:
    """Every row of a file, in its order. Raises Malformed if it cannot be read or has columns that nothing knows."""
    rows = list(_json_rows(file) if form == "jsonl" else _csv_rows(file))
    unknown = {name for row in rows for name in row.values if name not in COLUMNS}
    if unknown - OF_DATABASES:
        names = ", ".join(sorted(map(safe_name, unknown - OF_DATABASES)))
        raise Malformed(f"{name_of(file)}: unknown columns: {names}; known: {', '.join(COLUMNS)}")
    return [
        replace(row, values={name: row.values[name] for name in COLUMNS if name in row.values})
        for row in rows
    ]


def _json_rows(file: str) -> Iterator[Row]:
    for number, line in enumerate(_text_of(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = DECODER.decode(line)
        except (ValueError, RecursionError):
            yield Row(number, {}, "not JSON")
            continue
        if isinstance(value, dict):
            yield Row(number, {name: cell for name, cell in value.items() if cell is not None})
        else:
            yield Row(number, {}, "not a JSON object")


def _csv_rows(file: str) -> Iterator[Row]:
    text = _text_of(file)
    header_line = text.split("\n", 1)[0]
    csv.field_size_limit(MAX_FIELD)
    # a spreadsheet writes semicolons where the comma is the decimal sign
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=max(DELIMITERS, key=header_line.count),
        strict=True,
    )
    try:
        header = [name.strip() for name in next(lines, [])]
        if not header or len(set(header)) != len(header):
            raise Malformed(f"{name_of(file)}: the first line must name each column once")
        begins = lines.line_num + 1
        for cells in lines:
            if cells and len(cells) != len(header):
                yield Row(begins, {}, f"{len(cells)} values for {len(header)} columns")
            elif cells:
                pairs = zip(header, cells, strict=True)
                yield Row(begins, {name: cell for name, cell in pairs if cell not in NULLS})
            begins = lines.line_num + 1
    except csv.Error as fault:
        raise Malformed(f"{name_of(file)}, line {lines.line_num}: not CSV: {fault}") from fault


def _text_of(file: str) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise Malformed(f"{name_of(file)}: more than {MAX_FILE_BYTES} bytes: split the file")
        return content.decode("utf-8-sig")
    except OSError as fault:
        raise Malformed(f"cannot read {name_of(file)}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise Malformed(f"{name_of(file)}: not UTF-8 at byte {fault.start}") from None


def encode_rows(rows: Iterable[Mapping[str, str]], form: Format) -> str:
    """Rows as the text of a file; `rows_in` reads the same rows from it."""
    out = io.StringIO(newline="")
    if form == "jsonl":
        out.writelines(f"{json.dumps(dict(row), ensure_ascii=False)}\n" for row in rows)
    else:
        # the columns of texts only: `import` gives a text its storage id
        columns = [name for name in COLUMNS if not name.endswith("storage_id")]
        table = csv.DictWriter(
            out, columns, restval=""
        )  # ends lines with \r\n: else a single \r is not quoted
        table.writeheader()
        table.writerows(rows)
    return out.getvalue()
