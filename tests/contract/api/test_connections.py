"""Connections over loopback: their number is bounded, and clients that let the API wait are disconnected."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread

import pytest

from tests.contract.api.calling import Api
from tests.contract.api.serving_in_thread import all_of, served
from tests.support.tokens import hs256
from tests.support.until import until
from tools.api.line_limit import MAX_LINES_PER_S, LineLimit

GET = b"GET /healthz HTTP/1.1\r\nHost: api\r\n"
TOKEN = f"Authorization: Bearer {hs256(roles=['service'])}\r\n".encode()
POST = b"POST /v1/content HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n" + TOKEN + b"\r\n"
FAST = {"headers_s": 0.3, "body_s": 0.3, "send_s": 0.5, "close_s": 0.3}


def problem_in(response: bytes) -> tuple[int, str]:
    """Status and type of a problem."""
    head, _, body = response.partition(b"\r\n\r\n")
    document = json.loads(body)
    assert document["correlation_id"]
    assert b"application/problem+json" in head
    return int(head.split()[1]), document["type"].rpartition(":")[2]


def drip(client: socket.socket, one: bytes, stop: threading.Event) -> None:
    """Send a byte every now and then until the server has had enough."""
    with suppress(OSError):
        while not stop.wait(0.05):
            client.sendall(one)


@contextmanager
def dripping(client: socket.socket, one: bytes) -> Iterator[None]:
    """Another thread sends one byte after the other while the block runs."""
    stop = threading.Event()
    thread = Thread(target=drip, args=(client, one, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_a_connection_that_sends_nothing_is_closed(api: Api) -> None:
    with served(api.app, **FAST) as server, server.connect() as client:
        assert all_of(client) == b""


@pytest.mark.parametrize(
    ("sent", "one"),
    [(GET + b"X-Long: ", b"x"), (POST, b"x"), (GET[:5], b"x")],
    ids=["headers", "body", "request line"],
)
def test_a_request_of_one_byte_at_a_time_is_ended(api: Api, sent: bytes, one: bytes) -> None:
    with (
        served(api.app, **FAST) as server,
        server.connect(sent) as client,
        dripping(client, one),
    ):
        response = all_of(client)
        assert not response or problem_in(response) == (408, "request-timeout")
        until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("sent", [GET, POST], ids=["headers", "body"])
def test_a_request_that_stops_in_the_middle_gets_408(api: Api, sent: bytes) -> None:
    with served(api.app, **FAST) as server, server.connect(sent) as client:
        assert problem_in(all_of(client)) == (408, "request-timeout")


def test_the_body_of_a_refused_request_has_a_time_limit_too(api: Api) -> None:
    with served(api.app, **FAST) as server:
        with server.connect(POST.replace(TOKEN, b"")) as client:
            response = all_of(client)
            assert b"401" in response.split(b"\r\n")[0]
        until(lambda: server.open_connections == 0)


def test_a_slow_but_steady_body_is_accepted(api: Api) -> None:
    limits = {**FAST, "min_bytes_per_s": 10}
    with served(api.app, **limits) as server, server.connect(POST) as client:
        waiting = threading.Event()
        for _ in range(10):
            client.sendall(b"x" * 10)
            waiting.wait(0.1)
        assert b"201" in client.recv(100)


def received_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        part = client.recv(65536)
        assert part, received
        received += part
    return received


def test_an_unused_connection_is_kept_as_long_as_is_set(api: Api) -> None:
    with (
        served(api.app, **FAST, keep_alive_s=3) as server,
        server.connect(GET + b"\r\n") as client,
    ):
        assert b"200 OK" in received_until(client, b"}")
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(1)  # longer than any other limit
        client.settimeout(10)
        client.sendall(GET + b"\r\n")
        assert b"200 OK" in received_until(client, b"}")
        assert client.recv(1) == b""


def test_a_connection_is_unused_too_after_the_late_body_of_a_refused_request(api: Api) -> None:
    refused = POST.replace(TOKEN, b"")
    with served(api.app, keep_alive_s=0.5) as server, server.connect(refused) as client:
        assert b" 401 " in received_until(client, b"}")
        client.sendall(b"x" * 100)  # ends uvicorn's own timer, which no response starts again
        assert all_of(client) == b""


def test_new_connections_take_the_place_of_those_that_wait_longest(api: Api) -> None:
    with served(api.app, connections=20) as server, ExitStack() as clients:
        idle = [clients.enter_context(server.connect(part)) for part in (b"", GET) * 50]
        assert all(server.is_healthy() for _ in range(30))
        assert server.open_connections <= 21
        assert all_of(idle[0]) == b""


def test_requests_in_progress_keep_their_connections(api: Api) -> None:
    with served(api.app, connections=5) as server, ExitStack() as clients:
        uploads = [clients.enter_context(server.connect(POST)) for _ in range(5)]
        until(lambda: api.app.state.dependencies.requests.total == 5)
        with server.connect(GET + b"\r\n") as refused:
            assert problem_in(all_of(refused)) == (503, "too-many-connections")
        for client in uploads:
            client.sendall(b"x" * 100)
            assert client.recv(100).startswith(b"HTTP/1.1 20")
        assert server.is_healthy()


def test_a_response_that_its_client_does_not_read_is_given_up(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=b"x" * 1_000_000).json()["storage_id"]
    get = f"GET /v1/content/{storage_id} HTTP/1.1\r\nHost: api\r\n".encode() + TOKEN + b"\r\n"
    with served(api.app, **FAST) as server, ExitStack() as clients:
        for _ in range(5):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(get * 20)  # pipelined: more than the system buffers
        until(lambda: server.open_connections == 0, 20)
        until(lambda: api.app.state.dependencies.requests.total == 0)


def test_the_last_bytes_of_a_closed_connection_have_a_time_limit(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=b"x" * 50_000).json()["storage_id"]
    head = f"GET /v1/content/{storage_id} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n".encode()
    with served(api.app, close_s=0.3) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        until(lambda: server.open_connections == 1)
        (connection,) = server.server.server_state.connections
        sending = connection.transport.get_extra_info("socket")
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sendall(head + TOKEN + b"\r\n")
        until(lambda: server.open_connections == 0)


def test_pipelined_requests_get_their_responses_in_order(api: Api) -> None:
    with served(api.app, **FAST) as server, server.connect((GET + b"\r\n") * 500) as client:
        received = b""
        while received.count(b"200 OK") < 500:
            received += client.recv(65536)


@pytest.mark.parametrize(
    "headers",
    [b"X-Long: " + b"x" * 200_000, b"\r\n".join([b"a:"] * 30_000), b"Cookie: a=b\r\n" * 10_000],
)
def test_headers_that_are_too_large_are_refused(api: Api, headers: bytes) -> None:
    with served(api.app) as server, server.connect() as client:
        client.sendall(GET)
        Thread(target=_send_all, args=(client, headers + b"\r\n\r\n")).start()
        response = all_of(client)
        assert not response or problem_in(response) == (400, "malformed-request")
        assert server.is_healthy()


def _send_all(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server has closed the connection
        client.sendall(data)


def test_bytes_that_are_not_http_are_a_problem(api: Api) -> None:
    with served(api.app) as server, server.connect(b"\x16\x03\x01\x00\x00\r\n\r\n") as client:
        assert problem_in(all_of(client)) == (400, "malformed-request")


def test_log_lines_that_anybody_can_cause_are_limited() -> None:
    now_s = 0.0
    limit = LineLimit(lambda: now_s)

    def passed(level: int, message: str, **fields: str) -> bool:
        record = logging.makeLogRecord({"levelno": level, "msg": message, **fields})
        return bool(limit.filter(record))

    lines = [f"socket.accept() out of system resource\n{number}" for number in range(1000)]
    assert sum(passed(logging.ERROR, line) for line in lines) == MAX_LINES_PER_S
    assert sum(passed(logging.INFO, "HTTP request") for _ in lines) == MAX_LINES_PER_S
    assert all(passed(logging.INFO, "HTTP request", actor="anna") for _ in lines)
    assert all(passed(logging.INFO, "role uploaded") for _ in lines)
    now_s = 1.0
    record = logging.makeLogRecord({"levelno": logging.ERROR, "msg": lines[0]})
    assert limit.filter(record)
    assert vars(record)["suppressed"] == 1000 - MAX_LINES_PER_S
