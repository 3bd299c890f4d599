"""Long answers as JSON lines: worked out in threads, sent as they come, the last line the summary."""

import asyncio
from collections.abc import Iterable, Iterator

import orjson
from starlette.responses import StreamingResponse

from processors.settings import Settings
from tables.history.point_in_time import Moment
from tools.audit.check.findings import Violation
from tools.audit.replay import replay
from tools.audit.verify import verify

LINES = "application/x-ndjson"
MOST = 1000  # findings that are told one by one; all are counted


async def streamed(lines: Iterable[bytes]) -> StreamingResponse:
    """The lines as an answer, once there is a first one: what is raised before it can still be a problem."""
    coming = iter(lines)
    first = await asyncio.to_thread(next, coming, b"")
    return StreamingResponse(_after(first, coming), media_type=LINES)


def _after(first: bytes, coming: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from coming


def replayed(
    settings: Settings, since: Moment | None, until: Moment | None, scope_keys: list[str]
) -> Iterator[bytes]:
    """Contexts, and the summary. Raises Unreachable, Discrepancy, UnknownSchema."""
    of = replay.range_of(settings, since, until)
    for said in replay.replay(settings, of, scope_keys):
        match said:
            case replay.ContextLines(lines) if lines:
                yield lines
            case replay.ReplaySummary():
                yield _line("summary", replay.summary_document(said))


def verified(
    settings: Settings, now_ms: int, since: Moment | None, until: Moment | None, *, texts: bool
) -> Iterator[bytes]:
    """Findings as they are found, and the report. Raises Unreachable, Discrepancy, UnknownSchema, StoreFailed."""
    found = verify.verify(settings, now_ms, since=since, until=until, texts=texts)
    kept = list[Violation]()
    for told in found:
        match told:
            case Violation() if len(kept) < MOST:
                kept.append(told)
                yield _line("finding", verify.finding_document(told))
            case verify.VerifyReport():
                yield _line("summary", verify.document_of(told, kept))


def _line(name: str, document: object) -> bytes:
    return orjson.dumps({name: document}, option=orjson.OPT_APPEND_NEWLINE)
