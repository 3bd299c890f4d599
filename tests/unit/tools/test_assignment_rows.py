"""Tables of assignments: what is written is read alike, and what databases and spreadsheets write is understood."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed
from tools.admin.assignment_rows import COLUMNS, NULLS, Format, encode_rows, rows_in

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: text not in NULLS
)
OF_EXPORT = [name for name in COLUMNS if not name.endswith("storage_id")]
ROWS = st.lists(st.dictionaries(st.sampled_from(OF_EXPORT), TEXTS, min_size=1))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@given(rows=ROWS)
def test_rows_that_are_written_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, form: Format, rows: list[dict[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("rows") / "file"
    file.write_bytes(encode_rows(rows, form).encode())
    assert [row.values for row in rows_in(str(file), form)] == rows


@pytest.mark.parametrize(
    ("content", "line", "values"),
    [
        ("assignment_id,grade_scale\n\na1,NULL\n", 3, {"assignment_id": "a1"}),
        (
            "\ufeffassignment_id;grade_scale\r\na1;s\r\n",
            2,
            {"assignment_id": "a1", "grade_scale": "s"},
        ),
        ("id\tassignment_id\tcourse_id\n7\ta1\t\\N\n", 2, {"assignment_id": "a1"}),
        ('assignment_id,prompt_text\na0,"x\ny"\na1,\n', 4, {"assignment_id": "a1"}),
    ],
)
def test_tables_of_databases_and_spreadsheets_are_read(
    tmp_path: Path, content: str, line: int, values: dict[str, Any]
) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content.encode())
    last = rows_in(str(file), "csv")[-1]
    assert (last.line, last.values) == (line, values)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            "assignment_id,Judge the argument\na1,x\n",
            r"unknown columns: \(a name of 18 characters\)",
        ),
        ("assignment_id,assignment_id\n", "must name each column once"),
        ('assignment_id\n"a1"x\n', "line 2: not CSV"),
        ("", "must name each column once"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: str, fault: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(content)
    with pytest.raises(Malformed, match=fault):
        rows_in(str(file), "csv")
