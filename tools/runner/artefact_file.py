"""The file of an artefact: checked against its schema and its checksum, written, and read back."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from schemas.errors import Discrepancy, Malformed
from tools.admin.files import replace
from tools.runner.artefact import CHECKSUM, artefact_bytes, artefact_of, checksum_of
from tools.runner.collected_run import CollectedRun

if TYPE_CHECKING:  # importing it takes long
    from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).with_name("assessment_run.schema.json")
MODE = 0o644
Document = dict[str, Any]


def write_artefact(path: Path, collected: CollectedRun) -> Document:
    """Make the artefact, check it, write it, and read it back. Raises Discrepancy, and OSError.

    The file is replaced as a whole: nobody sees a part of it.
    """
    content = artefact_bytes(artefact_of(collected))
    check_artefact(content)
    replace(path, content, MODE)
    return read_artefact(path)


def read_artefact(path: Path) -> Document:
    """The artefact in a file. Raises Discrepancy if it is none or was changed, and OSError."""
    return check_artefact(path.read_bytes())


def check_artefact(content: bytes) -> Document:
    """The document, if it is valid: schema, checksum, canonical bytes. Raises Discrepancy."""
    try:
        document: Document = orjson.loads(content)
    except orjson.JSONDecodeError as fault:
        raise Discrepancy("artefact: not JSON") from fault
    error = next(_validator().iter_errors(document), None)
    if error is not None:
        raise Discrepancy(f"artefact: not by its schema at {error.json_path}: {error.validator}")
    try:
        is_sound = checksum_of(document) == document["validation"][CHECKSUM]
        if not is_sound or artefact_bytes(document) != content:
            raise Discrepancy("artefact: its checksum is not that of its content: it was changed")
    except Malformed as fault:
        raise Discrepancy(f"artefact: {fault}") from fault
    return document


@cache
def _validator() -> "Draft202012Validator":
    from jsonschema import Draft202012Validator

    schema = orjson.loads(SCHEMA.read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
