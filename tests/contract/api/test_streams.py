"""Streams of the audit over loopback: as many as are allowed, as fast as they are read, as long as somebody reads."""

import json
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from tables.history.point_in_time import Moment
from tests.contract.api.calling import AUDIT, Api
from tests.contract.api.serving_in_thread import Served, all_of, served
from tests.support.tokens import hs256
from tests.support.until import until
from tools.api.app import COMPUTING_STREAMS, STREAMS, STREAMS_OF_SUBJECT

CHUNK = b"x" * 50_000 + b"\n"
CHUNKS = 400  # 20 MB: much more than the system buffers


@dataclass
class Replays:
    """How many chunks were computed, and how many of the replays have ended."""

    computed: int = 0
    ended: int = 0
    silent: bool = False  # the log is read, but there is no line yet
    computing: list[None] = field(default_factory=list)  # one for each thread that computes now
    most_at_once: int = 0
    may_go_on: Event = field(default_factory=Event)

    def replay(
        self, since: Moment | None, until: Moment | None, scope_keys: list[str]
    ) -> Generator[bytes, None, None]:
        try:
            for _ in range(CHUNKS):
                self.computed += 1
                yield b"" if self.silent else CHUNK
                self.computing.append(None)
                self.most_at_once = max(self.most_at_once, len(self.computing))
                self.may_go_on.wait(0.02 if self.silent else 0)
                self.computing.pop()
        finally:
            self.ended += 1


@pytest.fixture
def replays(api: Api) -> Replays:
    one = Replays()
    api.audit.replay = one.replay  # type: ignore[method-assign]
    return one


def get(subject: str) -> bytes:
    token = hs256(sub=subject, roles=["auditor"])
    head = f"GET {AUDIT}/replay HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


def document_of(response: bytes) -> Any:
    return json.loads(response.partition(b"\r\n\r\n")[2])


@contextmanager
def unread(server: Served, subject: str) -> Iterator[socket.socket]:
    """A client that asks for a stream and reads nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(get(subject))
        yield client


def streams(api: Api) -> int:
    total: int = api.app.state.dependencies.streams.total
    return total


def test_fifty_unread_streams_of_one_subject(api: Api, replays: Replays) -> None:
    with served(api.app, send_s=3) as server, ExitStack() as clients:
        for _ in range(STREAMS_OF_SUBJECT):
            clients.enter_context(unread(server, "anna"))
        until(lambda: streams(api) == STREAMS_OF_SUBJECT)
        for _ in range(50 - STREAMS_OF_SUBJECT):
            with server.connect(get("anna")) as refused:
                response = all_of(refused)
                assert response.startswith(b"HTTP/1.1 429 "), response
                assert b"retry-after: 10" in response
                assert document_of(response)["type"].endswith("too-many-in-progress")
        assert server.is_healthy()
        assert replays.computed < STREAMS_OF_SUBJECT * CHUNKS / 2  # it waits for its reader
        until(lambda: streams(api) == 0)  # the limit of sending
        assert replays.ended == STREAMS_OF_SUBJECT
        with server.connect(get("anna")) as reader:
            assert all_of(reader).count(CHUNK[:-1]) > 0


def test_streams_of_many_subjects_are_bounded_too(api: Api, replays: Replays) -> None:
    with served(api.app) as server, ExitStack() as clients:
        for number in range(STREAMS):
            clients.enter_context(unread(server, f"auditor {number}"))
        until(lambda: streams(api) == STREAMS)
        with server.connect(get("another")) as refused:
            assert all_of(refused).startswith(b"HTTP/1.1 429 ")


def test_few_of_the_streams_compute_at_the_same_time(api: Api, replays: Replays) -> None:
    replays.silent = True
    with served(api.app) as server, ExitStack() as clients:
        for number in range(STREAMS):
            clients.enter_context(unread(server, f"auditor {number}"))
        until(lambda: replays.computed > 50 and streams(api) == STREAMS)
        assert replays.most_at_once == COMPUTING_STREAMS < STREAMS


@pytest.mark.parametrize("silent", [False, True])
def test_the_work_of_a_stream_ends_when_its_client_is_gone(
    api: Api, replays: Replays, silent: bool
) -> None:
    replays.silent = silent
    with served(api.app) as server:
        with unread(server, "anna"):
            until(lambda: replays.computed > 2)
        until(lambda: replays.ended == 1 and streams(api) == 0)
        assert replays.computed < CHUNKS


def test_streams_that_are_opened_and_closed_quickly_leave_nothing_behind(
    api: Api, replays: Replays
) -> None:
    with served(api.app) as server:
        for _ in range(100):
            server.connect(get("anna")).close()

        def is_served() -> bool:
            """Whether one more stream is complete; 429 while the server still accepts what was closed."""
            with server.connect(get("anna")) as reader:
                return all_of(reader).count(CHUNK[:-1]) == CHUNKS

        until(is_served)
        until(lambda: streams(api) == 0 and server.open_connections == 0)
        until(lambda: api.app.state.dependencies.requests.total == 0)
