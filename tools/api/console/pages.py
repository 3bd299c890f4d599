"""What all pages share: rendering, the session that they need, forms, and their security headers."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tools.api.admission import count_request
from tools.api.console.console_settings import ConsoleSettings
from tools.api.console.in_process_api import InProcessApi
from tools.api.console.session import Cookies, Session
from tools.api.dependencies import Dependencies
from tools.api.errors.correlation import correlation_of
from tools.api.errors.problems import Problem
from tools.api.requests.body_reader import check_media_type, read_body

FOLDER = Path(__file__).parent
MAX_FORM_BYTES = 1_500_000  # three texts of the largest size, each byte written as %XX
MAX_FIELDS = 20
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["part"] = lambda text: quote(str(text), safe="")
TEMPLATES.filters["usd"] = lambda amount: "unknown" if amount is None else f"${Decimal(amount):.4f}"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Console:
    """Everything that the pages use."""

    api: InProcessApi
    cookies: Cookies
    deps: Dependencies
    settings: ConsoleSettings

    @property
    def is_development(self) -> bool:
        """Whether anybody may sign in as anybody."""
        return self.deps.settings.environment == "development"


def console_of(request: Request) -> Console:
    """The console that answers the request."""
    console: Console = request.app.state.console
    return console


def session_of(request: Request) -> Session:
    """The session of a page for people who have signed in."""
    session: Session = request.state.session
    return session


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page from a template, which also gets the session, if any, and the path of the console."""
    content = TEMPLATES.get_template(template).render(
        session=getattr(request.state, "session", None),
        root=request.scope["root_path"],
        path=request.url.path,
        **values,
    )
    return Response(content, status, media_type="text/html; charset=utf-8")


def message_page(request: Request, status: int, title: str, *sentences: str) -> Response:
    """A page that only says what went wrong, and what to do."""
    correlation_id = correlation_of(request.scope).id
    return page(
        request,
        "message.html",
        status,
        title=title,
        sentences=sentences,
        correlation_id=correlation_id,
    )


def redirect(request: Request, path: str) -> Response:
    """Go to another page of the console."""
    return RedirectResponse(request.scope["root_path"] + path, 303)


def signed_in(handler: Handler) -> Handler:
    """A page for people who have signed in; others are sent to the page for signing in, and come back."""

    @wraps(handler)
    async def checked(request: Request) -> Response:
        session = console_of(request).cookies.session_of(request)
        if session is not None:
            request.state.session = session
            request.state.actor = session.subject
            count_request(request, console_of(request).deps, session.subject)
            return await handler(request)
        if request.headers.get("accept") == "text/event-stream":  # a script, not a person
            return Response(status_code=401)
        if request.method == "GET":
            here = request.scope["path"].removeprefix(request.scope["root_path"])
            query = request.url.query
            wanted = quote(f"{here}?{query}" if query else here, safe="")
            return redirect(request, f"/sign-in?next={wanted}")
        return message_page(
            request,
            401,
            "Your session has ended",
            "Nothing was changed. Sign in again in another tab, come back to this one and repeat it.",
        )

    return checked


def for_auditors(handler: Handler) -> Handler:
    """A page for people who have signed in and may read everything; others see that they may not."""
    return _for(lambda session: session.is_auditor, handler)


def for_admins(handler: Handler) -> Handler:
    """A page for people who have signed in and may change everything; others see that they may not."""
    return _for(lambda session: session.is_admin, handler)


def _for(may: Callable[[Session], bool], handler: Handler) -> Handler:
    @wraps(handler)
    async def checked(request: Request) -> Response:
        if not may(session_of(request)):
            return page(request, "no_role.html", 403)
        return await handler(request)

    return signed_in(checked)


def local_path(wanted: str) -> str:
    """The path of a page of the console to go to; the first page for anything that may lead elsewhere."""
    parts = urlsplit(wanted)
    is_local = (
        not parts.scheme and not parts.netloc and wanted[:1] == "/" and wanted[1:2] not in "/\\"
    )
    return wanted if is_local and wanted.isprintable() and "\\" not in wanted else "/"


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form that this console sent. Raises problems for another site's, and for what is no form."""
    check_same_site(request)
    check_media_type(request, ("application/x-www-form-urlencoded",))
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise Problem("malformed-request", "the form cannot be read", where="body") from None
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def is_of_session(request: Request, form: Mapping[str, str]) -> bool:
    """Whether a form was made for this session."""
    return hmac.compare_digest(form.get("csrf", "").encode(), session_of(request).csrf.encode())


async def read_session_form(request: Request) -> Mapping[str, str]:
    """The fields of a form of this session. Raises what `read_form` raises, and a problem for another session's."""
    form = await read_form(request)
    if not is_of_session(request, form):
        raise Problem("forbidden", "the form is of an earlier session: open the page again")
    return form


def check_same_site(request: Request) -> None:
    """Raise a problem if another site's page sent the request."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_same = site in ("same-origin", "none")
    else:  # a browser from before 2023
        is_same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_same:
        raise Problem("forbidden", "another site sent this form")
