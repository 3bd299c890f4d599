"""The format and the rules of docker-compose.yml, which no test runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from processors.settings import Settings
from tests.contract.api.calling import make_api
from tests.support.http_server import serving
from tools.api.auth.key_settings import JwtSettings
from tools.broker import ONE_NODE
from tools.jars import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
IN_THE_IMAGE = {"WORKDIR": "/app", "packages": "/usr/local"}
EXPECTED_DIFFERENCES = {
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = compose["services"]
    return services


def test_the_file_follows_the_compose_specification() -> None:
    arguments = ["--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    completed = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *arguments], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_volumes_are_named_and_do_not_hide_the_code_or_its_packages(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    for name, _, target in (mount.partition(":") for mount in mounts):
        assert name in compose["volumes"]
        assert not any(path.startswith(target) for path in IN_THE_IMAGE.values())
        assert not any(target.startswith(path) for path in IN_THE_IMAGE.values())


def test_worker_and_api_wait_for_topics_and_topics_wait_for_the_broker(
    services: dict[str, Any],
) -> None:
    assert services["topics"]["command"][:3] == ["topics", "apply", "--wait"]
    for name in ("worker", "api"):
        assert services[name]["depends_on"] == {
            "topics": {"condition": "service_completed_successfully"}
        }


def test_worker_and_api_share_only_the_content_store(services: dict[str, Any]) -> None:
    mounts = [set(services[name]["volumes"]) for name in ("worker", "api")]
    assert mounts[0] & mounts[1] == {"content:/content"}
    assert services["api"]["environment"]["CJSTREAM_CONTENT_URL"] == "file:///content"


def test_ports_are_published_only_on_the_hosts_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    api_port = Settings.model_fields["api_port"].default
    assert f"127.0.0.1:{api_port}:{api_port}" in published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_health_check_of_the_api_asks_whether_it_is_ready(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """Run the command of the health check against an application that is ready and then is not."""
    command = services["api"]["healthcheck"]["test"][1:]
    api = make_api(tmp_path)
    assert command[:2] == ["python", "-c"]
    with serving(api.app) as url:
        code = command[2].replace("http://127.0.0.1:9095", url)
        assert code != command[2]
        for is_ready, exit_code in ((True, 0), (False, 1)):
            api.log.checks["replica"] = is_ready
            completed = subprocess.run([sys.executable, "-c", code], capture_output=True)
            assert completed.returncode == exit_code


def test_long_running_services_have_a_health_check_and_are_restarted(
    services: dict[str, Any],
) -> None:
    long_running = {name: service for name, service in services.items() if name != "topics"}
    assert {service["restart"] for service in long_running.values()} == {"unless-stopped"}
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in long_running.values())
    assert services["worker"]["healthcheck"]["test"][3:] == ["tools.cli", "doctor", "--json"]


def test_images_are_pinned_and_kafka_has_the_version_of_the_embedded_broker(
    services: dict[str, Any],
) -> None:
    images = {service["image"] for service in services.values()}
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", image) for image in images)
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_broker_has_the_settings_of_the_embedded_broker(services: dict[str, Any]) -> None:
    environment = services["kafka"]["environment"]
    shared = {name: value for name, value in ONE_NODE.items() if name not in EXPECTED_DIFFERENCES}
    named = {name: f"KAFKA_{name.upper().replace('.', '_')}" for name in shared}
    assert {name: environment[variable] for name, variable in named.items()} == shared


def test_every_variable_of_our_services_is_a_setting(services: dict[str, Any]) -> None:
    known = {f"CJSTREAM_{name.upper()}" for name in Settings.model_fields}
    known |= {f"JWT_{name.upper()}" for name in JwtSettings.model_fields}
    for name in ("topics", "worker", "api"):
        assert set(services[name]["environment"]) <= {*known, "TMPDIR"}


def test_our_containers_run_with_minimal_rights(services: dict[str, Any]) -> None:
    for service in (services["topics"], services["worker"], services["api"]):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_as_an_unprivileged_user() -> None:
    lines = (ROOT / "tools" / "Dockerfile").read_text().splitlines()
    assert "USER cjstream" in lines
    assert lines.index("USER cjstream") < lines.index('ENTRYPOINT ["python", "-m", "tools.cli"]')
