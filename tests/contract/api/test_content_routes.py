"""The routes under /v1/content: the real application with a folder, or with a bucket that can be made to fail."""

import asyncio
import base64
import gc
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from schemas.errors import ContentTimeout
from tables.content_store import ContentStore
from tests.contract.api.calling import Api, make_api
from tests.support.http_server import serving
from tests.support.s3_stub import Bucket, bucket_server
from tests.support.tokens import hs256
from tools.api.services.async_content_store import THREADS, AsyncContentStore

TEXT = b"Judge how clearly the argument is put.\r\n\0\xff"
SIZE = len(TEXT)
ID = hashlib.sha256(TEXT).hexdigest()
CONTENT = "/v1/content"
PATH = f"{CONTENT}/{ID}"
PLAIN = {"content_type": "text/plain; charset=utf-8"}


def post(api: Api, text: Any = TEXT, **headers: str) -> httpx.Response:
    return api("POST", CONTENT, content=text, **{**PLAIN, **headers})


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:cjstream:problem:")


def stored_file(api: Api, storage_id: str = ID) -> Path:
    return api.folder / "content" / "sha256" / storage_id[:2] / storage_id


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An application whose store has the text, for tests that only read."""
    api = make_api(tmp_path_factory.mktemp("stored"))
    assert post(api).status_code == 201
    return api


def test_a_text_is_stored_once_under_its_sha256(api: Api) -> None:
    first, again = post(api), post(api)
    assert (first.status_code, again.status_code) == (201, 200)
    document = {
        "storage_id": ID,
        "size_bytes": SIZE,
        "media_type": "text/plain; charset=utf-8",
    }
    assert first.json() == again.json() == document
    assert (first.headers["location"], first.headers["cache-control"]) == (PATH, "no-store")
    assert api("GET", first.headers["location"]).content == TEXT


def test_a_text_is_returned_as_it_was_stored_and_browsers_do_not_run_it(api: Api) -> None:
    script = b"<script>alert(1)</script>"
    storage_id = post(api, script, content_type="text/html").json()["storage_id"]
    response = api("GET", f"{CONTENT}/{storage_id}")
    assert (response.status_code, response.content) == (200, script)
    names = ("etag", "cache-control", "content-type")
    assert {name: response.headers[name] for name in names} == {
        "etag": f'"{storage_id}"',
        "cache-control": "private, max-age=31536000, immutable",
        "content-type": "text/html",
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["accept-ranges"] == "bytes"


def test_head_returns_the_headers_of_get_without_the_bytes(stored: Api) -> None:
    get, head = stored("GET", PATH), stored("HEAD", PATH, range="bytes=0-1")
    assert (head.status_code, head.content) == (200, b"")
    differs = {"x-correlation-id"}
    headers, expected = (
        {name: value for name, value in response.headers.items() if name not in differs}
        for response in (head, get)
    )
    assert headers == expected


def test_the_default_media_type_is_plain_text_and_the_first_one_stays(api: Api) -> None:
    request = httpx.Request("POST", f"http://api{CONTENT}", content=TEXT)
    request.headers["authorization"] = f"Bearer {hs256()}"
    assert "content-type" not in request.headers
    assert send(api, request).json()["media_type"] == "text/plain; charset=utf-8"
    assert post(api, content_type="application/json").json()["media_type"].startswith("text/plain")
    assert stored_type(api, b"other", 'text/markdown;variant="a, b"') == (
        'text/markdown;variant="a, b"'
    )


def stored_type(api: Api, text: bytes, media_type: str) -> str:
    storage_id = post(api, text, content_type=media_type).json()["storage_id"]
    return api("GET", f"{CONTENT}/{storage_id}").headers["content-type"]


def send(api: Api, request: httpx.Request) -> httpx.Response:
    async def respond() -> httpx.Response:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.send(request)

    return asyncio.run(respond())


@pytest.mark.parametrize(
    "media_type", ["text", "text/", "/plain", "text/plain;", "text/pl\xe4in", "a/" + "b" * 255]
)
def test_an_invalid_media_type_is_malformed(api: Api, media_type: str) -> None:
    headers = [
        (b"Authorization", f"Bearer {hs256()}".encode()),
        (b"Content-Type", media_type.encode("latin-1")),
    ]
    response = send(
        api, httpx.Request("POST", f"http://api{CONTENT}", headers=headers, content=TEXT)
    )
    assert problem(response) == (400, "malformed-request")
    assert response.json()["where"] == "Content-Type"


def test_an_empty_text_is_refused(api: Api) -> None:
    response = post(api, b"")
    assert problem(response) == (422, "validation-failed")
    assert [(fault["location"], fault["code"]) for fault in response.json()["errors"]] == [
        ("body", "too_short")
    ]


def chunks(count: int, sent: list[int]) -> AsyncIterator[bytes]:
    async def generate() -> AsyncIterator[bytes]:
        for number in range(count):
            sent.append(number)
            yield b"x" * 1024

    return generate()


def test_a_text_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    api = make_api(tmp_path, content_max_bytes=4096)
    assert post(api, b"x" * 4096).status_code == 201
    response = post(api, b"y" * 4097)
    assert problem(response) == (413, "payload-too-large")
    assert response.json()["limit_bytes"] == 4096


def test_a_chunked_text_is_refused_while_it_is_read_and_nothing_is_stored(tmp_path: Path) -> None:
    api, sent = make_api(tmp_path, content_max_bytes=4096), list[int]()
    response = post(api, chunks(1000, sent))
    assert problem(response) == (413, "payload-too-large")
    assert len(sent) == 5
    assert [path for path in (tmp_path / "content").rglob("*") if path.is_file()] == []
    assert post(api, chunks(4, sent)).status_code == 201


def digest(text: bytes, algorithm: str = "sha-256") -> str:
    value = base64.b64encode(hashlib.new(algorithm.replace("-", ""), text).digest()).decode()
    return f"{algorithm}=:{value}:"


@pytest.mark.parametrize(
    "header",
    [
        digest(TEXT),
        f"sha-512=:AAAA:, {digest(TEXT)}",
        digest(b"other", "sha-512"),
        f"{digest(b'other')}, {digest(TEXT)}",  # the last one of an algorithm counts
    ],
)
def test_a_correct_digest_or_an_unknown_algorithm_is_accepted(api: Api, header: str) -> None:
    assert post(api, content_digest=header).status_code == 201


@pytest.mark.parametrize("header", [digest(b"other"), "sha-256=::", digest(TEXT)[:-6] + "A=:"])
def test_a_wrong_digest_is_refused_and_nothing_is_stored(api: Api, header: str) -> None:
    response = post(api, content_digest=header)
    if response.status_code == 422:
        (fault,) = response.json()["errors"]
        assert fault["code"] == "invalid_digest"
    else:
        assert problem(response) == (400, "malformed-request")
    assert not stored_file(api).exists()


@pytest.mark.parametrize(
    "header", ["sha-256", "sha-256=abc", "=::", "sha-256=:a:", "sha-256=:@@@@:"]
)
def test_a_digest_that_cannot_be_parsed_is_malformed(api: Api, header: str) -> None:
    response = post(api, content_digest=header)
    assert problem(response) == (400, "malformed-request")
    assert response.json()["where"] == "Content-Digest"
    assert not stored_file(api).exists()


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1-4", 1, 4),
        ("bytes=5-", 5, SIZE - 1),
        (f"bytes=2-{SIZE + 7}", 2, SIZE - 1),
        ("bytes=-3", SIZE - 3, SIZE - 1),
        (f"bytes=-{'9' * 5000}", 0, SIZE - 1),
        (f"Bytes={'0' * 50}1-2", 1, 2),
    ],
)
def test_a_requested_range_is_returned(stored: Api, requested: str, first: int, last: int) -> None:
    response = stored("GET", PATH, range=requested)
    assert (response.status_code, response.content) == (206, TEXT[first : last + 1])
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["content-length"] == str(last + 1 - first)
    assert response.headers["etag"] == f'"{ID}"'


@pytest.mark.parametrize("requested", [f"bytes={SIZE}-", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_a_range_after_the_end_of_the_text_cannot_be_satisfied(stored: Api, requested: str) -> None:
    response = stored("GET", PATH, range=requested)
    assert problem(response) == (416, "range-not-satisfiable")
    assert response.json()["size_bytes"] == SIZE
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "requested",
    [
        "bytes=0-1,3-4",
        "lines=1-2",
        "bytes=",
        "bytes=-",
        "bytes=4-1",
        "bytes=a-b",
        "0-1",
        "bytes=0--1",
    ],
)
def test_an_invalid_range_or_several_ranges_return_the_complete_text(
    stored: Api, requested: str
) -> None:
    response = stored("GET", PATH, range=requested)
    assert (response.status_code, response.content) == (200, TEXT)


def test_if_range_with_another_etag_returns_the_complete_text(stored: Api) -> None:
    other = stored("GET", PATH, range="bytes=0-1", if_range=f'"{"0" * 64}"')
    same = stored("GET", PATH, range="bytes=0-1", if_range=f'"{ID}"')
    assert (other.status_code, same.status_code) == (200, 206)


@pytest.mark.parametrize("etags", [f'"{ID}"', f'W/"{ID}"', f'"x", "{ID}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_with_the_texts_etag_returns_304(
    stored: Api, method: str, etags: str
) -> None:
    response = stored(method, PATH, if_none_match=etags, range="bytes=0-1")
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == f'"{ID}"'
    assert "content-type" not in response.headers


@pytest.mark.parametrize("etags", ['"x"', ID, "", '"*"'])
def test_if_none_match_with_other_etags_returns_the_text(stored: Api, etags: str) -> None:
    assert stored("GET", PATH, if_none_match=etags).content == TEXT


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_id_is_not_found(api: Api, method: str) -> None:
    response = api(method, PATH, if_none_match="*")
    assert response.status_code == 404
    if method == "GET":
        names = ("resource_type", "resource_id", "deleted")
        members = {name: response.json()[name] for name in names}
        assert members == {"resource_type": "content", "resource_id": ID, "deleted": False}


INVALID_IDS = [
    "x",
    ID.upper(),
    ID[:-1],
    ID + "0",
    "%2e%2e",
    "..%5c..%5cetc",
    "%00",
    f"{ID}%0a",
    "%ff",
]


@pytest.mark.parametrize("storage_id", INVALID_IDS)
def test_an_invalid_id_is_refused(stored: Api, storage_id: str) -> None:
    status, _ = problem(stored("GET", f"{CONTENT}/{storage_id}"))
    assert status in (400, 422)
    assert stored("HEAD", f"{CONTENT}/{storage_id}").status_code == status


@pytest.mark.parametrize("path", ["%2e%2e%2f%2e%2e%2fetc%2fpasswd", f"../{ID}", f"a/{ID}"])
def test_a_path_that_leaves_the_store_is_refused(stored: Api, path: str) -> None:
    url = httpx.URL("http://api").copy_with(raw_path=f"{CONTENT}/{path}".encode())
    request = httpx.Request("GET", url, headers={"authorization": f"Bearer {hs256()}"})
    assert problem(send(stored, request))[0] in (404, 422)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("path", [CONTENT, PATH])
def test_content_cannot_be_changed_or_deleted(stored: Api, method: str, path: str) -> None:
    response = stored(method, path)
    assert problem(response) == (405, "method-not-allowed")
    assert response.headers["allow"] == ("POST" if path == CONTENT else "GET, HEAD")
    assert stored("GET", PATH).status_code == 200


@pytest.mark.parametrize(
    ("role", "writes", "reads"),
    [("admin", 201, 200), ("service", 201, 200), ("auditor", 403, 200), ("nobody", 403, 403)],
)
def test_each_role_has_its_own_permissions(
    tmp_path: Path, role: str, writes: int, reads: int
) -> None:
    api, token = make_api(tmp_path), hs256(roles=[role])
    write = api("POST", CONTENT, content=TEXT, token=token, content_type="text/plain")
    assert write.status_code == writes
    post(api)
    assert [api(method, PATH, token=token).status_code for method in ("GET", "HEAD")] == [reads] * 2


def test_a_request_without_a_token_is_refused_before_its_body_is_read(api: Api) -> None:
    sent = list[int]()
    response = api("POST", CONTENT, content=chunks(9, sent), token=None)
    assert (problem(response), sent) == ((401, "unauthenticated"), [])


def test_damaged_bytes_are_never_sent(api: Api) -> None:
    post(api)
    stored_file(api).write_bytes(TEXT[:-1])
    response = api("GET", PATH, range="bytes=0-3")
    assert problem(response) == (502, "content-corrupt")
    assert response.json()["storage_id"] == ID
    assert api("HEAD", PATH).status_code == 502
    assert post(api).status_code == 200  # storing the text again repairs it
    assert api("GET", PATH).content == TEXT


def test_a_folder_that_cannot_be_read_or_written_is_reported_as_a_store_failure(api: Api) -> None:
    (api.folder / "content" / "sha256").write_bytes(b"")
    for response in (post(api), api("GET", PATH)):
        assert problem(response) == (502, "content-backend-error")
        assert response.json()["storage_id"] == ID
        assert str(api.folder) not in response.text


def test_responses_over_http_have_the_length_that_they_declare(tmp_path: Path) -> None:
    api = make_api(tmp_path, content_max_bytes=100_000)
    token = {"authorization": f"Bearer {hs256()}"}
    with serving(api.app) as url, httpx.Client(base_url=url, headers=token) as client:
        assert client.post(CONTENT, content=TEXT).status_code == 201
        for _ in range(2):  # on one connection: an extra byte would break the second round
            head = client.head(PATH)
            assert (head.status_code, head.headers["content-length"]) == (200, str(SIZE))
            assert client.get(PATH, headers={"if-none-match": f'"{ID}"'}).status_code == 304
            assert client.get(PATH, headers={"range": "bytes=-2"}).content == TEXT[-2:]
        too_long = (b"x" * 1024 for _ in range(200))
        assert client.post(CONTENT, content=too_long).status_code == 413
        assert client.get(PATH).content == TEXT
    assert sum(path.is_file() for path in (tmp_path / "content").rglob("*")) == 1


# A bucket that fails


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with bucket_server() as bucket:
        yield bucket


def api_with(store: ContentStore, folder: Path, timeout_s: float = 10) -> Api:
    """An application with this content store."""
    return make_api(folder, AsyncContentStore(store, timeout_s))


def test_a_bucket_works_like_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    api = api_with(ContentStore(bucket.store()), tmp_path)
    assert [post(api).status_code, post(api).status_code] == [201, 200]
    assert api("GET", PATH).content == TEXT


def test_two_faults_of_a_bucket_are_retried_and_three_are_reported(
    bucket: Bucket, tmp_path: Path
) -> None:
    api = api_with(ContentStore(bucket.store()), tmp_path)
    bucket.faults.extend([500, 503])
    assert post(api).status_code == 201
    bucket.faults.extend([500] * 3)
    assert problem(api("GET", PATH)) == (502, "content-backend-error")


def test_a_bucket_whose_server_is_down_is_unavailable(tmp_path: Path) -> None:
    with bucket_server() as stopped:
        pass
    response = post(api_with(ContentStore(stopped.store()), tmp_path))
    assert problem(response) == (503, "content-unavailable")
    assert int(response.headers["retry-after"]) > 0


def test_a_bucket_that_does_not_respond_times_out(bucket: Bucket, tmp_path: Path) -> None:
    api = api_with(ContentStore(bucket.store()), tmp_path, timeout_s=0.05)
    bucket.thawed.clear()
    for response in (post(api), api("GET", PATH)):
        assert problem(response) == (504, "content-timeout")
    bucket.thawed.set()


def test_all_calls_time_out_while_a_store_hangs(bucket: Bucket) -> None:
    store = ContentStore(bucket.store())
    bucket.thawed.clear()
    content_store = AsyncContentStore(store, timeout_s=0.2)

    async def call() -> list[object]:
        calls = [content_store.get(ID) for _ in range(20)]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert {type(result) for result in asyncio.run(call())} == {ContentTimeout}
    bucket.thawed.set()
    content_store.close()


def test_texts_that_a_hanging_store_never_took_are_not_kept(bucket: Bucket) -> None:
    content_store = AsyncContentStore(ContentStore(bucket.store()), timeout_s=0.2)
    bucket.thawed.clear()
    texts = [f"{number} {TEXT!r}".encode() for number in range(50)]

    def references() -> list[int]:
        return [sys.getrefcount(text) for text in texts]

    async def put_all() -> set[type]:
        results = await asyncio.gather(*map(content_store.put, texts), return_exceptions=True)
        return set(map(type, results))

    before = references()
    assert asyncio.run(put_all()) == {ContentTimeout}
    gc.collect()
    kept = [now for now, then in zip(references(), before, strict=True) if now > then]
    assert len(kept) <= THREADS
    bucket.thawed.set()
    content_store.close()


def test_many_probes_of_a_hanging_store_are_one_call(bucket: Bucket) -> None:
    may_end, probes = Event(), list[int]()

    class Hanging(ContentStore):
        def probe(self) -> None:
            probes.append(1)
            may_end.wait(30)

    content_store = AsyncContentStore(Hanging(bucket.store()), timeout_s=0.2)

    async def ask_all() -> set[bool]:
        calls = [content_store.has_answered_recently() for _ in range(50)]
        return set(await asyncio.gather(*calls))

    assert asyncio.run(ask_all()) == {False}
    assert len(probes) == 1
    may_end.set()
    content_store.close()


def test_requests_are_counted_by_their_result(api: Api) -> None:
    post(api)
    api("GET", PATH)
    api("GET", f"{CONTENT}/{'0' * 64}")
    api("HEAD", f"{CONTENT}/x")
    stored_file(api).write_bytes(b"damaged")
    api("GET", PATH)
    expected = {
        ("upload", "success"),
        ("download", "success"),
        ("download", "not_found"),
        ("head", "failed"),
        ("download", "error"),
    }
    assert all(
        api.metric("content_operations_total", operation=operation, status=status) == 1
        for operation, status in expected
    )
