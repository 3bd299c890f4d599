"""The format and the rules of docker-compose.yml, which no test runs."""

import re
import socket
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from processors.monitoring.metrics_server import MetricsServer, Served
from processors.settings import Settings
from tests.contract.api.calling import make_api
from tests.support.http_server import serving
from tests.support.monitoring_files import dashboards, yaml_file
from tools.api.auth.key_settings import JwtSettings
from tools.broker import ONE_NODE, Broker, free_port
from tools.jars import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
WORKERS = ("worker-1", "worker-2")
LONG_RUNNING = (*WORKERS, "judge", "api")  # of ours
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
    mounts = [
        mount
        for name, service in services.items()
        for mount in service.get("volumes", ())
        if not (name == "alloy" and mount.startswith("/var/run/docker.sock:"))
    ]
    for name, _, target in (mount.partition(":") for mount in mounts):
        assert name in compose["volumes"]
        assert not any(path.startswith(target) for path in IN_THE_IMAGE.values())
        assert not any(target.startswith(path) for path in IN_THE_IMAGE.values())


def test_our_processes_wait_for_topics_and_topics_wait_for_the_broker(
    services: dict[str, Any],
) -> None:
    assert services["topics"]["command"][:3] == ["topics", "apply", "--wait"]
    for name in LONG_RUNNING:
        assert services[name]["depends_on"] == {
            "topics": {"condition": "service_completed_successfully"}
        }


def test_our_processes_share_only_the_content_store(services: dict[str, Any]) -> None:
    mounts = [set(services[name]["volumes"]) for name in LONG_RUNNING]
    for one, other in combinations(mounts, 2):
        assert one & other == {"content:/content"}
    assert services["api"]["environment"]["CJSTREAM_CONTENT_URL"] == "file:///content"


def test_ports_are_published_only_on_the_hosts_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    api_port = Settings.model_fields["api_port"].default
    assert f"127.0.0.1:{api_port}:{api_port}" in published
    assert all(port.startswith("127.0.0.1:") for port in published)


def check_of(services: dict[str, Any], name: str, url: str) -> int:
    """The exit code of a service's health check, which asks this URL instead of its own port."""
    command = services[name]["healthcheck"]["test"][1:]
    assert command[:2] == ["python", "-c"]
    code = re.sub(r"http://127\.0\.0\.1:\d+", url, command[2])
    assert code != command[2]
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode


