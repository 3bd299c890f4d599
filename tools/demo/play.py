"""`cjstream demo`: the whole story on a temporary broker and in a temporary folder, read back and checked.

Administrators upload by command line and API. A real worker process joins 2,000 requests with these uploads, of
which some change meanwhile and some come late. Then a research run: essays of known quality are judged by a faulty
judge process that is killed midway, and graded with the help of anchors. Every outcome is read back from the committed
log and checked with it.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

from processors.kafka.clients import plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.outcomes.request_scan import scan_request
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, settings_from_environment
from schemas.codec import Codec
from schemas.coordinates import Coordinates, coordinates_from
from schemas.errors import CJStreamError
from schemas.events import CJAssessmentRequested
from schemas.topics import Topic
from tables.content_store import ContentStore
from tools.audit.check.findings import Violation
from tools.audit.verify.verify import VerifyReport, verify
from tools.broker import QUICK_START, free_port
from tools.demo.check import AvroReader, Evidence, Findings, OutcomeFound, SentRecord, found_in
from tools.demo.judging import JudgedBatch, Judging
from tools.demo.requests import PARTS, StoryRequest, story
from tools.demo.uploads import Uploaded, upload
from tools.installation import installation
from tools.processes import Say, api_running, running
from tools.progress import bar
from tools.runner.run_folder import REPORT

DATA = Path(__file__).with_name("data")
SEED = 5
BUNDLE = 50  # requests sent at once
PATIENCE_S = 5  # of a request: if its context is not uploaded by then, it is unresolved
MAX_SHOWN = 10  # of what was found
SILENCE_S = 60.0  # without any outcome, before the demo gives up


Report = dict[str, Any]


def is_good(report: Report) -> bool:
    """Whether each request has one outcome, all were verified, the essays are graded, and the audit finds nothing."""
    has_discrepancy = any(report[name] for name in ("missing", "duplicated", "stale", "violations"))
    judging = report["judging"]
    is_graded = judging["outcome"] in ("complete", "partial") and judging["grades"] == "graded"
    return bool(report["verified"]) and is_graded and not has_discrepancy


def run(say: Say) -> Report:
    """Play the story and check it; `say` receives lines for people. What it creates is removed, except the report."""
    started_at = monotonic()
    kept = settings_from_environment().data_dir / "demo" / REPORT
    os.environ.setdefault("JDK_JAVA_OPTIONS", QUICK_START)  # of the broker
    with installation(
        say,
        slot="demo",
        environment="development",
        api_port=free_port(),
        patience_s=PATIENCE_S,
        scan_engine="plain",  # to compile takes longer than to check 2,000 requests
    ) as settings:
        codec = codec_for(settings)
        reader = AvroReader(codec)
        stage, judged = _play(settings, codec, reader, say)
        judged.explain(say)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(judged.report_file.read_bytes())
        say(f"the report on these essays, for a browser: {kept}")
        say("the worker has ended: reading the log back to its end")
        outcomes, findings = _check(settings, reader, stage)
        violations = _audited(settings, say)
    report = _report(stage, codec, outcomes, findings, monotonic() - started_at)
    judging = {**judged.report(), "report": str(kept)}
    return {**report, "judging": judging, "violations": violations}


def _play(
    settings: Settings, codec: Codec, reader: AvroReader, say: Say
) -> "tuple[Stage, JudgedBatch]":
    """Play the story, from the first upload to the end of the worker."""
    read = settings.partitions_of(*settings.topics.outcomes, settings.topics.parked)
    with LogReader(settings, read) as log, running("worker", settings, say) as worker:
        log.seek(dict.fromkeys(read, 0))
        stage = Stage(settings, reader, log, worker, say)
        with api_running(settings, say) as api:
            requests = story(SEED, codec)
            first, second, third = (
                [request for request in requests if request.part == part] for part in range(PARTS)
            )
            stage.upload(api, "1-before")
            stage.request(first)
            stage.wait_for(1)
            stage.request(second[: len(second) // 2])
            stage.upload(api, "2-while-requests-flow")
            # no backlog: what is parked next is parked long before its deadline
            stage.wait_for(len(stage.sent), or_parked=True)
            stage.request(second[len(second) // 2 :])
            stage.wait_for(len(stage.sent), or_parked=True)
            stage.upload(api, "3-in-the-end")
            stage.request(third)
            stage.wait_for(len(stage.sent), or_parked=True)
            judged = Judging(settings, codec, say).play(api)
        stage.note_sent(judged.request_at)
        stage.wait_for(len(stage.sent))
    return stage, judged


class Stage:
    """Plays the story: sends uploads and requests, and sees which requests have an outcome or are parked."""

    def __init__(
        self,
        settings: Settings,
        reader: AvroReader,
        log: LogReader,
        worker: "subprocess.Popen[bytes]",
        say: Say,
    ) -> None:
        self.sent: dict[Coordinates, SentRecord] = {}
        self.uploads: list[Uploaded] = []
        self.parked: set[Coordinates] = set()
        self._answered: set[Coordinates] = set()
        self._settings = settings
        self._log = log
        self._worker = worker
        self._say = say
        self._reader = reader
        self._producer = plain_producer(settings)

    def upload(self, api: str, name: str) -> None:
        """Upload the contents of one file."""
        uploaded = upload(self._settings, api, DATA / f"{name}.jsonl")
        self.uploads += uploaded
        self._say(f"{len(uploaded)} uploads acknowledged ({name})")

    def request(self, requests: Sequence[StoryRequest]) -> None:
        """Send requests in bundles."""
        newest = self._newest_uploads()
        topic = self._settings.topics.requests.name
        bundles = range(0, len(requests), BUNDLE)
        for start in bar(bundles, "requests", len(bundles)):
            bundle = requests[start : start + BUNDLE]
            records = [Record(topic, -1, request.key, request.value) for request in bundle]
            for message in deliver(self._producer, records):
                sent = SentRecord(message.key(), message.value(), newest)
                self.sent[coordinates_of(message)] = sent
        self._say(f"{len(requests)} requests acknowledged")

    def note_sent(self, at: Coordinates) -> None:
        """Note a request that was sent by another command."""
        for record in records_at(self._settings, [at]):
            self.sent[at] = SentRecord(record.key, record.value, self._newest_uploads())

    def _newest_uploads(self) -> dict[tuple[str, str], int]:
        return {(upload.scope_key, upload.role): upload.at.offset for upload in self.uploads}

    def wait_for(self, count: int, *, or_parked: bool = False) -> None:
        """Read outcomes until this many requests have one, or are parked; stop after a silence without any."""
        left = count - len(self._answered)
        for _ in bar(self._new_outcomes(count, or_parked), "outcomes", left):
            pass
        waiting = len(self.parked - self._answered)
        self._say(f"{len(self._answered)} requests have their outcome, {waiting} wait")

    def _new_outcomes(self, count: int, or_parked: bool) -> Iterator[Coordinates]:
        deadline = monotonic() + SILENCE_S
        while monotonic() < deadline:
            seen = self._answered | self.parked if or_parked else self._answered
            if len(seen) >= count:
                return
            for record in self._log.read():
                deadline = monotonic() + SILENCE_S
                yield from self._collect(record)
            if self._worker.poll() is not None:
                raise CJStreamError(f"the worker ended by itself: {self._worker.returncode}")

    def _collect(self, record: LogRecord) -> Iterator[Coordinates]:
        if record.at.topic == self._settings.topics.parked.name:
            if record.value is not None:
                self.parked.add(coordinates_from((record.key or b"").decode()))
            return
        with suppress(ValueError):  # the check reports what is unreadable
            request_at = found_in(record, self._reader).request_at
            if request_at not in self._answered:
                self._answered.add(request_at)
                yield request_at


def _check(
    settings: Settings, reader: AvroReader, stage: Stage
) -> tuple[list[OutcomeFound], Findings]:
    """Read all outcomes up to the end of the log, and everything they depend on, and check them."""
    outcomes, unreadable = list[OutcomeFound](), list[str]()
    for record in _all_records(settings, *settings.topics.outcomes):
        try:
            outcomes.append(found_in(record, reader))
        except ValueError as fault:
            unreadable.append(f"{record.at}: {fault}")
    deletions = [upload for upload in stage.uploads if upload.is_deletion]
    evidence = Evidence(
        stage.sent,
        {record.at: record for record in _all_records(settings, *settings.topics.uploads)},
        frozenset((deletion.scope_key, deletion.role) for deletion in deletions),
        ContentStore.open(settings.content),
        reader,
    )
    return outcomes, evidence.check(outcomes, unreadable)


def _audited(settings: Settings, say: Say) -> list[str]:
    """What `cjstream audit verify` finds, judging included: each outcome, decision and result is made again."""
    found = list[str]()
    for result in verify(settings, time_ns() // 1_000_000):
        if isinstance(result, Violation):
            found.append(f"{result.at}: {result.sentence}")
        elif isinstance(result, VerifyReport):
            say(
                f"`audit verify` made {result.outcomes} outcomes and {result.judging} records of judging again"
            )
    return found[:MAX_SHOWN]


def _all_records(settings: Settings, *topics: Topic) -> list[LogRecord]:
    """Every committed record of these topics, up to their high watermarks."""
    ends = high_watermarks_when_reachable(settings, settings.partitions_of(*topics))
    with LogReader(settings, ends) as log:
        log.seek_to_start()
        return list(log.records_until(ends, seconds=30))


def _report(
    stage: Stage,
    codec: Codec,
    outcomes: Sequence[OutcomeFound],
    findings: Findings,
    seconds: float,
) -> Report:
    """What the demo did, and what it found in the committed log."""

    def is_canonical(request_at: Coordinates) -> bool:
        request = stage.sent[request_at].value or b""
        return scan_request(request, codec.version_of(CJAssessmentRequested, request)) is not None

    resolved = [found for found in outcomes if found.event and found.request_at in stage.sent]
    waited = [found for found in outcomes if found.request_at in stage.parked]
    return {
        "uploads": len(stage.uploads),
        "requests": len(stage.sent),
        **{name: findings.outcomes[name] for name in ("prepared", "unresolved", "dead_lettered")},
        "missing": findings.missing,
        "duplicated": findings.duplicated,
        # outcomes that missed an upload acknowledged before their request was sent
        "stale": findings.stale,
        "verified": findings.outcomes["prepared"] > 0 and not findings.faults,
        "slow_path": sum(not is_canonical(found.request_at) for found in resolved),
        "context_sources": dict(sorted(findings.context_sources.items())),
        "prompt_sources": dict(sorted(findings.prompt_sources.items())),
        # requests that arrived before their context and waited for it
        "parked": len(stage.parked),
        # those of them whose context came before their deadline
        "released": sum("processing_metadata" in (found.event or {}) for found in waited),
        "faults": findings.faults[:MAX_SHOWN],
        "seconds": round(seconds, 1),
    }
