"""Response documents, built from a context, and the responses with them: status and headers."""

from collections import ChainMap, Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
from starlette.responses import Response

from processors.policy import Policy
from processors.upload_log.upload_log import WriteResult
from schemas.events import ADMINISTERED_ROLES, ANCHORS, AssignmentContext
from schemas.scales import SCALES
from tables.anchors import anchors_found
from tables.context import component_of, is_live, live
from tables.etags import assignment_etag_of, etag_of
from tools.api.responses.response_models import (
    AnchorsUpload,
    Deleted,
    Deletion,
    InstructionsUpload,
    Readiness,
    ResponseModel,
    Upload,
)
from tools.audit.stored_text import TextState
from tools.audit_json import component_document, ids_of, source_document

Document = TypeVar("Document", bound=ResponseModel)
Fields = Mapping[str, Any]


def ok_response(document: ResponseModel, *, etag: object | None = None) -> Response:
    """200 with a document."""
    return _json(document, 200, {} if etag is None else {"ETag": f'"{etag}"'})


def write_response(
    model: type[ResponseModel],
    fields: Fields,
    result: WriteResult,
    *,
    etag: object | None = None,
    created: int = 200,
) -> Response:
    """200 after a write, `created` if the write created something, 202 if the replica has not folded it yet."""
    outcome = {
        "outcome": result.decision.outcome,
        "outcomes": dict(result.decision.outcomes),
        "folded": result.folded,
        "position": [source_document(at) for at in result.positions],
    }
    status = created if result.decision.outcome == "created" else 200
    headers = {"X-Position": ",".join(map(str, result.positions))} if result.positions else {}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    return _json(filled(model, fields, outcome), status if result.folded else 202, headers)


def deletion_response(scope_key: str, result: WriteResult) -> Response:
    """The response to the deletion of one or all roles of a scope."""
    ids = {name: value for name, value in ids_of(scope_key).items() if value is not None}
    roles = [role for role, outcome in result.decision.outcomes.items() if outcome == "deleted"]
    return write_response(Deleted, {**ids, "status": "deleted", "deleted": roles}, result)


def _json(document: ResponseModel, status: int, headers: Mapping[str, str]) -> Response:
    fields: dict[str, Any] = document.model_dump(exclude_unset=True)
    return Response(orjson.dumps(fields), status, headers, media_type="application/json")


def filled(model: type[Document], *sources: Fields) -> Document:
    """The document with those of the given fields that its class has; the first source with a field counts."""
    given = ChainMap(*map(dict, sources))
    return model(**{name: given[name] for name in model.model_fields if name in given})


def readiness_of(
    context: AssignmentContext | None, scope_key: str, policy: Policy, *unreadable: str
) -> Readiness:
    """The readiness of a scope; `unreadable`, such as `student_prompt_content`, is appended to what is missing."""
    assignment_id = ids_of(scope_key)["assignment_id"]
    required = ("instructions",) if assignment_id is None else policy.required
    missing = [*Policy(required).missing_from(context, brings_prompt=False), *unreadable]
    instructions = live(context, "instructions")
    is_unknown = instructions is not None and instructions.grade_scale not in SCALES
    return Readiness(
        assignment_id=assignment_id,
        ready=None if assignment_id is None else not missing,
        has_instructions=is_live(context, "instructions"),
        has_student_prompt=is_live(context, "student_prompt"),
        has_judge_rubric=is_live(context, "judge_rubric"),
        required=list(required),
        missing=missing,
        warnings=["unknown_grade_scale"] if is_unknown else [],
        tag=str(assignment_etag_of(context)),
    )


def instruction_fields(
    context: AssignmentContext, text: TextState | None, policy: Policy
) -> Fields:
    """The fields of Instruction; the instructions must be live."""
    return {
        "scope_key": context.scope_key,
        "instructions_text": text.text if text else None,
        "text_state": text.state if text else "missing",
        **_storage_ids(context),
        "readiness": readiness_of(context, context.scope_key, policy),
        **_role_fields(context, "instructions"),
    }


def prompt_or_rubric_fields(
    context: AssignmentContext, role: str, text: str, of_instructions: TextState | None
) -> Fields:
    """The fields of Prompt or Rubric; the role must be live."""
    instructions = live(context, "instructions")
    return {
        **_storage_ids(context),
        f"{role.rpartition('_')[2]}_text": text,
        "instructions_text": of_instructions.text if of_instructions else None,
        "instructions_text_state": of_instructions.state if of_instructions else None,
        "grade_scale": instructions.grade_scale if instructions else None,
        **_role_fields(context, role),
    }


def anchor_fields(context: AssignmentContext, grade_scale: str) -> Fields:
    """The fields of Anchors and of AnchorCounts for one grade scale."""
    found, assignment_id = anchors_found(context, 0), ids_of(context.scope_key)["assignment_id"]
    by_scale = Counter(anchor.grade_scale for anchor in found.anchors)
    anchors = found.of_scale(grade_scale)
    return {
        **_role_fields(context, ANCHORS),
        "assignment_id": assignment_id,
        "grade_scale": grade_scale,
        "anchors": list(map(asdict, anchors)),
        "anchor_count": len(anchors),
        "anchor_count_total": len(found.anchors),
        "anchor_count_by_scale": dict(sorted(by_scale.items())),
        "tag": str(etag_of(component_of(context, ANCHORS))),
    }


def assignment_fields(
    context: AssignmentContext, texts: Mapping[str, TextState] | None, policy: Policy
) -> Fields:
    """The fields of Assignment; texts by role, or None to leave them out."""
    return {
        **ids_of(context.scope_key),
        "scope_key": context.scope_key,
        "tag": str(assignment_etag_of(context)),
        "readiness": readiness_of(context, context.scope_key, policy),
        **{role: _role(context, role, texts or {}) for role in ADMINISTERED_ROLES},
    }


def _storage_ids(context: AssignmentContext) -> Fields:
    components = {role: live(context, role) for role in ("student_prompt", "judge_rubric")}
    return {
        f"{role}_storage_id": component.storage_id if component else None
        for role, component in components.items()
    }


def _role_fields(context: AssignmentContext, role: str) -> Fields:
    """What the documents say about the newest upload or deletion of a role, under each of their names for it."""
    component = component_of(context, role)
    document = {} if component is None else component_document(component)
    return {
        **ids_of(context.scope_key),
        "previous_event_id": None,
        "updated_at": document.get("occurred_at"),
        "updated_by": document.get("actor"),
        **document,
    }


def _role(
    context: AssignmentContext, role: str, texts: Mapping[str, TextState]
) -> Upload | AnchorsUpload | Deletion | None:
    component = component_of(context, role)
    if component is None:
        return None
    fields = _role_fields(context, role)
    if component.is_deletion:
        return filled(Deletion, fields)
    if role == ANCHORS:
        return filled(AnchorsUpload, fields)
    found = texts.get(role)
    state = {} if found is None else {"text_state": found.state}
    text = {} if found is None or found.text is None else {"text": found.text}
    return filled(InstructionsUpload if role == "instructions" else Upload, fields, state, text)
