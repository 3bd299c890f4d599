"""The one door between bytes and events: Confluent framing around Avro bodies.

Format: one byte 0, the schema id (4 bytes, big endian), the Avro body.
"""

import struct
from collections.abc import Iterable
from io import BytesIO
from typing import Any, TypeVar

import cattrs
import fastavro
import fastavro.schema
import orjson

from schemas import events
from schemas.errors import Malformed, UnknownSchema
from schemas.events import Event
from schemas.limits import check_limits
from schemas.released import Released, released
from schemas.structure import end_of

MAGIC = 0
FRAME = struct.Struct(">BI")
MAX_RECORD_BYTES = 2 * 1024 * 1024
UNLIMITED = (events.AssignmentContext, events.CJBatchPrepared, events.CJBatchUnresolved)
E = TypeVar("E")


class Codec:
    """Encodes events with the latest schema of their name, decodes those of every release."""

    def __init__(self, schemas: Iterable[Released] = ()) -> None:
        self._writers: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._classes: dict[int, type[Any]] = {}
        self._released: dict[tuple[str, int], tuple[bytes, Any]] = {}
        self._latest: dict[str, int] = {}
        self._converter = cattrs.Converter()
        for one in tuple(schemas) or released():  # ascending versions: the last one is the latest
            self._admit(one)

    def _admit(self, one: Released) -> None:
        named: dict[str, Any] = {}
        parsed = fastavro.parse_schema(dict(one.schema), named_schemas=named)
        self._writers[one.schema_id] = (parsed, named)
        self._classes[one.schema_id] = getattr(events, one.name)
        self._released[one.name, one.version] = (FRAME.pack(MAGIC, one.schema_id), parsed)
        self._latest[one.name] = one.version

    def _schema_of(self, event_class: type, version: int | None) -> tuple[bytes, Any]:
        name = event_class.__name__
        return self._released[name, version or self._latest[name]]

    def frame_of(self, event_class: type, version: int | None = None) -> bytes:
        """The five bytes that an encoding of this class starts with, in the latest version unless one is given."""
        return self._schema_of(event_class, version)[0]

    def layouts(self) -> dict[bytes, tuple[type[Any], tuple[tuple[str, Any], ...]]]:
        """Of every released schema, by the frame of its encodings: the class, and each field's name and type."""
        return {
            FRAME.pack(MAGIC, schema_id): (
                self._classes[schema_id],
                tuple((field["name"], field["type"]) for field in parsed["fields"]),
            )
            for schema_id, (parsed, _) in self._writers.items()
        }

    def encode(self, event: Event, version: int | None = None) -> bytes:
        """The event's bytes in the latest schema of its name, or in the version given."""
        frame, schema = self._schema_of(type(event), version)
        body = BytesIO()
        body.write(frame)
        fastavro.schemaless_writer(body, schema, self._converter.unstructure(event), strict=True)
        return body.getvalue()

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
        schema_id = FRAME.unpack_from(payload)[1]
        if schema_id not in self._writers:
            raise UnknownSchema(f"schema id {schema_id} is not of this release")
        event = self._event(schema_id, payload)
        if not isinstance(event, UNLIMITED):
            check_limits(event)
        return event

    def decode_as(self, event_class: type[E], payload: bytes | None) -> E:
        """An event of just this class; another one is Malformed here."""
        event = self.decode(payload)
        if not isinstance(event, event_class):
            name = type(event).__name__
            raise Malformed(f"a {name} where {event_class.__name__} belongs")
        return event

    def _event(self, schema_id: int, payload: bytes) -> Event:
        writer, named = self._writers[schema_id]
        event_class = self._classes[schema_id]
        reader = self._schema_of(event_class, None)[1]
        body = BytesIO(payload)
        body.seek(FRAME.size)
        try:
            end = end_of(writer, named, payload, FRAME.size)
            values = fastavro.schemaless_reader(body, writer, None if reader is writer else reader)
            event: Event = self._converter.structure(values, event_class)
        except Malformed as fault:
            raise Malformed(f"schema id {schema_id}: {fault}") from fault
        except Exception as fault:  # fastavro raises plain Exceptions on damaged bytes
            raise Malformed(f"schema id {schema_id}: {type(fault).__name__}") from fault
        if end != len(payload):
            raise Malformed(f"schema id {schema_id}: {len(payload) - end} bytes left over")
        return event


def canonical(schema: bytes | str) -> str:
    """The parsing canonical form of a schema given as JSON; equal forms read alike. Raises Malformed.

    The JSON parser's bound on nesting guards fastavro, which crashes the process on a bottomless schema.
    """
    try:
        return fastavro.schema.to_parsing_canonical_form(
            fastavro.parse_schema(orjson.loads(schema), named_schemas={})
        )
    except Exception as fault:  # fastavro raises plain Exceptions on what is no schema
        raise Malformed(f"not an Avro schema: {type(fault).__name__}") from fault
