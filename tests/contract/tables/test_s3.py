"""The content store on an S3 service that checks signatures: credentials, TLS, addresses; no secret is shown."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from processors.settings import Settings
from schemas.errors import ContentFailed, ContentUnreachable
from tables.content_store import ContentStore
from tests.support.run_command import ROOT, environment_of
from tests.support.s3_server import S3Service, s3_service

SECRET = "a secret that no output may show"
TEXT = "Bedöm argumentationen.".encode()
PUT_AND_GET = """
import sys
from processors.settings import settings_from_environment
from tables.content_store import ContentStore
store = ContentStore.open(settings_from_environment().content)
print(store.get(store.put(b"text").storage_id).decode())
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    with s3_service(tmp_path_factory.mktemp("s3")) as service:
        yield service


def settings_of(service: S3Service, prefix: str, **changes: object) -> Settings:
    return Settings(content_url=f"s3://{service.bucket}/{prefix}", s3=service.settings(**changes))


def put_and_get(settings: Settings, **variables: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a process that stores a text and reads it, with these settings in its environment."""
    return subprocess.run(
        [sys.executable, "-c", PUT_AND_GET],
        cwd=ROOT,
        env=environment_of(settings, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_text_is_stored_listed_moved_to_the_trash_restored_and_erased(
    service: S3Service,
) -> None:
    store = ContentStore.open(settings_of(service, "whole/life").content)
    stored = store.put(TEXT, "text/markdown")
    assert (store.get(stored.storage_id), store.put(TEXT).existed) == (TEXT, True)
    assert store.head(stored.storage_id).media_type == "text/markdown"
    (listed,) = store.list_texts()
    assert store.trash(listed)
    assert (list(store.list_texts()), store.get(stored.storage_id)) == ([], TEXT)
    store.restore(stored.storage_id)
    assert [text.storage_id for text in store.list_texts()] == [stored.storage_id]
    assert all(key.startswith("whole/life/") for key in service.object_keys())
    assert store.discard(stored.storage_id)
    assert service.object_keys() == []


def test_a_secret_from_a_file_signs_requests(service: S3Service, tmp_path: Path) -> None:
    settings = settings_of(service, "file")
    file = tmp_path / "secret"
    file.write_text(f"{service.secret_access_key}\n")
    done = put_and_get(
        settings, CJSTREAM_S3_SECRET_ACCESS_KEY="", CJSTREAM_S3_SECRET_ACCESS_KEY_FILE=str(file)
    )
    assert (done.stdout, done.stderr) == ("text\n", "")


def test_wrong_credentials_are_refused_and_not_shown(service: S3Service) -> None:
    settings = settings_of(service, "refused", secret_access_key=SecretStr(SECRET))
    assert SECRET not in f"{settings!r}{settings.content!r}{settings.model_dump_json()}"
    with pytest.raises(ContentFailed, match="403") as refusal:
        ContentStore.open(settings.content).put(TEXT)
    assert SECRET not in str(refusal.value)
    done = put_and_get(settings)
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr


def test_tls_needs_the_authority_of_the_service(service: S3Service) -> None:
    settings = settings_of(service, "tls", endpoint=service.https)
    with pytest.raises(ContentUnreachable, match="SSL_CERT_FILE"):
        ContentStore.open(settings.content).put(TEXT)
    done = put_and_get(settings, SSL_CERT_FILE=str(service.authority))
    assert (done.stdout, done.stderr) == ("text\n", "")


def test_the_bucket_is_in_the_path_or_before_the_host(service: S3Service) -> None:
    """The name of the second host is resolved by a proxy, which is the service itself."""
    assert put_and_get(settings_of(service, "path")).stdout == "text\n"
    settings = settings_of(service, "host", endpoint="http://s3.test", path_style=False)
    assert put_and_get(settings, HTTP_PROXY=service.http).stdout == "text\n"
    prefixes = {key.partition("/")[0] for key in service.object_keys()}
    assert {"path", "host"} <= prefixes


def test_what_the_settings_leave_open_comes_from_the_variables_of_aws(service: S3Service) -> None:
    settings = Settings(content_url=f"s3://{service.bucket}/aws")
    done = put_and_get(
        settings,
        AWS_ENDPOINT_URL=service.http,
        AWS_ALLOW_HTTP="true",
        AWS_REGION="eu-north-1",
        AWS_ACCESS_KEY_ID=service.access_key_id,
        AWS_SECRET_ACCESS_KEY=service.secret_access_key,
    )
    assert (done.stdout, done.stderr) == ("text\n", "")
    assert "AWS_ACCESS_KEY_ID" not in os.environ
