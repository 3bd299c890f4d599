"""How a context becomes a document."""

from typing import Any

from processors.policy import Policy
from schemas.coordinates import Coordinates
from schemas.events import ROLES, AssignmentContext, Component
from schemas.scales import SCALES, GradeScale
from tables.context import is_live, live
from tables.etags import assignment_etag_of
from tools.api.responses.response_models import (
    Deletion,
    InstructionsUpload,
    Readiness,
    Scale,
    Source,
    Upload,
)
from tools.audit_json import ids_of, instant

STORED = ("storage_id", "sha256", "media_type", "size_bytes")


class NotReadable(ValueError):
    """A document was asked for of what is not live."""


def source_of(at: Coordinates) -> Source:
    """Coordinates as JSON."""
    return Source(topic=at.topic, partition=at.partition, offset=at.offset)


def readiness_of(
    context: AssignmentContext | None, scope_key: str, policy: Policy, *lacking: str
) -> Readiness:
    """How ready a scope is; lacking are live roles whose text is not in the store, if that was asked."""
    ids = ids_of(scope_key)
    of_course = ids["assignment_id"] is None
    required = ("instructions",) if of_course else policy.required
    missing = [*Policy(required).missing_from(context, brings_prompt=False), *lacking]
    instructions = live(context, "instructions")
    is_unknown = instructions is not None and instructions.grade_scale not in SCALES
    return Readiness(
        assignment_id=ids["assignment_id"],
        ready=None if of_course else not missing,
        has_instructions=is_live(context, "instructions"),
        has_student_prompt=is_live(context, "student_prompt"),
        has_judge_rubric=is_live(context, "judge_rubric"),
        required=list(required),
        missing=missing,
        warnings=["unknown_grade_scale"] if is_unknown else [],
        tag=str(assignment_etag_of(context)),
    )


def instruction_of(context: AssignmentContext, text: str, policy: Policy) -> dict[str, Any]:
    """The fields of Instruction; the instructions are live."""
    instructions = _live(context, "instructions")
    return {
        "scope_key": context.scope_key,
        **ids_of(context.scope_key),
        "instructions_text": text,
        "grade_scale": instructions.grade_scale,
        "context_origin": instructions.context_origin,
        "student_prompt_storage_id": _storage_id(context, "student_prompt"),
        "judge_rubric_storage_id": _storage_id(context, "judge_rubric"),
        "storage_id": instructions.storage_id,
        **_uploaded(instructions),
        "readiness": readiness_of(context, context.scope_key, policy),
    }


def text_of_assignment(
    context: AssignmentContext, role: str, text: str, instructions_text: str | None
) -> dict[str, Any]:
    """The fields of Prompt or Rubric; the role is live."""
    component = _live(context, role)
    instructions = live(context, "instructions")
    return {
        "assignment_id": ids_of(context.scope_key)["assignment_id"],
        f"{role}_storage_id": component.storage_id,
        f"{role.rpartition('_')[2]}_text": text,
        "instructions_text": instructions_text,
        "grade_scale": instructions.grade_scale if instructions else None,
        "media_type": component.media_type,
        **_uploaded(component),
    }


def assignment_of(
    context: AssignmentContext, texts: dict[str, str] | None, policy: Policy
) -> dict[str, Any]:
    """The fields of Assignment; texts by role, None to leave them out."""
    return {
        "assignment_id": ids_of(context.scope_key)["assignment_id"],
        "scope_key": context.scope_key,
        "tag": str(assignment_etag_of(context)),
        "readiness": readiness_of(context, context.scope_key, policy),
        **{role: _role(context, role, texts) for role in ROLES},
    }


def scale_of(scale: GradeScale) -> Scale:
    """A grade scale as JSON."""
    priors = None if scale.priors is None else dict(scale.priors)
    shown = {name: getattr(scale, name) for name in Scale.model_fields}
    return Scale(**{**shown, "grades": list(scale.grades), "priors": priors})


def _live(context: AssignmentContext, role: str) -> Component:
    component = live(context, role)
    if component is None:
        raise NotReadable(f"{role} of {context.scope_key} is not live")
    return component


def _storage_id(context: AssignmentContext, role: str) -> str | None:
    component = live(context, role)
    return component.storage_id if component else None


def _uploaded(component: Component) -> dict[str, Any]:
    return {
        "version": component.version,
        "event_id": component.event_id,
        "sha256": component.sha256,
        "size_bytes": component.size_bytes,
        "created_at": instant(component.created_at_ms or 0),
        "updated_at": instant(component.occurred_at_ms),
        "updated_by": component.actor,
        "source": source_of(component.source),
    }


def _role(
    context: AssignmentContext, role: str, texts: dict[str, str] | None
) -> Upload | Deletion | None:
    component: Component | None = getattr(context, role)
    if component is None:
        return None
    said = {
        **ids_of(context.scope_key),
        "event_id": component.event_id,
        "version": component.version,
        "previous_event_id": component.previous_event_id,
        "actor": component.actor,
        "correlation_id": component.correlation_id,
        "occurred_at": instant(component.occurred_at_ms),
        "source": source_of(component.source),
    }
    if component.is_deletion:
        return Deletion(**said, deleted=True, erased=component.erased)
    said |= {"created_at": instant(component.created_at_ms or 0), "deleted": False}
    said |= {name: getattr(component, name) for name in STORED}
    if texts is not None and role in texts:  # an erased one is not
        said["text"] = texts[role]
    if role != "instructions":
        return Upload(**said)
    return InstructionsUpload(
        **said, grade_scale=component.grade_scale, context_origin=component.context_origin
    )
