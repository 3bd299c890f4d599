"""A real Prometheus scrapes a running system, and evaluates every rule and the query of every panel."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from processors.settings import Settings
from tests.faults.load import DAMAGED, append, request_record, send
from tests.faults.running import StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested
from tests.support.judged_batches import JUDGE
from tests.support.monitoring_files import FOLDER, alerts, panel_queries, yaml_file
from tests.support.scraping import Scraped
from tests.support.until import until
from tools.broker import free_port

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is missing: install Debian's package prometheus",
    ),
]
API = ("-m", "tools", "api")
SERVER_S = 60
WITHOUT_HELP = {"up", "ALERTS"}  # Prometheus makes them itself


@dataclass(frozen=True)
class Prometheus:
    """A running server, asked over its HTTP API."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; the test fails if it is an error."""
        answer = httpx.get(
            f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=30
        )
        document = answer.json()
        assert document["status"] == "success", document
        return document["data"]

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def scrapes_everything(self) -> bool:
        """Whether every target has answered."""
        return all(target["health"] == "up" for target in self.ask("targets")["activeTargets"])

    def rules(self) -> list[Any]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


def config_of(targets: dict[str, list[str]]) -> dict[str, Any]:
    """The product's configuration with these targets, and once a second instead of every 15 s."""
    config: dict[str, Any] = yaml_file("prometheus.yml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs.keys() == targets.keys()
    for name, addresses in targets.items():
        jobs[name]["static_configs"] = [{"targets": addresses}]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    return config


@pytest.fixture
def system(settings: Settings, start_worker: StartWorker) -> dict[str, list[str]]:
    """The addresses of a worker, a judge and an API that are ready."""
    ports = {name: free_port() for name in ("worker", "judge", "api")}
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    start_worker("one", worker_metrics_address=addresses["worker"])
    judge = {"judge": "simulated/sim-1", "judge_first_start": "beginning"}
    start_worker("judge", JUDGE, judge_metrics_address=addresses["judge"], **judge)
    start_worker("api", API, api_port=ports["api"], environment="development")
    for address in addresses.values():
        Scraped(address).wait_until_ready()
    return {name: [address] for name, address in addresses.items()}


@pytest.fixture
def prometheus(system: dict[str, list[str]], tmp_path: Path) -> Iterator[Prometheus]:
    config, log = tmp_path / "prometheus.yml", tmp_path / "prometheus.log"
    YAML(typ="safe").dump(config_of(system), config)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: running.is_ready() or server.poll() is not None, SERVER_S)
        assert server.poll() is None, log.read_text()
        until(running.scrapes_everything, SERVER_S)
        yield running
    finally:
        server.terminate()
        server.wait(SERVER_S)


def test_every_rule_and_panel_is_evaluated_and_alerts_fire_for_what_happens(
    prometheus: Prometheus, settings: Settings, system: dict[str, list[str]]
) -> None:
    # read once more, so that each has been scraped at least twice before something happens
    until(
        lambda: prometheus.ask("query", query="count_over_time(cj_worker_ready[1m]) > 1")["result"],
        SERVER_S,
    )
    send(settings, instructions_uploaded(), prompt_uploaded("Compare."))
    send(settings, requested())
    append(settings, [request_record(settings, DAMAGED[1], "damaged")])

    known = prometheus.ask("metadata").keys() | WITHOUT_HELP
    for query in [*alerts(), *panel_queries("prometheus")]:
        prometheus.ask("query", query=query.expression)  # fails on an error
        for metric in query.metrics:
            family = re.sub(r"_(bucket|sum|count)$", "", metric)
            assert {metric, family} & known, f"{query.name} reads {metric}, which nobody has"

    def firing() -> set[str]:
        return {
            alert["labels"]["alertname"]
            for alert in prometheus.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    worker = Scraped(system["worker"][0])
    until(lambda: worker.value("cj_worker_dead_letters_total") == 1, SERVER_S)
    # the essays of the request are texts that nobody stored, so its batch is not judged
    until(lambda: firing() == {"CjstreamDeadLetters", "CjstreamJudgingFails"}, SERVER_S)
    rules = until(
        lambda: [one for one in prometheus.rules() if one["health"] != "unknown"], SERVER_S
    )
    assert {one["name"] for one in rules} == {alert.name for alert in alerts()}
    assert [one["lastError"] for one in rules if one.get("lastError")] == []
