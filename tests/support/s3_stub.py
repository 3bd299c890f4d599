"""A small S3 server on loopback that keeps objects in memory and can return errors."""

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from obstore.store import S3Store

KEYS = re.compile(r"<Key>(.*?)</Key>")


class Bucket:
    """The objects of the server (bytes and time by key); faults are the statuses of its next responses."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.objects = dict[str, tuple[bytes, datetime]]()
        self.faults = deque[int]()
        self.is_gone = False
        self.is_read_only = False
        self.unreadable = set[str]()
        self.thawed = threading.Event()  # set: requests are answered
        self.thawed.set()
        self.acknowledges = threading.Event()  # set: writes are acknowledged
        self.acknowledges.set()

    def store(self, timeout: str = "10s") -> S3Store:
        """A client of this bucket with this timeout."""
        return S3Store(
            "bucket",
            endpoint=self.endpoint,
            region="test",
            skip_signature=True,
            client_options={"allow_http": True, "timeout": timeout},
            retry_config={
                "max_retries": 2,
                "backoff": {"init_backoff": timedelta(milliseconds=1)},
            },
        )

    def listing(self, prefix: str) -> bytes:
        """The response to ListObjectsV2; its times have milliseconds, unlike those of HEAD."""
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>&quot;e&quot;</ETag>"
            f"<LastModified>{at.isoformat(timespec='milliseconds')}</LastModified></Contents>"
            for key, (data, at) in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


class Answering(BaseHTTPRequestHandler):
    """Handles one request to `server.bucket`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Read an object, or list objects."""
        bucket, key, query = self._request()
        if bucket.is_gone:
            self._respond(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif key in bucket.unreadable and self.command == "GET":
            self._respond(403)
        elif "list-type" in query:
            self._respond(200, bucket.listing(query.get("prefix", [""])[0]))
        elif key in bucket.objects:
            data, at = bucket.objects[key]
            self._respond(200, data, {"Last-Modified": format_datetime(at, usegmt=True)})
        else:
            self._respond(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        """Write an object; with If-None-Match: *, only if it does not exist."""
        bucket, key, _ = self._request()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("If-None-Match") == "*" and key in bucket.objects:
            self._respond(412)
        else:
            bucket.objects[key] = (data, datetime.now(UTC))
            bucket.acknowledges.wait(30)
            with suppress(OSError):  # the client is gone
                self._respond(200)

    def do_POST(self) -> None:
        """Remove objects; in S3 a missing object is not an error."""
        bucket, _, _ = self._request()
        if bucket.is_read_only:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._respond(403)
            return
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = KEYS.findall(body)
        for key in keys:
            bucket.objects.pop(unescape(key), None)
        removed = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._respond(200, f"<DeleteResult>{removed}</DeleteResult>".encode())

    def parse_request(self) -> bool:
        """Whether the request should be answered normally."""
        bucket: Bucket = self.server.bucket  # type: ignore[attr-defined]
        if not super().parse_request():
            return False
        bucket.thawed.wait(10)
        if not bucket.faults:
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._respond(bucket.faults.popleft())
        return False

    def _request(self) -> tuple[Bucket, str, dict[str, list[str]]]:
        target = urlsplit(self.path)
        bucket: Bucket = self.server.bucket  # type: ignore[attr-defined]
        return bucket, unquote(target.path).removeprefix("/bucket/"), parse_qs(target.query)

    def _respond(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {
            "ETag": '"e"',
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def bucket_server() -> Iterator[Bucket]:
    """Run a server with an empty bucket, on its own port, while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        bucket = Bucket(f"http://127.0.0.1:{server.server_port}")
        server.bucket = bucket  # type: ignore[attr-defined]
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield bucket
        finally:
            bucket.thawed.set()
            server.shutdown()
            serving.join()
