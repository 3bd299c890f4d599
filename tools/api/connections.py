"""Connections with bounds: uvicorn's, with a maximum number and with time limits for clients that let the API wait.

uvicorn has only the keep-alive timeout. Hypercorn's read timeout starts again with every byte, and neither it nor
Granian limits open connections together with the time for headers, body and response.
"""

import logging
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, cast
from uuid import uuid4

import h11
import orjson
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tools.api.errors.problems import MEDIA_TYPE, Problem, document_of

MAX_CONNECTIONS = 1000
MIN_CONNECTIONS = 16
RESERVED_FILES = (
    128  # for Kafka, replica, content store and audit; and for connections that are being closed
)
ACCEPTED_AT_ONCE = 32  # asyncio accepts so many connections before the first of them can be counted
MAX_HEADER_BYTES = 32 * 1024
PIECE_BYTES = 16 * 1024
TICKS_PER_CHECK = 5  # of uvicorn, which has ten a second

log = logging.getLogger("cjstream.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections there may be, and how long a client may take for each step."""

    connections: int
    keep_alive_s: float
    headers_s: float = 20
    body_s: float = 20  # and the time that the bytes take at the lowest rate
    min_bytes_per_s: float = 10 * 1024
    send_s: float = 30  # until the client has taken what is buffered of a response
    close_s: float = 5


class Phase(Enum):
    """What a connection waits for."""

    HEADERS = "the first byte or the end of a request's headers"
    BODY = "the rest of a request"
    RESPONSE = "the end of a response"
    IDLE = "the next request"
    CLOSING = "the client, to take the last bytes"


class BoundedConnection(H11Protocol):
    """One connection; it is closed if its client exceeds a limit, or for a new one if there are too many."""

    def __init__(self, limits: ConnectionLimits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._phase, self._since_s = Phase.HEADERS, self.loop.time()
        self._phase_of: object = None  # the request that the phase belongs to
        self._received_bytes = 0
        self._blocked_since_s: float | None = None  # the client does not read

    def connection_made(self, transport: Any) -> None:
        """Count the connection; if there are too many, close another one that waits for its client."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse piece by piece: the limit of the headers' size counts only what is incomplete."""
        for start in range(0, len(data), PIECE_BYTES):
            if not self.transport.is_closing():
                piece = data[start : start + PIECE_BYTES]
                self._received_bytes += len(piece)
                super().data_received(piece)
        self._update_phase()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_phase()

    def pause_writing(self) -> None:
        """The client does not take the response: the time limit starts."""
        super().pause_writing()
        self._blocked_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """The client has taken most of what was buffered."""
        super().resume_writing()
        self._blocked_since_s = None

    def close_if_expired(self) -> None:
        """Close the connection if its client has let it wait too long."""
        self._update_phase()
        now_s, since_s, limits = self.loop.time(), self._since_s, self._limits
        if self._blocked_since_s is not None and now_s > self._blocked_since_s + limits.send_s:
            self.transport.abort()  # close() would wait until the client has taken the rest
            return
        body_s = limits.body_s + self._received_bytes / limits.min_bytes_per_s
        match self._phase:
            case Phase.IDLE if now_s > since_s + limits.keep_alive_s:
                self.transport.close()
            case Phase.HEADERS if now_s > since_s + limits.headers_s:
                if self._has_part_of_a_request:
                    self._respond_and_close("request-timeout", "the headers took too long")
                self.transport.close()
            case Phase.BODY if now_s > since_s + body_s and not self.flow.read_paused:
                self._respond_and_close("request-timeout", "the body took too long")
            case Phase.CLOSING if now_s > since_s + limits.close_s:
                self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are not HTTP, or to headers that are too large."""
        self._respond_and_close("malformed-request", msg)

    def _update_phase(self) -> None:
        phase = self._current_phase()
        if (phase, self.cycle) != (self._phase, self._phase_of):
            self._phase, self._phase_of, self._since_s = phase, self.cycle, self.loop.time()
            self._received_bytes = 0

    def _current_phase(self) -> Phase:
        if self.transport.is_closing():
            return Phase.CLOSING
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY
        if self._is_responding:
            return Phase.RESPONSE
        is_first = self.cycle is None
        return Phase.HEADERS if is_first or self._has_part_of_a_request else Phase.IDLE

    @property
    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _has_part_of_a_request(self) -> bool:
        return bool(self.conn.trailing_data[0])

    @property
    def _waits_for_its_client(self) -> bool:
        return not self.transport.is_closing() and not self._is_responding

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a request; if every one has a request, refuse this one."""
        others = cast(set[BoundedConnection], self.connections - {self})
        waiting = [other for other in others if other._waits_for_its_client]  # noqa: SLF001
        log.warning("too many connections", extra={"limit": self._limits.connections})
        if waiting:
            min(waiting, key=lambda other: other._since_s).transport.abort()  # noqa: SLF001
        else:
            self._respond_and_close("too-many-connections", "every connection is in use")

    def _respond_and_close(self, slug: str, detail: str) -> None:
        """Respond with a problem, unless another response has begun; the request, if there is one, is abandoned."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        problem = Problem(slug, detail)
        headers = {"Content-Type": MEDIA_TYPE, "Connection": "close", **problem.headers}
        body = orjson.dumps(document_of(problem, str(uuid4())))
        headers["Content-Length"] = str(len(body))
        status = HTTPStatus(problem.kind.status)
        response = h11.Response(
            status_code=status, reason=status.phrase, headers=list(headers.items())
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()


class BoundedServer(uvicorn.Server):
    """A server that closes expired connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; more connections may wait in the system than asyncio, which has one setting for both, accepts."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(MAX_CONNECTIONS)

    async def on_tick(self, counter: int) -> bool:
        """Check the time limits of all connections; uvicorn calls this ten times a second."""
        if counter % TICKS_PER_CHECK == 0:
            for connection in list(self.server_state.connections):
                cast(BoundedConnection, connection).close_if_expired()
        return await super().on_tick(counter)


def bounded(limits: ConnectionLimits) -> Callable[..., BoundedConnection]:
    """The protocol for uvicorn's setting `http`."""
    return lambda **arguments: BoundedConnection(limits, **arguments)


def raise_open_files_limit() -> int:
    """Raise the soft limit of this process's open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        log.info("limit of open files raised", extra={"before": soft, "now": hard})
    return MAX_CONNECTIONS + RESERVED_FILES if hard == resource.RLIM_INFINITY else hard


def max_connections(open_files: int) -> int:
    """How many connections fit with this limit of open files."""
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, open_files - RESERVED_FILES))
