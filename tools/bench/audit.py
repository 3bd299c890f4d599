"""`cjstream bench audit`: how fast the audit reads a log of many uploads and batches, and what memory it takes.

The log is written straight, by the product's own codec, fold and join: rounds of uploads, each assignment in turn
given its next version, and after each round a share of the batches, joined at the positions as they are then.
"""

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, encode_positions
from processors.outcomes.resolve import Prepared
from processors.policy import Policy
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import CJStreamError
from schemas.events import AssignmentContext, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from tables.context import component_of, fold
from tools.bench.events import instructions_of, prompt_of, request_for, rubric_of
from tools.bench.installation import Machine, installation, this_machine
from tools.children import command, environment, module
from tools.processes import Say, settings_values
from tools.progress import bar

CHUNK = 5000  # records on their way at once; of batches those of one join
SEED = 6
MAKERS = (instructions_of, prompt_of, rubric_of)


@dataclass(frozen=True, slots=True)
class CommandFigures:
    """One command on that log: its seconds from start to end, its largest process, and what it says of itself."""

    seconds: float
    cpu_s: float  # of its processes, the broker apart: what a busy machine changes least
    peak_mb: int
    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFigures:
    """The log that was read, and each command on it."""

    machine: Machine
    uploads: int
    assignments: int
    batches: int
    verify: CommandFigures
    replay: CommandFigures
    as_of: CommandFigures


def run(tell: Say, *, uploads: int, assignments: int, batches: int) -> AuditFigures:
    """Write a log of so many, then measure verify, replay and as-of on it."""
    machine = this_machine()
    with installation(tell) as settings:
        log = Writer(settings, assignments)
        tell(f"{uploads} uploads of {assignments} assignments and {batches} batches are written")
        for count in bar(log.write(uploads, batches), "written", uploads + batches):
            del count
        tell("verify")
        verify = measured(settings, "verify", "--no-texts")
        document = verify.said
        if document["findings"] or sum(document["outcomes"].values()) != batches:
            raise CJStreamError(
                "verify did not find every batch right: the measurement is worth nothing"
            )
        tell("replay")
        replay = measured(settings, "replay")
        tell("as-of")
        as_of = measured(settings, "as-of", name_of(0), "--at", "0s", "--no-texts")
    return AuditFigures(
        machine,
        uploads,
        assignments,
        batches,
        replace(verify, said=_figures(document)),
        replace(replay, said=_replayed(replay.said["summary"])),
        replace(as_of, said={}),
    )


def _figures(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("uploads", "seconds", "outcomes_per_s", "counts")}


def _replayed(summary: dict[str, Any]) -> dict[str, Any]:
    rate = round(summary["records"] / summary["seconds"]["read"])
    told = {name: summary[name] for name in ("records", "scopes", "damaged", "broken", "seconds")}
    return {**told, "records_per_s": rate}


def measured(settings: Settings, *audit: str) -> CommandFigures:
    """An audit command as a process: its last line of JSON is what it says."""
    begun, usage = time.monotonic(), settings.data_dir / "usage.json"
    child = subprocess.Popen(
        module("tools.bench.usage", str(usage), *command("audit", *audit, "--json")),
        env=environment(**settings_values(settings)),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    last = b""
    if child.stdout is not None:
        for line in child.stdout:
            last = line
    code = child.wait()
    seconds = time.monotonic() - begun
    if code:
        raise CJStreamError(f"audit {audit[0]} ended with {code}")
    used = orjson.loads(usage.read_bytes())
    return CommandFigures(round(seconds, 2), used["cpu_s"], used["peak_mb"], orjson.loads(last))


def name_of(number: int) -> str:
    """An assignment's id."""
    return f"assignment-{number:06d}"


class Writer:
    """Writes such a log; one producer, so that offsets can be counted along."""

    def __init__(self, settings: Settings, assignments: int) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._assignments = assignments
        self._producer = plain_producer(settings, **{"queue.buffering.max.messages": 2 * CHUNK})
        self._codec = codec_for(settings)
        self._rows: dict[str, AssignmentContext] = {}
        self._positions = {
            Partition(topic.name, one): 0
            for topic in self._topics.uploads
            for one in range(settings.partitions)
        }
        self._requests = [0] * settings.partitions
        self._dice = random.Random(SEED)
        self._answers = OutcomeBuilder(self._codec, Policy(), self._rows.get)
        self._topic_of = dict(
            zip(
                ("instructions", "student_prompt", "judge_rubric"),
                self._topics.uploads,
                strict=True,
            )
        )

    def write(self, uploads: int, batches: int) -> Iterator[int]:
        """Rounds of uploads, batches after each of them; one number a record."""
        rounds = max(2, -(-uploads // self._assignments))
        joined = 0
        for number in range(rounds):
            begin, end = uploads * number // rounds, uploads * (number + 1) // rounds
            yield from self._upload(begin, end)
            wanted = batches * number // (rounds - 1)  # none in the first: nothing is complete yet
            yield from self._ask(wanted - joined)
            joined = wanted

    def _upload(self, begin: int, end: int) -> Iterator[int]:
        for first in range(begin, end, CHUNK):
            chunk = range(first, min(end, first + CHUNK))
            deliver(self._producer, map(self._upload_record, chunk))
            yield from chunk

    def _upload_record(self, number: int) -> Record:
        turn, place = divmod(number, self._assignments)
        version, kind = divmod(turn, len(MAKERS))
        event: UploadEvent = MAKERS[kind](name_of(place), version + 1)
        scope_key = scope_key_of(event)
        before = component_of(self._rows.get(scope_key), role_of(event))
        if before is not None:
            event = replace(event, previous_event_id=before.event_id)
        key = scope_key.encode()
        topic = self._topic_of[role_of(event)].name
        one = Partition(topic, partition_for(key, self._settings.partitions))
        fold(self._rows, event, Coordinates(*one, self._positions[one]), 0)
        self._positions[one] += 1
        return Record(topic, one.partition, key, self._codec.encode(event))

    def _ask(self, count: int) -> Iterator[int]:
        for first in range(0, count, CHUNK):
            chunk = range(first, min(count, first + CHUNK))
            requests = [self._request() for _ in chunk]
            deliver(self._producer, (record for record, _ in requests))
            header = encode_positions(self._positions, self._topics, self._settings.partitions)
            deliver(
                self._producer,
                (self._outcome(record, at, header) for record, at in requests),
            )
            yield from chunk

    def _request(self) -> tuple[Record, Coordinates]:
        event = request_for(name_of(self._dice.randrange(self._assignments)))
        key = event.batch_id.encode()
        topic, one = self._topics.requests.name, partition_for(key, self._settings.partitions)
        at = Coordinates(topic, one, self._requests[one])
        self._requests[one] += 1
        return Record(topic, one, key, self._codec.encode(event)), at

    def _outcome(self, request: Record, at: Coordinates, header: bytes) -> Record:
        answer = self._answers.build(request.value, at)
        prepared = isinstance(answer.resolution, Prepared)
        topic = self._topics.batches if prepared else self._topics.unresolved
        return Record(
            topic.name, at.partition, request.key, answer.value, ((POSITIONS_HEADER, header),)
        )
