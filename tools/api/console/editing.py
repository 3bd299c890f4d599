"""Creating, changing and deleting assignments and courses; a conflict shows both texts."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tools.api.console.in_process_api import Answer, Refused
from tools.api.console.pages import (
    console_of,
    for_admins,
    is_of_session,
    page,
    read_form,
    read_session_form,
    redirect,
    session_of,
)
from tools.api.console.scopes import ADMIN, ROLES, Scope, kind_of, scale_names, scope_of
from tools.api.console.text_diff import diff_rows

FIELDS = {  # of the form and of the API, by role
    "instructions": "instructions_text",
    "student_prompt": "prompt_text",
    "judge_rubric": "rubric_text",
}
DELETE_PATHS = {
    "instructions": "assessment-instructions",
    "student_prompt": "student-prompts",
    "judge_rubric": "judge-rubrics",
}
NOT_DELETED = "An empty text would be ignored: to delete it, use the button below."
OTHER_SESSION = "You have signed in again since this form was opened: look at it, and save again."


@for_admins
async def show_new(request: Request) -> Response:
    """The form for a new assignment or course."""
    kind = kind_of(request)
    wanted = request.query_params.get("id", "")
    return _form(request, Scope(kind, wanted), {}, tag="")


@for_admins
async def show_edit(request: Request) -> Response:
    """The form with the live texts."""
    scope = scope_of(request)
    values, tag = await _live(request, scope)
    return _form(request, scope, values, tag=tag)


@for_admins
async def save(request: Request) -> Response:
    """Save the form; if somebody was faster, or a rule is broken, show it again with everything that was typed."""
    form = dict(await read_form(request))
    kind = kind_of(request)
    scope = Scope(kind, request.path_params.get("scope_id", form.get("id", "").strip()))
    tag = form.get("tag", "")
    if not is_of_session(request, form):
        return _form(request, scope, form, tag=tag, notes=[OTHER_SESSION], status=409)
    live = (await _live(request, scope))[0] if tag else {}
    if cleared := [
        field
        for role, field in FIELDS.items()
        if live.get(field) and not form.get(field, "").strip()
    ]:
        return _form(
            request, scope, form, tag=tag, errors=dict.fromkeys(cleared, NOT_DELETED), status=422
        )
    answer = await _write(request, scope, form, live, tag)
    if answer.is_ok:
        outcome = "saved" if answer.status != 202 else "saved-not-folded"
        return redirect(request, f"{scope.path}?saved={outcome}")
    if answer.problem == "version-mismatch":
        return await _conflict(request, scope, form)
    if answer.problem in ("validation-failed", "immutable-field", "resource-not-found"):
        return _form(request, scope, form, tag=tag, errors=_errors(answer), status=answer.status)
    raise Refused(answer)


@for_admins
async def show_delete(request: Request) -> Response:
    """Ask before anything is deleted."""
    scope, role = scope_of(request), role_of(request)
    values, tag = await _live(request, scope)
    gone = _deleted_with(scope, role, values)
    if not gone:
        return redirect(request, scope.path)
    return page(request, "delete.html", scope=scope, role=role, gone=gone, tag=tag)


@for_admins
async def delete(request: Request) -> Response:
    """Delete a role, and with the instructions everything else of the scope."""
    form = await read_session_form(request)
    scope, role = scope_of(request), role_of(request)
    path = f"{ADMIN}/{DELETE_PATHS[role]}/{scope.kind}/{quote(scope.id, safe='')}"
    headers = {"If-Match": form.get("tag", "")} if role == "instructions" else {}
    answer = await console_of(request).api.call(
        request, session_of(request).caller, "DELETE", path, headers=headers
    )
    if answer.problem == "version-mismatch":
        values, tag = await _live(request, scope)
        gone = _deleted_with(scope, role, values)
        return page(
            request, "delete.html", 409, scope=scope, role=role, gone=gone, tag=tag, is_changed=True
        )
    if not answer.is_ok:
        raise Refused(answer)
    return redirect(request, f"{scope.path}?saved=deleted")


def role_of(request: Request) -> str:
    """The role that the path of a page names. Raises HTTPException if the scope has no such role."""
    role: str = request.path_params["role"]
    if role not in scope_of(request).roles:
        raise HTTPException(404)
    return role


async def _live(request: Request, scope: Scope) -> tuple[dict[str, Any], str]:
    """The live texts, scale and origin of a scope by the names of the form's fields, and its etag. Raises Refused."""
    api, caller = console_of(request).api, session_of(request).caller
    id_part = quote(scope.id, safe="")
    if scope.kind == "course":
        path = f"{ADMIN}/assessment-instructions/course/{id_part}"
        answer = await api.read(request, caller, path)
        live = {"instructions": answer.document}
        texts = {"instructions_text": answer.document["instructions_text"]}
    else:
        answer = await api.read(request, caller, f"{ADMIN}/assignments/{id_part}")
        live = {
            role: found
            for role in ROLES
            if (found := answer.document[role]) and not found["deleted"]
        }
        texts = {FIELDS[role]: found.get("text", "") for role, found in live.items()}
    instructions = live.get("instructions", {})
    fixed = {name: instructions.get(name, "") for name in ("grade_scale", "context_origin")}
    return {**texts, **fixed}, answer.etag or ""


