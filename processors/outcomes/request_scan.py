"""Checks a request in its canonical encoding in place, and reads a few fields without decoding it. Pure.

The slow path accepts every request that the scan accepts, and encodes it to the same bytes. A request that the scan
does not accept takes the slow path, which decides. A property test checks both statements.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from schemas.events import CJAssessmentRequested
from schemas.released_schemas import released
from tables.scan.layout import Layout, layout_of
from tables.scan.plain import Scan, compile_scan


class ScannedFields(NamedTuple):
    """The fields of a request that resolution needs."""

    assignment_id: str | None
    course_code: str
    student_prompt_ref: str | None


@cache
def request_layouts() -> Mapping[int | None, Layout]:
    """The field table of each released version of CJAssessmentRequested."""
    return {
        schema.version: layout_of(schema.schema, ScannedFields._fields)
        for schema in released()
        if schema.name == CJAssessmentRequested.__name__
    }


@cache
def _scans() -> Mapping[int | None, Scan]:
    return {version: compile_scan(layout) for version, layout in request_layouts().items()}


def scan_request(payload: bytes, version: int | None) -> ScannedFields | None:
    """The fields of a framed CJAssessmentRequested of this version, or None if it must take the slow path."""
    scan = _scans().get(version)
    places = scan(payload) if scan is not None else None
    if places is None:
        return None
    assignment, assignment_end, course, course_end, prompt, prompt_end = places
    return ScannedFields(
        None if assignment < 0 else payload[assignment:assignment_end].decode(),
        payload[course:course_end].decode(),
        None if prompt < 0 else payload[prompt:prompt_end].decode(),
    )
