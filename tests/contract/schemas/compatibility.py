"""Compares schema versions with the `avro` package, and writes and reads events with it as other clients do."""

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
    """The schema, parsed by the avro package."""
    return avro.schema.parse(json.dumps(dict(schema)))


def written_in(version: Released, event: Event, **extra: Any) -> bytes:
    """An event, encoded by a producer with this version; fields that the version lacks are left out."""
    body = io.BytesIO()
    values = json.loads(json.dumps(asdict(event) | extra))
    fields = {field["name"]: values[field["name"]] for field in version.schema["fields"]}
    avro.io.DatumWriter(parsed(version.schema)).write(fields, avro.io.BinaryEncoder(body))
    return FRAME.pack(0, version.schema_id) + body.getvalue()


def read_as(reader: Released, payload: bytes | None) -> Any:
    """The fields that a consumer with this version reads; the frame names the schema of the writer."""
    assert payload is not None
    _, schema_id = FRAME.unpack_from(payload)
    (writer,) = (schema for schema in released() if schema.schema_id == schema_id)
    body = io.BytesIO(payload[FRAME.size :])
    datum_reader = avro.io.DatumReader(parsed(writer.schema), parsed(reader.schema))
    fields = datum_reader.read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    return fields


def full_transitive_faults(versions: Sequence[Released]) -> list[str]:
    """A sentence for each version that cannot read another one; checks every pair of versions both ways."""
    return [
        f"{reader.name}: v{reader.version} cannot read v{writer.version}, because {reason}"
        for reader, writer in permutations(versions, 2)
        if (reason := _reason(reader, writer))
    ]


def _compatibility(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Any:
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    return checker.get_compatibility(parsed(reader), parsed(writer))


def _can_read(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> bool:
    compatible = avro.compatibility.SchemaCompatibilityType.compatible
    return bool(_compatibility(reader, writer).compatibility is compatible)


def _reason(reader: Released, writer: Released) -> str:
    if _can_read(reader.schema, writer.schema):
        return ""
    result = _compatibility(reader.schema, writer.schema)
    field = _field_at(reader.schema, max(result.locations, key=len)) or _differing_fields(
        reader, writer
    )
    match result.incompatibilities[0]:
        case KIND.reader_field_missing_default_value:
            return (
                f"v{reader.version}'s field {field} is not in v{writer.version} and has no default"
            )
        case KIND.name_mismatch:
            return f"the record has another name: {' '.join(sorted(result.messages))}"
        case kind:
            details = "; ".join(sorted(result.messages))
            return f"the field {field} has another type ({kind.value}: {details})"


def _field_at(schema: Any, location: str) -> str:
    """The field names along a location such as /fields/4/type/fields/14, joined by dots."""
    names, node = [], schema
    for step in location.split("/")[1:]:
        if isinstance(node, list) and step.isdigit():
            node = node[int(step)]
        elif isinstance(node, dict) and step in node:
            node = node[step]
        else:  # the name of a type
            break
        if isinstance(node, dict) and "type" in node and "name" in node and "fields" not in node:
            names.append(node["name"])
    return ".".join(names)


def _differing_fields(reader: Released, writer: Released) -> str:
    """The fields that make the versions incompatible; the checker of avro names no field inside a union."""
    written = {field["name"]: field for field in writer.schema["fields"]}
    fields = reader.schema["fields"]
    return " or ".join(
        field["name"]
        for field in fields
        if _can_read(
            {
                **reader.schema,
                "fields": [
                    written.get(other["name"], other) if other is field else other
                    for other in fields
                ],
            },
            writer.schema,
        )
    )
