"""The assignment of a run: its texts and anchors go through the admin API, and must come back as they were sent."""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import Discrepancy
from tools.admin.api import AdminApi
from tools.admin.client import ApiResponse
from tools.admin.failures import Refused
from tools.runner.inventory import Inventory
from tools.runner.run_options import CONTEXT_ORIGIN

ROLES = {"instructions": "instructions", "prompt": "student_prompt", "rubric": "judge_rubric"}
PRECONDITION_FAILED = 412
Condition = Mapping[str, str]  # headers
TEXTS = {"instructions": "instructions_text", "prompt": "prompt_text", "rubric": "rubric_text"}


def upload_assignment(
    api: AdminApi, inventory: Inventory, assignment_id: str, grade_scale: str
) -> Mapping[str, Any]:
    """Create or replace the assignment's texts; what is live already is not uploaded again.

    Raises Discrepancy if the assignment then has other texts than the run, Refused, NoAnswer.
    """
    body = {
        "assignment_id": assignment_id,
        "grade_scale": grade_scale,
        "context_origin": CONTEXT_ORIGIN,
        **{
            field: text.text.decode()
            for kind, field in TEXTS.items()
            if (text := inventory.one(kind)) is not None
        },
    }
    what = f"upload the assignment {assignment_id}"
    written = _write(
        lambda: _condition(api, ("assignments", assignment_id)),
        lambda condition: api.call(what, "POST", "assignments", body=body, condition=condition),
    )
    _check_texts(written.document, inventory, assignment_id)
    return {"tag": written.document.get("tag")}


def _check_texts(document: Mapping[str, Any], inventory: Inventory, assignment_id: str) -> None:
    for kind, role in ROLES.items():
        own, live = inventory.one(kind), document.get(role) or {"deleted": True}
        wanted = own.storage_id if own else None
        found = None if live["deleted"] else live["storage_id"]
        if found is not None and wanted is None:
            raise Discrepancy(
                f"the assignment {assignment_id} has a {kind} that the run does not give: give it with --{kind},"
                " delete it, or take another --assignment-id"
            )
        if found != wanted:
            raise Discrepancy(
                f"the assignment {assignment_id} has another {kind} than was sent: {found}"
            )


def upload_anchors(
    api: AdminApi, inventory: Inventory, assignment_id: str, grade_scale: str
) -> Mapping[str, Any]:
    """Replace the assignment's anchors of the scale by those of the run; their texts are stored already.

    Raises Discrepancy if the run has none but the assignment has, Refused, NoAnswer.
    """
    anchors = inventory.of("anchor")
    path, query = ("anchors", "assignment", assignment_id), {"grade_scale": grade_scale}
    if not anchors:
        _check_no_anchors(api, path, query)
        return {"anchors": 0}
    listed = [
        {"anchor_id": anchor.id, "grade": anchor.grade, "storage_id": anchor.storage_id}
        for anchor in anchors
    ]
    what = f"upload the anchors of {assignment_id}"
    body = {"anchors": listed}
    written = _write(
        lambda: _condition(api, path, query),
        lambda condition: api.call(what, "PUT", *path, query=query, body=body, condition=condition),
    )
    return {"anchors": len(listed), "tag": written.document.get("tag")}


def _write(
    condition: Callable[[], Condition], send: Callable[[Condition], ApiResponse]
) -> ApiResponse:
    """The response to a write of what is live now, which some installations require to be said.

    A second attempt, because the client sends a write again whose response was lost. Raises Refused, NoAnswer.
    """
    try:
        return send(condition())
    except Refused as refusal:
        if refusal.status != PRECONDITION_FAILED:
            raise
    return send(condition())


def _condition(
    api: AdminApi, path: tuple[str, ...], query: Mapping[str, str] | None = None
) -> Condition:
    """The headers of a write that replaces what is live at a route. Raises Refused, NoAnswer."""
    live = _live(api, path, query)
    return {"If-None-Match": "*"} if live is None else {"If-Match": f'"{live["tag"]}"'}


def _live(
    api: AdminApi, path: tuple[str, ...], query: Mapping[str, str] | None = None
) -> Mapping[str, Any] | None:
    """What is live at a route; None if nothing is. Raises Refused, NoAnswer."""
    try:
        document: Mapping[str, Any] = api.call(
            f"read {'/'.join(path)}", "GET", *path, query=query
        ).document
    except Refused as refusal:
        if refusal.status == 404:
            return None
        raise
    return document


def _check_no_anchors(api: AdminApi, path: tuple[str, ...], query: Mapping[str, str]) -> None:
    live = _live(api, path, query)
    if live is not None and live["anchor_count"]:
        raise Discrepancy(
            f"the assignment {path[-1]} has {live['anchor_count']} anchors that the run does not give: give them"
            " with --anchors, delete them, or take another --assignment-id"
        )


def check_gate(api: AdminApi, assignment_id: str) -> Mapping[str, Any]:
    """Ask whether a request for the assignment would be prepared. Raises Refused if not, NoAnswer."""
    query = {"pipeline": "research-run"}
    gate = api.call("check the readiness", "GET", "assignments", assignment_id, "gate", query=query)
    return {"tag": gate.document.get("tag")}
