"""/anchors: the anchors of an assignment, one grade scale at a time; the tag is that of all of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas.errors import Malformed
from schemas.events import ANCHORS, Anchor
from schemas.scales import is_grade
from tables.anchor_changes import AddAnchor, AnchorsChange, PutAnchors, RemoveAnchors
from tables.commands import TextRef
from tables.content_store import PLAIN_TEXT
from tables.context import component_of, live
from tables.etags import etag_of
from tools.api.admission import AdmittedRoute, QueriedWriteDep, WriteDep, WriteRequest
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import not_live
from tools.api.errors.validation_errors import Fault, fault_at, invalid
from tools.api.requests import request_models as requests
from tools.api.requests.field_types import AnchorId, AssignmentId
from tools.api.responses import presenters
from tools.api.responses import response_models as models
from tools.api.responses.openapi import DELETED, READ, WRITTEN, WRITTEN_OR_CREATED, returns
from tools.api.routes.write_steps import execute, write_command
from tools.api.services.text_service import StoredText, ref_of

routes = APIRouter(prefix="/admin/v1", tags=["anchors"], route_class=AdmittedRoute)
PATH = "/anchors/assignment/{assignment_id}"
Id = Annotated[AssignmentId, Path()]
Scale = Annotated[requests.OfScale, Query()]


@routes.post("/anchors", **returns(models.AnchorsWritten, WRITTEN))
async def add_anchor(body: requests.NewAnchor, write: WriteDep) -> Response:
    """Add an anchor to an assignment that has instructions, or replace the one that has its id in its grade scale."""
    scale = await _scale(write.deps, body.assignment_id, body.grade_scale)
    _refuse({"body": body}, scale)
    refs = await _refs(write.deps, {"body": body})
    change = AddAnchor(anchor=_anchor(body, scale, refs[0]))
    return await _write(write, body.assignment_id, scale, change, [body])


@routes.put(PATH, **returns(models.AnchorsWritten, WRITTEN_OR_CREATED))
async def put_anchors(
    assignment_id: Id, body: requests.AnchorSet, query: Scale, write: QueriedWriteDep
) -> Response:
    """Replace all anchors of one grade scale; 201 if the assignment had no anchors."""
    scale = await _scale(write.deps, assignment_id, query.grade_scale)
    listed = {f"body/anchors/{number}": one for number, one in enumerate(body.anchors)}
    _refuse(listed, scale)
    refs = await _refs(write.deps, listed)
    anchors = (_anchor(one, scale, ref) for one, ref in zip(body.anchors, refs, strict=True))
    change = PutAnchors(grade_scale=scale, anchors=tuple(anchors))
    return await _write(write, assignment_id, scale, change, body.anchors, created=201)


@routes.get(PATH, **returns(models.Anchors, READ))
async def get_anchors(assignment_id: Id, query: Scale, deps: Deps) -> Response:
    """The live anchors of one grade scale, without their texts, and how many there are of each scale."""
    scope_key = f"assignment:{assignment_id}"
    context = await deps.log.read(scope_key)
    component = live(context, ANCHORS)
    if context is None or component is None:
        raise not_live(context, ANCHORS, scope_key)
    scale = query.grade_scale or await _scale(deps, assignment_id, None)
    document = presenters.filled(models.Anchors, presenters.anchor_fields(context, scale))
    return presenters.ok_response(document, etag=etag_of(component))


@routes.delete(PATH, **returns(models.AnchorsRemoved, DELETED))
async def delete_anchors(assignment_id: Id, query: Scale, write: QueriedWriteDep) -> Response:
    """Delete all anchors of one grade scale; their texts are kept for audit."""
    return await _remove(write, assignment_id, query.grade_scale, None)


@routes.delete(f"{PATH}/{{anchor_id}}", **returns(models.AnchorsRemoved, DELETED))
async def delete_anchor(
    assignment_id: Id,
    anchor_id: Annotated[AnchorId, Path()],
    query: Scale,
    write: QueriedWriteDep,
) -> Response:
    """Delete one anchor of one grade scale; its text is kept for audit."""
    return await _remove(write, assignment_id, query.grade_scale, anchor_id)


async def _scale(deps: Dependencies, assignment_id: str, given: str | None) -> str:
    """The given grade scale, else that of the live instructions. Raises 404 if they are not live."""
    if given is not None:
        return given
    scope_key = f"assignment:{assignment_id}"
    context = await deps.log.read(scope_key)
    instructions = live(context, "instructions")
    if instructions is None:
        raise not_live(context, "instructions", scope_key)
    return str(instructions.grade_scale)


def _refuse(anchors: Mapping[str, requests.GradedText], scale: str) -> None:
    """Raise 422 for grades that the scale does not have, and for ids that are there twice."""
    faults, seen = list[Fault](), set[str]()
    for location, anchor in anchors.items():
        try:
            if not is_grade(scale, anchor.grade):
                faults.append(fault_at(f"{location}/grade", "unknown_grade"))
        except (
            Malformed
        ):  # another producer's instructions have a scale that this release does not know
            raise invalid([fault_at("query/grade_scale", "unknown_grade_scale")]) from None
        if anchor.anchor_id in seen:
            faults.append(fault_at(f"{location}/anchor_id", "repeated"))
        seen.add(anchor.anchor_id)
    if faults:
        raise invalid(faults)


async def _refs(deps: Dependencies, anchors: Mapping[str, requests.GradedText]) -> list[TextRef]:
    """The references of the anchors' texts, in order. Raises 422 for stored texts that are unfit."""
    stored = {
        location: StoredText(f"{location}/storage_id", anchor.storage_id, "anchor")
        for location, anchor in anchors.items()
        if anchor.storage_id is not None
    }
    refs = dict(zip(stored, await deps.texts.stored_refs(stored.values()), strict=True))
    return [
        refs.get(location) or ref_of(anchor.essay_text or "")
        for location, anchor in anchors.items()
    ]


