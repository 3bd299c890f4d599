"""The released Avro schemas, `<Name>.v<number>.avsc` in this folder, and their fixed ids.

A released schema is never edited: a change is a new file with a new number and a new id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent
FILE_NAME = re.compile(r"(?P<name>\w+)\.v(?P<version>\d+)\.avsc")


@dataclass(frozen=True, slots=True)
class Released:
    """One released schema: record name, version number, schema id and the schema itself."""

    name: str
    version: int
    schema_id: int
    schema: Mapping[str, Any]


@cache
def released() -> tuple[Released, ...]:
    """Every released schema, sorted by name and version."""
    ids = orjson.loads((FOLDER / "schema_ids.json").read_bytes())
    return tuple(
        sorted(
            (_read(FOLDER / file_name, schema_id) for file_name, schema_id in ids.items()),
            key=lambda schema: (schema.name, schema.version),
        )
    )


def schema_path(name: str, version: int) -> Path:
    """The file of a released schema."""
    return FOLDER / f"{name}.v{version}.avsc"


def _read(path: Path, schema_id: int) -> Released:
    parts = FILE_NAME.fullmatch(path.name)
    if parts is None:
        raise ValueError(f"{path.name} is not named <Name>.v<number>.avsc")
    schema = orjson.loads(path.read_bytes())
    return Released(parts["name"], int(parts["version"]), schema_id, schema)
