"""docker-compose.yml, which no test runs: its shape, and the rules that it must keep."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from processors.settings import Settings
from tests.contract.api.calling import made_api
from tests.support.http_server import serving
from tools.api.auth.key_settings import JwtSettings
from tools.broker import ONE_NODE
from tools.jars import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
IN_THE_IMAGE = {"WORKDIR": "/app", "packages": "/usr/local"}
LAID_OUT_DIFFERENTLY = {
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
    found: dict[str, Any] = compose["services"]
    return found


def test_the_file_has_the_shape_of_the_compose_specification() -> None:
    check = ["--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *check], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_volumes_are_named_and_none_hides_the_code_or_its_packages(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    for name, _, target in (mount.partition(":") for mount in mounts):
        assert name in compose["volumes"]
        assert not any(inside.startswith(target) for inside in IN_THE_IMAGE.values())
        assert not any(target.startswith(inside) for inside in IN_THE_IMAGE.values())


def test_worker_and_api_wait_for_topics_that_wait_for_the_broker(services: dict[str, Any]) -> None:
    assert services["topics"]["command"][:3] == ["topics", "apply", "--wait"]
    for name in ("worker", "api"):
        assert services[name]["depends_on"] == {
            "topics": {"condition": "service_completed_successfully"}
        }


def test_both_see_one_content_store_and_each_has_its_own_data(services: dict[str, Any]) -> None:
    mounts = [set(services[name]["volumes"]) for name in ("worker", "api")]
    assert mounts[0] & mounts[1] == {"content:/content"}
    assert services["api"]["environment"]["CJSTREAM_CONTENT_URL"] == "file:///content"


def test_the_host_publishes_everything_to_itself_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    port = Settings.model_fields["api_port"].default
    assert f"127.0.0.1:{port}:{port}" in published
    assert all(one.startswith("127.0.0.1:") for one in published)


def test_the_api_is_asked_whether_it_is_ready(services: dict[str, Any], tmp_path: Path) -> None:
    """The check's own words, at an application that is ready and then is not."""
    command = services["api"]["healthcheck"]["test"][1:]
    api = made_api(tmp_path)
    assert command[:2] == ["python", "-c"]
    with serving(api.app) as url:
        here = command[2].replace("http://127.0.0.1:9095", url)
        assert here != command[2]
        for is_ready, exit_code in ((True, 0), (False, 1)):
            api.log.checks["replica"] = is_ready
            ended = subprocess.run([sys.executable, "-c", here], capture_output=True)
            assert ended.returncode == exit_code


def test_what_keeps_running_has_a_health_check_and_is_restarted(services: dict[str, Any]) -> None:
    lasting = {name: service for name, service in services.items() if name != "topics"}
    assert {service["restart"] for service in lasting.values()} == {"unless-stopped"}
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in lasting.values())
    assert services["worker"]["healthcheck"]["test"][3:] == ["tools.cli", "doctor", "--json"]


def test_images_are_pinned_and_kafka_is_the_embedded_release(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()}
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", image) for image in images)
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_broker_has_the_embedded_ones_settings(services: dict[str, Any]) -> None:
    given = services["kafka"]["environment"]
    same = {name: value for name, value in ONE_NODE.items() if name not in LAID_OUT_DIFFERENTLY}
    named = {name: f"KAFKA_{name.upper().replace('.', '_')}" for name in same}
    assert {name: given[variable] for name, variable in named.items()} == same


def test_every_variable_of_ours_is_a_setting(services: dict[str, Any]) -> None:
    known = {f"CJSTREAM_{name.upper()}" for name in Settings.model_fields}
    known |= {f"JWT_{name.upper()}" for name in JwtSettings.model_fields}
    for name in ("topics", "worker", "api"):
        assert set(services[name]["environment"]) <= {*known, "TMPDIR"}


def test_containers_of_ours_gain_no_rights(services: dict[str, Any]) -> None:
    for service in (services["topics"], services["worker"], services["api"]):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_as_nobody_special() -> None:
    lines = (ROOT / "tools" / "Dockerfile").read_text().splitlines()
    assert "USER cjstream" in lines
    assert lines.index("USER cjstream") < lines.index('ENTRYPOINT ["python", "-m", "tools.cli"]')
