"""Versions beside each other by the `avro` package: which cannot read which and why, other writers, other readers."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from typing import Any

import avro.compatibility
import avro.io
import avro.schema

from schemas.codec import FRAME
from schemas.events import Event
from schemas.released_schemas import Released, released

KIND = avro.compatibility.SchemaIncompatibilityType


def parsed(schema: Mapping[str, Any]) -> Any:
    """The schema as the avro package has it."""
    return avro.schema.parse(json.dumps(dict(schema)))


def written_in(version: Released, event: Event, **more: Any) -> bytes:
    """An event as a producer of that version writes it, which leaves out what it has no field for."""
    body = io.BytesIO()
    said = json.loads(json.dumps(asdict(event) | more))
    fields = {field["name"]: said[field["name"]] for field in version.schema["fields"]}
    avro.io.DatumWriter(parsed(version.schema)).write(fields, avro.io.BinaryEncoder(body))
    return FRAME.pack(0, version.schema_id) + body.getvalue()


def read_as(reader: Released, payload: bytes | None) -> Any:
    """The fields that a consumer of that version reads, with the schema that the frame names."""
    assert payload is not None
    _, schema_id = FRAME.unpack_from(payload)
    (writer,) = (one for one in released() if one.schema_id == schema_id)
    body = io.BytesIO(payload[FRAME.size :])
    fields = avro.io.DatumReader(parsed(writer.schema), parsed(reader.schema))
    said = fields.read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    return said


def full_transitive_faults(versions: Sequence[Released]) -> list[str]:
    """A sentence for each version that cannot read another one; versions of one name, every pair both ways."""
    return [
        f"{reader.name}: v{reader.version} cannot read v{writer.version}, because {why}"
        for reader, writer in permutations(versions, 2)
        if (why := _why(reader, writer))
    ]


def _asked(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Any:
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    return checker.get_compatibility(parsed(reader), parsed(writer))


def _can_read(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> bool:
    compatible = avro.compatibility.SchemaCompatibilityType.compatible
    return bool(_asked(reader, writer).compatibility is compatible)


def _why(reader: Released, writer: Released) -> str:
    if _can_read(reader.schema, writer.schema):
        return ""
    told = _asked(reader.schema, writer.schema)
    field = _field_at(reader.schema, max(told.locations, key=len)) or _culprit(reader, writer)
    match told.incompatibilities[0]:
        case KIND.reader_field_missing_default_value:
            return (
                f"v{reader.version}'s field {field} is not in v{writer.version} and has no default"
            )
        case KIND.name_mismatch:
            return f"the record has another name: {' '.join(sorted(told.messages))}"
        case kind:
            said = "; ".join(sorted(told.messages))
            return f"the field {field} has another type ({kind.value}: {said})"


def _field_at(schema: Any, location: str) -> str:
    """The names of the fields that a location such as /fields/4/type/fields/14 leads through."""
    names, here = [], schema
    for step in location.split("/")[1:]:
        if isinstance(here, list) and step.isdigit():
            here = here[int(step)]
        elif isinstance(here, dict) and step in here:
            here = here[step]
        else:  # the bare name of a type
            break
        if isinstance(here, dict) and "type" in here and "name" in here and "fields" not in here:
            names.append(here["name"])
    return ".".join(names)


def _culprit(reader: Released, writer: Released) -> str:
    """The fields without which the versions would agree; the checker names none inside a union."""
    written = {field["name"]: field for field in writer.schema["fields"]}
    fields = reader.schema["fields"]
    return " or ".join(
        field["name"]
        for field in fields
        if _can_read(
            {
                **reader.schema,
                "fields": [
                    written.get(one["name"], one) if one is field else one for one in fields
                ],
            },
            writer.schema,
        )
    )
