"""`cjstream demo`: the whole story on a temporary broker and in a temporary folder, read back and checked.

Administrators upload by command line and API. A real worker process joins 2,000 requests with these uploads, of
which some change meanwhile and some come late. Every outcome is read back from the committed log and checked with it.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from processors.kafka.clients import plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.log.reader import LogReader
from processors.outcomes.request_scan import scan_request
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, settings_from_environment
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, coordinates_from
from schemas.errors import CJStreamError
from schemas.events import CJAssessmentRequested
from tables.content_store import ContentStore
from tools import topics
from tools.broker import Broker, free_port
from tools.demo_check import AvroReader, Evidence, Findings, OutcomeFound, SentRecord, found_in
from tools.demo_story import PARTS, StoryRequest, story
from tools.demo_uploads import Administrators, Uploaded
from tools.processes import Say, api_running, end_on_sigterm, running
from tools.progress import bar

DATA = Path(__file__).with_name("demo_data")
SEED = 5
BUNDLE = 50  # requests sent at once
PATIENCE_S = 15  # of a request: if its context is not uploaded by then, it is unresolved
SILENCE_S = 60.0  # without any outcome, before the demo gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demo did, and what it found in the committed log."""

    uploads: int
    requests: int
    prepared: int
    unresolved: int
    dead_lettered: int
    missing: int
    duplicated: int
    stale: int  # outcomes that missed an upload acknowledged before their request was sent
    verified: bool
    slow_path: int
    context_sources: dict[str, int]
    prompt_sources: dict[str, int]
    parked: int  # requests that arrived before their context and waited for it
    released: int  # those of them whose context came before their deadline
    faults: list[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether every request has exactly one outcome, and every outcome was verified."""
        return self.verified and not (self.missing or self.duplicated or self.stale)


def run(say: Say, **overrides: object) -> DemoReport:
    """Play the story and check it; `say` receives lines for people. Everything it starts and creates is removed.

    Settings come from the environment and the overrides, except those for broker, folder, slot, environment, API port,
    patience and content store.
    """
    started_at = monotonic()
    end_on_sigterm()
    base = settings_from_environment(**overrides)
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-demo-") as folder,
        Broker.temporary(base.data_dir) as broker,
    ):
        own = {
            "bootstrap_servers": broker.bootstrap,
            "data_dir": Path(folder),
            "content_url": "",
            "slot": "demo",
            "environment": "development",
            "api_port": free_port(),
            "patience_s": PATIENCE_S,
        }
        settings = base.model_copy(update=own)
        say(f"Kafka answers on {broker.bootstrap}: creating the topics")
        topics.apply(settings, wait_s=0)
        high_watermarks_when_reachable(
            settings, partitions_of((topic.name for topic in settings.topics.all), settings)
        )
        codec = codec_for(settings)
        played = _play(settings, codec, say)
        say("the worker has ended: reading the log back to its end")
        findings = _check(settings, codec, played)
    return _report(played, codec, findings, monotonic() - started_at)


@dataclass(slots=True)
class Played:
    """The requests and uploads sent, and the outcomes so far."""

    sent: dict[Coordinates, SentRecord] = field(default_factory=dict)
    uploads: list[Uploaded] = field(default_factory=list)
    outcomes: list[OutcomeFound] = field(default_factory=list)
    answered: set[Coordinates] = field(default_factory=set)
    parked: set[Coordinates] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    def acknowledged(self) -> dict[tuple[str, str], int]:
        """The newest acknowledged offset by scope and role."""
        return {(upload.scope_key, upload.role): upload.at.offset for upload in self.uploads}


def _play(settings: Settings, codec: Codec, say: Say) -> Played:
    """Play the story, from the first upload to the end of the worker."""
    with (
        LogReader(settings, _read_partitions(settings)) as log,
        api_running(settings, say) as api,
        running("worker", settings, say) as worker,
    ):
        stage = Stage(settings, codec, log, api, worker, say)
        stage.upload("1-before")
        first, second, third = _parts(story(SEED, codec))
        stage.request(first)
        stage.wait_for(1)
        stage.request(second[: len(second) // 2])
        stage.upload("2-while-requests-flow")
        stage.request(second[len(second) // 2 :])
        stage.wait_for(len(stage.played.sent), or_parked=True)
        stage.upload("3-in-the-end")
        stage.request(third)
        stage.wait_for(len(stage.played.sent))
    return stage.played


def _outcome_partitions(settings: Settings) -> list[Partition]:
    return partitions_of((topic.name for topic in settings.topics.outcomes), settings)


def _read_partitions(settings: Settings) -> list[Partition]:
    parked = partitions_of([settings.topics.parked.name], settings)
    return [*_outcome_partitions(settings), *parked]


def _parts(requests: Sequence[StoryRequest]) -> list[list[StoryRequest]]:
    return [[request for request in requests if request.part == part] for part in range(PARTS)]


class Stage:
    """Plays the story: sends uploads and requests, and collects their outcomes."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        log: LogReader,
        api: str,
        worker: "subprocess.Popen[bytes]",
        say: Say,
    ) -> None:
        self.played = Played()
        self._settings = settings
        self._log = log
        self._administrators = Administrators(settings, api)
        self._worker = worker
        self._say = say
        self._reader = AvroReader(codec)
        self._producer = plain_producer(settings)
        log.seek(dict.fromkeys(_read_partitions(settings), 0))

    def upload(self, name: str) -> None:
        """Upload the contents of one file with admin commands."""
        uploaded = self._administrators.upload(DATA / f"{name}.jsonl")
        self.played.uploads += uploaded
        self._say(f"{len(uploaded)} uploads acknowledged ({name})")

    def request(self, requests: Sequence[StoryRequest]) -> None:
        """Send requests in bundles."""
        acknowledged = self.played.acknowledged()
        bundles = range(0, len(requests), BUNDLE)
        for start in bar(bundles, "requests", len(bundles)):
            records = [
                Record(self._settings.topics.requests.name, -1, request.key, request.value)
                for request in requests[start : start + BUNDLE]
            ]
            for message in deliver(self._producer, records):
                at = coordinates_of(message)
                self.played.sent[at] = SentRecord(message.key(), message.value(), acknowledged)
        self._say(f"{len(requests)} requests acknowledged")

    def wait_for(self, count: int, *, or_parked: bool = False) -> None:
        """Collect outcomes until this many requests have one, or are parked; stop after a silence without any."""
        left = count - len(self.played.answered)
        for _ in bar(self._new_outcomes(count, or_parked), "outcomes", left):
            pass
        waiting = len(self.played.parked - self.played.answered)
        self._say(f"{len(self.played.answered)} requests have their outcome, {waiting} wait")

    def _new_outcomes(self, count: int, or_parked: bool) -> Iterator[Coordinates]:
        played = self.played
        deadline = monotonic() + SILENCE_S
        while monotonic() < deadline:
            seen = played.answered | played.parked if or_parked else played.answered
            if len(seen) >= count:
                return
            for record in self._log.read():
                deadline = monotonic() + SILENCE_S
                yield from self._collect(record)
            if self._worker.poll() is not None:
                raise CJStreamError(f"the worker ended by itself: {self._worker.returncode}")

    def _collect(self, record: LogRecord) -> Iterator[Coordinates]:
        played = self.played
        if record.at.topic == self._settings.topics.parked.name:
            if record.value is not None:
                played.parked.add(coordinates_from((record.key or b"").decode()))
            return
        before = len(played.answered)
        collect(record, self._reader, played)
        if len(played.answered) > before:
            yield played.outcomes[-1].request_at


