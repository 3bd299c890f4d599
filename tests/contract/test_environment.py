"""Variables of the environment that are meant for other programs: proxies, certificates, Kubernetes, libraries."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.support.http_stub import Answering, Told, answering
from tests.support.run_command import ROOT, environment_of, run_main
from tests.support.s3_stub import bucket_server
from tests.support.until import until
from tools.api_address import FILE
from tools.broker import free_port

SCALES = "GET /admin/v1/grade-scales"
PASSWORD = "s3cret"
BROKEN = {
    "no scheme": {"HTTP_PROXY": f"user:{PASSWORD}@host:port"},
    "socks": {"ALL_PROXY": f"socks5://user:{PASSWORD}@127.0.0.1:9"},
    "no address": {"https_proxy": "http://[::1"},
    "no file": {"SSL_CERT_FILE": "/no/such/file"},
    "no certificate": {"SSL_CERT_FILE": str(Path(__file__))},
}


@pytest.fixture
def api() -> Iterator[Answering]:
    with answering() as stub:
        stub.respond(SCALES, Told({"items": []}))
        yield stub


def whoami(tmp_path: Path, **variables: str) -> tuple[int, str]:
    """The exit code and the stderr of a command that calls the API."""
    environment = {
        "PATH": os.environ["PATH"],
        "CJSTREAM_ENVIRONMENT": "development",
        "CJSTREAM_DATA_DIR": str(tmp_path),
        "CJ_ADMIN_TOKEN_PATH": str(tmp_path / "token.json"),
    }
    code, _, stderr = run_main(environment | variables, "admin", "whoami", "--check")
    return code, stderr


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_sees_what_is_sent_to_this_machine(
    api: Answering, tmp_path: Path, name: str
) -> None:
    with answering() as proxy:
        code, stderr = whoami(tmp_path, CJ_ADMIN_BASE_URL=api.url, **{name: proxy.url})
    assert (code, api.routes, proxy.routes) == (0, [SCALES], []), stderr


def test_a_proxy_is_used_for_another_machine(api: Answering, tmp_path: Path) -> None:
    elsewhere = {"CJ_ADMIN_BASE_URL": "http://cjstream.example"}
    api.respond("GET http://cjstream.example/admin/v1/grade-scales", Told({"items": []}))
    code, stderr = whoami(tmp_path, HTTP_PROXY=api.url, **elsewhere)
    assert code == 0, stderr


@pytest.mark.parametrize("variables", BROKEN.values(), ids=BROKEN)
def test_a_broken_variable_is_named_and_harmless_for_this_machine(
    api: Answering, tmp_path: Path, variables: dict[str, str]
) -> None:
    (name,) = variables
    assert whoami(tmp_path, CJ_ADMIN_BASE_URL=api.url, **variables)[0] == 0
    code, stderr = whoami(tmp_path, CJ_ADMIN_BASE_URL="https://cjstream.example", **variables)
    assert (code, len(stderr.splitlines())) == (2, 1), stderr
    assert stderr.startswith(f"cjstream: {name.upper()}: ")
    assert PASSWORD not in stderr


def test_no_proxy_sees_the_texts_of_a_content_store_on_this_machine(tmp_path: Path) -> None:
    with answering() as proxy, bucket_server() as bucket:
        environment = {
            "PATH": os.environ["PATH"],
            "HTTP_PROXY": proxy.url,
            "AWS_ENDPOINT_URL": bucket.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "test",
        }
        code = (
            "import os, sys; from processors.http_clients import exempt_this_machine as e; e(os.environ);"
            "from processors.settings import Settings; from tables.content_store import ContentStore;"
            "ContentStore.open(Settings(content_url='s3://bucket').content).put(b'a text')"
        )
        command = [sys.executable, "-c", code]
        subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=60)
        assert (len(bucket.objects), proxy.routes) == (1, [])


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:9095", "udp://[fd00::1]:53"])
@pytest.mark.parametrize("name", ["API", "METRICS"])
def test_what_kubernetes_sets_for_a_service_is_passed_over(name: str, value: str) -> None:
    code = "from processors.settings import settings_from_environment as s; print(s().api_port, s().metrics_port)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, f"CJSTREAM_{name}_PORT": value},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == "9095 None\n"


def test_faust_reads_no_variable_of_other_programs() -> None:
    code = """
