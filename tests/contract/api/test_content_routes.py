"""The routes under /v1/content: the real application, over a folder or a bucket that can be made to fail."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.errors import ContentTimeout
from tables.content_store import ContentStore
from tests.contract.api.calling import Api, made_api
from tests.contract.api.memory_log import MemoryLog
from tests.contract.api.memory_past import MemoryPast
from tests.support.http_server import serving
from tests.support.s3_stub import Bucket, bucket_server
from tests.support.tokens import SECRET, hs256
from tools.api.app import build_api
from tools.api.auth.key_settings import build_verifier, jwt_settings
from tools.api.services.async_content_store import AsyncContentStore

TEXT = b"Judge how clearly the argument is put.\r\n\0\xff"
SIZE = len(TEXT)
ID = hashlib.sha256(TEXT).hexdigest()
CONTENT = "/v1/content"
AT = f"{CONTENT}/{ID}"
PLAIN = {"content_type": "text/plain; charset=utf-8"}


def post(api: Api, text: Any = TEXT, **headers: str) -> httpx.Response:
    return api("POST", CONTENT, content=text, **{**PLAIN, **headers})


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:cjstream:problem:")


def place(api: Api, storage_id: str = ID) -> Path:
    return api.folder / "content" / "sha256" / storage_id[:2] / storage_id


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An application that has the text, for tests that only read."""
    api = made_api(tmp_path_factory.mktemp("stored"))
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
    assert (first.headers["location"], first.headers["cache-control"]) == (AT, "no-store")
    assert api("GET", first.headers["location"]).content == TEXT


