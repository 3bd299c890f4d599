"""The demo's checks of its outcomes, from the log alone and with a different Avro reader than the worker's."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import avro.schema
from avro.errors import AvroException
from avro.io import BinaryDecoder, DatumReader

from processors.kafka.records import LogRecord
from schemas import events
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import CJStreamError
from schemas.events import ROLES
from schemas.released_schemas import released
from tables.content_store import ContentStore

DLT = "kafka_dlt-original-"


class AvroReader:
    """Reads framed Avro records with the `avro` package, as the newest version of their schema.

    The writer's schema is the .avsc file for the id in the frame; the id may come from a registry.
    """

    def __init__(self, codec: Codec) -> None:
        parsed = [
            (release, avro.schema.parse(json.dumps(release.schema)))
            for release in released()
            if hasattr(events, release.name)  # not the records of judging
        ]
        latest = {release.name: schema for release, schema in parsed}  # versions are ascending
        self._readers = {
            codec.frame_of(getattr(events, release.name), release.version): (
                release.name,
                DatumReader(schema, latest[release.name]),
            )
            for release, schema in parsed
        }

    def read(self, payload: bytes | None) -> tuple[str, dict[str, Any]]:
        """The schema name and fields of a record. Raises ValueError."""
        if payload is None or len(payload) < FRAME.size:
            raise ValueError("no frame")
        frame = payload[: FRAME.size]
        if frame not in self._readers:
            raise ValueError("no frame of a released schema")
        name, reader = self._readers[frame]
        body = BytesIO(payload[FRAME.size :])
        try:
            values: Any = reader.read(BinaryDecoder(body))
        except (AvroException, EOFError) as fault:
            raise ValueError(f"{name}: {type(fault).__name__}") from fault
        if body.read(1):
            raise ValueError(f"{name}: bytes left over")
        return name, values


@dataclass(frozen=True, slots=True)
class SentRecord:
    """A request as appended, and the uploads acknowledged before it: the newest offset by scope and role."""

    key: bytes | None
    value: bytes | None
    acknowledged: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class OutcomeFound:
    """One outcome and the request it belongs to; a dead letter has no event."""

    record: LogRecord
    request_at: Coordinates
    event: dict[str, Any] | None


def found_in(record: LogRecord, reader: AvroReader) -> OutcomeFound:
    """The outcome in a record. Raises ValueError."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    if DLT + "topic" in headers:
        numbers = (int(headers[DLT + "partition"]), int(headers[DLT + "offset"]))
        return OutcomeFound(record, Coordinates(headers[DLT + "topic"], *numbers), None)
    _, event = reader.read(record.value)
    return OutcomeFound(record, Coordinates(**event["provenance"]["request"]), event)


@dataclass(slots=True)
class Findings:
    """The result of checking all outcomes."""

    missing: int
    duplicated: int
    stale: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    context_sources: Counter[str] = field(default_factory=Counter)
    prompt_sources: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything read back: the requests sent, the upload topics, the content store."""

    sent: Mapping[Coordinates, SentRecord]
    uploads: Mapping[Coordinates, LogRecord]
    withdrawn: frozenset[tuple[str, str]]  # scopes and roles that were deleted at any time
    content: ContentStore
    reader: AvroReader
    proven: dict[tuple[Coordinates, int, str, str], str] = field(default_factory=dict)

    def check(self, outcomes: Iterable[OutcomeFound], unreadable: Iterable[str]) -> Findings:
        """Count the outcomes by the coordinates of their requests, and check each one."""
        outcomes = list(outcomes)
        counted = Counter(found.request_at for found in outcomes)
        findings = Findings(
            missing=len(self.sent.keys() - counted.keys()),
            duplicated=sum(counted.values()) - len(counted),
            faults=list(unreadable),
        )
        for found in outcomes:
            try:
                self._check_outcome(found, findings)
            except (ValueError, CJStreamError) as fault:
                findings.faults.append(f"{found.record.at}: {fault}")
        return findings

    def _check_outcome(self, found: OutcomeFound, findings: Findings) -> None:
        sent = self.sent.get(found.request_at)
        _require(sent is not None, "there is no request at the coordinates it names")
        if sent is None:
            return
        _require(found.record.key == sent.key, "its key is not the request's")
        if found.event is None:
            findings.outcomes["dead_lettered"] += 1
            _require(found.record.value == sent.value, "its bytes are not the request's")
            return
        _require(found.event["request"] == self.reader.read(sent.value)[1], "not the request sent")
        if "processing_metadata" in found.event:
            metadata = found.event["processing_metadata"]
            findings.outcomes["prepared"] += 1
            findings.context_sources[metadata["context_source"]] += 1
            findings.prompt_sources[metadata["prompt_source"]] += 1
            self._check_metadata(found.event)
        else:
            findings.outcomes["unresolved"] += 1
        for role in ROLES:
            self._proven_storage_id(found.event["provenance"][role])
        findings.stale += self._is_stale(found.event, sent)

    def _proven_storage_id(self, used: Mapping[str, Any] | None) -> str | None:
        """The storage id of an upload that provenance names, after every claim about the upload was checked."""
        if used is None:
            return None
        at = Coordinates(**used["source"])
        claim = (at, used["version"], used["event_id"], used["sha256"])
        if claim not in self.proven:
            self.proven[claim] = self._read_back(*claim)
        return self.proven[claim]

    def _read_back(self, at: Coordinates, version: int, event_id: str, digest: str) -> str:
        record = self.uploads.get(at)
        _require(record is not None, f"there is no upload at {at}")
        _, upload = self.reader.read(record.value if record else None)
        same = (upload["version"], upload["event_id"]) == (version, event_id)
        _require(same and upload["sha256"] == digest, f"there is another upload at {at}")
        storage_id = str(upload["storage_id"])
        text = self.content.get(storage_id)
        _require(sha256(text).hexdigest() == digest, f"the text of {at} has another sha256")
        return storage_id

    def _check_metadata(self, event: Mapping[str, Any]) -> None:
        """Check that the metadata names exactly the texts in the provenance, or the request's own prompt."""
        metadata, explicit = event["processing_metadata"], event["request"]["student_prompt_ref"]
        for role in ROLES:
            proven = self._proven_storage_id(event["provenance"][role])
            if role == "student_prompt":
                proven = explicit or proven
            _require(
                metadata[f"{role}_storage_id"] == proven,
                f"its {role} is not the one in its provenance",
            )

    def _is_stale(self, event: Mapping[str, Any], sent: SentRecord) -> bool:
        """Whether it missed an upload that was acknowledged before its request was sent."""
        request = event["request"]
        named = request["assignment_id"]
        scope_key = f"course:{request['course_code']}" if named is None else f"assignment:{named}"
        for role in ROLES:
            newest = sent.acknowledged.get((scope_key, role))
            explicit = role == "student_prompt" and request["student_prompt_ref"] is not None
            if newest is None or explicit:
                continue
            used = event["provenance"][role]
            if used is None and (scope_key, role) not in self.withdrawn:
                return True
            if used is not None and used["source"]["offset"] < newest:
                return True
        return False


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
