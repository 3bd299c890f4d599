"""Settings: read from the environment and frozen; an error names the variable without its value."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from processors.policy import Policy
from processors.settings import BROKER_ADDRESS, Settings, settings_from_environment
from schemas.errors import Misconfigured

ROOT = Path(__file__).parents[2]
SECRET = "s3cret value"
ENDED = 2**22 + 1  # no process has this id
BAD: dict[str, list[Any]] = {
    "topic_prefix": ["with space", "å", "x" * 51, "a/b", SECRET],
    "partitions": [0, 1001, "four", SECRET],
    "audit_horizon_days": [0, 36_501, SECRET],
    "slot": ["a b", "x" * 51, "a\nb", SECRET],
    "group_protocol": ["Classic", "", SECRET],
    "session_timeout_s": [5, 301, "10s", SECRET],
    "transaction_timeout_s": [1, 901, SECRET],
    "batch_max": [0, 50_001, SECRET],
    "required_roles": ["instruction", "instructions,prompt", SECRET],
    "guests_allowed": ["perhaps", SECRET],
    "replica_cache_mb": [7, 65_537, SECRET],
    "data_dir": [7],
    "environment": ["staging", "", SECRET],
    "api_host": [""],
    "api_port": [0, 65_536, "http", SECRET],
    "metrics_port": [0, 65_536, SECRET],
    "admin_enabled": ["perhaps", SECRET],
    "require_if_match": ["perhaps", SECRET],
    "fold_timeout_s": [0, 301, "nan", SECRET],
    "write_timeout_s": [0, 301, SECRET],
    "content_max_bytes": [0, 2**27, SECRET],
    "content_timeout_s": [0, 301, SECRET],
    "rate_limit_per_minute": [-1, "many", SECRET],
    "cors_origins": ["*", "https://*.example", "example.org", "https://a.example/path", SECRET],
    "registry_auth": ["perhaps", SECRET],
}


@pytest.mark.parametrize(
    "url",
    [
        "registry:8081",
        "ftp://registry",
        "http://",
        "http://r:port",
        "http://r:65536",
        f"//{SECRET}@r",
        f"http://r/?{SECRET}",
    ],
)
def test_an_invalid_registry_url_is_refused_and_the_variable_named_without_prefix(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^SCHEMA_REGISTRY_URL: ") as refusal:
        settings_from_environment(schema_registry_url=url)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_an_invalid_value_is_refused_and_the_variable_named(name: str, value: Any) -> None:
    with pytest.raises(Misconfigured, match=f"^CJSTREAM_{name.upper()}: ") as refusal:
        settings_from_environment(**{name: value})
    assert SECRET not in str(refusal.value)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"^CJSTREAM_BATCHMAX: "):
        settings_from_environment(batchmax=5)


def test_the_defaults_are_those_of_the_design() -> None:
    settings = settings_from_environment()
    assert settings.policy == Policy(
        required=("instructions", "student_prompt"), guests_allowed=True
    )
    assert (settings.partitions, settings.audit_horizon_days, settings.session_timeout_s) == (
        4,
        400,
        10,
    )


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("", ()),
        ("instructions", ("instructions",)),
        (" judge_rubric , instructions,", ("judge_rubric", "instructions")),
    ],
)
def test_roles_are_separated_by_commas(text: str, roles: tuple[str, ...]) -> None:
    assert settings_from_environment(required_roles=text).policy.required == roles


def test_every_name_and_id_has_the_prefix() -> None:
    settings = settings_from_environment(topic_prefix="test1.", slot="b")
    names = [topic.name for topic in settings.topics.all]
    names += [settings.prep_group, settings.fold_group, settings.judge_group]
    names += [settings.worker_dir.name, settings.api_dir.name]
    assert all(name.startswith("test1.") for name in names)
    assert len(set(names)) == 18


def test_api_processes_on_different_ports_have_different_folders() -> None:
    first, second = settings_from_environment(), settings_from_environment(api_port=9096)
    assert first.api_dir != second.api_dir
    named = settings_from_environment(api_port=9096, slot="north")
    assert named.api_dir.name == "api-north"


def test_origins_are_separated_by_commas() -> None:
    settings = settings_from_environment(cors_origins="https://a.example, http://localhost:3000,")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


def test_workers_in_different_slots_have_different_folders() -> None:
    folders = {settings_from_environment(slot=slot).worker_dir for slot in ("", "a", "b")}
    assert len(folders) == 3


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        settings_from_environment().batch_max = 1  # type: ignore[misc]


def test_settings_come_from_the_environment() -> None:
    output = output_of_a_process(CJSTREAM_BATCH_MAX="7", CJSTREAM_REQUIRED_ROLES="judge_rubric")
    assert output == "7 ('judge_rubric',)"


@pytest.mark.parametrize(
    ("process", "variables", "used"),
    [
        ("running", {}, "[::1]:29092"),
        ("ended", {}, "127.0.0.1:9092"),
        ("unknown", {}, "127.0.0.1:9092"),
        ("running", {"CJSTREAM_BOOTSTRAP_SERVERS": "kafka.example:9092"}, "kafka.example:9092"),
        ("running", {"CJSTREAM_DATA_DIR": "elsewhere"}, "127.0.0.1:9092"),
    ],
)
def test_without_a_setting_the_broker_is_that_of_the_data_folder_if_it_runs(
    tmp_path: Path, process: str, variables: dict[str, str], used: str
) -> None:
    process_id = {"running": str(os.getpid()), "ended": str(ENDED), "unknown": ""}[process]
    (tmp_path / BROKER_ADDRESS).write_text(f"[::1]:29092 {process_id}\n")
    environment = {"CJSTREAM_DATA_DIR": str(tmp_path), **variables}
    code = "from processors.settings import settings_from_environment as s; print(s().bootstrap_servers)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{used}\n"


def test_an_invalid_environment_variable_is_refused_and_named() -> None:
    output = output_of_a_process(CJSTREAM_BATCH_MAX=SECRET)
    assert output.startswith("CJSTREAM_BATCH_MAX: ")
    assert SECRET not in output


def output_of_a_process(**environment: str) -> str:
    """The output of a process that reads its settings from this environment."""
    code = (
        "from processors.settings import settings_from_environment as read\n"
        "from schemas.errors import Misconfigured\n"
        "try: print(read().batch_max, read().required_roles)\n"
        "except Misconfigured as fault: print(fault)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    process = subprocess.run(
        command, check=True, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    return process.stdout.strip()


@pytest.mark.parametrize("blank", [" ", "\n", "\r\n", "\t"])
def test_blanks_and_line_breaks_around_a_value_do_not_count(blank: str) -> None:
    values: dict[str, Any] = {
        "api_port": "9096",
        "bootstrap_servers": "127.0.0.1:9092",
        "topic_prefix": "p-",
        "environment": "development",
        "guests_allowed": "false",
    }
    around: dict[str, Any] = {name: f"{blank}{value}{blank}" for name, value in values.items()}
    assert Settings(**around) == Settings(**values)
