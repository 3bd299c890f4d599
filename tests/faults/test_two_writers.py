"""Two API instances write to the same assignments, and one is killed: no update is lost or made twice."""

import random
import re
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import AssignmentContext, InstructionsUploaded
from tables.context import fold, live
from tables.etags import etag_of
from tests.end_to_end.serving import Serving, serving
from tests.faults.seeds import SEEDS
from tests.support.builders import sha256_of
from tests.support.tokens import hs256
from tests.support.until import until
from tools.broker import free_port

INSTRUCTIONS = "/admin/v1/assessment-instructions/assignment"
CLIENTS, UPDATES, ASSIGNMENTS = 8, 2000, 5
Document = dict[str, Any]


class Line:
    """A client's connection to one instance."""

    def __init__(self, api: Serving) -> None:
        self._client = httpx.Client(
            base_url=api.url, headers={"Authorization": f"Bearer {hs256()}"}, timeout=60
        )

    def _request(self, method: str, assignment: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"{INSTRUCTIONS}/{assignment}", **options)
        except httpx.TransportError as fault:
            raise ConnectionResetError from fault

    def read(self, assignment: str) -> Document:
        """Tag and hash of the current instructions. Raises OSError if the instance dies first."""
        answer = self._request("GET", assignment)
        return _document(answer) if answer.is_success else {}

    def write(self, assignment: str, seen: str, text: str) -> Document:
        """Write new instructions if `seen` is still the current tag. Raises OSError if the instance dies first."""
        condition = {"If-Match": f'"{seen}"'} if seen else {}
        body = {"instructions_text": text, "grade_scale": "swedish_8_anchor"}
        answer = self._request("PUT", assignment, json=body, headers=condition)
        if answer.is_success:
            return _document(answer)
        problem = answer.json()
        assert answer.status_code in (412, 503, 504), problem
        if answer.status_code == 412:
            return {"refused": problem["current_tag"]}
        return {"fault": problem["type"].rpartition(":")[2]}

    def fenced(self) -> float:
        """How often this instance's writers were fenced by those of the other instance."""
        metrics = self._client.get("/metrics").text
        return float(re.findall(r"^cj_admin_writer_fenced_total (\S+)$", metrics, re.MULTILINE)[0])

    def close(self) -> None:
        self._client.close()


def _document(answer: httpx.Response) -> Document:
    return {"tag": answer.headers["ETag"].strip('"'), "sha256": answer.json()["sha256"]}


@dataclass(frozen=True)
class Update:
    """A requested update and its outcome: accepted with a new tag, refused, or unknown."""

    assignment: str
    seen: str
    text: str
    outcome: str
    tag: str = ""


