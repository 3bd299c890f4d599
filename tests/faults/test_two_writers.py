"""Two instances of the API write to the same assignments, and one is killed: no update is lost, none made twice."""

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
from processors.kafka.partitions import partitions_of
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
Said = dict[str, Any]


class Line:
    """A client's connection to one instance."""

    def __init__(self, api: Serving) -> None:
        self._client = httpx.Client(
            base_url=api.url, headers={"Authorization": f"Bearer {hs256()}"}, timeout=60
        )

    def _asked(self, method: str, assignment: str, **more: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"{INSTRUCTIONS}/{assignment}", **more)
        except httpx.TransportError as fault:
            raise ConnectionResetError from fault

    def read(self, assignment: str) -> Said:
        """Tag and hash of what lives. Raises OSError where the instance dies first."""
        answer = self._asked("GET", assignment)
        return _told(answer) if answer.is_success else {}

    def write(self, assignment: str, seen: str, text: str) -> Said:
        """New instructions, if they are as they were seen. Raises OSError where the instance dies first."""
        condition = {"If-Match": f'"{seen}"'} if seen else {}
        body = {"instructions_text": text, "grade_scale": "swedish_8_anchor"}
        answer = self._asked("PUT", assignment, json=body, headers=condition)
        if answer.is_success:
            return _told(answer)
        problem = answer.json()
        assert answer.status_code in (412, 503, 504), problem
        if answer.status_code == 412:
            return {"refused": problem["current_tag"]}
        return {"fault": problem["type"].rpartition(":")[2]}

    def fenced(self) -> float:
        """How often its writers were fenced by the other instance's."""
        metrics = self._client.get("/metrics").text
        return float(re.findall(r"^cj_admin_writer_fenced_total (\S+)$", metrics, re.MULTILINE)[0])

    def close(self) -> None:
        self._client.close()


def _told(answer: httpx.Response) -> Said:
    return {"tag": answer.headers["ETag"].strip('"'), "sha256": answer.json()["sha256"]}


@dataclass(frozen=True)
class Update:
    """What was asked for, and the answer: the new tag, refused, or unknown."""

    assignment: str
    seen: str
    text: str
    outcome: str
    tag: str = ""


@dataclass
class Storm:
    """Clients on two instances; the first is killed when half of the updates are done."""

    apis: tuple[Serving, Serving]
    seed: int
    done: list[Update] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _killed: bool = False

    def run(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            for ended in [clients.submit(self._client, number) for number in range(CLIENTS)]:
                ended.result()

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
            asked = (assignment, seen.get(assignment, "1-0"), text)
            try:
                answer = line.write(*asked)
            except OSError:
                self._note(Update(*asked, "unknown"))
                line.close()
                line = Line(apis.pop())
                now = line.read(assignment)
                if now.get("sha256") == sha256_of(text):
                    self._settle(Update(*asked, "accepted", now["tag"]))
                continue
            if "refused" in answer:
                self._note(Update(*asked, "refused"))
                seen[assignment] = answer["refused"]
            elif "fault" in answer:
                unknown = answer["fault"] == "outcome-unknown"
                self._note(Update(*asked, "unknown" if unknown else "refused"))
            else:
                assert answer["sha256"] == sha256_of(text)
                self._note(Update(*asked, "accepted", answer["tag"]))
                seen[assignment] = answer["tag"]
        line.close()

    def _note(self, update: Update) -> None:
        with self._lock:
            self.done.append(update)
            if len(self.done) >= UPDATES // 2 and not self._killed:
                self._killed = True
                self.apis[0].child.kill()

    def _settle(self, update: Update) -> None:
        with self._lock:
            self.done = [one for one in self.done if one.text != update.text] + [update]


@dataclass(frozen=True)
class InTheLog:
    """One committed upload of instructions."""

    event: InstructionsUploaded
    tag: str


def history(settings: Settings) -> tuple[dict[str, list[InTheLog]], dict[str, AssignmentContext]]:
    """Each assignment's uploads in log order, and the fold of them all."""
    codec, rows = Codec(), dict[str, AssignmentContext]()
    told: dict[str, list[InTheLog]] = {}
    partitions = partitions_of([settings.topics.instructions.name], settings)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        for record in log.records_until(high_watermarks_when_reachable(settings, partitions)):
            event = codec.decode_as(InstructionsUploaded, record.value)
            fold(rows, event, record.at, record.appended_at_ms)
            tag = f"{event.version}-{record.at.offset}"
            told.setdefault(str(event.assignment_id), []).append(InTheLog(event, tag))
    return told, rows


@pytest.mark.parametrize("seed", SEEDS)
def test_no_update_is_lost_and_none_is_made_twice(settings: Settings, seed: int) -> None:
    one, other = (settings.model_copy(update={"api_port": free_port()}) for _ in range(2))
    with serving(one) as victim, serving(other) as survivor:
        until(lambda: victim.is_ready() and survivor.is_ready(), 60)
        line = Line(survivor)
        for number in range(ASSIGNMENTS):
            line.write(f"a{number}", "", "Judge by the first.")
        storm = Storm((victim, survivor), seed)
        storm.run()
        assert (victim.child.wait(10), survivor.child.poll()) == (-signal.SIGKILL, None)
        _hold(settings, storm, line)
        line.close()


def _hold(settings: Settings, storm: Storm, line: Line) -> None:
    """The log, its fold and every answer that was given agree."""
    outcomes = Counter(update.outcome for update in storm.done)
    fenced = line.fenced()
    print(f"seed {storm.seed}: {dict(outcomes)}, the survivor was fenced {fenced:g} times")  # noqa: T201
    assert sum(outcomes.values()) == UPDATES
    assert outcomes["accepted"] > UPDATES // 10

    told, rows = history(settings)
    for assignment, uploads in told.items():  # no version twice, none left out
        assert [one.event.version for one in uploads] == [*range(1, len(uploads) + 1)]
        answer = line.read(assignment)
        component = live(rows[f"assignment:{assignment}"], "instructions")
        assert component is not None
        assert answer == {"tag": str(etag_of(component)), "sha256": component.sha256}

    asked = {sha256_of(update.text): update for update in storm.done}
    before = dict.fromkeys(told, "")
    in_the_log = set[str]()
    for assignment, uploads in told.items():
        for one in uploads:
            if one.event.version > 1:
                update = asked[one.event.sha256]
                assert update.outcome in ("accepted", "unknown")
                assert update.tag in (one.tag, "")
                # made in the very state that its client had seen: nothing came in between
                assert (update.assignment, update.seen) == (assignment, before[assignment])
                in_the_log.add(update.text)
            before[assignment] = one.tag
    assert {update.text for update in storm.done if update.outcome == "accepted"} <= in_the_log
    assert fenced > 0  # they did get in each other's way
