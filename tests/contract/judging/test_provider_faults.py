"""A provider's bad days over real HTTP: what each fault is called, what it may cost, and what must not be shown."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from processors.judging.judges.anthropic_messages import AnthropicMessagesJudge
from processors.judging.judges.judge import Answered, Failed, Judge
from processors.judging.judges.openai_chat import OpenAIChatJudge
from processors.judging.judges.provider_calls import ProviderAccess
from processors.judging.prompt import AskedJudge
from tests.contract.judging.adapters import ANTHROPIC, OPENAI, access_to, request_for
from tests.support.judge_server import KEY, Day, JudgeServer, judge_server
from tests.support.run_command import ROOT

Make = Callable[[ProviderAccess], Judge]
PROVIDERS: dict[str, tuple[Make, AskedJudge, str]] = {
    "openai": (OpenAIChatJudge, OPENAI, "/v1"),
    "anthropic": (AnthropicMessagesJudge, ANTHROPIC, ""),
}
LIVE = {
    "openai": ("OPENAI_API_KEY", "https://api.openai.com/v1", OPENAI),
    "anthropic": ("ANTHROPIC_API_KEY", "https://api.anthropic.com", ANTHROPIC),
}


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ask(provider: str, access: ProviderAccess, timeout_s: float = 60) -> Answered | Failed:
    make, asked, _ = PROVIDERS[provider]

    async def once() -> Answered | Failed:
        judge = make(access)
        outcome = await judge.ask(request_for(asked=asked), timeout_s)
        await judge.close()
        return outcome

    return asyncio.run(once())


def outcome_on(provider: str, day: Day, prepare: Callable[[JudgeServer], Any] = id) -> Any:
    """The outcome of one call on such a day of the provider."""
    with judge_server() as server:
        server.day = day
        prepare(server)
        return ask(provider, access_to(server, PROVIDERS[provider][2]))


@pytest.mark.parametrize(
    ("fault", "reason", "is_in_doubt", "has_usage"),
    [
        ("garbage", "invalid_answer", False, False),
        ("unusable", "invalid_answer", False, True),
        ("truncated", "truncated", False, True),
        ("refusal", "declined", False, True),
        ("cut", "timeout", True, False),
        ("server_error", "provider_error", False, False),
        ("rate_limited", "rate_limited", False, False),
    ],
)
def test_each_fault_has_its_reason(
    provider: str, fault: str, reason: str, is_in_doubt: bool, has_usage: bool
) -> None:
    failed = outcome_on(provider, Day(next=[fault]))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.is_in_doubt) == (reason, is_in_doubt)
    assert (failed.usage is not None) == has_usage


def test_a_call_is_never_repeated_by_the_sdk(provider: str) -> None:
    with judge_server() as server:
        server.day = Day(next=["server_error", "rate_limited", "cut"])
        for calls in (1, 2, 3):
            assert isinstance(ask(provider, access_to(server, PROVIDERS[provider][2])), Failed)
            assert len(server.requests) == calls


def test_the_provider_is_told_the_key_and_a_wrong_one_stops_the_run(provider: str) -> None:
    with judge_server() as server:
        access = ProviderAccess(base_url=f"{server.url}{PROVIDERS[provider][2]}", key="sk-wrong")
        failed = ask(provider, access)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.http_status) == ("provider_refused", 401)
    assert "sk-wrong" not in repr((access, failed))


def test_a_server_that_is_not_there_costs_nothing(provider: str) -> None:
    with judge_server() as server:
        access = access_to(server, PROVIDERS[provider][2])
    failed = ask(provider, access)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.is_in_doubt) == ("provider_error", False)


def test_a_redirect_is_not_followed_to_another_server(provider: str) -> None:
    with judge_server() as elsewhere:

        def redirect(server: JudgeServer) -> None:
            server.moved_to = elsewhere.url

        failed = outcome_on(provider, Day(), redirect)
        assert elsewhere.requests == []
    assert failed.reason == "request_refused"


def test_a_response_without_an_end_is_read_up_to_a_limit(provider: str) -> None:
    failed = outcome_on(provider, Day(next=["endless"]))
    assert (failed.reason, failed.usage, failed.response) == ("invalid_answer", None, None)


LOGGED = """
import asyncio, sys
from tests.contract.judging.test_provider_faults import ask, Day
from tests.contract.judging.adapters import access_to
from tests.support.judge_server import judge_server
from tools.logs import log_to_stderr
log_to_stderr()
import logging
logging.getLogger().setLevel(logging.DEBUG)
with judge_server() as server:
    server.day = Day(next=["server_error"])
    ask(sys.argv[1], access_to(server, sys.argv[2]))
    ask(sys.argv[1], access_to(server, sys.argv[2]))
print(len(server.requests))
"""


def test_no_text_and_no_key_is_logged_whatever_the_environment_of_the_sdk_says(
    provider: str,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOGGED, provider, PROVIDERS[provider][2]],
        cwd=ROOT,
        env={
            **os.environ,
            "OPENAI_LOG": "debug",
            "ANTHROPIC_LOG": "debug",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "2\n"
    for secret in ("läxor", "l\\u00e4xor", "argumentationen", KEY):
        assert secret not in ended.stderr


@pytest.mark.parametrize("name", LIVE)
def test_live_a_real_provider_answers(name: str) -> None:
    variable, base_url, asked = LIVE[name]
    key = os.environ.get(variable)
    if not key or not os.environ.get("CJSTREAM_LIVE_TESTS"):
        pytest.skip(f"asks {name} for money: set CJSTREAM_LIVE_TESTS=1 and {variable}")
    logging.getLogger().setLevel(logging.WARNING)
    outcome = ask(name, ProviderAccess(base_url=base_url, key=key), 60)
    assert isinstance(outcome, Answered), outcome
    assert outcome.usage is not None
    assert outcome.model.startswith(asked.model)
