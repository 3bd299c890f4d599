"""`cjstream bench audit`: speed and memory of the audit commands on a log of many uploads and batches.

The log is written directly with the product's codec, fold and join: rounds of uploads, in which each assignment in turn
gets its next version, and after each round a share of the batches, joined at the positions of that time.
"""

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
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
from schemas.events import ROLES, AssignmentContext, scope_key_of
from schemas.partitioner import partition_for
from tables.context import component_of, fold
from tables.scan.engine import load_engine
from tools.bench.events import request_for, upload_of
from tools.bench.percentiles import Figures
from tools.installation import installation
from tools.processes import Say, command, environment_of, module
from tools.progress import bar

CHUNK = 5000  # records sent at once; batches of one chunk are joined at the same positions
SEED = 6


def run(say: Say, *, uploads: int, assignments: int, batches: int) -> Figures:
    """Write a log of that size, then measure verify, replay and as-of on it."""
    with installation(say) as settings:
        log = Writer(settings, assignments)
        say(f"writing {uploads} uploads of {assignments} assignments and {batches} batches")
        for count in bar(log.write(uploads, batches), "written", uploads + batches):
            del count
        # as in an installation whose worker has started once
        load_engine(settings.scan_engine, settings.data_dir / "numba")
        say("verify")
        verify, verified = measure(settings, "verify", "--no-texts")
        if verified["findings"] or sum(verified["outcomes"].values()) != batches:
            raise CJStreamError(
                "verify did not find every batch correct: the measurement is not valid"
            )
        say("replay")
        replay, replayed = measure(settings, "replay")
        say("as-of")
        as_of, _ = measure(settings, "as-of", assignment_id_of(0), "--at", "0s", "--no-texts")
    return {
        "uploads": uploads,
        "assignments": assignments,
        "batches": batches,
        "verify": verify | {"said": _verify_figures(verified)},
        "replay": replay | {"said": _replay_figures(replayed["summary"])},
        "as_of": as_of | {"said": {}},
    }


def _verify_figures(document: Figures) -> Figures:
    return {name: document[name] for name in ("uploads", "seconds", "outcomes_per_s", "counts")}


def _replay_figures(summary: Figures) -> Figures:
    rate = round(summary["records"] / summary["seconds"]["read"])
    figures = {
        name: summary[name] for name in ("records", "scopes", "damaged", "broken", "seconds")
    }
    return {**figures, "records_per_s": rate}


def measure(settings: Settings, *audit: str) -> tuple[Figures, Any]:
    """Run an audit command as a process; returns its figures, and the document in its last line.

    cpu_s is that of its processes without the broker, which a busy machine affects least; peak_mb is the memory of
    its largest process.
    """
    start, usage = time.monotonic(), settings.data_dir / "usage.json"
    child = subprocess.Popen(
        module("tools.bench.usage", str(usage), *command("audit", *audit, "--json")),
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    last = b""
    if child.stdout is not None:
        for line in child.stdout:
            last = line
    code = child.wait()
    seconds = time.monotonic() - start
    if code:
        raise CJStreamError(f"audit {audit[0]} ended with exit code {code}")
    used = orjson.loads(usage.read_bytes())
    return {"seconds": round(seconds, 2), **used}, orjson.loads(last)


def assignment_id_of(number: int) -> str:
    """The assignment id with that number."""
    return f"assignment-{number:06d}"


class Writer:
    """Writes the log; it is the only producer, so it can count the offsets itself."""

    def __init__(self, settings: Settings, assignments: int) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._assignments = assignments
        self._producer = plain_producer(settings, **{"queue.buffering.max.messages": 2 * CHUNK})
        self._codec = codec_for(settings)
        self._rows: dict[str, AssignmentContext] = {}
        self._positions = {
            Partition(topic.name, number): 0
            for topic in self._topics.uploads
            for number in range(settings.partitions)
        }
        self._requests = [0] * settings.partitions
        self._random = random.Random(SEED)
        self._outcomes = OutcomeBuilder(self._codec, Policy(), self._rows.get)

    def write(self, uploads: int, batches: int) -> Iterator[int]:
        """Write rounds of uploads with batches after each round; yields once per upload and per batch."""
        rounds = max(2, -(-uploads // self._assignments))
        joined = 0
        for number in range(rounds):
            start, end = uploads * number // rounds, uploads * (number + 1) // rounds
            yield from self.write_uploads(start, end)
            # none after the first round: no context is complete yet
            target = batches * number // (rounds - 1)
            yield from self._write_batches(target - joined)
            joined = target

    def write_uploads(self, start: int, end: int) -> Iterator[int]:
        """Write the uploads with these numbers; yields once per upload."""
        for first in range(start, end, CHUNK):
            chunk = range(first, min(end, first + CHUNK))
            deliver(self._producer, map(self._upload_record, chunk))
            yield from chunk

    def _upload_record(self, number: int) -> Record:
        turn, index = divmod(number, self._assignments)
        version, kind = divmod(turn, len(ROLES))
        event = upload_of(ROLES[kind], assignment_id_of(index), version + 1)
        scope_key = scope_key_of(event)
        previous = component_of(self._rows.get(scope_key), ROLES[kind])
        if previous is not None:
            event = replace(event, previous_event_id=previous.event_id)
        key = scope_key.encode()
        topic = self._topics.uploads[kind].name
        partition = Partition(topic, partition_for(key, self._settings.partitions))
        fold(self._rows, event, Coordinates(*partition, self._positions[partition]), 0)
        self._positions[partition] += 1
        return Record(topic, partition.partition, key, self._codec.encode(event))

    def _write_batches(self, count: int) -> Iterator[int]:
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
        event = request_for(assignment_id_of(self._random.randrange(self._assignments)))
        key = event.batch_id.encode()
        topic, partition = self._topics.requests.name, partition_for(key, self._settings.partitions)
        at = Coordinates(topic, partition, self._requests[partition])
        self._requests[partition] += 1
        return Record(topic, partition, key, self._codec.encode(event)), at

    def _outcome(self, request: Record, at: Coordinates, header: bytes) -> Record:
        outcome = self._outcomes.build(request.value, at)
        prepared = isinstance(outcome.resolution, Prepared)
        topic = self._topics.batches if prepared else self._topics.unresolved
        return Record(
            topic.name, at.partition, request.key, outcome.value, ((POSITIONS_HEADER, header),)
        )