def test_it_is_read_as_it_was_stored_and_no_browser_runs_it(api: Api) -> None:
    script = b"<script>alert(1)</script>"
    storage_id = post(api, script, content_type="text/html").json()["storage_id"]
    answer = api("GET", f"{CONTENT}/{storage_id}")
    assert (answer.status_code, answer.content) == (200, script)
    told = {name: answer.headers[name] for name in ("etag", "cache-control", "content-type")}
    assert told == {
        "etag": f'"{storage_id}"',
        "cache-control": "private, max-age=31536000, immutable",
        "content-type": "text/html",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["accept-ranges"] == "bytes"


def test_head_tells_what_get_would_without_the_bytes(stored: Api) -> None:
    got, looked = stored("GET", AT), stored("HEAD", AT, range="bytes=0-1")
    assert (looked.status_code, looked.content) == (200, b"")
    differs = {"x-correlation-id"}
    told, expected = (
        {name: value for name, value in answer.headers.items() if name not in differs}
        for answer in (looked, got)
    )
    assert told == expected


def test_without_a_media_type_it_is_plain_text_and_the_first_one_stays(api: Api) -> None:
    bare = httpx.Request("POST", f"http://api{CONTENT}", content=TEXT)
    bare.headers["authorization"] = f"Bearer {hs256()}"
    assert "content-type" not in bare.headers
    assert send(api, bare).json()["media_type"] == "text/plain; charset=utf-8"
    assert post(api, content_type="application/json").json()["media_type"].startswith("text/plain")
    assert stored_type(api, b"other", 'text/markdown;variant="a, b"') == (
        'text/markdown;variant="a, b"'
    )


def stored_type(api: Api, text: bytes, media_type: str) -> str:
    storage_id = post(api, text, content_type=media_type).json()["storage_id"]
    return api("GET", f"{CONTENT}/{storage_id}").headers["content-type"]


def send(api: Api, request: httpx.Request) -> httpx.Response:
    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.send(request)

    return asyncio.run(sent())


@pytest.mark.parametrize(
    "media_type", ["text", "text/", "/plain", "text/plain;", "text/pl\xe4in", "a/" + "b" * 255]
)
def test_a_media_type_that_is_none_is_malformed(api: Api, media_type: str) -> None:
    headers = [
        (b"Authorization", f"Bearer {hs256()}".encode()),
        (b"Content-Type", media_type.encode("latin-1")),
    ]
    answer = send(api, httpx.Request("POST", f"http://api{CONTENT}", headers=headers, content=TEXT))
    assert problem(answer) == (400, "malformed-request")
    assert answer.json()["where"] == "Content-Type"


def test_an_empty_text_is_refused(api: Api) -> None:
    answer = post(api, b"")
    assert problem(answer) == (422, "validation-failed")
    assert [(fault["location"], fault["code"]) for fault in answer.json()["errors"]] == [
        ("body", "too_short")
    ]


def chunks(count: int, read: list[int]) -> AsyncIterator[bytes]:
    async def each() -> AsyncIterator[bytes]:
        for number in range(count):
            read.append(number)
            yield b"x" * 1024

    return each()


def test_a_text_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    api = made_api(tmp_path, content_max_bytes=4096)
    assert post(api, b"x" * 4096).status_code == 201
    answer = post(api, b"y" * 4097)
    assert problem(answer) == (413, "payload-too-large")
    assert answer.json()["limit_bytes"] == 4096


def test_a_chunked_text_is_counted_while_it_is_read_and_nothing_stays(tmp_path: Path) -> None:
    api, read = made_api(tmp_path, content_max_bytes=4096), list[int]()
    answer = post(api, chunks(1000, read))
    assert problem(answer) == (413, "payload-too-large")
    assert len(read) == 5
    assert [path for path in (tmp_path / "content").rglob("*") if path.is_file()] == []
    assert post(api, chunks(4, read)).status_code == 201


def digest(text: bytes, algorithm: str = "sha-256") -> str:
    value = base64.b64encode(hashlib.new(algorithm.replace("-", ""), text).digest()).decode()
    return f"{algorithm}=:{value}:"


@pytest.mark.parametrize(
    "told",
    [
        digest(TEXT),
        f"sha-512=:AAAA:, {digest(TEXT)}",
        digest(b"other", "sha-512"),
        f"{digest(b'other')}, {digest(TEXT)}",  # the last one of a name counts
    ],
)
def test_a_true_digest_or_none_that_is_known_passes(api: Api, told: str) -> None:
    assert post(api, content_digest=told).status_code == 201


@pytest.mark.parametrize("told", [digest(b"other"), "sha-256=::", digest(TEXT)[:-6] + "A=:"])
def test_a_wrong_digest_is_refused_and_nothing_stays(api: Api, told: str) -> None:
    answer = post(api, content_digest=told)
    if answer.status_code == 422:
        (fault,) = answer.json()["errors"]
        assert fault["code"] == "invalid_digest"
    else:
        assert problem(answer) == (400, "malformed-request")
    assert not place(api).exists()


@pytest.mark.parametrize("told", ["sha-256", "sha-256=abc", "=::", "sha-256=:a:", "sha-256=:@@@@:"])
def test_a_digest_that_cannot_be_read_is_malformed(api: Api, told: str) -> None:
    answer = post(api, content_digest=told)
    assert problem(answer) == (400, "malformed-request")
    assert answer.json()["where"] == "Content-Digest"
    assert not place(api).exists()


@pytest.mark.parametrize(
    ("asked", "first", "last"),
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
def test_one_range_is_answered_alone(stored: Api, asked: str, first: int, last: int) -> None:
    answer = stored("GET", AT, range=asked)
    assert (answer.status_code, answer.content) == (206, TEXT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["content-length"] == str(last + 1 - first)
    assert answer.headers["etag"] == f'"{ID}"'


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_a_range_beyond_the_text_cannot_be_satisfied(stored: Api, asked: str) -> None:
    answer = stored("GET", AT, range=asked)
    assert problem(answer) == (416, "range-not-satisfiable")
    assert answer.json()["size_bytes"] == SIZE
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked",
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
def test_what_is_no_single_range_gets_the_whole(stored: Api, asked: str) -> None:
    answer = stored("GET", AT, range=asked)
    assert (answer.status_code, answer.content) == (200, TEXT)


def test_a_range_of_another_text_gets_the_whole(stored: Api) -> None:
    other = stored("GET", AT, range="bytes=0-1", if_range=f'"{"0" * 64}"')
    same = stored("GET", AT, range="bytes=0-1", if_range=f'"{ID}"')
    assert (other.status_code, same.status_code) == (200, 206)


@pytest.mark.parametrize("tags", [f'"{ID}"', f'W/"{ID}"', f'"x", "{ID}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_it_is_told_so(stored: Api, method: str, tags: str) -> None:
    answer = stored(method, AT, if_none_match=tags, range="bytes=0-1")
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{ID}"'
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("tags", ['"x"', ID, "", '"*"'])
def test_who_has_something_else_gets_it(stored: Api, tags: str) -> None:
    assert stored("GET", AT, if_none_match=tags).content == TEXT


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_id_is_not_found(api: Api, method: str) -> None:
    answer = api(method, AT, if_none_match="*")
    assert answer.status_code == 404
    if method == "GET":
        told = {name: answer.json()[name] for name in ("resource_type", "resource_id", "deleted")}
        assert told == {"resource_type": "content", "resource_id": ID, "deleted": False}


WRONG_IDS = [
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


@pytest.mark.parametrize("wrong", WRONG_IDS)
def test_what_is_no_id_is_refused_and_not_repeated(stored: Api, wrong: str) -> None:
    status, _ = problem(stored("GET", f"{CONTENT}/{wrong}"))
    assert status in (400, 422)
    assert stored("HEAD", f"{CONTENT}/{wrong}").status_code == status


@pytest.mark.parametrize("path", ["%2e%2e%2f%2e%2e%2fetc%2fpasswd", f"../{ID}", f"a/{ID}"])
def test_a_path_out_of_the_store_is_no_route(stored: Api, path: str) -> None:
    url = httpx.URL("http://api").copy_with(raw_path=f"{CONTENT}/{path}".encode())
    request = httpx.Request("GET", url, headers={"authorization": f"Bearer {hs256()}"})
    assert problem(send(stored, request))[0] in (404, 422)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("path", [CONTENT, AT])
def test_nothing_is_changed_or_deleted(stored: Api, method: str, path: str) -> None:
    answer = stored(method, path)
    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == ("POST" if path == CONTENT else "GET, HEAD")
    assert stored("GET", AT).status_code == 200


@pytest.mark.parametrize(
    ("role", "writes", "reads"),
    [("admin", 201, 200), ("service", 201, 200), ("auditor", 403, 200), ("nobody", 403, 403)],
)
def test_each_role_may_do_what_is_its_own(
    tmp_path: Path, role: str, writes: int, reads: int
) -> None:
    api, token = made_api(tmp_path), hs256(roles=[role])
    wrote = api("POST", CONTENT, content=TEXT, token=token, content_type="text/plain")
    assert wrote.status_code == writes
    post(api)
    assert [api(method, AT, token=token).status_code for method in ("GET", "HEAD")] == [reads] * 2


def test_a_stranger_is_refused_before_the_body_is_read(api: Api) -> None:
    read = list[int]()
    answer = api("POST", CONTENT, content=chunks(9, read), token=None)
    assert (problem(answer), read) == ((401, "unauthenticated"), [])


def test_damaged_bytes_are_never_sent(api: Api) -> None:
    post(api)
    place(api).write_bytes(TEXT[:-1])
    answer = api("GET", AT, range="bytes=0-3")
    assert problem(answer) == (502, "content-corrupt")
    assert answer.json()["storage_id"] == ID
    assert api("HEAD", AT).status_code == 502
    assert post(api).status_code == 200  # heals it
    assert api("GET", AT).content == TEXT


def test_a_folder_that_cannot_be_read_or_written_is_a_fault_of_the_store(api: Api) -> None:
    (api.folder / "content" / "sha256").write_bytes(b"")
    for answer in (post(api), api("GET", AT)):
        assert problem(answer) == (502, "content-backend-error")
        assert answer.json()["storage_id"] == ID
        assert str(api.folder) not in answer.text


def test_over_the_wire_answers_end_where_they_say(tmp_path: Path) -> None:
    api = made_api(tmp_path, content_max_bytes=100_000)
    token = {"authorization": f"Bearer {hs256()}"}
    with serving(api.app) as url, httpx.Client(base_url=url, headers=token) as client:
        assert client.post(CONTENT, content=TEXT).status_code == 201
        for _ in range(2):  # on one connection: a stray byte would break the second round
            looked = client.head(AT)
            assert (looked.status_code, looked.headers["content-length"]) == (200, str(SIZE))
            assert client.get(AT, headers={"if-none-match": f'"{ID}"'}).status_code == 304
            assert client.get(AT, headers={"range": "bytes=-2"}).content == TEXT[-2:]
        too_long = (b"x" * 1024 for _ in range(200))
        assert client.post(CONTENT, content=too_long).status_code == 413
        assert client.get(AT).content == TEXT
    assert sum(path.is_file() for path in (tmp_path / "content").rglob("*")) == 1


# A bucket that fails


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with bucket_server() as bucket:
        yield bucket


def over(store: ContentStore, folder: Path, timeout_s: float = 10) -> Api:
    """An application over this store."""
    plain = made_api(folder)
    settings = plain.app.state.dependencies.settings
    log = MemoryLog(settings.policy)
    verifier = build_verifier(settings.environment, jwt_settings(secret_key=SECRET))
    past = MemoryPast(log, settings)
    app = build_api(log, past, AsyncContentStore(store, timeout_s), verifier, settings)
    return Api(app, log, past, folder)


def test_a_bucket_serves_as_a_folder_does(bucket: Bucket, tmp_path: Path) -> None:
    api = over(ContentStore(bucket.store()), tmp_path)
    assert [post(api).status_code, post(api).status_code] == [201, 200]
    assert api("GET", AT).content == TEXT


def test_two_faults_of_a_bucket_are_not_seen_and_three_are(bucket: Bucket, tmp_path: Path) -> None:
    api = over(ContentStore(bucket.store()), tmp_path)
    bucket.faults.extend([500, 503])
    assert post(api).status_code == 201
    bucket.faults.extend([500] * 3)
    assert problem(api("GET", AT)) == (502, "content-backend-error")


def test_nobody_at_a_buckets_address_is_unavailable(tmp_path: Path) -> None:
    with bucket_server() as gone:
        pass
    answer = post(over(ContentStore(gone.store()), tmp_path))
    assert problem(answer) == (503, "content-unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_a_bucket_that_says_nothing_times_out(bucket: Bucket, tmp_path: Path) -> None:
    api = over(ContentStore(bucket.store()), tmp_path, timeout_s=0.05)
    bucket.thawed.clear()
    for answer in (post(api), api("GET", AT)):
        assert problem(answer) == (504, "content-timeout")
    bucket.thawed.set()


def test_the_api_answers_others_while_a_store_hangs(bucket: Bucket) -> None:
    store = ContentStore(bucket.store())
    bucket.thawed.clear()
    contents = AsyncContentStore(store, timeout_s=0.2)

    async def ask() -> list[object]:
        asked = [contents.get(ID) for _ in range(20)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(one) for one in asyncio.run(ask())} == {ContentTimeout}
    bucket.thawed.set()
    contents.close()


def test_requests_are_counted_by_what_became_of_them(api: Api) -> None:
    post(api)
    api("GET", AT)
    api("GET", f"{CONTENT}/{'0' * 64}")
    api("HEAD", f"{CONTENT}/x")
    place(api).write_bytes(b"damaged")
    api("GET", AT)
    counted = {
        ("upload", "success"),
        ("download", "success"),
        ("download", "not_found"),
        ("head", "failed"),
        ("download", "error"),
    }
    assert all(
        api.metric("content_operations_total", operation=operation, status=status) == 1
        for operation, status in counted
    )
