"""Encodes and decodes events: Confluent framing around Avro bodies.

Format: one byte 0, the schema id (4 bytes, big endian), the Avro body.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import fastavro
import fastavro.schema
import orjson

from schemas import events, judging_events
from schemas.avro_decoder import Decoder, compile_decoder
from schemas.avro_encoder import Encoder, compile_encoder
from schemas.errors import Malformed, UnknownSchema, Unreachable
from schemas.events import Event
from schemas.field_limits import check_limits
from schemas.released_schemas import Released, released

MAGIC = 0
FRAME = struct.Struct(">BI")
LATER_IDS = 1000  # a release that adds schemas gives them the next ids
MAX_RECORD_BYTES = 2 * 1024 * 1024
WITHOUT_LIMITS = (
    events.AssignmentContext,
    events.CJBatchPrepared,
    events.CJBatchUnresolved,
    judging_events.CJBatchJudged,
    judging_events.JudgingEvent,
)
CLASSES = {**vars(events), **vars(judging_events)}  # of records, by name
E = TypeVar("E")


@dataclass(frozen=True)
class _SchemaVersion:
    """A released schema with its event class and frame. Decoder and encoder are compiled at their first use."""

    version: int
    event_class: type[Any]
    frame: bytes  # the first five bytes of its encodings
    fixed_frame: bytes  # the same with the id that cjstream gives, not a registry
    schema: Mapping[str, Any]
    compiled: Callable[[str], Decoder]  # for an encoding of texts

    @cached_property
    def decoder(self) -> Decoder:
        """Reads an event from a payload at an offset; returns the event and where it ends."""
        return self.compiled("utf-8")

    @cached_property
    def structure_decoder(self) -> Decoder:
        """The same, but any byte is a valid text: it fails only if the structure is damaged."""
        return self.compiled("latin-1")

    @cached_property
    def encoder(self) -> Encoder:
        """Appends an event to a body."""
        return compile_encoder(self.schema, CLASSES)


def _no_registry(_schema_id: int) -> str | None:
    return None


class Codec:
    """Encodes events with the latest schema of their name, and decodes the events of every release.

    ids: a registry's ids of released schemas, by name and version; encoded events carry them, and events with the fixed
    ids stay readable. form_of: returns the canonical form of the schema with an unknown id, or None; raises
    Unreachable if it cannot be looked up now.
    """

    def __init__(
        self,
        schemas: Iterable[Released] = (),
        ids: Mapping[tuple[str, int], int] | None = None,
        form_of: Callable[[int], str | None] = _no_registry,
    ) -> None:
        self._check_limits: Callable[[Event], None] = check_limits
        self._by_frame: dict[bytes, _SchemaVersion] = {}
        self._by_version: dict[tuple[str, int], _SchemaVersion] = {}
        self._by_form: dict[str, _SchemaVersion] = {}
        self._latest: dict[str, _SchemaVersion] = {}
        self._form_of = form_of
        all_schemas = tuple(schemas) or released()  # versions ascend: the last one is the latest
        latest = {schema.name: schema.schema for schema in all_schemas}
        self._highest_id = max(schema.schema_id for schema in all_schemas)
        self._full_names = {f"{schema.schema['namespace']}.{schema.name}" for schema in all_schemas}
        for schema in all_schemas:
            schema_id = (ids or {}).get((schema.name, schema.version), schema.schema_id)
            self._add(schema, schema_id, latest[schema.name])

    def _add(self, schema: Released, schema_id: int, latest: Mapping[str, Any]) -> None:
        parsed = fastavro.parse_schema(dict(schema.schema), named_schemas={})
        frame = FRAME.pack(MAGIC, schema_id)
        event_class = CLASSES[schema.name]
        compiled = partial(compile_decoder, schema.schema, latest, CLASSES)
        fixed = FRAME.pack(MAGIC, schema.schema_id)
        known = _SchemaVersion(schema.version, event_class, frame, fixed, schema.schema, compiled)
        self._by_frame[frame] = self._by_frame[fixed] = known
        self._by_form[fastavro.schema.to_parsing_canonical_form(parsed)] = known
        self._by_version[schema.name, schema.version] = self._latest[schema.name] = known

    def as_earlier(self) -> "Codec":
        """The same, but it also decodes what only earlier releases accepted."""
        earlier = copy(self)
        earlier._check_limits = partial(check_limits, as_earlier=True)  # noqa: SLF001  of its own class
        return earlier

    def _schema_of(self, event_class: type, version: int | None) -> _SchemaVersion:
        name = event_class.__name__
        return self._latest[name] if version is None else self._by_version[name, version]

    def frame_of(self, event_class: type, version: int | None = None) -> bytes:
        """The first five bytes of every encoding of this class, in this version or the latest."""
        return self._schema_of(event_class, version).frame

    def version_of(self, event_class: type, payload: bytes) -> int | None:
        """The version of this class that the payload's frame names; None if it names anything else."""
        known = self._by_frame.get(payload[: FRAME.size])
        return known.version if known is not None and known.event_class is event_class else None

    def frames_of(self, event_class: type) -> dict[bytes, int]:
        """The frames that are known to belong to this class, and the version of each."""
        return {
            frame: known.version
            for frame, known in list(self._by_frame.items())  # another thread may add one
            if known.event_class is event_class
        }

    def schemas(self) -> dict[bytes, tuple[type[Any], Mapping[str, Any]]]:
        """The class and the schema of every known frame."""
        known = list(self._by_frame.items())  # another thread may add one
        return {frame: (version.event_class, version.schema) for frame, version in known}

    def encode(self, event: Event, version: int | None = None) -> bytes:
        """The event's bytes in this version of its schema, or in the latest.

        Raises Malformed if an older version cannot hold all values of the event.
        """
        known = self._schema_of(type(event), version)
        is_latest = known is self._schema_of(type(event), None)
        body = bytearray(known.frame)
        known.encoder(body, event)
        payload = bytes(body)
        if not is_latest and self._event(known, payload) != event:
            name = type(event).__name__
            raise Malformed(f"{name}.v{known.version} does not hold all values of this event")
        return payload

    def decode(self, payload: bytes | None) -> Event:
        """An event written by any release, as the newest class of its name.

        Raises Malformed or UnknownSchema; nothing else escapes.
        """
        if payload is None:
            raise Malformed("no value: a tombstone is not an event")
        if len(payload) > MAX_RECORD_BYTES:
            raise Malformed(f"{len(payload)} bytes, allowed are {MAX_RECORD_BYTES}")
        if len(payload) < FRAME.size or payload[0] != MAGIC:
            raise Malformed(f"{len(payload)} bytes without Confluent framing")
        event = self._event(self._schema_named_by(payload[: FRAME.size]), payload)
        if not isinstance(event, WITHOUT_LIMITS):
            self._check_limits(event)
        return event

    def with_fixed_ids(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """The bytes of valid events, with the fixed ids of their schemas in place of a registry's ids."""
        frames = {payload[: FRAME.size] for payload in payloads}
        fixed = {frame: self._schema_named_by(frame).fixed_frame for frame in frames}
        if all(frame == of_schema for frame, of_schema in fixed.items()):
            return payloads
        return [fixed[payload[: FRAME.size]] + payload[FRAME.size :] for payload in payloads]

    def _schema_named_by(self, frame: bytes) -> _SchemaVersion:
        """The released schema that a frame names; its id may be a registry's id of an equal schema."""
        known = self._by_frame.get(frame)
        if known is None:
            schema_id = FRAME.unpack(frame)[1]
            problem = f"schema id {schema_id} is not of this release"
            try:
                form = self._form_of(schema_id)
            except Unreachable as fault:
                raise UnknownSchema(problem, may_be_later=True) from fault
            known = self._by_form.get(form or "")
            if known is None:
                raise UnknownSchema(problem, may_be_later=self._may_be_later(schema_id, form))
            self._by_frame[frame] = known
        return known

    def _may_be_later(self, schema_id: int, form: str | None) -> bool:
        """Whether a later release may know it: one of the next fixed ids, or a registry's of a record of ours."""
        if form is None:
            return 0 < schema_id - self._highest_id <= LATER_IDS
        schema = orjson.loads(form)
        return isinstance(schema, dict) and schema["name"] in self._full_names

    def decode_as(self, event_class: type[E], payload: bytes | None) -> E:
        """The event, if it has exactly this class. Raises Malformed for any other class, UnknownSchema."""
        event = self.decode(payload)
        if not isinstance(event, event_class):
            name = type(event).__name__
            raise Malformed(f"a {name} where {event_class.__name__} belongs")
        return event

    def _event(self, known: _SchemaVersion, payload: bytes) -> Event:
        try:
            event: Event
            event, end = known.decoder(payload, FRAME.size)
        except (Malformed, IndexError, UnicodeDecodeError) as fault:
            schema_id = FRAME.unpack_from(payload)[1]
            raise Malformed(f"schema id {schema_id}: {_problem(fault, known, payload)}") from fault
        if end != len(payload):
            schema_id = FRAME.unpack_from(payload)[1]
            raise Malformed(f"schema id {schema_id}: {len(payload) - end} bytes left over")
        return event


def _problem(fault: Exception, known: _SchemaVersion, payload: bytes) -> str:
    """What is wrong with a damaged body: its structure comes first, its texts second."""
    if isinstance(fault, UnicodeDecodeError):
        try:
            known.structure_decoder(payload, FRAME.size)
        except (Malformed, IndexError) as structural:
            fault = structural
    return str(fault) if isinstance(fault, Malformed) else type(fault).__name__


def canonical(schema: bytes | str) -> str:
    """The parsing canonical form of a JSON schema; schemas with equal forms are equivalent. Raises Malformed.

    fastavro crashes the process on a very deeply nested schema; the JSON parser's limit on nesting prevents that.
    """
    try:
        return fastavro.schema.to_parsing_canonical_form(
            fastavro.parse_schema(orjson.loads(schema), named_schemas={})
        )
    except Exception as fault:  # fastavro raises plain Exceptions on invalid schemas
        raise Malformed(f"not an Avro schema: {type(fault).__name__}") from fault


def canonical_or_none(schema: object) -> str | None:
    """The parsing canonical form of a JSON schema; None if it is not a schema."""
    try:
        return canonical(schema) if isinstance(schema, str) else None
    except Malformed:
        return None
