"""Assignments and courses: list, one with its texts, now or in the past, its versions, and their differences."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import Discrepancy, Misconfigured
from schemas.field_limits import normal_id
from schemas.scales import list_scales
from tables.history.point_in_time import Moment
from tables.history.scope_history import ScopeHistory
from tools.api.auth.authentication import READERS
from tools.api.console.lists import page_number, read_list
from tools.api.console.pages import (
    console_of,
    for_auditors,
    message_page,
    page,
    redirect,
    session_of,
    signed_in,
)
from tools.api.console.text_diff import diff_rows
from tools.audit.scope.as_of import ScopeReport, document_of
from tools.audit.scope.history import document_of as history_document
from tools.times import point_in_time_from

VERSIONS = 100  # on one page
MAX_COMPARED = 2000  # versions that can be chosen for a comparison; the command line has all
ADMIN = "/admin/v1"
ROLES = {
    "instructions": "Instructions",
    "student_prompt": "Student prompt",
    "judge_rubric": "Judge rubric",
}
KINDS = {"assignments": "assignment", "courses": "course"}


@dataclass(frozen=True, slots=True)
class Scope:
    """An assignment or a course, by its id."""

    kind: str
    id: str

    @property
    def key(self) -> str:
        """Its scope key."""
        return f"{self.kind}:{self.id}"

    @property
    def path(self) -> str:
        """The path of its page."""
        return f"/{self.kind}s/{quote(self.id, safe='')}"

    @property
    def roles(self) -> Mapping[str, str]:
        """Its roles, with their names for people."""
        return ROLES if self.kind == "assignment" else {"instructions": ROLES["instructions"]}


def kind_of(request: Request) -> str:
    """The kind of scope that the path of a page names. Raises HTTPException if there is no such kind."""
    kind = KINDS.get(request.path_params["kind"])
    if kind is None:
        raise HTTPException(404)
    return kind


def scope_of(request: Request) -> Scope:
    """The scope that the path of a page names. Raises HTTPException if there is no such kind."""
    return Scope(kind_of(request), normal_id(request.path_params["scope_id"]))


@signed_in
async def show_list(request: Request) -> Response:
    """The assignments and courses with live instructions, by the beginning of their id if it is given."""
    session, query = session_of(request), request.query_params
    prefix, scale = query.get("q", "").strip(), query.get("scale") or None
    if not session.is_auditor:
        is_reader = not session.caller.roles.isdisjoint(READERS)
        return redirect(request, "/judging") if is_reader else page(request, "no_role.html", 403)
    found = await read_list(
        request,
        f"{ADMIN}/assessment-instructions",
        id_prefix=prefix or None,
        grade_scale=scale,
    )
    return page(
        request,
        "scopes.html",
        **found.shown,
        q=prefix,
        scale=scale or "",
        scales=scale_names(),
    )


@for_auditors
async def show(request: Request) -> Response:
    """One scope: its texts side by side, now or at a moment, and all versions."""
    scope, as_of = scope_of(request), request.query_params.get("as_of", "").strip()
    try:
        history, report = await _read(request, scope, as_of)
    except _NoSuchMoment:
        return message_page(
            request,
            422,
            "There is no such moment",
            "Give a time that is not in the future, such as 2030-01-15T09:30:00Z, or topic/partition@offset.",
        )
    document, number = document_of(report), page_number(request)
    versions = history_document(history, None, page=number, page_size=VERSIONS)
    if not versions["total"] and all(document[role] is None for role in scope.roles):
        return message_page(
            request, 404, f"There is no {scope.kind} {scope.id}", "No upload names it."
        )
    return page(
        request,
        "scope.html",
        scope=scope,
        document=document,
        readiness=None if as_of or scope.kind != "assignment" else await _readiness(request, scope),
        anchors=_by_scale(document["anchors"]),
        versions=_with_previous(versions["items"]),
        damaged=versions["damaged"],
        complete=versions["complete"],
        number=number,
        pages=max(1, -(-versions["total"] // VERSIONS)),
        as_of=as_of,
        scales=scale_names(),
        saved=request.query_params.get("saved", ""),
    )


@for_auditors
async def show_anchor(request: Request) -> Response:
    """The text and the grade of one anchor, now or at a moment."""
    scope, query = scope_of(request), request.query_params
    as_of, scale = query.get("as_of", "").strip(), query.get("scale", "")
    try:
        _, report = await _read(request, scope, as_of)
        anchors = _by_scale(document_of(report)["anchors"]).get(scale, [])
    except _NoSuchMoment:
        anchors = []
    anchor = next((one for one in anchors if one["anchor_id"] == query.get("id")), None)
    if anchor is None:
        return message_page(
            request, 404, "There is no such anchor", "The assignment's page shows all."
        )
    text = await _text_of(request, {**anchor, "deleted": False})
    names = scale_names()
    return page(
        request,
        "anchor.html",
        scope=scope,
        anchor=anchor,
        scale=names.get(scale, scale),
        text=text,
        as_of=as_of,
    )


class _NoSuchMoment(Exception):
    """The query names a moment that cannot be read, or that the log does not have."""


async def _read(request: Request, scope: Scope, as_of: str) -> tuple[ScopeHistory, ScopeReport]:
    """A scope's history, and its state at a moment, or now if that is empty. Raises _NoSuchMoment."""
    audit = console_of(request).deps.audit
    if not as_of:
        return await audit.scope(scope.key, None)
    try:
        return await audit.scope(scope.key, _moment(as_of))
    except (Misconfigured, Discrepancy) as fault:
        raise _NoSuchMoment from fault


