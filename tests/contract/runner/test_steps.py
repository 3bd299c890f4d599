"""The steps of a run against the real API: each is done once, also when the run was stopped before or after it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from processors.http_clients import http_client
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import CJStreamError, Discrepancy, VersionConflict
from tables.content_store import ContentStore
from tests.contract.api.calling import ADMIN, Api, make_api
from tests.contract.api.serving_in_thread import served
from tests.support.research_inputs import SCALE, research_inputs, write_files
from tests.support.tokens import hs256
from tests.unit.runner.test_manifest import ENVIRONMENT
from tools.admin.api import AdminApi
from tools.admin.client import HttpClient
from tools.admin.tokens import TokenCache
from tools.runner.content_client import content_client
from tools.runner.inventory import InputPaths, Inventory, take_inventory
from tools.runner.manifest import Manifest, RunOptions, build_manifest
from tools.runner.run_folder import RunFolder
from tools.runner.runner_log import RunLog
from tools.runner.steps import Services, Steps
from tools.runner.uploads import ChecksumCache

POINTS = [
    f"{step} {state}"
    for step in ("texts", "assignment", "anchors")
    for state in ("begun", "acted", "done")
]
OF_A1 = f"{ADMIN}/anchors/assignment/a1"


class Stopped(Exception):
    """A run is stopped at a point, as a kill would."""


@dataclass
class Run:
    """One run, which may be stopped at a point and continued as a new process would."""

    api: Api
    url: str
    folder: RunFolder
    inventory: Inventory
    manifest: Manifest
    reached: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)  # of a step, at each point
    plant: tuple[str, list[Exception | None]] = ("", [])  # faults of the API from a point on

    def upload(self, stop_at: str | None = None, *, force: bool = False) -> None:
        """Do the steps of the uploads."""

        def reach(point: str) -> None:
            self.reached.append(point)
            step = point.split()[0]
            self.noted.append(f"{step} {self.folder.state['steps'][step]['state']}")
            if point == self.plant[0]:
                self.api.log.faults += self.plant[1]
            if point == stop_at:
                raise Stopped

        with http_client(self.url) as client:
            cache = TokenCache(self.folder.path / "no-token", lambda _: None)
            token = {"CJ_ADMIN_TOKEN": hs256()}
            api = AdminApi(self.url, True, HttpClient(10, client=client), cache, token)
            services = Services(
                settings=Settings(),
                codec=Codec(),
                api=api,
                content=content_client(api, client),
                cache=ChecksumCache(self.folder.path / "uploads.json"),
                log=RunLog(),
                reached=reach,
            )
            Steps(self.folder, self.manifest, services).upload(self.inventory, force=force)

    def events(self) -> list[str]:
        """The class of every upload that the API appended."""
        return [type(Codec().decode(record.value)).__name__ for record in self.api.log.records]


@contextmanager
def run_of(folder: Path, anchors: int = 4, **settings: Any) -> Iterator[Run]:
    """A run of four anchors and three pupils whose uploads go to an API on loopback."""
    inputs, own = folder / "inputs", folder / "run"
    write_files(inputs, research_inputs(anchors, 3)[0])
    own.mkdir()
    inventory = take_inventory(InputPaths().within(inputs), SCALE)
    options = RunOptions(
        label="steps",
        batch_id="steps-1",
        assignment_id="a1",
        grade_scale=SCALE,
        course_code="research",
        language="en",
        timeout_s=60,
    )
    manifest = build_manifest(options, inventory, ENVIRONMENT, {})
    api = make_api(folder / "api", **settings)
    with served(api.app) as server:
        url = f"http://127.0.0.1:{server.port}"
        yield Run(api, url, RunFolder(own), inventory, manifest)


UPLOADS = [
    "InstructionsUploaded",
    "StudentPromptUploaded",
    "JudgeRubricUploaded",
    "AnchorsUploaded",
]


@pytest.mark.parametrize("is_strict", [False, True])
def test_texts_are_stored_then_the_assignment_and_its_anchors_are_live(
    tmp_path: Path, is_strict: bool
) -> None:
    with run_of(tmp_path, require_if_match=is_strict) as run:
        run.upload()
        assert run.reached == POINTS
        assert run.noted == [point.replace("acted", "begun") for point in POINTS]
        assert run.events() == UPLOADS
        live = run.api("GET", f"{OF_A1}?grade_scale={SCALE}").json()
        assert {one["anchor_id"]: one["grade"] for one in live["anchors"]} == {
            text.id: text.grade for text in run.inventory.of("anchor")
        }
        store = ContentStore.open(Settings(data_dir=tmp_path / "api").content)
        assert all(store.get(text.storage_id) == text.text for text in run.inventory.texts)
        assert run.folder.facts_of("texts") == {"texts": 10, "sent": 10, "known": 0}
        assert run.folder.facts_of("anchors") == {"anchors": 4, "tag": live["tag"]}


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_stopped_continues_there_and_uploads_nothing_twice(
    tmp_path: Path, point: str
) -> None:
    with run_of(tmp_path, require_if_match=True) as run:
        with pytest.raises(Stopped):
            run.upload(point)
        run.reached.clear()
        run.upload()
        step, state = point.split()
        first = POINTS.index(f"{step} begun") + (3 if state == "done" else 0)
        assert run.reached == POINTS[first:]
        assert run.events() == UPLOADS
        sent = run.folder.facts_of("texts")
        if (step, state) == ("texts", "acted"):
            assert (sent["sent"], sent["known"]) == (0, 10)
        else:
            assert (sent["sent"], sent["known"]) == (10, 0)
        run.upload()
        assert run.events() == UPLOADS


def test_a_write_that_somebody_overtook_is_made_once_more(tmp_path: Path) -> None:
    overtaken = VersionConflict(expected="0", current_version=1, current_tag="1-0", role="anchors")
    with run_of(tmp_path, require_if_match=True) as run:
        run.plant = ("anchors begun", [None, overtaken])  # the read succeeds, the write does not
        run.upload()
        assert run.events() == UPLOADS
    other = tmp_path / "other"
    other.mkdir()
    with run_of(other, require_if_match=True) as run:
        run.plant = ("anchors begun", [None, overtaken, None, overtaken])
        with pytest.raises(CJStreamError, match="upload the anchors of a1: 412"):
            run.upload()
        assert not run.folder.is_done("anchors")


def given_by_others(path: str, document: dict[str, Any]) -> Callable[[Api], None]:
    def give(api: Api) -> None:
        api.create_assignment()
        assert api("PUT", path, document).is_success

    return give


ANCHOR = {"anchor_id": "theirs", "grade": "A", "essay_text": "A text of an expert. " * 10}


def test_anchors_that_the_run_does_not_give_stop_it(tmp_path: Path) -> None:
    with run_of(tmp_path, anchors=0) as run:
        given_by_others(OF_A1, {"anchors": [ANCHOR]})(run.api)
        with pytest.raises(Discrepancy, match="a1 has 1 anchors that the run does not give"):
            run.upload()
        assert not run.folder.is_done("anchors")


def test_anchors_of_the_scale_are_replaced(tmp_path: Path) -> None:
    with run_of(tmp_path) as run:
        given_by_others(OF_A1, {"anchors": [ANCHOR]})(run.api)
        run.upload()
        live = run.api("GET", OF_A1).json()
        assert {one["anchor_id"] for one in live["anchors"]} == {
            text.id for text in run.inventory.of("anchor")
        }


def test_a_text_that_the_run_does_not_give_stops_it(tmp_path: Path) -> None:
    with run_of(tmp_path) as run:
        run.api.create_assignment(rubric=True)
        without = tuple(text for text in run.inventory.texts if text.kind != "rubric")
        run.inventory = Inventory(without)
        with pytest.raises(Discrepancy, match="has a rubric that the run does not give"):
            run.upload()


def test_what_the_api_refuses_ends_the_run_and_is_not_noted(tmp_path: Path) -> None:
    with run_of(tmp_path) as run:
        other = {"instructions_text": "Judge it.......", "grade_scale": "eng5_np_legacy_9_step"}
        route = f"{ADMIN}/assessment-instructions/assignment/a1"
        assert run.api("PUT", route, other).is_success
        with pytest.raises(CJStreamError, match="upload the assignment a1: 409"):
            run.upload()
        assert (run.folder.is_done("texts"), run.folder.is_done("assignment")) == (True, False)
