"""The settings of a schema registry and of an S3 service: contradictions, secrets in files, unusable files."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from processors.registry.client import RegistryClient
from processors.registry_security import RegistrySecurity
from processors.s3_settings import S3Settings
from processors.settings import Settings
from schemas.errors import Misconfigured
from tests.support.run_command import run_main
from tools.api.server import _loggable

SECRET = "not to be shown"
REGISTRY = {
    "SCHEMA_REGISTRY_URL": "https://registry.example",
    "SCHEMA_REGISTRY_USERNAME": "cjstream",
    "SCHEMA_REGISTRY_PASSWORD": SECRET,
}
S3 = {
    "CJSTREAM_CONTENT_URL": "s3://texts/prefix",
    "CJSTREAM_S3_ENDPOINT": "https://s3.example",
    "CJSTREAM_S3_REGION": "north",
    "CJSTREAM_S3_ACCESS_KEY_ID": "key",
    "CJSTREAM_S3_SECRET_ACCESS_KEY": SECRET,
}
URL, USER, PASSWORD = "SCHEMA_REGISTRY_URL", "SCHEMA_REGISTRY_USERNAME", "SCHEMA_REGISTRY_PASSWORD"
KEY_ID, KEY_SECRET = "CJSTREAM_S3_ACCESS_KEY_ID", "CJSTREAM_S3_SECRET_ACCESS_KEY"
ENDPOINT = "CJSTREAM_S3_ENDPOINT"


def run(variables: dict[str, str | None]) -> tuple[int, str]:
    """A command with these variables: its exit code and everything that it printed."""
    given = {name: value for name, value in variables.items() if value is not None}
    exit_code, out, err = run_main(
        {"CJSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1", **given}, "topics", "list"
    )
    return exit_code, out + err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({URL: None}, f"{PASSWORD}: has no effect unless {URL} is set"),
        ({USER: None}, f"{USER}: needed: user and password go together"),
        ({PASSWORD: None}, f"{PASSWORD}: needed: user and password go together"),
        ({URL: "https://other:x@registry.example"}, f"{USER}: {URL} has a user, too"),
        (
            {URL: "http://registry.example", "SCHEMA_REGISTRY_SSL_CA_FILE": "/x"},
            f"SCHEMA_REGISTRY_SSL_CA_FILE: has no effect unless {URL} starts with https://",
        ),
        ({"SCHEMA_REGISTRY_SSL_KEY_FILE": "/x"}, "SCHEMA_REGISTRY_SSL_CERTIFICATE_FILE: needed"),
        ({"SCHEMA_REGISTRY_SSL_KEY_PASSWORD": SECRET}, "SCHEMA_REGISTRY_SSL_KEY_FILE: needed"),
        ({f"{PASSWORD}_FILE": "/x"}, f"{PASSWORD}_FILE: {PASSWORD} is set, too"),
        ({PASSWORD: None, f"{PASSWORD}_FILE": "/nowhere"}, f"{PASSWORD}_FILE: the file cannot"),
    ],
)
def test_registry_settings_that_contradict_each_other_are_named(
    changes: dict[str, str | None], named: str
) -> None:
    exit_code, printed = run({**REGISTRY, **changes})
    assert (exit_code, len(printed.splitlines())) == (2, 1), printed
    assert printed.startswith(f"cjstream: {named}")
    assert SECRET not in printed


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"CJSTREAM_CONTENT_URL": None},
            f"{KEY_ID}: has no effect unless CJSTREAM_CONTENT_URL starts with s3://",
        ),
        ({"CJSTREAM_CONTENT_URL": "gs://texts"}, f"{KEY_ID}: has no effect"),
        ({KEY_ID: None}, f"{KEY_ID}: needed: an access key and its secret go together"),
        ({KEY_SECRET: None}, f"{KEY_SECRET}: needed"),
        (
            {KEY_ID: None, KEY_SECRET: None, "CJSTREAM_S3_SESSION_TOKEN": SECRET},
            f"{KEY_ID}: needed: a session token",
        ),
        ({"AWS_SESSION_TOKEN": SECRET}, f"{KEY_ID}: AWS_SESSION_TOKEN is set, too"),
        ({"AWS_ENDPOINT_URL": "https://x"}, f"{ENDPOINT}: AWS_ENDPOINT_URL is set, too"),
        ({ENDPOINT: "s3.example"}, ENDPOINT),
        ({ENDPOINT: f"https://user:{SECRET}@s3.example"}, f"{ENDPOINT}: must be http"),
        ({ENDPOINT: "https://s3.example/texts"}, f"{ENDPOINT}: must be http"),
        ({ENDPOINT: "https://s3.example:port"}, f"{ENDPOINT}: must be http"),
        ({"CJSTREAM_S3_PATH_STYLE": "perhaps"}, "CJSTREAM_S3_PATH_STYLE"),
    ],
)
def test_s3_settings_that_contradict_each_other_are_named(
    changes: dict[str, str | None], named: str
) -> None:
    exit_code, printed = run({**S3, **changes})
    assert (exit_code, len(printed.splitlines())) == (2, 1), printed
    assert printed.startswith(f"cjstream: {named}")
    assert SECRET not in printed


@pytest.mark.thorough
@pytest.mark.parametrize("variables", [REGISTRY, S3])
def test_complete_settings_are_accepted(variables: dict[str, str | None]) -> None:
    exit_code, printed = run(variables)
    assert exit_code == 4, printed  # no broker
    assert SECRET not in printed


def test_secrets_are_in_no_dump_and_in_no_log_line() -> None:
    settings = Settings(
        schema_registry_url="https://registry.example",
        registry=RegistrySecurity(username="u", password=SecretStr(SECRET)),
        content_url="s3://texts",
        s3=S3Settings(access_key_id="k", secret_access_key=SecretStr(SECRET)),
    )
    shown = (
        f"{settings!r}{settings}{settings.model_dump_json()}{settings.content}{_loggable(settings)}"
    )
    assert SECRET not in shown
    assert settings.content.options["secret_access_key"] == SECRET


def test_a_file_that_the_registry_client_cannot_use_is_named(tmp_path: Path) -> None:
    file = tmp_path / "text.pem"
    file.write_text("no certificate")
    with pytest.raises(Misconfigured, match=r"^SCHEMA_REGISTRY_SSL_CA_FILE: not a file of PEM"):
        RegistryClient("https://registry.example", RegistrySecurity(ssl_ca_file=file))
