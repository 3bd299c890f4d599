"""Preflight's checks that need no service, and the error that lists the failed checks."""

from datetime import date
from pathlib import Path

import pytest

from processors.settings import Settings
from schemas.errors import CJStreamError, Unreachable
from schemas.field_limits import MAX_ANCHORS
from tests.support.run_command import environment_variables
from tests.unit.runner.test_manifest import text
from tools.models.override_check import installed_models
from tools.runner.inventory import Inventory
from tools.runner.preflight import (
    Plan,
    PreflightCheck,
    PreflightFailed,
    checked,
    key_check,
    local_checks,
    refuse_failed,
)

TODAY = date(2026, 11, 30)
MODELS = installed_models(Settings(judge="simulated/sim-1"), TODAY)


def plan(folder: Path, *grades: str, judge: str = "simulated/sim-1") -> Plan:
    anchors = tuple(text("anchor", f"anchor-{n}", grade) for n, grade in enumerate(grades))
    model = MODELS.named(judge)
    assert model is not None
    return Plan(
        inventory=Inventory((text("prompt", "prompt"), *anchors)),
        assignment_id="a1",
        grade_scale="swedish_8_anchor",
        model=model,
        folder=folder,
    )


def failed(checks: list[PreflightCheck]) -> dict[str, PreflightCheck]:
    return {check.name: check for check in checks if not check.ok}


@pytest.mark.parametrize(
    ("grades", "is_enough"),
    [
        ((), True),
        (("A", "B"), False),
        (("A", "A", "A"), False),
        (("A", "A", "B"), True),
        (("A", "B") * (MAX_ANCHORS // 2), True),
        (("A", "B") * (MAX_ANCHORS // 2 + 1), False),
    ],
)
def test_anchors_must_be_enough_for_grades_or_none(
    tmp_path: Path, grades: tuple[str, ...], is_enough: bool
) -> None:
    found = failed(local_checks(plan(tmp_path, *grades)))
    assert (found == {}) == is_enough
    if not is_enough:
        assert f"{len(grades)} anchors" in found["anchors"].detail
        assert (found["anchors"].exit_code, "give 3 to 200" in found["anchors"].remedy) == (3, True)


def test_a_folder_that_is_new_is_probed_in_the_one_that_will_hold_it(tmp_path: Path) -> None:
    assert failed(local_checks(plan(tmp_path / "a" / "b"))) == {}
    assert list(tmp_path.iterdir()) == []  # and nothing is left there


def test_a_disk_without_room_and_a_folder_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    full = failed(local_checks(plan(tmp_path / "run"), free_bytes_min=2**62))["folder"]
    assert f"{tmp_path} has " in full.detail
    assert f"MiB left, {2**42} are needed" in full.detail
    assert (full.exit_code, "free some space" in full.remedy) == (1, True)
    (tmp_path / "file").write_text("")
    no_folder = failed(local_checks(plan(tmp_path / "file" / "run")))["folder"]
    assert no_folder.detail.startswith(f"{tmp_path / 'file'} cannot be written to: ")


def test_a_key_is_looked_for_where_the_provider_names_it(tmp_path: Path) -> None:
    model, file = plan(tmp_path, judge="openai/gpt-5-mini").model, tmp_path / "key"
    with environment_variables(OPENAI_API_KEY=None, OPENAI_API_KEY_FILE=None):
        missing = key_check(model, Settings(), TODAY)
    assert (missing.ok, missing.detail, missing.exit_code) == (
        False,
        "OPENAI_API_KEY is not set",
        2,
    )
    file.write_text("sk-secret")
    with environment_variables(OPENAI_API_KEY=None, OPENAI_API_KEY_FILE=str(file)):
        there = key_check(model, Settings(), TODAY)
    assert (there.ok, there.detail) == (True, "OPENAI_API_KEY is set")
    assert key_check(plan(tmp_path).model, Settings(), TODAY).ok  # the simulated judge takes none


def test_a_check_is_ok_unless_it_raises_an_expected_error() -> None:
    def look() -> str:
        raise Unreachable("nobody is there")

    assert checked("x", "do y", 4, lambda: "found") == PreflightCheck("x", True, "found")
    assert checked("x", "do y", 4, look) == PreflightCheck("x", False, "nobody is there", "do y", 4)


def test_failed_checks_are_a_line_each_and_the_exit_code_is_that_of_the_worst() -> None:
    ok = PreflightCheck("one", True, "found", "", 7)
    bad = [PreflightCheck("two", False, "gone", "restore it", code) for code in (2, 4, 1)]
    refuse_failed([ok])
    with pytest.raises(PreflightFailed) as refused:
        refuse_failed([ok, *bad])
    assert refused.value.exit_code == 4
    assert refused.value.lines == ("two: gone: restore it",) * 3
    assert isinstance(refused.value, CJStreamError)
