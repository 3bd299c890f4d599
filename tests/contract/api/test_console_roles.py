"""Which role sees which page of the console: every route of it is in the table, and the server refuses the rest."""

import re
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.contract.api.browsing import Browser
from tests.contract.api.calling import SCALE, TEXT, Api, make_api
from tools.api.auth.authentication import Caller
from tools.api.console.log_views import LogViews
from tools.api.console.session import SESSION, new_session
from tools.dlq import Filters, ListedLetters, RedriveReport
from tools.parked import Parked

ROLES = ("admin", "auditor", "service", "none")
ADMINS, AUDITORS, READERS = ROLES[:1], ROLES[:2], ROLES[:3]
OPEN = {  # for everybody, and without a session, too
    "GET /sign-in",
    "POST /sign-in",
    "GET /sign-in/provider",
    "GET /signed-in",
    "POST /sign-out",
}
PAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # by route: a path, and who may see it
    "GET /": ("/", READERS),
    "GET /flow": ("/flow", AUDITORS),
    "GET /flow/events": ("/flow/events", AUDITORS),
    "GET /batches": ("/batches?q=batch-1", AUDITORS),
    "GET /judging": ("/judging", READERS),
    "GET /judging/{batch_id}": ("/judging/batch-1", READERS),
    "GET /parked": ("/parked", AUDITORS),
    "GET /dead-letters": ("/dead-letters", AUDITORS),
    "GET /dead-letters/one": ("/dead-letters/one?at=cj.requests.dlq.v1/0@0", AUDITORS),
    "POST /dead-letters/redrive": ("/dead-letters/redrive", ADMINS),
    "GET /{kind}/new": ("/assignments/new", ADMINS),
    "POST /{kind}/new": ("/assignments/new", ADMINS),
    "GET /{kind}/{scope_id}": ("/assignments/a1", AUDITORS),
    "GET /{kind}/{scope_id}/anchor": ("/assignments/a1/anchor?id=none", AUDITORS),
    "GET /{kind}/{scope_id}/edit": ("/assignments/a1/edit", ADMINS),
    "POST /{kind}/{scope_id}/edit": ("/assignments/a1/edit", ADMINS),
    "GET /{kind}/{scope_id}/{role}/diff": ("/assignments/a1/instructions/diff", AUDITORS),
    "GET /{kind}/{scope_id}/{role}/delete": ("/assignments/a1/instructions/delete", ADMINS),
    "POST /{kind}/{scope_id}/{role}/delete": ("/assignments/a1/judge_rubric/delete", ADMINS),
}
FORM = {"id": "b1", "instructions_text": TEXT, "grade_scale": SCALE}


class QuietLog(LogViews):
    """The views of a log in which nothing waits and nothing is dead."""

    async def parked(self) -> list[Parked]:
        return []

    async def letters(self, topic: str | None, filters: Filters, *, closed: bool) -> ListedLetters:
        return ListedLetters((), ())

    async def letter(self, at: str) -> None:
        return None

    async def batch_ids_of(self, wanted: str) -> list[str]:
        return []

    async def redrive(self, topic: str | None, filters: Filters, *, yes: bool) -> RedriveReport:
        return RedriveReport((), {}, not yes)

    def flow(self) -> Generator[bytes, None, None]:
        yield b": alive\n\n"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The API in development with assignment a1."""
    api = make_api(tmp_path, environment="development", new_views=QuietLog)
    api.create_assignment(prompt=True, rubric=True)
    return api


def console_of(api: Api) -> Starlette:
    [app] = [one.app for one in api.app.routes if isinstance(one, Mount)]
    assert isinstance(app, Starlette)
    return app


def signed_in(api: Api, role: str) -> tuple[Browser, str]:
    """A browser with a session of this role, and what the session's forms must hold."""
    caller = Caller(f"dev-{role}", frozenset({role} - {"none"}))
    session = new_session(caller, time.time() + 60)
    browser = Browser(api)
    response = Response()
    request = Request({"type": "http", "root_path": "/console", "headers": []})
    console_of(api).state.console.cookies.start(request, response, session)
    sealed = response.headers["set-cookie"].partition(";")[0].partition("=")[2]
    browser.cookies.set(SESSION, sealed)
    return browser, session.csrf


def test_every_page_is_in_the_table(api: Api) -> None:
    routes = [one for one in console_of(api).routes if isinstance(one, Route)]
    names = {
        f"{method} {route.path}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert names == {*OPEN, *PAGES}


@pytest.mark.parametrize("role", ROLES)
def test_the_server_shows_a_page_to_its_roles_only(api: Api, role: str) -> None:
    browser, csrf = signed_in(api, role)
    for route, (path, may_see) in PAGES.items():
        if route.startswith("GET"):
            answer = browser.get(f"/console{path}")
        else:
            answer = browser.post(f"/console{path}", {**FORM, "csrf": csrf, "tag": ""})
        if role in may_see:
            assert answer.status_code in (200, 303, 404, 409), route
            assert "Not for your role" not in answer.text, route
        else:
            assert answer.status_code == 403, route
            assert "Not for your role" in answer.text or route == "GET /flow/events"
    created = api("GET", "/admin/v1/assignments/b1").status_code == 200
    deleted = api("GET", "/admin/v1/assignments/a1").json()["judge_rubric"]["deleted"]
    assert (created, deleted) == (role == "admin", role == "admin")


@pytest.mark.parametrize("role", ROLES)
def test_the_menu_leads_only_where_the_role_may_go(api: Api, role: str) -> None:
    browser, _ = signed_in(api, role)
    menu = browser.get("/console/judging").text.partition("</nav>")[0].partition("<nav")[2]
    paths = re.findall(r'href="/console(/[^"]*)"', menu)
    in_menu = ("/", "/flow", "/batches", "/judging", "/parked", "/dead-letters")
    may_see = {path.partition("?")[0] for path, roles in PAGES.values() if role in roles}
    expected = [path for path in in_menu if path in may_see]
    assert paths == (expected if role in AUDITORS else ["/judging"])
