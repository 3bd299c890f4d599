"""A TCP proxy in front of one broker: it cuts connections, holds them back, or loses one request of a kind.

Kafka's framing: 4 bytes of size, then in a request api key, version (2 bytes each) and correlation id (4), in
a response only the correlation id; all big endian.
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
DELAY_S = 3.0
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CONNECTION_ERRORS = (OSError, asyncio.IncompleteReadError)


class Fate(Enum):
    """What the proxy does with one request."""

    LOST = "lost"  # the connection is cut before the broker receives the request
    # the broker executes the request, and the connection is cut before the response
    UNANSWERED = "unanswered"
    LATE = "late"  # the request and all later ones of its connection are delayed by DELAY_S


@dataclass(eq=False)
class Connection:
    """A client's connection and the proxy's own connection to the broker for it."""

    client: Pipe
    broker: Pipe
    # correlation ids whose response must not arrive
    unanswered: set[int] = field(default_factory=set)

    def cut(self) -> None:
        """Abort both connections at once."""
        for _, writer in (self.client, self.broker):
            writer.transport.abort()


class Proxy:
    """One proxy on its own port and in its own thread; every public method may be called from any thread."""

    def __init__(self, port: int, broker_port: int) -> None:
        self.port = port
        self.fate_counts = Counter[tuple[int, Fate]]()  # requests by api key and fate
        self._broker_port = broker_port
        self._connections = set[Connection]()
        self._armed = dict[int, Fate]()

    @classmethod
    @contextmanager
    def running(cls, port: int, broker_port: int) -> Iterator[Self]:
        """A listening proxy in front of the broker on broker_port."""
        proxy = cls(port, broker_port)
        listening = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(proxy._run(listening)))
        thread.start()
        assert listening.wait(30), "the proxy does not listen"
        try:
            yield proxy
        finally:
            proxy._call_in_thread(proxy._stopping.set)
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

    def _call_in_thread(self, step: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(step)

    def cut(self) -> None:
        """Cut every connection; clients may reconnect at once."""
        self._call_in_thread(self._cut)

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    def hold(self) -> None:
        """Let nothing through but keep every connection open, as in a network partition."""
        self._call_in_thread(self._flowing.clear)

    def release(self) -> None:
        """Let everything through again."""
        self._call_in_thread(self._flowing.set)

    def arm(self, api_key: int, fate: Fate) -> None:
        """Apply this fate to the next request of an api key, and only to that one."""
        self._call_in_thread(lambda: self._armed.update({api_key: fate}))

    def reset(self) -> None:
        """Let everything through, and forget the fates that no request has met yet."""
        self._call_in_thread(self._armed.clear)
        self.release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:  # the broker is down
            writer.transport.abort()
            return
        connection = Connection((reader, writer), broker)
        self._connections.add(connection)
        pumps = {
            asyncio.create_task(self._requests(connection)),
            asyncio.create_task(self._responses(connection)),
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
        with suppress(*CONNECTION_ERRORS):
            while frame := await self._frame(reader):
                api_key, _, correlation_id = REQUEST.unpack_from(frame, SIZE.size)
                fate = self._armed.pop(api_key, None)
                if fate is not None:
                    self.fate_counts[api_key, fate] += 1
                if fate is Fate.LOST:
                    return
                if fate is Fate.UNANSWERED:
                    connection.unanswered.add(correlation_id)
                if fate is Fate.LATE:
                    await self._delay()
                writer.write(frame)
                await writer.drain()

    async def _responses(self, connection: Connection) -> None:
        reader, writer = connection.broker[0], connection.client[1]
        with suppress(*CONNECTION_ERRORS):
            while frame := await self._frame(reader):
                (correlation_id,) = SIZE.unpack_from(frame, SIZE.size)
                if correlation_id in connection.unanswered:
                    return
                writer.write(frame)
                await writer.drain()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        """One request or response with its size in front, once the proxy lets it through."""
        size = await reader.readexactly(SIZE.size)
        body = await reader.readexactly(*SIZE.unpack(size))
        await self._flowing.wait()
        return size + body

    async def _delay(self) -> None:
        is_over = asyncio.Event()
        self._loop.call_later(DELAY_S, is_over.set)
        await is_over.wait()
