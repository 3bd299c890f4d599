"""Response documents, built from a context."""

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

TEXT_FIELDS = ("storage_id", "sha256", "media_type", "size_bytes")


class NotReadable(ValueError):
    """A document was requested for a role that is not live."""


def source_of(at: Coordinates) -> Source:
    """Coordinates as JSON."""
    return Source(topic=at.topic, partition=at.partition, offset=at.offset)


def readiness_of(
    context: AssignmentContext | None, scope_key: str, policy: Policy, *unreadable: str
) -> Readiness:
    """The readiness of a scope; `unreadable`, such as `student_prompt_content`, is appended to what is missing."""
    ids = ids_of(scope_key)
    of_course = ids["assignment_id"] is None
    required = ("instructions",) if of_course else policy.required
    missing = [*Policy(required).missing_from(context, brings_prompt=False), *unreadable]
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


def instruction_fields(context: AssignmentContext, text: str, policy: Policy) -> dict[str, Any]:
    """The fields of Instruction. Raises NotReadable if the instructions are not live."""
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


def prompt_or_rubric_fields(
    context: AssignmentContext, role: str, text: str, instructions_text: str | None
) -> dict[str, Any]:
    """The fields of Prompt or Rubric. Raises NotReadable if the role is not live."""
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


def assignment_fields(
    context: AssignmentContext, texts: dict[str, str] | None, policy: Policy
) -> dict[str, Any]:
    """The fields of Assignment; texts by role, or None to leave them out."""
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
    fields = {name: getattr(scale, name) for name in Scale.model_fields}
    return Scale(**{**fields, "grades": list(scale.grades), "priors": priors})


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
    fields = {
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
        return Deletion(**fields, deleted=True, erased=component.erased)
    fields |= {"created_at": instant(component.created_at_ms or 0), "deleted": False}
    fields |= {name: getattr(component, name) for name in TEXT_FIELDS}
    if texts is not None and role in texts:  # an erased text is not in texts
        fields["text"] = texts[role]
    if role != "instructions":
        return Upload(**fields)
    return InstructionsUpload(
        **fields, grade_scale=component.grade_scale, context_origin=component.context_origin
    )