@dataclass
class Storm:
    """Clients of two instances; the first instance is killed when half of the updates are done."""

    apis: tuple[Serving, Serving]
    seed: int
    done: list[Update] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _killed: bool = False

    def run(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            for future in [clients.submit(self._client, number) for number in range(CLIENTS)]:
                future.result()

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed}-{number}")
        apis = list(self.apis if number % 2 else self.apis[::-1])
        line = Line(apis.pop())
        seen = dict[str, str]()
        for turn in range(UPDATES // CLIENTS):
            assignment = f"a{chance.randrange(ASSIGNMENTS)}"
            if assignment not in seen or chance.random() < 0.2:
                with suppress(OSError, KeyError):
                    seen[assignment] = line.read(assignment)["tag"]
            text = f"Judge by {self.seed}, {number} and {turn}."
            update = (assignment, seen.get(assignment, "1-0"), text)
            try:
                answer = line.write(*update)
            except OSError:
                self._add(Update(*update, "unknown"))
                line.close()
                line = Line(apis.pop())
                current = line.read(assignment)
                if current.get("sha256") == sha256_of(text):
                    self._replace(Update(*update, "accepted", current["tag"]))
                continue
            if "refused" in answer:
                self._add(Update(*update, "refused"))
                seen[assignment] = answer["refused"]
            elif "fault" in answer:
                unknown = answer["fault"] == "outcome-unknown"
                self._add(Update(*update, "unknown" if unknown else "refused"))
            else:
                assert answer["sha256"] == sha256_of(text)
                self._add(Update(*update, "accepted", answer["tag"]))
                seen[assignment] = answer["tag"]
        line.close()

    def _add(self, update: Update) -> None:
        with self._lock:
            self.done.append(update)
            if len(self.done) >= UPDATES // 2 and not self._killed:
                self._killed = True
                self.apis[0].kill()

    def _replace(self, update: Update) -> None:
        with self._lock:
            self.done = [other for other in self.done if other.text != update.text] + [update]


@dataclass(frozen=True)
class InTheLog:
    """One committed upload of instructions."""

    event: InstructionsUploaded
    tag: str


def history(settings: Settings) -> tuple[dict[str, list[InTheLog]], dict[str, AssignmentContext]]:
    """Each assignment's uploads in log order, and the fold of them all."""
    codec, rows = Codec(), dict[str, AssignmentContext]()
    by_assignment: dict[str, list[InTheLog]] = {}
    partitions = settings.partitions_of(settings.topics.instructions)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        for record in log.records_until(high_watermarks_when_reachable(settings, partitions)):
            event = codec.decode_as(InstructionsUploaded, record.value)
            fold(rows, event, record.at, record.appended_at_ms)
            tag = f"{event.version}-{record.at.offset}"
            by_assignment.setdefault(str(event.assignment_id), []).append(InTheLog(event, tag))
    return by_assignment, rows


@pytest.mark.thorough
@pytest.mark.parametrize("seed", SEEDS)
def test_no_update_is_lost_or_made_twice(settings: Settings, seed: int) -> None:
    first, second = (settings.model_copy(update={"api_port": free_port()}) for _ in range(2))
    with serving(first) as victim, serving(second) as survivor:
        until(lambda: victim.is_ready() and survivor.is_ready(), 60)
        line = Line(survivor)
        for number in range(ASSIGNMENTS):
            line.write(f"a{number}", "", "Judge by the first.")
        storm = Storm((victim, survivor), seed)
        storm.run()
        assert (victim.wait_for_exit(10), survivor.exit_code) == (-signal.SIGKILL, None)
        _check_updates(settings, storm, line)
        line.close()


def _check_updates(settings: Settings, storm: Storm, line: Line) -> None:
    """Check that the log, its fold and every answer to a client agree."""
    outcomes = Counter(update.outcome for update in storm.done)
    fenced = line.fenced()
    print(f"seed {storm.seed}: {dict(outcomes)}, the survivor was fenced {fenced:g} times")  # noqa: T201
    assert sum(outcomes.values()) == UPDATES
    assert outcomes["accepted"] > UPDATES // 10

    by_assignment, rows = history(settings)
    for assignment, uploads in by_assignment.items():  # no version twice, and no gap
        assert [upload.event.version for upload in uploads] == [*range(1, len(uploads) + 1)]
        answer = line.read(assignment)
        component = live(rows[f"assignment:{assignment}"], "instructions")
        assert component is not None
        assert answer == {"tag": str(etag_of(component)), "sha256": component.sha256}

    by_sha256 = {sha256_of(update.text): update for update in storm.done}
    tags_before = dict.fromkeys(by_assignment, "")
    in_the_log = set[str]()
    for assignment, uploads in by_assignment.items():
        for upload in uploads:
            if upload.event.version > 1:
                update = by_sha256[upload.event.sha256]
                assert update.outcome in ("accepted", "unknown")
                assert update.tag in (upload.tag, "")
                # no other update came between the state that its client had seen and this update
                assert (update.assignment, update.seen) == (assignment, tags_before[assignment])
                in_the_log.add(update.text)
            tags_before[assignment] = upload.tag
    assert {update.text for update in storm.done if update.outcome == "accepted"} <= in_the_log
    assert fenced > 0  # the instances did compete
