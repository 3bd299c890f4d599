"""The pages about the log: the live flow, a batch's story, parked requests and dead letters."""

import asyncio
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from schemas.errors import CJStreamError
from tools.api.console.in_process_api import Refused
from tools.api.console.log_views import LogViews
from tools.api.console.pages import (
    console_of,
    for_admins,
    for_auditors,
    message_page,
    page,
    read_session_form,
    session_of,
    signed_in,
)
from tools.api.services.line_stream import stream_lines
from tools.dlq import Filters, decision_of, document_of

MAX_ROWS = 500  # of a table; the command line shows all
MAX_VALUE_BYTES = 4096  # of a dead letter, shown as hex
DEAD_TOPICS = {"requests": "of requests", "uploads": "of uploads"}


def views_of(request: Request) -> LogViews:
    """The views of the log."""
    views: LogViews = request.app.state.views
    return views


@for_auditors
async def show_flow(request: Request) -> Response:
    """The page on which everything is seen as it happens."""
    return page(request, "flow.html")


@signed_in
async def stream_flow(request: Request) -> Response:
    """What happens in the log, as server-sent events. Raises 429 if there are too many streams."""
    session = session_of(request)
    if not session.is_auditor:
        return Response(status_code=403)
    slot = ExitStack()
    slot.enter_context(console_of(request).deps.streams.one(session.subject))
    events = stream_lines(views_of(request).flow(), asyncio.Semaphore(), at_end=slot.close)
    request.state.until_end.push_async_callback(events.aclose)

    async def until_session_ends() -> Any:
        async for event in events:
            if console_of(request).cookies.session_of(request) is None:
                yield b"event: ended\ndata: {}\n\n"
                return
            if event:
                yield event

    return StreamingResponse(
        until_session_ends(),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


@for_auditors
async def show_batch(request: Request) -> Response:
    """The whole story of a batch, by its id, an event id or coordinates."""
    wanted = request.query_params.get("q", "").strip()
    if not wanted:
        return page(request, "batch.html", q="", stories=[], others=[], is_found=True)
    story = await _story(request, wanted)
    others = [] if story else await views_of(request).batch_ids_of(wanted)
    if len(others) == 1:
        story, others = await _story(request, others[0]), []
    return page(
        request,
        "batch.html",
        200 if story or others else 404,
        q=wanted,
        stories=story["requests"] if story else [],
        others=others,
        is_found=bool(story or others),
    )


async def _story(request: Request, batch_id: str) -> dict[str, Any] | None:
    answer = await console_of(request).api.call(
        request,
        session_of(request).caller,
        "GET",
        "/audit/v1/batches",
        query={"batch_id": batch_id, "texts": "true"},
    )
    if answer.problem in ("resource-not-found", "validation-failed"):
        return None
    if not answer.is_ok:
        raise Refused(answer)
    return answer.document


@for_auditors
async def show_parked(request: Request) -> Response:
    """The requests that wait for their context."""
    rows = await views_of(request).parked()
    return page(request, "parked.html", rows=rows[:MAX_ROWS], total=len(rows))


@for_auditors
async def show_letters(request: Request) -> Response:
    """The dead letters, with their reasons."""
    query = request.query_params
    topic, reason = _topic(query.get("topic", "")), query.get("reason", "")
    closed = query.get("closed") == "yes"
    found = await views_of(request).letters(topic, Filters(reason), closed=closed)
    letters = [document_of(letter, went) for letter, went in found.letters]
    return page(
        request,
        "letters.html",
        letters=letters[-MAX_ROWS:][::-1],
        total=len(letters),
        foreign=found.foreign_records,
        topic=topic or "",
        topics=DEAD_TOPICS,
        reason=reason,
        closed=closed,
    )


@for_auditors
async def show_letter(request: Request) -> Response:
    """One dead letter, with its headers and its value, decoded and as hex."""
    found = await views_of(request).letter(request.query_params.get("at", ""))
    if found is None:
        return message_page(request, 404, "There is no such dead letter", "The list shows all.")
    letter, went, value = found
    return page(
        request,
        "letter.html",
        letter=document_of(letter, went),
        hex_lines=hex_lines(value or b""),
        decoded=views_of(request).decoded(value or b""),
        is_cut=len(value or b"") > MAX_VALUE_BYTES,
    )


@for_admins
async def redrive(request: Request) -> Response:
    """Decide on the selected dead letters, and re-drive them if the form says so."""
    form = await read_session_form(request)
    topic, reason = _topic(form.get("topic", "")), form.get("reason", "")
    is_dry_run = form.get("yes") != "yes"
    try:
        report = await views_of(request).redrive(topic, Filters(reason), yes=not is_dry_run)
    except CJStreamError as fault:
        return message_page(
            request, 503, "The re-drive stopped", f"{fault}", "Look at the list, and try again."
        )
    decisions = [decision_of(one, report.went) for one in report.decisions]
    return page(
        request,
        "redrive.html",
        decisions=decisions[:MAX_ROWS],
        total=len(decisions),
        movable=sum(one["fate"] == "redrive" for one in decisions),
        topic=topic or "",
        reason=reason,
        is_dry_run=is_dry_run,
    )


def hex_lines(value: bytes) -> list[tuple[str, str, str]]:
    """Offset, hex digits and printable ASCII of each 16 bytes, up to MAX_VALUE_BYTES."""
    rows = (value[start : start + 16] for start in range(0, min(len(value), MAX_VALUE_BYTES), 16))
    return [
        (
            f"{number * 16:06x}",
            row.hex(" "),
            "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row),
        )
        for number, row in enumerate(rows)
    ]


def _topic(name: str) -> str | None:
    return name if name in DEAD_TOPICS else None
