"""Builds the bytes of a request's outcome in two ways: by decoding and encoding, and by splicing. Pure.

There is no clock and no random id: the same request and the same context give the same bytes in both ways.
"""

from processors.outcomes.encoding import event_id_of
from processors.outcomes.recipes import RECIPE
from processors.outcomes.resolve import Prepared, Unresolved, resolve, scope_key_for
from processors.outcomes.splice import BuiltOutcome, Resolution, Splicer
from schemas.coordinates import Coordinates
from schemas.errors import Malformed
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    Outcome,
    ProcessingMetadata,
    Provenance,
    UploadUsed,
)
from schemas.topics import MAX_REQUEST_BYTES
from tables.context import live


def outcome_of(
    request: CJAssessmentRequested,
    at: Coordinates,
    resolution: Resolution,
    recipe: int = RECIPE,
) -> Outcome:
    """The outcome event of a resolved request."""
    explicit = request.student_prompt_ref
    provenance = _provenance(at, resolution.context, brings_prompt=explicit is not None)
    if isinstance(resolution, Unresolved):
        return CJBatchUnresolved(
            event_id=event_id_of(at),
            recipe=recipe,
            provenance=provenance,
            scope_key=resolution.scope_key,
            missing=resolution.missing,
            request=request,
        )
    return CJBatchPrepared(
        event_id=event_id_of(at),
        recipe=recipe,
        provenance=provenance,
        processing_metadata=_metadata(resolution, explicit),
        request=request,
    )


def _provenance(
    at: Coordinates, context: AssignmentContext | None, *, brings_prompt: bool
) -> Provenance:
    return Provenance(
        request=at,
        instructions=_used(context, "instructions"),
        student_prompt=None if brings_prompt else _used(context, "student_prompt"),
        judge_rubric=_used(context, "judge_rubric"),
    )


def _used(context: AssignmentContext | None, role: str) -> UploadUsed | None:
    component = live(context, role)
    if component is None or component.sha256 is None:
        return None
    return UploadUsed(
        source=component.source,
        version=component.version,
        event_id=component.event_id,
        sha256=component.sha256,
    )


def _metadata(resolution: Prepared[AssignmentContext], explicit: str | None) -> ProcessingMetadata:
    instructions = live(resolution.context, "instructions")
    prompt = live(resolution.context, "student_prompt")
    rubric = live(resolution.context, "judge_rubric")
    context_prompt = prompt.storage_id if prompt else None
    return ProcessingMetadata(
        context_source=resolution.source,
        instructions_storage_id=instructions.storage_id if instructions else None,
        judge_rubric_storage_id=rubric.storage_id if rubric else None,
        grade_scale=instructions.grade_scale if instructions else None,
        context_origin=instructions.context_origin if instructions else None,
        prompt_source="request" if explicit else "assignment" if context_prompt else "none",
        student_prompt_storage_id=explicit or context_prompt,
    )


def check_size(payload: bytes | None) -> None:
    """Raises Malformed if a request is too large to be embedded in an outcome."""
    if payload is not None and len(payload) > MAX_REQUEST_BYTES:
        raise Malformed(f"too large: {len(payload)} bytes, at most {MAX_REQUEST_BYTES} are allowed")


class OutcomeBuilder(Splicer):
    """Builds outcomes of requests; by splicing if the request allows it."""

    def build(self, payload: bytes | None, at: Coordinates) -> BuiltOutcome:
        """The outcome of a request. Raises BadRecord if the bytes are not a valid request."""
        check_size(payload)
        return self.spliced(payload, at) or self.encoded(payload, at)

    def encoded(self, payload: bytes | None, at: Coordinates) -> BuiltOutcome:
        """The outcome by the slow path, which accepts every valid request: decode, resolve, encode."""
        request = self._codec.decode_as(CJAssessmentRequested, payload)
        scope_key = scope_key_for(request)
        context = self._context_of(scope_key)
        resolution = resolve(request, context, self._policy)
        outcome = outcome_of(request, at, resolution, self._recipe.number)
        value = self._codec.encode(outcome, self._recipe.outcome)
        return BuiltOutcome(scope_key, resolution, value)
