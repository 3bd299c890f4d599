"""More clients than the API has descriptors for: its probes are answered, and its log stays small."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.end_to_end.serving import Serving
from tests.support.tokens import SECRET
from tests.support.until import until
from tools.broker import free_port

FILES = 256
CLIENTS = 400
# the hard limit, too: the API raises the soft one
FEW_FILES = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
sys.argv = ["cjstream", "api"]
from tools.cli import main
main()
"""
RAISED = FEW_FILES.replace(f"({FILES}, {FILES})", f"({FILES}, 4096)")


@pytest.fixture(params=[FEW_FILES, RAISED], ids=["few files", "soft limit"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serving]:
    """An API without a broker, which has few file descriptors."""
    settings = Settings(
        bootstrap_servers="127.0.0.1:9", data_dir=tmp_path, api_port=free_port(), slot="few"
    )
    command = ("-c", request.param)
    process = Serving(settings, tmp_path / "api.log", command, {"JWT_SECRET_KEY": SECRET})
    process.start()
    try:
        until(process.answers, 60)
        yield process
    finally:
        process.end()


def connection(api: Serving, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", api.settings.api_port), timeout=30)
    client.sendall(sent)
    return client


def test_idle_and_half_sent_connections_leave_room_for_probes(api: Serving) -> None:
    parts = [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: api\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    with ExitStack() as clients:
        for number in range(CLIENTS):
            clients.enter_context(connection(api, parts[number % len(parts)]))
        assert all(api.answers() for _ in range(20))
        for _ in range(CLIENTS):
            clients.enter_context(connection(api, b""))
            assert api.is_alive
        assert api.answers()
    raised = api.log_count("limit of open files raised")
    assert raised == (1 if RAISED in api.command else 0)
    lines = len(api.log.read_text().splitlines())
    assert lines < 500, api.log_tail(20)


@pytest.mark.parametrize("api", [FEW_FILES], indirect=True)
def test_an_unused_connection_outlives_uvicorns_five_seconds(api: Serving) -> None:
    with connection(api, b"GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n") as client:
        received = b""
        while not received.endswith(b"}"):
            received += client.recv(10_000)
        client.settimeout(6)
        with pytest.raises(TimeoutError):
            client.recv(1)
