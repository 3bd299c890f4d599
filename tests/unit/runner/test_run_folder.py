"""A run's folder: steps, manifest, and one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import CJStreamError, Malformed
from tests.support.run_command import ROOT
from tools.runner.manifest import MANIFEST_VERSION, manifest_of
from tools.runner.run_folder import MANIFEST, STATE, RunFolder, RunIsLocked, new_folder

HELD = """
import sys; from pathlib import Path; from tools.runner.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True); sys.stdin.readline()
"""


def test_a_step_is_noted_before_and_after_with_its_facts(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a" / "run")
    assert (folder.is_done("texts"), folder.facts_of("texts")) == (False, {})
    folder.note("texts", "begun", texts=3)
    assert (folder.is_done("texts"), folder.facts_of("texts")) == (False, {"texts": 3})
    folder.note("texts", "done", sent=2)
    again = RunFolder(folder.path)
    assert (again.is_done("texts"), again.facts_of("texts")) == (True, {"texts": 3, "sent": 2})
    assert not again.is_done("other")


def test_a_second_run_never_begins_in_a_folder(tmp_path: Path) -> None:
    new_folder(tmp_path).note("planned", "done")
    with pytest.raises(CJStreamError, match="has a run already"):
        new_folder(tmp_path)


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(RunIsLocked), RunFolder(tmp_path).locked():
            pass
        other.kill()
    with RunFolder(tmp_path).locked():
        pass


def test_damaged_notes_and_a_changed_manifest_are_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(Malformed, match=MANIFEST):
        folder.manifest()
    manifest = manifest_of({"manifest_version": MANIFEST_VERSION, "label": "a"})
    folder.write(MANIFEST, manifest.content)
    assert folder.manifest() == manifest
    folder.write(MANIFEST, manifest.content.replace(b":", b": "))
    with pytest.raises(Malformed, match="canonical"):
        folder.manifest()
    folder.write(STATE, b"[]")
    with pytest.raises(Malformed, match=STATE):
        folder.is_done("texts")


def test_no_partial_file_is_left(tmp_path: Path) -> None:
    RunFolder(tmp_path).write("file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
