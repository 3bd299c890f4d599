"""Long responses as JSON lines: computed in threads, sent line by line; the last line is the summary."""

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
MAX_FINDINGS = 1000  # sent one by one; all are counted


async def stream_lines(lines: Iterable[bytes]) -> StreamingResponse:
    """The lines as a response; the first one is awaited, so that an error before it can still become a problem."""
    remaining = iter(lines)
    first = await asyncio.to_thread(next, remaining, b"")
    return StreamingResponse(_joined(first, remaining), media_type=LINES)


def _joined(first: bytes, remaining: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from remaining


def replay_lines(
    settings: Settings, since: Moment | None, until: Moment | None, scope_keys: list[str]
) -> Iterator[bytes]:
    """Contexts, then the summary. Raises Unreachable, Discrepancy, UnknownSchema."""
    replay_range = replay.range_of(settings, since, until)
    for result in replay.replay(settings, replay_range, scope_keys):
        match result:
            case replay.ContextLines(lines) if lines:
                yield lines
            case replay.ReplaySummary():
                yield _line("summary", replay.summary_document(result))


def verify_lines(
    settings: Settings, now_ms: int, since: Moment | None, until: Moment | None, *, texts: bool
) -> Iterator[bytes]:
    """Findings as they are found, then the report. Raises Unreachable, Discrepancy, UnknownSchema, StoreFailed."""
    results = verify.verify(settings, now_ms, since=since, until=until, texts=texts)
    reported = list[Violation]()
    for result in results:
        match result:
            case Violation() if len(reported) < MAX_FINDINGS:
                reported.append(result)
                yield _line("finding", verify.finding_document(result))
            case verify.VerifyReport():
                yield _line("summary", verify.document_of(result, reported))


def _line(name: str, document: object) -> bytes:
    return orjson.dumps({name: document}, option=orjson.OPT_APPEND_NEWLINE)
