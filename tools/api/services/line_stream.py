"""JSON lines of a blocking iterator for a response: computed in a thread, only as fast as they are sent."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor


async def stream_lines(
    lines: Generator[bytes, None, None], turns: asyncio.Semaphore, at_end: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """The chunks of `lines`; empty ones are signs of life. `at_end` is called when `lines` is closed.

    A chunk is computed when the one before it has been taken, so that a stream holds one chunk at most, and when it is
    the stream's turn: `turns` are shared by all streams. If the caller stops, the work ends with the current chunk.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "audit-stream")

    def closed(_: Future[None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(at_end)

    async def computed() -> bytes | None:
        async with turns:
            return await loop.run_in_executor(thread, next, lines, None)

    try:
        while (chunk := await computed()) is not None:
            yield chunk
    finally:
        thread.submit(lines.close).add_done_callback(closed)
        thread.shutdown(wait=False)
