"""Checks a request in its canonical encoding in place, and reads a few fields without decoding it. Pure.

The slow path accepts every request that the scan accepts, and encodes it to the same bytes. A request that the scan
does not accept takes the slow path, which decides. A property test checks both statements.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from schemas.codec import Codec
from schemas.events import CJAssessmentRequested
from schemas.released_schemas import released
from tables.scan.layout import Layout, layout_of
from tables.scan.plain import Scan, compile_scan
from tables.scan.scanner import SLOW_PATH, Engine


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


class RequestScanner:
    """Scans many requests at once."""

    def __init__(self, codec: Codec, engine: Engine) -> None:
        self._codec, self._engine = codec, engine
        self._frames: Mapping[bytes, int] = {}

    def scan(self, requests: Sequence[bytes]) -> list[ScannedFields | None]:
        """The fields of each framed request; None for one that must take the slow path."""
        frames = self._codec.frames_of(CJAssessmentRequested)
        if frames != self._frames:  # the codec learns the ids of a schema registry
            self._frames, by_version = frames, request_layouts()
            layouts = [(frame, by_version[version]) for frame, version in frames.items()]
            self._scanner = self._engine.scanner(layouts)
        layouts_of, places_of = self._scanner.scan(requests)
        return [
            None if layout == SLOW_PATH else _fields(request, places)
            for request, layout, places in zip(requests, layouts_of, places_of, strict=True)
        ]


@cache
def _scans() -> Mapping[int | None, Scan]:
    return {version: compile_scan(layout) for version, layout in request_layouts().items()}


def scan_request(payload: bytes, version: int | None) -> ScannedFields | None:
    """The fields of a framed CJAssessmentRequested of this version, or None if it must take the slow path."""
    scan = _scans().get(version)
    places = scan(payload) if scan is not None else None
    return None if places is None else _fields(payload, places)


def _fields(payload: bytes, places: Sequence[int]) -> ScannedFields:
    assignment, assignment_end, course, course_end, prompt, prompt_end = places
    return ScannedFields(
        None if assignment < 0 else payload[assignment:assignment_end].decode(),
        payload[course:course_end].decode(),
        None if prompt < 0 else payload[prompt:prompt_end].decode(),
    )