async def _write(
    request: Request, scope: Scope, form: Mapping[str, str], live: Mapping[str, Any], tag: str
) -> Answer:
    body: dict[str, Any] = {"instructions_text": form.get("instructions_text", "")}
    body["grade_scale"] = form.get("grade_scale", "")
    if form.get("context_origin", "").strip():
        body["context_origin"] = form["context_origin"]
    if scope.kind == "assignment":
        body["assignment_id"] = scope.id
        body |= {
            field: form[field]
            for field in ("prompt_text", "rubric_text")
            if form.get(field, "").strip()
        }
    for field in FIELDS.values():  # browsers send their own line ends
        if field in body and _same_lines(body[field], live.get(field)):
            body[field] = live[field]
    path = f"{ADMIN}/assignments"
    method = "POST"
    if scope.kind == "course":
        method, path = "PUT", f"{ADMIN}/assessment-instructions/course/{quote(scope.id, safe='')}"
    condition = {"If-Match": tag} if tag else {"If-None-Match": "*"}
    return await console_of(request).api.call(
        request, session_of(request).caller, method, path, body=body, headers=condition
    )


def _same_lines(one: str, other: str | None) -> bool:
    return other is not None and one.splitlines() == other.splitlines()


async def _conflict(request: Request, scope: Scope, form: Mapping[str, str]) -> Response:
    """The form again, with the texts that somebody else has saved meanwhile beside it."""
    theirs, tag = await _live(request, scope)
    changes = {
        role: rows
        for role, field in FIELDS.items()
        if (rows := diff_rows(theirs.get(field) or "", form.get(field, "")))
    }
    return _form(request, scope, form, tag=tag, changes=changes, theirs=theirs, status=409)


def _form(
    request: Request,
    scope: Scope,
    values: Mapping[str, Any],
    *,
    tag: str,
    errors: Mapping[str, str] | None = None,
    notes: list[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    theirs: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Response:
    return page(
        request,
        "edit.html",
        status,
        scope=scope,
        fields={FIELDS[role]: name for role, name in scope.roles.items()},
        values=values,
        tag=tag,
        errors=dict(errors or {}),
        notes=notes or [],
        changes=changes or {},
        theirs=theirs,
        scales=scale_names(),
        role_names=ROLES,
    )


def _errors(answer: Answer) -> dict[str, str]:
    """What is wrong with each field, by its name in the form."""
    document = answer.document
    if "errors" not in document:
        field = "grade_scale" if document.get("field") == "grade_scale" else "id"
        return {str(document.get("field", field)): str(document["detail"])}
    names = {"assignment_id": "id", "course_id": "id"}
    locations = ((fault["location"].partition("/")[2], fault) for fault in document["errors"])
    return {names.get(name, name): str(fault["message"]) for name, fault in locations}


def _deleted_with(scope: Scope, role: str, values: Mapping[str, Any]) -> list[str]:
    """The names of the live roles that a deletion takes with it."""
    roles = scope.roles if role == "instructions" else {role: ROLES.get(role, "")}
    return [name for each, name in roles.items() if values.get(FIELDS.get(each, ""))]
