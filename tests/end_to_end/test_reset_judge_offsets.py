"""`batches reset-offsets`: judges whose offsets have expired continue, with no batch lost or judged twice."""

import json
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaException

from processors.kafka.bounded_wait import result_of
from processors.kafka.clients import admin_client
from processors.settings import Settings
from tests.faults.running import StartWorker
from tests.support.judged_batches import (
    JUDGE,
    append_batches,
    judging_findings,
    judging_of,
    results_of,
)
from tests.support.run_command import run_json, run_text
from tests.support.until import until

RESET = ("batches", "reset-offsets")
SLOW = {"judge": "simulated/sim-1", "simulated_judge": json.dumps({"latency_s": 0.5})}


def found_by(settings: Settings, *options: str) -> dict[int, Any]:
    exit_code, document, messages = run_json(settings, *RESET, *options)
    assert exit_code == 0, messages
    return {one["partition"]: one for one in document["partitions"]}


@pytest.mark.thorough
def test_judges_without_offsets_are_refused_and_continue_once_they_are_set(
    settings: Settings, start_worker: StartWorker
) -> None:
    older = append_batches(settings, 2)  # in partitions 0 and 1, before the first judge
    judge = start_worker(command=JUDGE, session_timeout_s=6, **SLOW)
    until(lambda: judge.log_count("fetching from the committed offsets"), 60)
    run_ids = append_batches(settings, 3, first_number=4)  # in partitions 0, 1 and 2
    until(lambda: len(judging_of(settings)) == 3, 60)
    judge.kill()
    waiting = append_batches(settings, 4, first_number=8)  # fetched by nobody yet
    until(lambda: _delete_group(settings), 60)

    judge.start()
    assert judge.wait_for_exit(60) == 3
    assert "`cjstream batches reset-offsets` sets it" in judge.log_tail()
    found = found_by(settings)
    assert [found[number]["last_judged"] for number in range(4)] == [1, 1, 0, None]
    assert [found[number]["committed"] for number in range(4)] == [None] * 4
    assert [found[number]["offset"] for number in range(3)] == [2, 2, 1]
    until(lambda: run_text(settings, *RESET, "--yes")[0] == 0, 60)
    assert not any(one["was_set"] for one in found_by(settings, "--yes").values())

    judge.start()
    until(lambda: len(results_of(settings)) >= 7, 120)
    exit_code, _, message = run_text(settings, *RESET, "--yes")
    assert (exit_code, "stop all judges first" in message) == (1, True)
    judged = {result.run_id for result in results_of(settings)}
    assert {*run_ids, *waiting} <= judged
    assert not judged & {*older}
    assert {one.kind for one in judging_findings(settings)} <= {"not_judged"}


def _delete_group(settings: Settings) -> bool:
    """Delete the group, as Kafka does when its offsets have expired; False while it has a member."""
    admin = admin_client(settings)  # must stay alive until it has answered
    with suppress(KafkaException):
        result_of(admin.delete_consumer_groups([settings.judge_group])[settings.judge_group])
        return True
    return False