from processors.fold.faust_app import build_app
from processors.settings import Settings
conf = build_app(Settings()).conf
print(conf.datadir, conf.processing_guarantee, conf.broker, conf.topic_partitions)
"""
    foreign = {
        "WEB_PORT": "tcp://10.0.0.1:80",
        "APP_DATADIR": "/elsewhere",
        "PROCESSING_GUARANTEE": "exactly_once",
        "BROKER_URL": "kafka://elsewhere",
        "TOPIC_PARTITIONS": "99",
    }
    output = {
        name: subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for name, variables in {"without": {}, "with": foreign}.items()
    }
    assert output["with"] == output["without"]


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0"])
def test_the_port_of_the_api_is_the_port_that_commands_call(tmp_path: Path, host: str) -> None:
    code, stderr = whoami(tmp_path, CJSTREAM_API_HOST=host, CJSTREAM_API_PORT="9")
    at = "127.0.0.1:9" if host == "0.0.0.0" else "[::1]:9"
    assert code == 4
    assert stderr.startswith(f"cjstream: cannot reach http://{at}/admin/v1/")


@pytest.mark.parametrize("variables", [{}, {"CJSTREAM_API_PORT": "tcp://10.0.0.1:80"}])
def test_commands_of_a_data_folder_call_the_api_that_used_it_last(
    api: Answering, tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / FILE).write_text(api.url)
    assert whoami(tmp_path, **variables)[0] == 0
    assert api.routes == [SCALES]


@pytest.mark.parametrize(("caller_ignores", "ends"), [(False, True), (True, False)])
def test_a_hangup_ends_a_command_unless_its_caller_ignores_it(
    caller_ignores: bool, ends: bool
) -> None:
    code = f"""
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_{"IGN" if caller_ignores else "DFL"})
from tools.end_signals import exit_on_end_signals
exit_on_end_signals()
try:
    os.kill(os.getpid(), signal.SIGHUP)
finally:
    os.kill(os.getpid(), signal.SIGHUP)  # a second one does not interrupt the clean-up
    print("cleaned up", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    assert done.stdout == b"cleaned up\n"
    assert done.returncode == (128 + signal.SIGHUP if ends else 0)


def test_a_child_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    code = """
import subprocess, sys
from tools.processes import child_command
child = subprocess.Popen(child_command("api"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
next(line for line in child.stderr if '"API runs"' in line)
print(child.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment_of(api_settings(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not has_ended(child)
        parent.kill()
    try:
        until(lambda: has_ended(child), 30)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def has_ended(process: int) -> bool:
    """Whether this process has ended, also if nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_address_in_brackets_reaches_every_kind_of_client() -> None:
    settings = Settings(bootstrap_servers="[::1]:9092")
    from processors.fold.faust_app import build_app
    from processors.kafka.clients import aiokafka_config, common_config

    assert aiokafka_config(settings)["bootstrap_servers"] == ["[::1]:9092"]
    assert common_config(settings)["bootstrap.servers"] == "[::1]:9092"
    assert [(url.host, url.port) for url in build_app(settings).conf.broker] == [("::1", 9092)]


@pytest.mark.parametrize(("host", "is_warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_development_mode_on_an_address_that_others_reach_is_warned_of(
    tmp_path: Path, host: str, is_warned: bool
) -> None:
    settings = api_settings(tmp_path, api_host=host)
    lines = log_of_starting_api(settings)
    warnings = [line for line in lines if "everybody knows its signing key" in line]
    assert len(warnings) == is_warned, lines
    assert all(f"{host}:{settings.api_port}" in line for line in warnings)


def test_the_settings_in_the_log_have_no_credentials(tmp_path: Path) -> None:
    url = f"s3://user:{PASSWORD}@bucket/texts?token={PASSWORD}"
    lines = log_of_starting_api(api_settings(tmp_path, content_url=url))
    assert '"content":"s3"' in lines[-1]
    assert PASSWORD not in "".join(lines)


def api_settings(folder: Path, **overrides: object) -> Settings:
    """Settings of an API in development that finds no broker."""
    own = {"environment": "development", "api_port": free_port(), "data_dir": folder}
    return Settings.model_validate({**own, "bootstrap_servers": "127.0.0.1:9", **overrides})


def log_of_starting_api(settings: Settings) -> list[str]:
    """The log lines of an API process until it runs, with its settings."""
    command = [sys.executable, "-m", "tools", "api"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment_of(settings), stderr=subprocess.PIPE, text=True
    ) as api:
        assert api.stderr is not None
        lines = list[str]()
        for line in api.stderr:
            lines.append(line)
            if '"API runs"' in line:
                break
        api.kill()
    return lines
