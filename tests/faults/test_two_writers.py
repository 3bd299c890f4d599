"""Two instances of the API write to the same assignments, and one is killed: no update is lost, none made twice."""

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from processors.log import Log, high_ends, partitions_of
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import AssignmentContext, InstructionsUploaded
from tables.context import fold, live
from tables.tags import tag_of
from tests.builders import sha256_of
from tests.faults.running import Process, StartWorker
from tests.faults.seeds import SEEDS
from tests.waiting import until

INSTANCE = ("-m", "tests.faults.admin_writer")
CLIENTS, UPDATES, ASSIGNMENTS = 8, 2000, 5
Said = dict[str, Any]


class Line:
    """A client's connection to one instance."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._file = self._socket.makefile("rb")

    def ask(self, **said: Any) -> Said:
        """One answer. Raises OSError where the instance dies first."""
        self._socket.sendall(orjson.dumps(said) + b"\n")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        answer: Said = orjson.loads(line)
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()


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

    ports: tuple[int, int]
    victim: Process
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
        ports = list(self.ports if number % 2 else self.ports[::-1])
        line = Line(ports.pop())
        seen = dict[str, str]()
        for turn in range(UPDATES // CLIENTS):
            assignment = f"a{chance.randrange(ASSIGNMENTS)}"
            if assignment not in seen or chance.random() < 0.2:
                with suppress(OSError):
                    seen[assignment] = line.ask(do="read", assignment=assignment).get("tag", "0")
            text = f"{self.seed} {number} {turn}"
            asked = (assignment, seen.get(assignment, "0"), text)
            try:
                answer = line.ask(do="write", assignment=assignment, seen=asked[1], text=text)
            except OSError:
                self._note(Update(*asked, "unknown"))
                line.close()
                line = Line(ports.pop())
                now = line.ask(do="read", assignment=assignment)
                if now.get("sha256") == sha256_of(text):
                    self._settle(Update(*asked, "accepted", now["tag"]))
                continue
            if "refused" in answer:
                self._note(Update(*asked, "refused"))
                seen[assignment] = answer["refused"]
            elif "fault" in answer:
                unknown = answer["fault"] == "OutcomeUnknown"
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
                self.victim.kill()

    def _settle(self, update: Update) -> None:
        with self._lock:
            self.done = [one for one in self.done if one.text != update.text] + [update]


@contextmanager
def free_ports() -> Iterator[tuple[int, int]]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        yield one.getsockname()[1], other.getsockname()[1]


def is_ready(port: int) -> bool:
    with suppress(OSError):
        line = Line(port)
        ready: bool = line.ask(do="ready")["ready"]
        line.close()
        return ready
    return False


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
    with Log(settings, partitions) as log:
        log.begin(dict.fromkeys(partitions, 0))
        for record in log.read_to(high_ends(settings, partitions)):
            event = codec.decode_as(InstructionsUploaded, record.value)
            fold(rows, event, record.at, record.appended_at_ms)
            tag = f"{event.version}-{record.at.offset}"
            told.setdefault(str(event.assignment_id), []).append(InTheLog(event, tag))
    return told, rows


@pytest.mark.parametrize("seed", SEEDS)
def test_no_update_is_lost_and_none_is_made_twice(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    with free_ports() as ports:
        pass
    victim, other = (
        start_worker(slot=f"api{number}", command=INSTANCE, api_port=port)
        for number, port in enumerate(ports)
    )
    until(lambda: all(is_ready(port) for port in ports), 60)
    line = Line(ports[1])
    for number in range(ASSIGNMENTS):
        line.ask(do="write", assignment=f"a{number}", seen=None, text="first")
    storm = Storm(ports, victim, seed)
    storm.run()
    assert (victim.is_alive, other.is_alive) == (False, True)
    outcomes = Counter(update.outcome for update in storm.done)
    fenced = line.ask(do="fenced")["fenced"]
    print(f"seed {seed}: {dict(outcomes)}, the survivor was fenced {fenced} times")  # noqa: T201
    assert sum(outcomes.values()) == UPDATES
    assert outcomes["accepted"] > UPDATES // 10

    told, rows = history(settings)
    for assignment, uploads in told.items():  # no version twice, none left out
        assert [one.event.version for one in uploads] == [*range(1, len(uploads) + 1)]
        answer = line.ask(do="read", assignment=assignment)
        component = live(rows[f"assignment:{assignment}"], "instructions")
        assert component is not None
        assert answer == {"tag": str(tag_of(component)), "sha256": component.sha256}
    line.close()

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
