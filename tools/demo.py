"""`cjstream demo`: the whole story on a broker and in a folder of its own, read back and checked.

Administrators upload by command line and API, a real worker process joins 2,000 requests with what they
upload while some of it changes and some comes late, and every outcome is read back from the committed log and
proven from it.
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
from tools.processes import Tell, api_running, end_on_sigterm, running
from tools.progress import bar

DATA = Path(__file__).with_name("demo_data")
SEED = 5
BUNDLE = 50  # requests that are sent at once
PATIENCE_S = 15  # of a request: what nobody ever uploads is unresolved after that
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
    parked: int  # requests that outran their context and waited for it
    released: int  # those of them whose context came before their deadline
    faults: list[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether every request has one outcome, and each of them is proven."""
        return self.verified and not (self.missing or self.duplicated or self.stale)


def run(tell: Tell, **overrides: object) -> DemoReport:
    """Tell the story and check it; tell is given lines for people. What it starts and makes is gone after.

    The environment's settings and the overrides hold, but for broker, folder and content store.
    """
    begun = monotonic()
    end_on_sigterm()
    given = settings_from_environment(**overrides)
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-demo-") as folder,
        Broker.temporary(given.data_dir) as broker,
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
        settings = given.model_copy(update=own)
        tell(f"Kafka answers on {broker.bootstrap}: making the topics")
        topics.applied(settings, wait_s=0)
        high_watermarks_when_reachable(
            settings, partitions_of((one.name for one in settings.topics.all), settings)
        )
        codec = codec_for(settings)
        played = _played(settings, codec, tell)
        tell("the worker has ended: reading the log back to its end")
        findings = _checked(settings, codec, played)
    return _report(played, codec, findings, monotonic() - begun)


@dataclass(slots=True)
class Played:
    """What was sent, and what came of it so far."""

    sent: dict[Coordinates, SentRecord] = field(default_factory=dict)
    uploads: list[Uploaded] = field(default_factory=list)
    outcomes: list[OutcomeFound] = field(default_factory=list)
    answered: set[Coordinates] = field(default_factory=set)
    parked: set[Coordinates] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    def acknowledged(self) -> dict[tuple[str, str], int]:
        """The newest offset by scope and role."""
        return {(one.scope_key, one.role): one.at.offset for one in self.uploads}


def _played(settings: Settings, codec: Codec, tell: Tell) -> Played:
    """The story, from the first upload to the worker's end."""
    with (
        LogReader(settings, _read_partitions(settings)) as log,
        api_running(settings, tell) as api,
        running("worker", settings, tell) as worker,
    ):
        stage = Stage(settings, codec, log, api, worker, tell)
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
    return [[one for one in requests if one.part == part] for part in range(PARTS)]


class Stage:
    """Plays the story: sends, and gathers what comes of it."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        log: LogReader,
        api: str,
        worker: "subprocess.Popen[bytes]",
        tell: Tell,
    ) -> None:
        self.played = Played()
        self._settings = settings
        self._log = log
        self._administrators = Administrators(settings, api)
        self._worker = worker
        self._tell = tell
        self._reader = AvroReader(codec)
        self._producer = plain_producer(settings)
        log.seek(dict.fromkeys(_read_partitions(settings), 0))

    def upload(self, name: str) -> None:
        """Upload what one file says, by the admin commands."""
        uploaded = self._administrators.upload(DATA / f"{name}.jsonl")
        self.played.uploads += uploaded
        self._tell(f"{len(uploaded)} uploads acknowledged ({name})")

    def request(self, requests: Sequence[StoryRequest]) -> None:
        """Send requests in bundles."""
        known = self.played.acknowledged()
        bundles = range(0, len(requests), BUNDLE)
        for start in bar(bundles, "requests", len(bundles)):
            records = [
                Record(self._settings.topics.requests.name, -1, one.key, one.value)
                for one in requests[start : start + BUNDLE]
            ]
            for message in deliver(self._producer, records):
                at = coordinates_of(message)
                self.played.sent[at] = SentRecord(message.key(), message.value(), known)
        self._tell(f"{len(requests)} requests acknowledged")

    def wait_for(self, count: int, *, or_parked: bool = False) -> None:
        """Gather outcomes of that many requests, or see them parked; give up when none comes any more."""
        left = count - len(self.played.answered)
        for _ in bar(self._new_answers(count, or_parked), "outcomes", left):
            pass
        waiting = len(self.played.parked - self.played.answered)
        self._tell(f"{len(self.played.answered)} requests have their outcome, {waiting} wait")

    def _new_answers(self, count: int, or_parked: bool) -> Iterator[Coordinates]:
        played = self.played
        until = monotonic() + SILENCE_S
        while monotonic() < until:
            seen = played.answered | played.parked if or_parked else played.answered
            if len(seen) >= count:
                return
            for record in self._log.read():
                until = monotonic() + SILENCE_S
                yield from self._gather(record)
            if self._worker.poll() is not None:
                raise CJStreamError(f"the worker ended by itself: {self._worker.returncode}")

    def _gather(self, record: LogRecord) -> Iterator[Coordinates]:
        played = self.played
        if record.at.topic == self._settings.topics.parked.name:
            if record.value is not None:
                played.parked.add(coordinates_from((record.key or b"").decode()))
            return
        known = len(played.answered)
        gather(record, self._reader, played)
        if len(played.answered) > known:
            yield played.outcomes[-1].request_at


def gather(record: LogRecord, reader: AvroReader, played: Played) -> None:
    """Take one record of an outcome topic for what it is."""
    try:
        found = found_in(record, reader)
    except ValueError as fault:
        played.unreadable.append(f"{record.at}: {fault}")
    else:
        played.outcomes.append(found)
        played.answered.add(found.request_at)


def _checked(settings: Settings, codec: Codec, played: Played) -> Findings:
    """Read the outcomes on to the end of the log, and everything that they rest on."""
    reader = AvroReader(codec)
    outcomes = Played()
    for record in _whole(settings, _outcome_partitions(settings)):
        gather(record, reader, outcomes)
    uploads = partitions_of((topic.name for topic in settings.topics.uploads), settings)
    deleted = [one for one in played.uploads if one.is_deletion]
    evidence = Evidence(
        played.sent,
        {record.at: record for record in _whole(settings, uploads)},
        frozenset((one.scope_key, one.role) for one in deleted),
        ContentStore.at(settings.content),
        reader,
    )
    return evidence.weigh(outcomes.outcomes, outcomes.unreadable)


def _whole(settings: Settings, partitions: Sequence[Partition]) -> list[LogRecord]:
    """Every committed record of these partitions, up to their high watermarks."""
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        return list(log.records_until(ends, seconds=30))


def _report(played: Played, codec: Codec, findings: Findings, seconds: float) -> DemoReport:
    def is_canonical(request: bytes) -> bool:
        return scan_request(request, codec.version_of(CJAssessmentRequested, request)) is not None

    by_decoding = sum(
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
        slow_path=by_decoding,
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