def test_the_health_check_of_the_api_asks_whether_it_is_ready(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """Run the command of the health check against an application that is ready and then is not."""
    api = make_api(tmp_path)
    with serving(api.app) as url:
        for is_ready, exit_code in ((True, 0), (False, 1)):
            api.log.checks["replica"] = is_ready
            assert check_of(services, "api", url) == exit_code


def test_the_health_checks_of_workers_and_judge_ask_whether_they_are_ready(
    services: dict[str, Any],
) -> None:
    checks = {"replica": True}
    served = Served(CollectorRegistry(), dict, lambda: checks)
    server = MetricsServer("127.0.0.1:0", served, setting="")
    server.start()
    for checks["replica"], exit_code in ((True, 0), (False, 1)):
        for name in (*WORKERS, "judge"):
            url = f"http://127.0.0.1:{server.port}"
            assert check_of(services, name, url) == exit_code
            kind = name.partition("-")[0].upper()
            port = services[name]["environment"][f"CJSTREAM_{kind}_METRICS_ADDRESS"].split(":")[1]
            assert f":{port}/readyz" in services[name]["healthcheck"]["test"][3]
    server.close()


def test_long_running_services_have_a_health_check_and_are_restarted(
    services: dict[str, Any],
) -> None:
    long_running = {name: it for name, it in services.items() if name not in ("topics", "runner")}
    assert {service["restart"] for service in long_running.values()} == {"unless-stopped"}
    checks = {name: service["healthcheck"] for name, service in long_running.items()}
    assert checks.pop("loki") == {"disable": True}
    assert all(check["test"][0] == "CMD" for check in checks.values())


def shell_of(command: list[str]) -> str:
    """The script of `bash -c`, as Compose passes it to the container."""
    assert command[0] == "bash"
    return command[2].replace("$$", "$")


def is_healthy(services: dict[str, Any], port: int) -> bool:
    """What the broker's health check says of a broker on this port."""
    script = shell_of(services["kafka"]["healthcheck"]["test"][1:])
    assert "/9092" in script
    asked = ["bash", "-c", script.replace("/9092", f"/{port}")]
    return subprocess.run(asked, capture_output=True, timeout=60).returncode == 0


@pytest.mark.thorough
def test_the_health_check_of_the_broker_needs_an_answer_of_kafka(
    services: dict[str, Any], broker: Broker
) -> None:
    port = int(broker.bootstrap.rpartition(":")[2])
    assert is_healthy(services, port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        thread = threading.Thread(target=lambda: silent.accept()[0].close())
        thread.start()
        assert not is_healthy(services, silent_port)  # the port is open, and nobody answers
        thread.join()
    assert not is_healthy(services, free_port())


def test_each_installation_has_a_cluster_id_of_its_own_which_it_keeps(
    services: dict[str, Any], tmp_path: Path
) -> None:
    script = shell_of(services["kafka"]["command"])
    start = "exec /etc/kafka/docker/run"
    assert start in script

    def started(folder: str) -> str:
        data = tmp_path / folder
        data.mkdir(exist_ok=True)
        here = script.replace("/var/lib/kafka/data", str(data)).replace(
            start, "printenv CLUSTER_ID"
        )
        return subprocess.run(
            ["bash", "-ec", here], capture_output=True, text=True, check=True
        ).stdout

    first = started("one")
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}\n", first)
    assert started("one") == first
    assert started("two") != first


def test_files_of_configs_exist_and_every_dashboard_is_provisioned(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    files = {name: ROOT / config["file"] for name, config in compose["configs"].items()}
    assert all(path.is_file() for path in files.values())
    used = {config["source"] for one in services.values() for config in one.get("configs", ())}
    assert used == files.keys()
    provider = YAML(typ="safe").load(files["dashboards.yml"])["providers"][0]
    folder = provider["options"]["path"]
    provisioned = {
        config["source"]
        for config in services["grafana"]["configs"]
        if config["target"].startswith(f"{folder}/")
    }
    assert provisioned == {f"{name}.json" for name in dashboards()}


def test_prometheus_scrapes_the_services_at_the_addresses_that_they_have(
    services: dict[str, Any],
) -> None:
    jobs = yaml_file("prometheus.yml")["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {
        "worker": [f"{name}:9096" for name in WORKERS],
        "judge": ["judge:9096"],
        "api": ["api:9095"],
    }


def test_images_are_pinned_and_kafka_has_the_version_of_the_embedded_broker(
    services: dict[str, Any],
) -> None:
    images = {service["image"] for service in services.values()}
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", image) for image in images)
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_broker_has_the_settings_of_the_embedded_broker(services: dict[str, Any]) -> None:
    environment = services["kafka"]["environment"]
    shared = {name: value for name, value in ONE_NODE.items() if name not in EXPECTED_DIFFERENCES}
    named = {name: f"KAFKA_{name.upper().replace('.', '_')}" for name in shared}
    assert {name: environment[variable] for name, variable in named.items()} == shared


def test_every_variable_of_our_services_is_a_setting(services: dict[str, Any]) -> None:
    known = {f"CJSTREAM_{name.upper()}" for name in Settings.model_fields}
    known |= {f"JWT_{name.upper()}" for name in JwtSettings.model_fields}
    for name in ("topics", *LONG_RUNNING):
        assert set(services[name]["environment"]) <= {*known, "TMPDIR"}


def test_containers_run_with_minimal_rights(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert (
            service.get("read_only") is True or name == "kafka"
        )  # its image writes its configuration
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert re.fullmatch(r"\d+:\d+", service["user"])
        assert service["user"] != "0:0" or name == "alloy"  # root's socket
        assert service["mem_limit"]
        assert service["pids_limit"] <= 1024


def test_log_files_are_rotated(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_the_image_runs_as_an_unprivileged_user_that_a_platform_can_check(
    services: dict[str, Any],
) -> None:
    lines = (ROOT / "tools" / "Dockerfile").read_text().splitlines()
    user = f"USER {services['api']['user']}"
    assert lines.index(user) < lines.index('ENTRYPOINT ["python", "-m", "tools"]')
