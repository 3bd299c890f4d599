"""The one door between bytes and events: Confluent framing around Avro bodies.

Format: one byte 0, the schema id (4 bytes, big endian), the Avro body.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import cattrs
import fastavro
import fastavro.schema
import orjson

from schemas import events
from schemas.avro_validation import end_of
from schemas.errors import Malformed, UnknownSchema
from schemas.events import Event
from schemas.field_limits import check_limits
from schemas.released_schemas import Released, released

MAGIC = 0
FRAME = struct.Struct(">BI")
MAX_RECORD_BYTES = 2 * 1024 * 1024
UNLIMITED = (events.AssignmentContext, events.CJBatchPrepared, events.CJBatchUnresolved)
E = TypeVar("E")


class _SchemaVersion(NamedTuple):
    """A released schema as the codec works with it."""

    version: int
    event_class: type[Any]
    frame: bytes  # what its encodings start with
    parsed: Any
    named: dict[str, Any]


def _no_registry(_schema_id: int) -> str | None:
    return None


class Codec:
    """Encodes events with the latest schema of their name, decodes those of every release.

    ids are a registry's for released schemas, by name and version: what is encoded then carries them, and the fixed
    ids stay readable. form_of gives the canonical form of a schema by an id that is not known, or None.
    """

    def __init__(
        self,
        schemas: Iterable[Released] = (),
        ids: Mapping[tuple[str, int], int] | None = None,
        form_of: Callable[[int], str | None] = _no_registry,
    ) -> None:
        self._by_frame: dict[bytes, _SchemaVersion] = {}
        self._by_version: dict[tuple[str, int], _SchemaVersion] = {}
        self._by_form: dict[str, _SchemaVersion] = {}
        self._latest: dict[str, _SchemaVersion] = {}
        self._form_of = form_of
        self._converter = cattrs.Converter()
        for one in tuple(schemas) or released():  # ascending versions: the last one is the latest
            self._admit(one, (ids or {}).get((one.name, one.version), one.schema_id))

    def _admit(self, one: Released, schema_id: int) -> None:
        named: dict[str, Any] = {}
        parsed = fastavro.parse_schema(dict(one.schema), named_schemas=named)
        frame = FRAME.pack(MAGIC, schema_id)
        known = _SchemaVersion(one.version, getattr(events, one.name), frame, parsed, named)
        self._by_frame[frame] = self._by_frame[FRAME.pack(MAGIC, one.schema_id)] = known
        self._by_form[fastavro.schema.to_parsing_canonical_form(parsed)] = known
        self._by_version[one.name, one.version] = self._latest[one.name] = known

    def _schema_of(self, event_class: type, version: int | None) -> _SchemaVersion:
        name = event_class.__name__
        return self._latest[name] if version is None else self._by_version[name, version]

    def frame_of(self, event_class: type, version: int | None = None) -> bytes:
        """The five bytes that an encoding of this class starts with, in the latest version unless one is given."""
        return self._schema_of(event_class, version).frame

    def version_of(self, event_class: type, payload: bytes) -> int | None:
        """Which version of this class the payload's frame names; None where it names something else."""
        known = self._by_frame.get(payload[: FRAME.size])
        return known.version if known is not None and known.event_class is event_class else None

    def layouts(self) -> dict[bytes, tuple[type[Any], tuple[tuple[str, Any], ...]]]:
        """Of every released schema, by the frame of its encodings: the class, and each field's name and type."""
        return {
            frame: (
                known.event_class,
                tuple((field["name"], field["type"]) for field in known.parsed["fields"]),
            )
            for frame, known in self._by_frame.items()
        }

    def encode(self, event: Event, version: int | None = None) -> bytes:
        """The event's bytes in the latest schema of its name, or in the version given.

        Raises Malformed where an older version cannot hold all that the event says.
        """
        known = self._schema_of(type(event), version)
        is_latest = known is self._schema_of(type(event), None)
        body = BytesIO()
        body.write(known.frame)
        values = self._converter.unstructure(event)
        # an older version does not have all the fields: fastavro drops them then, whatever they hold
        fastavro.schemaless_writer(body, known.parsed, values, strict=is_latest)
        payload = body.getvalue()
        if not is_latest and self._event(known, payload) != event:
            name = type(event).__name__
            raise Malformed(f"{name}.v{known.version} does not hold all that this event says")
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
        event = self._event(self._known(payload[: FRAME.size]), payload)
        if not isinstance(event, UNLIMITED):
            check_limits(event)
        return event

    def _known(self, frame: bytes) -> _SchemaVersion:
        """The released schema that a frame names, by an id that may be the registry's for its equal."""
        known = self._by_frame.get(frame)
        if known is None:
            schema_id = FRAME.unpack(frame)[1]
            known = self._by_form.get(self._form_of(schema_id) or "")
            if known is None:
                raise UnknownSchema(f"schema id {schema_id} is not of this release")
            self._by_frame[frame] = known
        return known

    def decode_as(self, event_class: type[E], payload: bytes | None) -> E:
        """An event of just this class; another one is Malformed here."""
        event = self.decode(payload)
        if not isinstance(event, event_class):
            name = type(event).__name__
            raise Malformed(f"a {name} where {event_class.__name__} belongs")
        return event

    def _event(self, known: _SchemaVersion, payload: bytes) -> Event:
        writer, reader = known.parsed, self._schema_of(known.event_class, None).parsed
        body = BytesIO(payload)
        body.seek(FRAME.size)
        schema_id = FRAME.unpack_from(payload)[1]
        try:
            end = end_of(writer, known.named, payload, FRAME.size)
            values = fastavro.schemaless_reader(body, writer, None if reader is writer else reader)
            event: Event = self._converter.structure(values, known.event_class)
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


def canonical_or_none(schema: object) -> str | None:
    """The same; None where it is no schema."""
    try:
        return canonical(schema) if isinstance(schema, str) else None
    except Malformed:
        return None