def _anchor(body: requests.GradedText, scale: str, ref: TextRef) -> Anchor:
    return Anchor(
        anchor_id=body.anchor_id,
        grade_scale=scale,
        grade=body.grade,
        storage_id=ref.storage_id,
        sha256=ref.sha256,
        size_bytes=ref.size_bytes,
    )


async def _write(
    write: WriteRequest,
    assignment_id: str,
    scale: str,
    change: AddAnchor | PutAnchors,
    bodies: Sequence[requests.GradedText],
    created: int = 200,
) -> Response:
    scope_key = f"assignment:{assignment_id}"
    command = write_command(scope_key, ANCHORS, needs_live="instructions", anchors=change)
    changed = change.anchors if isinstance(change, PutAnchors) else (change.anchor,)
    stored = [
        TextRef(
            storage_id=one.storage_id,
            sha256=one.sha256,
            media_type=PLAIN_TEXT,
            size_bytes=one.size_bytes,
        )
        for one, body in zip(changed, bodies, strict=True)
        if body.storage_id is not None
    ]
    result = await execute(
        write, command, [body.essay_text for body in bodies if body.essay_text], stored
    )
    assert result.context is not None
    fields = presenters.anchor_fields(result.context, scale)
    etag = etag_of(component_of(result.context, ANCHORS))
    return presenters.write_response(
        models.AnchorsWritten, fields, result, etag=etag, created=created
    )


async def _remove(
    write: WriteRequest, assignment_id: str, grade_scale: str | None, anchor_id: str | None
) -> Response:
    scale = await _scale(write.deps, assignment_id, grade_scale)
    change: AnchorsChange = RemoveAnchors(grade_scale=scale, anchor_id=anchor_id)
    command = write_command(
        f"assignment:{assignment_id}", ANCHORS, needs_live=ANCHORS, anchors=change
    )
    result = await execute(write, command)
    assert result.context is not None
    fields = presenters.anchor_fields(result.context, scale)
    return presenters.write_response(
        models.AnchorsRemoved, fields, result, etag=etag_of(component_of(result.context, ANCHORS))
    )
