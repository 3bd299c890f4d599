"""A content store on loopback that refuses a share of its calls, and counts what is going on."""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/v1/content"


@dataclass
class FlakyStore:
    """Its texts, how often each was stored, and the most calls at a time; `lies`: it answers with other ids."""

    refused_share: float = 0.0
    refused_status: int = 503
    lies: bool = False
    seed: int = 1
    texts: dict[str, bytes] = field(default_factory=dict)
    stored: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._tries = Counter[str]()
        self._busy = threading.Semaphore(0)

    def entered(self, call: str) -> bool:
        """Count a call; whether it is refused, which depends on how often it was made and not on the order of calls."""
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._tries[call] += 1
            chance = random.Random(f"{self.seed} {call} {self._tries[call]}").random()
            is_refused = chance < self.refused_share
            self.refused += is_refused
        self._busy.acquire(timeout=0.01)  # nobody releases it: calls overlap
        return is_refused

    def left(self) -> None:
        """A call ended."""
        with self._lock:
            self.in_flight -= 1

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the response to a call that is not refused."""
        with self._lock:
            self.calls[method] += 1
            if method == "POST":
                own = sha256(body).hexdigest()
                self.texts[own] = body
                self.stored[own] += 1
                named = "0" * 64 if self.lies else own
                return 201, json.dumps({"storage_id": named}).encode()
            found = self.texts.get(path.rpartition("/")[2])
            return (404, b"") if found is None else (200, found)


@contextmanager
def flaky_store(store: FlakyStore) -> Iterator[FlakyStore]:
    """Serve the store while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_refused = store.entered(f"{self.command} {self.path} {sha256(body).hexdigest()}")
            if is_refused:
                status, content = store.refused_status, b""
            else:
                status, content = store.answer(self.command, self.path, body)
            store.left()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _respond  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
