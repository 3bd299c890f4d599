"""The rights of each process: of least size, named exactly, and as kafka-acls.sh takes them."""

import json
import shlex

import pytest

from processors.kafka.rights import PROCESSES, Process, rights_of
from processors.settings import Settings
from tests.support.run_command import run_main

SETTINGS = Settings(topic_prefix="school-", slot="one")
WRITES: dict[Process, set[str]] = {
    "worker": {
        "school-assessment.instructions.v1",
        "school-assessment.student-prompts.v1",
        "school-assessment.judge-rubrics.v1",
        "school-assessment.context.v1",
        "school-assessment.uploads.dlq.v1",
        "school-cj.requests.parked.v1",
        "school-cj.requests.dlq.v1",
        "school-cj.batches.v1",
        "school-cj.batches.unresolved.v1",
    },
    "judge": {"school-cj.judging.v1", "school-cj.results.v1"},
    "api": {
        "school-assessment.instructions.v1",
        "school-assessment.student-prompts.v1",
        "school-assessment.judge-rubrics.v1",
        "school-assessment.anchors.v1",
    },
    "auditor": set(),
    "producer": {
        "school-assessment.instructions.v1",
        "school-assessment.student-prompts.v1",
        "school-assessment.judge-rubrics.v1",
        "school-cj.requests.v1",
    },
}


@pytest.mark.parametrize("process", WRITES)
def test_a_process_may_write_only_what_it_has_to(process: Process) -> None:
    rights = rights_of(process, SETTINGS)
    written = {one.name for one in rights if one.kind == "topic" and "WRITE" in one.operations}
    assert written == WRITES[process]
    for right in rights:
        assert not {"ALTER", "CREATE", "DELETE", "CLUSTER_ACTION"} & set(right.operations)
        assert right.name.startswith("school-")
        assert not right.is_prefix


@pytest.mark.parametrize("process", PROCESSES)
def test_every_resource_is_named_once(process: Process) -> None:
    rights = rights_of(process, SETTINGS)
    assert len({(one.kind, one.name) for one in rights}) == len(rights)


def test_no_prefix_is_empty_even_without_a_prefix_and_a_slot() -> None:
    for process in PROCESSES:
        for right in rights_of(process, Settings()):
            assert not right.is_prefix or right.name.startswith("cjstream-")


def test_the_command_prints_what_kafka_takes() -> None:
    environment = {"CJSTREAM_BOOTSTRAP_SERVERS": "kafka:9093", "CJSTREAM_SLOT": "one"}
    command = ("topics", "acls", "--process", "worker", "--principal", "User:CN=a worker")
    exit_code, out, err = run_main(environment, *command)
    assert (exit_code, err) == (0, "")
    title, *lines = out.splitlines()
    assert title.startswith("# worker")
    words = [shlex.split(line) for line in lines]
    assert all(one[:6] == [*words[0][:5], "User:CN=a worker"] for one in words)
    assert words[0][:5] == [
        *("kafka-acls.sh", "--bootstrap-server", "kafka:9093"),
        *("--add", "--allow-principal"),
    ]
    exit_code, out, _ = run_main(environment, *command, "--json")
    assert len(json.loads(out)["acls"]) == len(lines)
    exit_code, _, err = run_main(environment, "topics", "acls", "--process", "cook")
    assert exit_code == 2
    assert "worker, judge, api, auditor, producer, operator" in err