def _by_scale(component: Mapping[str, Any] | None) -> dict[str, list[Mapping[str, Any]]]:
    """The anchors of a role's document by their grade scales; of each the best grade first, then by id."""
    found = dict[str, list[Mapping[str, Any]]]()
    for one in (component or {}).get("anchors") or ():
        found.setdefault(one["grade_scale"], []).append(one)
    return {scale: _best_first(scale, anchors) for scale, anchors in sorted(found.items())}


def _best_first(scale: str, anchors: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    known = next((one.grades for one in list_scales() if one.id == scale), ())
    height_of = {grade: number for number, grade in enumerate(known)}
    return sorted(anchors, key=lambda one: (-height_of.get(one["grade"], -1), one["anchor_id"]))


async def _readiness(request: Request, scope: Scope) -> dict[str, Any]:
    """Whether a request for an assignment would be prepared at once. Raises Refused."""
    path = f"{ADMIN}/assignments/{quote(scope.id, safe='')}/readiness"
    answer = await console_of(request).api.read(request, session_of(request).caller, path)
    return answer.document


@for_auditors
async def show_diff(request: Request) -> Response:
    """The difference of two versions of one role."""
    scope, role = scope_of(request), request.path_params["role"]
    history, _ = await console_of(request).deps.audit.history(scope.key, with_uses=False)
    document = history_document(history, None, page=1, page_size=MAX_COMPARED)
    versions = [one for one in document["items"] if one["role"] == role]
    wanted = [request.query_params.get(name, "") for name in ("left", "right")]
    chosen = [_chosen(versions, one) for one in wanted]
    if role not in scope.roles or not all(chosen):
        return message_page(
            request, 404, "There is no such version", "Choose two on the page before."
        )
    texts = [await _text_of(request, one) for one in chosen]
    readable = [text for text in texts if text is not None]
    rows = await asyncio.to_thread(diff_rows, *readable) if len(readable) == 2 else []
    return page(
        request,
        "diff.html",
        scope=scope,
        role=ROLES[role],
        role_id=role,
        versions=versions,
        left=chosen[0],
        right=chosen[1],
        rows=rows,
        is_readable=len(readable) == 2,
    )


def scale_names() -> dict[str, str]:
    """The names of the grade scales by their ids."""
    return {scale.id: scale.display_name for scale in list_scales()}


def _chosen(versions: list[dict[str, Any]], at: str) -> dict[str, Any]:
    """The version at these coordinates; versions may repeat, coordinates do not."""
    found = (one for one in versions if _coordinates(one) == at)
    return next(found, {})


def _coordinates(version: Mapping[str, Any]) -> str:
    source = version["source"]
    return f"{source['topic']}/{source['partition']}@{source['offset']}"


def _with_previous(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The versions, newest first, each with its coordinates and those of the one before it of the same role."""
    previous = dict[str, str]()
    shown = list[dict[str, Any]]()
    for one in reversed(versions):
        at = _coordinates(one)
        shown.append({**one, "at": at, "previous_at": previous.get(one["role"])})
        previous[one["role"]] = at
    return shown[::-1]


async def _text_of(request: Request, version: Mapping[str, Any]) -> str | None:
    """The text of a version; nothing for a deletion, None if it cannot be read."""
    if version["deleted"]:
        return ""
    path = f"/v1/content/{quote(str(version['storage_id']), safe='')}"
    answer = await console_of(request).api.call(request, session_of(request).caller, "GET", path)
    try:
        return answer.content.decode() if answer.is_ok else None
    except UnicodeDecodeError:
        return None


def _moment(text: str) -> Moment:
    """A time, which is UTC if it has no zone, as from a browser's field, or coordinates. Raises Misconfigured."""
    with suppress(ValueError):
        parsed = datetime.fromisoformat(text)
        text = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()
    return point_in_time_from(text, datetime.now(UTC), "moment")
