"""`run preflight --probe` asks the judge before a run does: through both adapters, against a provider on loopback."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from processors.settings import Settings
from schemas.errors import CJStreamError, Misconfigured
from tests.support.judge_server import ANTHROPIC, KEY, OPENAI, Day, JudgeServer, judge_server
from tests.support.research_inputs import SCALE, research_inputs, write_files
from tests.support.run_command import environment_variables
from tools.runner.inventory import InputPaths, take_inventory
from tools.runner.manifest import RunOptions
from tools.runner.planning import PlannedRun, plan_run
from tools.runner.probe import CALLS, probe_judge
from tools.runner.run_environment import run_environment
from tools.runner.run_options import OverrideOptions

PUPILS = 2 * CALLS
PRICES = {"input": 250_000, "cache_write": 312_500, "cache_read": 25_000, "output": 2_000_000}
PATHS = {"openai_chat": OPENAI, "anthropic_messages": ANTHROPIC}
VARIABLE = "LOOPBACK_KEY"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with judge_server() as running:
        yield running


@pytest.fixture(params=PATHS)
def settings(request: pytest.FixtureRequest, server: JudgeServer, tmp_path: Path) -> Settings:
    """An installation that knows a provider on loopback, of either dialect."""
    is_openai = request.param == "openai_chat"
    model = {
        "model": "loop-1",
        "context_window": 100_000,
        "max_output_tokens": 4_000,
        "answer_method": "json_schema" if is_openai else "tool",
        "prices": PRICES,
    }
    provider = {
        "name": "loopback",
        "adapter": request.param,
        "base_url": f"{server.url}/v1" if is_openai else server.url,
        "key_variable": VARIABLE,
        "models": [model],
    }
    file = tmp_path / "models.json"
    file.write_bytes(orjson.dumps({"providers": [provider]}))
    return Settings(judge="simulated/sim-1", models_file=file, call_timeout_s=5.0)


def planned(settings: Settings, folder: Path) -> PlannedRun:
    write_files(folder / "inputs", research_inputs(0, PUPILS)[0])
    inventory = take_inventory(InputPaths().within(folder / "inputs"), SCALE)
    overrides = OverrideOptions(given={}, judge="loopback/loop-1", max_cost_usd="1")
    run = RunOptions(
        label="probe",
        batch_id="probe-1",
        assignment_id="a1",
        grade_scale=SCALE,
        course_code="research",
        language="en",
        overrides=overrides.document(),
        timeout_s=60,
    )
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    return plan_run(run, inventory, run_environment(now_ms), settings)


def probed(settings: Settings, folder: Path, key: str | None) -> str:
    with environment_variables(**{VARIABLE: key}):
        return probe_judge(planned(settings, folder), settings, datetime.now(UTC).date())


def test_ten_questions_of_the_run_are_asked_and_their_cost_is_said(
    settings: Settings, server: JudgeServer, tmp_path: Path
) -> None:
    found = probed(settings, tmp_path, KEY)
    assert found.startswith(f"{CALLS} of {CALLS} answered, ")
    assert len(server.requests) == CALLS
    spent = sum(
        getattr(one.usage, name) * price for one in server.billed for name, price in PRICES.items()
    )
    assert found.endswith(f", {spent / 10**12:.12f} USD")
    assert len({body for _, _, body in map(_hashable, server.requests)}) == CALLS


def _hashable(request: tuple[str, dict[str, str], object]) -> tuple[str, None, bytes]:
    path, _, body = request
    return path, None, orjson.dumps(body)


@pytest.mark.parametrize(
    ("key", "faults", "reason"),
    [
        ("sk-wrong", (), "10 provider_refused"),
        (KEY, ("truncated",) * CALLS, "10 truncated"),
        (KEY, ("unusable", "server_error"), "1 invalid_answer, 1 provider_error"),
    ],
)
def test_what_the_judge_does_not_answer_is_counted_by_reason(
    settings: Settings,
    server: JudgeServer,
    tmp_path: Path,
    key: str,
    faults: tuple[str, ...],
    reason: str,
) -> None:
    server.day = Day(next=[*faults])
    with pytest.raises(CJStreamError) as failed:
        probed(settings, tmp_path, key)
    counted, _, reasons = str(failed.value).partition("; ")
    assert sorted(reasons.split(", ")) == sorted(reason.split(", "))
    lost = sum(int(one.split()[0]) for one in reason.split(", "))
    assert counted.startswith(f"{CALLS - lost} of {CALLS} answered")
    assert key not in str(failed.value)


def test_without_its_key_nothing_is_asked(
    settings: Settings, server: JudgeServer, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="the key of loopback is not set here"):
        probed(settings, tmp_path, None)
    assert server.requests == []