def collect(record: LogRecord, reader: AvroReader, played: Played) -> None:
    """Add one record of an outcome topic to `played`, as an outcome or as unreadable."""
    try:
        found = found_in(record, reader)
    except ValueError as fault:
        played.unreadable.append(f"{record.at}: {fault}")
    else:
        played.outcomes.append(found)
        played.answered.add(found.request_at)


def _check(settings: Settings, codec: Codec, played: Played) -> Findings:
    """Read all outcomes up to the end of the log, and everything they depend on, and check them."""
    reader = AvroReader(codec)
    outcomes = Played()
    for record in _all_records(settings, _outcome_partitions(settings)):
        collect(record, reader, outcomes)
    uploads = partitions_of((topic.name for topic in settings.topics.uploads), settings)
    deletions = [upload for upload in played.uploads if upload.is_deletion]
    evidence = Evidence(
        played.sent,
        {record.at: record for record in _all_records(settings, uploads)},
        frozenset((deletion.scope_key, deletion.role) for deletion in deletions),
        ContentStore.open(settings.content),
        reader,
    )
    return evidence.check(outcomes.outcomes, outcomes.unreadable)


def _all_records(settings: Settings, partitions: Sequence[Partition]) -> list[LogRecord]:
    """Every committed record of these partitions, up to their high watermarks."""
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        return list(log.records_until(ends, seconds=30))


def _report(played: Played, codec: Codec, findings: Findings, seconds: float) -> DemoReport:
    def is_canonical(request: bytes) -> bool:
        return scan_request(request, codec.version_of(CJAssessmentRequested, request)) is not None

    slow_path = sum(
        found.event is not None and not is_canonical(played.sent[found.request_at].value or b"")
        for found in played.outcomes
        if found.request_at in played.sent
    )
    return DemoReport(
        uploads=len(played.uploads),
        requests=len(played.sent),
        prepared=findings.outcomes["prepared"],
        unresolved=findings.outcomes["unresolved"],
        dead_lettered=findings.outcomes["dead_lettered"],
        missing=findings.missing,
        duplicated=findings.duplicated,
        stale=findings.stale,
        verified=findings.outcomes["prepared"] > 0 and not findings.faults,
        slow_path=slow_path,
        context_sources=dict(sorted(findings.context_sources.items())),
        prompt_sources=dict(sorted(findings.prompt_sources.items())),
        parked=len(played.parked),
        released=sum(
            found.request_at in played.parked and "processing_metadata" in (found.event or {})
            for found in played.outcomes
        ),
        faults=findings.faults[:10],
        seconds=round(seconds, 1),
    )
