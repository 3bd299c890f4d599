"""A TCP proxy before one broker: it cuts connections, holds them back, or loses one request of a kind.

Kafka's framing: 4 bytes of size, then in a request api key, version (2 bytes each) and correlation id (4), in
an answer the correlation id alone; all big endian.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from typing import Self

PRODUCE, FETCH, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 0, 1, 25, 26, 28
SIZE = Struct(">i")
REQUEST = Struct(">hhi")
LATE_S = 3.0
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BROKEN = (OSError, asyncio.IncompleteReadError)


class Fate(Enum):
    """What becomes of one request."""

    LOST = "lost"  # the connection ends before the broker has it
    UNANSWERED = (
        "unanswered"  # the broker has it and acts, and the connection ends before the answer
    )
    LATE = "late"  # the broker gets it LATE_S later, and all that follows on its connection


@dataclass(eq=False)
class Connection:
    """A client's connection and the one to the broker behind it."""

    client: Pipe
    broker: Pipe
    unanswered: set[int] = field(
        default_factory=set
    )  # correlation ids whose answer is not to arrive

    def cut(self) -> None:
        """End both, at once."""
        for _, writer in (self.client, self.broker):
            writer.transport.abort()


class Proxy:
    """One proxy on a port of its own, run by a thread of its own; every method may be called from any thread."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self.met = Counter[tuple[int, Fate]]()  # the fates that requests of an api key have met
        self._behind = behind
        self._connections = set[Connection]()
        self._armed = dict[int, Fate]()

    @classmethod
    @contextmanager
    def running(cls, port: int, behind: int) -> Iterator[Self]:
        """A proxy that listens, before the broker on the port behind."""
        proxy = cls(port, behind)
        listening = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(proxy._run(listening)))
        thread.start()
        assert listening.wait(30), "the proxy does not listen"
        try:
            yield proxy
        finally:
            proxy._soon(proxy._stopping.set)
            thread.join()

    async def _run(self, listening: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._flowing = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        listening.set()
        await self._stopping.wait()
        server.close()
        self._cut()

    def _soon(self, step: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(step)

    def cut(self) -> None:
        """End every connection; clients may come again at once."""
        self._soon(self._cut)

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    def hold(self) -> None:
        """Let nothing through, and end nothing: as a network that lost its way."""
        self._soon(self._flowing.clear)

    def release(self) -> None:
        """Let everything through again."""
        self._soon(self._flowing.set)

    def arm(self, api_key: int, fate: Fate) -> None:
        """Let the next request of a kind meet this fate; only that one."""
        self._soon(lambda: self._armed.update({api_key: fate}))

    def calm(self) -> None:
        """Let everything through, and let no more requests meet a fate."""
        self._soon(self._armed.clear)
        self.release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:  # the broker is down
            writer.transport.abort()
            return
        connection = Connection((reader, writer), broker)
        self._connections.add(connection)
        pumps = {
            asyncio.create_task(self._requests(connection)),
            asyncio.create_task(self._answers(connection)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.cut()
            self._connections.discard(connection)
            for pump in pumps:
                pump.cancel()

    async def _requests(self, connection: Connection) -> None:
        reader, writer = connection.client[0], connection.broker[1]
        with suppress(*BROKEN):
            while frame := await self._frame(reader):
                api_key, _, correlation_id = REQUEST.unpack_from(frame, SIZE.size)
                fate = self._armed.pop(api_key, None)
                if fate is not None:
                    self.met[api_key, fate] += 1
                if fate is Fate.LOST:
                    return
                if fate is Fate.UNANSWERED:
                    connection.unanswered.add(correlation_id)
                if fate is Fate.LATE:
                    await self._late()
                writer.write(frame)
                await writer.drain()

    async def _answers(self, connection: Connection) -> None:
        reader, writer = connection.broker[0], connection.client[1]
        with suppress(*BROKEN):
            while frame := await self._frame(reader):
                (correlation_id,) = SIZE.unpack_from(frame, SIZE.size)
                if correlation_id in connection.unanswered:
                    return
                writer.write(frame)
                await writer.drain()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        """One request or answer with its size in front, once the proxy lets it through."""
        size = await reader.readexactly(SIZE.size)
        body = await reader.readexactly(*SIZE.unpack(size))
        await self._flowing.wait()
        return size + body

    async def _late(self) -> None:
        due = asyncio.Event()
        self._loop.call_later(LATE_S, due.set)
        await due.wait()
