"""The console as an application of its own, which the API mounts; it answers every error with a page."""

import time
from dataclasses import dataclass
from secrets import token_bytes

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import CJStreamError
from tools.api.console import editing, judging_pages, log_pages, scopes, sign_in
from tools.api.console.console_settings import ConsoleSettings
from tools.api.console.in_process_api import InProcessApi, Refused
from tools.api.console.log_views import LogViews
from tools.api.console.pages import FOLDER, HEADERS, Console, console_of, message_page, page
from tools.api.console.session import Cookies
from tools.api.dependencies import Dependencies
from tools.api.errors.problems import Problem
from tools.api.responses.exception_handlers import log_and_count, problem_of


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """What only the console needs; `views` read the log."""

    settings: ConsoleSettings
    views: LogViews


def mount_console(api: FastAPI, deps: Dependencies, parts: ConsoleParts) -> None:
    """Add the console to the API, and a redirect to it from the API's root."""
    is_development = deps.settings.environment == "development"
    key = parts.settings.key.get_secret_value().encode() if parts.settings.key else token_bytes(32)
    cookies = Cookies(key, time.time, secure=not is_development)
    console = Console(InProcessApi(api), cookies, deps, parts.settings)
    api.mount("/console", _application(console, parts.views))
    api.add_api_route("/", _first_page, include_in_schema=False)


async def _first_page(request: Request) -> Response:
    return RedirectResponse(request.scope["root_path"] + "/console/", 303)


def _application(console: Console, views: LogViews) -> Starlette:
    """The console as an application; its paths are below the one where it is mounted."""
    scope, role = "/{kind}/{scope_id}", "/{kind}/{scope_id}/{role}"
    app = Starlette(
        routes=[
            Route("/", scopes.show_list),
            Route("/sign-in", sign_in.show),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-in/provider", sign_in.go_to_provider),
            Route("/signed-in", sign_in.come_back),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Route("/flow", log_pages.show_flow),
            Route("/flow/events", log_pages.stream_flow),
            Route("/batches", log_pages.show_batch),
            Route("/judging", judging_pages.show_results),
            Route("/judging/{batch_id}", judging_pages.show_result),
            Route("/parked", log_pages.show_parked),
            Route("/dead-letters", log_pages.show_letters),
            Route("/dead-letters/one", log_pages.show_letter),
            Route("/dead-letters/redrive", log_pages.redrive, methods=["POST"]),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
            Route("/{kind}/new", editing.show_new),
            Route("/{kind}/new", editing.save, methods=["POST"]),
            Route(scope, scopes.show),
            Route(f"{scope}/anchor", scopes.show_anchor),
            Route(f"{scope}/edit", editing.show_edit),
            Route(f"{scope}/edit", editing.save, methods=["POST"]),
            Route(f"{role}/diff", scopes.show_diff),
            Route(f"{role}/delete", editing.show_delete),
            Route(f"{role}/delete", editing.delete, methods=["POST"]),
        ],
        exception_handlers={
            CJStreamError: _expected,
            Refused: _refused,
            HTTPException: _from_framework,
            Exception: _unexpected,
        },
        middleware=[Middleware(SecurityHeaders)],
    )
    app.state.console = console
    app.state.views = views
    app.state.dependencies = console.deps
    return app


class SecurityHeaders:
    """Adds the security headers to every response, those of errors and files included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if "/static/" in scope["path"]:  # asked for each time, sent only if it has changed
                    headers["Cache-Control"] = "no-cache"
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _expected(request: Request, fault: Exception) -> Response:
    """A page for an error that the API answers with a problem, too."""
    assert isinstance(fault, CJStreamError)
    problem = problem_of(fault)
    if problem is None:
        raise fault
    request.scope["state"]["problem"] = problem.slug
    log_and_count(request, fault, problem)
    response = message_page(
        request, problem.kind.status, problem.kind.title, f"{problem}.", *_what_to_do(problem)
    )
    response.headers.update(problem.headers)
    return response


def _what_to_do(problem: Problem) -> tuple[str, ...]:
    """What a reader of a page does about a problem that passes; a form is sent again with what was typed."""
    wait_s = problem.headers.get("Retry-After")
    return (f"Wait {wait_s} s, then reload this page.",) if wait_s else ()


async def _refused(request: Request, fault: Exception) -> Response:
    """A page for a problem with which a route of the API answered."""
    assert isinstance(fault, Refused)
    document = fault.answer.document
    if fault.answer.problem == "forbidden":
        return page(request, "no_role.html", 403)
    return message_page(
        request, fault.answer.status, str(document["title"]), f"{document['detail']}."
    )


async def _from_framework(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    request.state.session = console_of(request).cookies.session_of(request)  # for the menu
    sentence = "Check the address, or start from the first page."
    return message_page(request, fault.status_code, "There is no such page", sentence)


async def _unexpected(request: Request, _fault: Exception) -> Response:
    sentence = "Its cause is in the logs, under the correlation id below."
    return message_page(request, 500, "The page failed", sentence)
