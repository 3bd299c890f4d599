"""Whole batches through each adapter: the judge process, a real broker, and a provider on loopback with bad days."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from processors.settings import Settings
from schemas.judging_events import CallAnswered, CallFailed, CallsIntended, TokenPrices
from tables.judging.cost_ledger import cost_pusd
from tests.faults.running import Process
from tests.support.judge_server import KEY, Day, JudgeServer, judge_server
from tests.support.judged_batches import (
    JUDGE,
    append_batches,
    judging_findings,
    judging_of,
    results_of,
)
from tests.support.override_cases import CASES, full_path, write_models_file
from tests.support.until import until

BATCHES, ESSAYS = 3, 6
STORM = {
    "rate_limited": 0.10,
    "server_error": 0.04,
    "garbage": 0.02,
    "unusable": 0.03,
    "truncated": 0.02,
    "refusal": 0.02,
    "cut": 0.03,
}
FIRST = ("garbage", "cut", "unusable", "hang")
PRICES = {"input": 250_000, "cache_write": 312_500, "cache_read": 25_000, "output": 2_000_000}
ADAPTERS: dict[str, dict[str, Any]] = {
    "openai_chat": {"path": "/v1", "answer_method": "json_schema"},
    "anthropic_messages": {"path": "", "answer_method": "tool"},
}


def models_file(folder: Path, server: JudgeServer, adapter: str) -> Path:
    """A file with the provider on loopback and one model of it."""
    file = folder / "models.json"
    model = {
        "model": "loop-1",
        "context_window": 100_000,
        "max_output_tokens": 4_000,
        "answer_method": ADAPTERS[adapter]["answer_method"],
        "prices": PRICES,
    }
    provider = {
        "name": "loopback",
        "adapter": adapter,
        "base_url": f"{server.url}{ADAPTERS[adapter]['path']}",
        "key_variable": "LOOPBACK_KEY",
        "models": [model],
    }
    file.write_bytes(orjson.dumps({"providers": [provider]}))
    return file


@contextmanager
def judge_of(
    settings: Settings, folder: Path, server: JudgeServer, adapter: str, key: str = KEY
) -> Iterator[Process]:
    """A judge process that asks the provider on loopback; its key is in a file."""
    key_file = folder / "key"
    key_file.write_text(f"{key}\n")
    own = settings.model_copy(
        update={
            "judge": "loopback/loop-1",
            "judge_first_start": "beginning",
            "models_file": models_file(folder, server, adapter),
            "call_timeout_s": 10.0,
        }
    )
    process = Process(
        own, folder / "judge.log", JUDGE, environment={"LOOPBACK_KEY_FILE": str(key_file)}
    )
    process.start()
    try:
        yield process
    finally:
        process.end()


@pytest.mark.thorough
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_batches_are_judged_and_paid_to_the_pico_dollar_through_a_storm(
    settings: Settings, tmp_path: Path, adapter: str
) -> None:
    run_ids = append_batches(settings, BATCHES, ESSAYS)
    with judge_server(seed=7) as server:
        retry_after = {"retry-after-ms": "100", "retry-after": "1"}
        server.day = Day(STORM, next=[*FIRST], retry_after=retry_after)
        with judge_of(settings, tmp_path, server, adapter) as judge:
            until(lambda: len(results_of(settings)) == BATCHES or not judge.is_alive, 120)
            assert judge.is_alive, judge.log_tail(5)
            assert judge.stop() == 0
            log = judge.log.read_text()
    results = results_of(settings)
    assert sorted(result.run_id for result in results) == sorted(run_ids)
    assert {result.outcome for result in results} <= {"complete", "partial"}
    events = [event for run in judging_of(settings).values() for event in run]
    outcomes = [event for event in events if isinstance(event, CallAnswered | CallFailed)]
    reasons = {event.reason for event in outcomes if isinstance(event, CallFailed)}
    assert {"invalid_answer", "timeout"} <= reasons
    intended = sum(len(event.calls) for event in events if isinstance(event, CallsIntended))
    assert len(server.requests) <= intended
    # what the provider bills and tells is what the log and the results say, in each token class
    recorded = Counter(_tokens(event.usage) for event in outcomes if event.usage)
    billed_tokens = Counter(_tokens(billed.usage) for billed in server.billed if billed.is_known)
    late = sum(isinstance(event, CallFailed) and event.reason == "timeout" for event in outcomes)
    assert recorded <= billed_tokens
    # some are late on a machine that is too slow to wait for an answer
    assert (billed_tokens - recorded).total() <= late
    for event in outcomes:
        if event.usage is not None:
            assert event.cost_pusd == _cost(event.usage)
    assert sum(event.usage.cache_read for event in outcomes if event.usage) > 0
    # what it bills without telling is counted at its bound, or stands in doubt
    spent = sum(
        (result.cost.spent_pusd or 0) + (result.cost.in_doubt_pusd or 0) for result in results
    )
    assert spent >= sum(_cost(billed.usage) for billed in server.billed)
    assert judging_findings(settings) == []  # winners again from the kept responses
    everything = log + json.dumps([repr(event) for event in events])
    for secret in (KEY, "Essay 1 of batch", "Judge the argument"):
        assert secret not in everything


@pytest.mark.thorough
def test_each_override_that_is_refused_is_named_in_the_result_of_its_batch(
    settings: Settings, tmp_path: Path
) -> None:
    cases = [case for case in CASES if case[1] is None]
    expected = {}
    for number, (overrides, _, path, code) in enumerate(cases):
        text = json.dumps(overrides)
        (run_id,) = append_batches(settings, 1, 2, first_number=number, overrides=text)
        expected[run_id] = (full_path(path), code)
    own = settings.model_copy(
        update={
            "judge": "openai/gpt-5-mini",
            "judge_first_start": "beginning",
            "models_file": write_models_file(tmp_path),
        }
    )
    keys = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}  # nobody is asked
    judge = Process(own, tmp_path / "judge.log", JUDGE, environment=keys)
    judge.start()
    try:
        until(lambda: len(results_of(settings)) == len(cases), 60)
    finally:
        judge.end()
    for result in results_of(settings):
        assert result.outcome == "refused"
        assert expected[result.run_id] in {(one.path, one.code) for one in result.details}


@pytest.mark.thorough
def test_a_wrong_key_fails_the_run_and_a_missing_one_the_process(
    settings: Settings, tmp_path: Path
) -> None:
    (run_id,) = append_batches(settings, 1, ESSAYS)
    with judge_server() as server:
        with judge_of(settings, tmp_path, server, "openai_chat", key="sk-wrong") as judge:
            (result,) = until(lambda: results_of(settings), 60)
        unset = Process(judge.settings, tmp_path / "unset.log", JUDGE)
        unset.start()
        assert unset.wait_for_exit(60) == 2
    assert "LOOPBACK_KEY: the key of the judge loopback/loop-1 is missing" in unset.log_tail()
    assert (result.run_id, result.outcome) == (run_id, "failed")
    assert result.reason == "provider_refused"
    assert (result.cost.spent_pusd, result.cost.in_doubt_pusd) == (0, 0)
    assert judge.log_count("sk-wrong") == 0


def _tokens(usage: Any) -> tuple[int, ...]:
    names = ("input", "cache_write", "cache_read", "output", "reasoning")
    return tuple(getattr(usage, name) for name in names)


def _cost(usage: Any) -> int:
    return cost_pusd(usage, TokenPrices(**PRICES))
