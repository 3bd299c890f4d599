"""Assignments and courses: list, one with its texts, now or in the past, its versions, and their differences."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schemas.scales import list_scales
from tools.api.console.in_process_api import Answer, Refused
from tools.api.console.lists import page_number, read_list
from tools.api.console.pages import console_of, message_page, page, redirect, session_of, signed_in
from tools.api.console.text_diff import diff_rows

VERSIONS = 100  # on one page
MAX_COMPARED = 2000  # versions that can be chosen for a comparison; the command line has all
ADMIN, AUDIT = "/admin/v1", "/audit/v1"
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
    return Scope(kind_of(request), request.path_params["scope_id"])


@signed_in
async def show_list(request: Request) -> Response:
    """The assignments and courses with live instructions, by the beginning of their id if it is given."""
    session, query = session_of(request), request.query_params
    prefix, scale = query.get("q", "").strip(), query.get("scale") or None
    if not session.is_auditor:
        return page(request, "no_role.html")
    if not session.is_admin:  # the list is for administrators; others open what they know
        return (
            redirect(request, Scope("assignment", prefix).path)
            if prefix
            else page(request, "open.html")
        )
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


@signed_in
async def show(request: Request) -> Response:
    """One scope: its texts side by side, now or at a moment, and all versions."""
    session, scope = session_of(request), scope_of(request)
    api = console_of(request).api
    as_of = request.query_params.get("as_of", "").strip()
    moment = _with_zone(as_of) if as_of else _now()
    history = (await _history(request, scope, page_number(request))).document
    state = await api.call(
        request,
        session.caller,
        "GET",
        f"{AUDIT}/scopes/{quote(scope.key, safe='')}/as-of",
        query={"at": moment},
    )
    if state.problem == "validation-failed":
        return message_page(
            request,
            422,
            "There is no such moment",
            "Give a time that is not in the future, such as 2030-01-15T09:30:00Z, or topic/partition@offset.",
        )
    if not state.is_ok:
        raise Refused(state)
    versions, document = history["items"], state.document
    if not versions and all(document[role] is None for role in scope.roles):
        return message_page(
            request, 404, f"There is no {scope.kind} {scope.id}", "No upload names it."
        )
    readiness = None
    if scope.kind == "assignment" and not as_of:
        readiness = (
            await api.read(
                request,
                session.caller,
                f"{ADMIN}/assignments/{quote(scope.id, safe='')}/readiness",
            )
        ).document
    return page(
        request,
        "scope.html",
        scope=scope,
        document=document,
        readiness=readiness,
        versions=_with_previous(versions),
        complete=history["complete"],
        number=page_number(request),
        pages=max(1, -(-history["total"] // VERSIONS)),
        as_of=as_of,
        saved=request.query_params.get("saved", ""),
    )


@signed_in
async def show_diff(request: Request) -> Response:
    """The difference of two versions of one role."""
    scope = scope_of(request)
    role = request.path_params["role"]
    versions = [one for one in await _all_versions(request, scope) if one["role"] == role]
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


async def _history(request: Request, scope: Scope, number: int) -> Answer:
    """One page of a scope's versions, newest first. Raises Refused."""
    path = f"{AUDIT}/scopes/{quote(scope.key, safe='')}/history"
    caller = session_of(request).caller
    return await console_of(request).api.read(
        request, caller, path, page=number, page_size=VERSIONS
    )


async def _all_versions(request: Request, scope: Scope) -> list[dict[str, Any]]:
    """The newest versions of a scope, up to MAX_COMPARED. Raises Refused."""
    versions = list[dict[str, Any]]()
    for number in range(1, MAX_COMPARED // VERSIONS + 1):
        history = (await _history(request, scope, number)).document
        versions += history["items"]
        if len(versions) >= history["total"]:
            break
    return versions


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _with_zone(moment: str) -> str:
    """A time of a browser's field, which has no zone, as UTC; anything else as it is."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return parsed.replace(tzinfo=UTC).isoformat() if parsed.tzinfo is None else moment
