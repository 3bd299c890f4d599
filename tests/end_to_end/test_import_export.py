"""`admin import` and `admin export` against the real API: reports, dry run, a second run, the round trip, the time."""

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from tables.content_store import ContentStore
from tests.end_to_end.serving import Serving, ready_api
from tests.support.installations import installation
from tests.support.run_command import run_main
from tests.support.tokens import SECRET
from tools.broker import Broker

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300)]
LIMIT_S = 120
HEADER = (
    "assignment_id,course_id,grade_scale,context_origin,instructions_text,prompt_text,rubric_text"
)
TABLE = f"""id,{HEADER},created_at
1,a1,NULL,swedish_8_anchor,research_experiment,"Judge ""clarity"",
and structure.",Write about a rule.,\\N,2024-01-01
2,a2,,swedish_8_anchor,,Judge the argument.,,Weigh clarity twice.,2024-01-01
3,,ENG5,eng5_np_legacy_9_step,,Judge the whole text.,,,2024-01-01
"""
FAULTY = f"""{HEADER}
a3,,swedish_8_anchor,,short,,
a4,,no_such_scale,,Judge the argument.,,
a5,ENG5,swedish_8_anchor,,Judge the argument.,,
a6,,swedish_8_anchor
a1,,eng5_np_legacy_9_step,,Judge the argument.,,
a7,,swedish_8_anchor,,Judge the argument.,,
a7,,swedish_8_anchor,,Judge the argument again.,,
"""
Admin = Callable[..., tuple[int, Any, str]]


def admin_of(api: Serving, folder: Path) -> Admin:
    """Runs admin commands on this API, in this folder."""
    development = {
        "CJSTREAM_ENVIRONMENT": "development",
        "JWT_SECRET_KEY": SECRET,
        "CJ_ADMIN_BASE_URL": api.url,
        "CJ_ADMIN_TOKEN_PATH": str(folder / "token.json"),
    }
    inherited = {name: value for name, value in os.environ.items() if name[:2] != "CJ"}

    def run(*arguments: str) -> tuple[int, Any, str]:
        with chdir(folder):
            code, out, err = run_main(inherited | development, "admin", *arguments, "--json")
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def admin(settings: Settings, tmp_path: Path) -> Iterator[Admin]:
    with ready_api(settings) as api:
        yield admin_of(api, tmp_path)


def counts(document: Any) -> dict[str, int]:
    names = ("created", "updated", "unchanged", "skipped", "refused")
    return {name: document[name] for name in names if document[name]}


def test_a_table_is_imported_reported_and_imported_again(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    for flags, created in ((["--dry-run"], 3), (["--dry-run"], 3), ([], 3)):
        code, report, err = admin("import", "table.csv", *flags)
        assert (code, counts(report)) == (0, {"created": created}), err
    for flags, found in (
        (["--dry-run"], "unchanged"),
        ([], "unchanged"),
        (["--create-only"], "skipped"),
        (["--create-only", "--dry-run"], "skipped"),
    ):
        code, report, err = admin("import", "table.csv", *flags)
        assert (code, counts(report)) == (0, {found: 3}), err
    _, a1, _ = admin("assignments", "show", "a1")
    assert a1["instructions"]["text"] == 'Judge "clarity",\nand structure.'
    assert (a1["student_prompt"]["text"], a1["judge_rubric"]) == ("Write about a rule.", None)
    (tmp_path / "table.csv").write_text(TABLE.replace("Weigh clarity", "Weigh structure"))
    for flags in (["--dry-run"], []):
        code, report, err = admin("import", "table.csv", *flags)
        assert (code, counts(report)) == (0, {"updated": 1, "unchanged": 2}), err


def test_every_faulty_line_is_listed_and_the_others_are_written(
    admin: Admin, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    assert admin("import", "table.csv")[0] == 0
    (tmp_path / "faulty.csv").write_text(FAULTY)
    for flags in (["--dry-run"], []):
        code, report, _ = admin("import", "faulty.csv", *flags)
        assert (code, counts(report)) == (1, {"created": 1, "refused": 6})
        faults = {each["line"]: each["faults"][0] for each in report["refused_lines"]}
        assert list(faults) == [2, 3, 4, 5, 6, 8]
        assert faults[2] == "instructions_text is too short"
        assert "grade_scale" in faults[3]
        assert faults[5] == "3 values for 7 columns"
        assert faults[8] == "the same assignment as in line 7"
        assert "Judge" not in json.dumps(report)
    (tmp_path / "unknown.csv").write_text("assignment_id,prompts\na1,x\n")
    code, problem, _ = admin("import", "unknown.csv")
    assert (code, "unknown columns: prompts" in problem["detail"]) == (1, True)


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl"])
def test_what_is_exported_can_be_imported_elsewhere_and_is_then_exported_alike(
    admin: Admin, broker: Broker, tmp_path: Path, name: str
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    assert admin("import", "table.csv")[0] == 0
    assert admin("rubrics", "delete", "a2", "--yes")[0] == 0
    code, report, err = admin("export", name)
    assert (code, report["rows"]) == (0, 3), err
    elsewhere = tmp_path / "elsewhere"
    with ready_api(installation(broker, elsewhere)) as other:
        admin_elsewhere = admin_of(other, elsewhere)
        code, report, err = admin_elsewhere("import", str(tmp_path / name))
        assert (code, counts(report)) == (0, {"created": 3}), err
        assert admin_elsewhere("export", name)[0] == 0
    assert (elsewhere / name).read_text() == (tmp_path / name).read_text()


def test_an_export_lacks_only_what_cannot_be_read_and_names_it(
    admin: Admin, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    assert admin("import", "table.csv")[0] == 0
    assert ContentStore.open(settings.content).discard(sha256(b"Weigh clarity twice.").hexdigest())
    code, report, err = admin("export", "all.csv")
    assert (code, report["rows"], "assignment:a2 is not in the file" in err) == (3, 2, True), err
    unreadable = {"rubric_text": "missing"}
    assert report["lacking"] == [{"scope_key": "assignment:a2", "unreadable": unreadable}]
    code, report, err = admin("import", "all.csv", "--dry-run")
    assert (code, counts(report)) == (0, {"unchanged": 2}), err


@pytest.mark.parametrize("many", [1000, pytest.param(5000, marks=pytest.mark.long)])
def test_many_assignments_are_imported_in_two_minutes(
    admin: Admin, tmp_path: Path, many: int
) -> None:
    with (tmp_path / "many.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEADER.split(","))
        for number in range(many):
            texts = (f"Judge argument {number}.", f"Write about rule {number}.", "")
            table.writerow((f"m-{number}", "", "swedish_8_anchor", "", *texts))
    started_s = time.monotonic()
    code, report, err = admin("import", "many.csv")
    assert (code, counts(report)) == (0, {"created": many}), err
    assert time.monotonic() - started_s < LIMIT_S
