"""Requests and responses of each provider, in the form that it documents."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.judging.judges import anthropic_messages, openai_chat
from processors.judging.judges.answer import ANSWER_SCHEMA
from processors.judging.judges.judge import Answered, Failed
from processors.judging.judges.provider_responses import failure_of, retry_after_ms
from processors.judging.prompt import AskedJudge
from schemas.judging_events import TokenUsage
from schemas.models import PUSD_PER_USD
from tables.judging.cost_ledger import cost_pusd
from tests.contract.judging.adapters import ANTHROPIC, OPENAI, request_for
from tools.models.catalogue import price_rows

ANSWER = {"winner": "B", "confidence": 4, "justification": "The argument is complete."}
# as in the reference of chat completions: created, prompt cached in part, reasoning in the completion
CHAT: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-5-mini-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": json.dumps(ANSWER),
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 256,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": None,
}
# a local server: no details, a fingerprint of its own
LOCAL: dict[str, Any] = {
    "id": "chatcmpl-512",
    "object": "chat.completion",
    "created": 1741570283,
    "model": "llama3.3:70b",
    "system_fingerprint": "fp_ollama",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": json.dumps(ANSWER)},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 812, "completion_tokens": 31, "total_tokens": 843},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [
        {
            "type": "tool_use",
            "id": "toolu_01D7FLrfh4GYq7yT1ULFeyMV",
            "name": "judge",
            "input": ANSWER,
        }
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 2095,
        "cache_creation_input_tokens": 188,
        "cache_read_input_tokens": 1024,
        "cache_creation": {"ephemeral_5m_input_tokens": 188, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 93,
        "output_tokens_details": {"thinking_tokens": 12},
        "service_tier": "standard",
    },
}


def chat(message: Any = None, **changes: Any) -> Any:
    (choice,) = CHAT["choices"]
    choice = {**choice, "message": choice["message"] | (message or {})}
    choice |= {"finish_reason": changes.pop("finish_reason", "stop")}
    return {**CHAT, "choices": [choice], **changes}


def openai_outcome(document: Any) -> Answered | Failed:
    return openai_chat.outcome_of(json.dumps(document).encode(), "req_1", "gpt-5-mini")


def anthropic_outcome(document: Any) -> Answered | Failed:
    return anthropic_messages.outcome_of(json.dumps(document).encode(), "req_1", "claude-haiku-4-5")


def test_a_chat_completion_has_four_token_classes_and_an_answer() -> None:
    answer = openai_outcome(CHAT)
    assert isinstance(answer, Answered)
    assert (answer.winner, answer.confidence) == ("second", 4)
    assert (answer.model, answer.provider_request_id) == ("gpt-5-mini-2025-08-07", "req_1")
    assert answer.response == json.dumps(CHAT).encode()
    assert answer.usage == TokenUsage(
        input=86, cache_write=0, cache_read=1920, output=300, reasoning=256
    )


def test_a_local_server_needs_no_details() -> None:
    answer = openai_outcome(LOCAL)
    assert isinstance(answer, Answered)
    assert answer.usage == TokenUsage(
        input=812, cache_write=0, cache_read=0, output=31, reasoning=0
    )


def test_what_is_written_to_the_cache_is_a_class_of_its_own() -> None:
    details = {"cached_tokens": 0, "cache_write_tokens": 1920}
    answer = openai_outcome(chat(usage=CHAT["usage"] | {"prompt_tokens_details": details}))
    assert answer.usage == TokenUsage(
        input=86, cache_write=1920, cache_read=0, output=300, reasoning=256
    )


def test_reasoning_that_only_the_total_has_is_output() -> None:
    answer = openai_outcome(chat(usage=CHAT["usage"] | {"total_tokens": 3006}))
    assert answer.usage is not None
    assert answer.usage.output == 1000


def test_a_message_has_four_token_classes_and_the_input_of_its_tool() -> None:
    answer = anthropic_outcome(MESSAGE)
    assert isinstance(answer, Answered)
    assert (answer.winner, answer.confidence) == ("second", 4)
    assert answer.model == "claude-haiku-4-5-20251001"
    assert answer.usage == TokenUsage(
        input=2095, cache_write=188, cache_read=1024, output=93, reasoning=12
    )


def test_a_message_in_a_format_has_its_answer_in_a_text_after_the_thinking() -> None:
    content = [
        {"type": "thinking", "thinking": "{hm", "signature": "EqQBCgIYAhIM"},
        {"type": "text", "text": json.dumps(ANSWER)},
    ]
    answer = anthropic_outcome({**MESSAGE, "content": content, "stop_reason": "end_turn"})
    assert isinstance(answer, Answered)
    assert answer.winner == "second"


def test_the_winner_is_read_again_from_a_kept_response() -> None:
    for read, document in (
        (openai_chat.read_kept, CHAT),
        (anthropic_messages.read_kept, MESSAGE),
    ):
        answer = read(json.dumps(document).encode())
        assert answer is not None
        assert (answer.winner, answer.confidence) == ("second", 4)
        assert read(b"<html>") is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (chat(finish_reason="length"), "truncated"),
        (chat({"content": '{"winner": "A", "conf'}, finish_reason="length"), "truncated"),
        (chat({"content": None, "refusal": "I'm sorry, I cannot."}), "declined"),
        (chat({"content": ""}, finish_reason="content_filter"), "declined"),
        (chat({"content": '{"winner": "C"}'}), "invalid_answer"),
        (chat({"content": None}), "invalid_answer"),
        (chat({"content": "A is better."}), "invalid_answer"),
        (chat(choices=[]), "invalid_answer"),
    ],
)
def test_a_completion_without_a_usable_answer_keeps_its_cost(document: Any, reason: str) -> None:
    failed = openai_outcome(document)
    assert isinstance(failed, Failed)
    assert failed.reason == reason
    assert failed.usage is not None
    assert failed.response


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stop_reason": "max_tokens"}, "truncated"),
        ({"stop_reason": "model_context_window_exceeded"}, "truncated"),
        ({"stop_reason": "refusal", "content": []}, "declined"),
        ({"content": [{"type": "text", "text": "I like both."}]}, "invalid_answer"),
        ({"content": [{"type": "tool_use", "name": "judge", "input": {}}]}, "invalid_answer"),
        ({"content": []}, "invalid_answer"),
    ],
)
def test_a_message_without_a_usable_answer_keeps_its_cost(changes: Any, reason: str) -> None:
    failed = anthropic_outcome({**MESSAGE, **changes})
    assert isinstance(failed, Failed)
    assert failed.reason == reason
    assert failed.usage is not None
    assert failed.response


@pytest.mark.parametrize(
    "usage",
    [
        None,
        7,
        {},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "9", "completion_tokens": 1},
        {"prompt_tokens": 9, "completion_tokens": 10**12},
        {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 10}},
    ],
)
def test_an_unusable_usage_is_unknown_and_not_free(usage: Any) -> None:
    answer = openai_outcome(chat(usage=usage))
    assert isinstance(answer, Answered)
    assert answer.usage is None


def test_an_error_inside_a_success_is_the_error_of_the_provider_behind_it() -> None:
    overloaded = openai_outcome({"error": {"code": 429, "message": "Rate limited upstream"}})
    unknown = openai_outcome({"error": {"message": "Provider returned error"}})
    assert isinstance(overloaded, Failed)
    assert isinstance(unknown, Failed)
    assert (overloaded.reason, unknown.reason) == ("rate_limited", "provider_error")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "message", "content", "usage", "error", "code", "model", "type"),
                    *("finish_reason", "stop_reason", "prompt_tokens", "input_tokens", "text"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_whatever_a_provider_sends_is_a_value(content: bytes) -> None:
    for outcome_of in (openai_chat.outcome_of, anthropic_messages.outcome_of):
        assert isinstance(outcome_of(content, None, "m"), Answered | Failed)


@given(st.dictionaries(st.sampled_from(["choices", "content", "usage", "stop_reason"]), JSON))
def test_a_damaged_response_is_a_value(changes: Any) -> None:
    assert isinstance(openai_outcome({**CHAT, **changes}), Answered | Failed)
    assert isinstance(anthropic_outcome({**MESSAGE, **changes}), Answered | Failed)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"type": "invalid_request_error"}, "request_refused"),
        (404, {"type": "invalid_request_error", "code": "model_not_found"}, "request_refused"),
        (422, None, "request_refused"),
        (302, None, "request_refused"),
        (401, {"code": "invalid_api_key"}, "provider_refused"),
        (402, {"type": "billing_error"}, "provider_refused"),
        (403, {"type": "permission_error"}, "provider_refused"),
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, "provider_refused"),
        (429, {"type": "rate_limit_error"}, "rate_limited"),
        (529, {"type": "overloaded_error"}, "rate_limited"),
        (500, {"type": "api_error"}, "provider_error"),
        (503, "<html>", "provider_error"),
        (408, None, "provider_error"),
    ],
)
def test_an_error_response_has_a_reason(status: int, error: Any, reason: str) -> None:
    failed = failure_of(status, {}, error, "req_1")
    assert (failed.reason, failed.http_status) == (reason, status)
    assert failed.provider_request_id == "req_1"


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20_000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after-ms": "250", "retry-after": "1"}, 250),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}, 30_000),
        ({"retry-after": DATE}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30", "date": DATE}, None),
    ],
)
def test_a_provider_says_how_long_to_wait(headers: dict[str, str], expected: int | None) -> None:
    assert retry_after_ms(headers) == expected


def test_the_request_of_a_chat_completion() -> None:
    prompt = request_for(asked=OPENAI).prompt
    assert openai_chat.request_body(prompt) == {
        "model": "gpt-5-mini",
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": "\n\n".join(block.text for block in prompt.blocks)},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "judgement", "schema": ANSWER_SCHEMA, "strict": True},
        },
        "max_completion_tokens": 400,
        "reasoning_effort": "low",
    }


def test_a_server_without_schemas_is_asked_for_an_object() -> None:
    asked = AskedJudge(
        adapter="openai_chat",
        provider="local",
        base_url=None,
        model="m",
        parameters={},
        answer_method="json_object",
    )
    body = openai_chat.request_body(request_for(asked=asked).prompt)
    assert body["response_format"] == {"type": "json_object"}


def test_the_request_of_a_message_marks_the_end_of_what_a_run_has_in_common() -> None:
    prompt = request_for(asked=ANTHROPIC).prompt
    body = anthropic_messages.request_body(prompt)
    (message,) = body["messages"]
    assert [block["text"] for block in message["content"]] == [b.text for b in prompt.blocks]
    assert [block.get("cache_control") for block in message["content"]] == [
        None,
        {"type": "ephemeral"},  # the criteria, before the first text
        None,
        None,
        None,
    ]
    assert body["tools"][0]["input_schema"] == ANSWER_SCHEMA
    assert body["tool_choice"] == {
        "type": "tool",
        "name": body["tools"][0]["name"],
        "disable_parallel_tool_use": True,
    }
    assert (body["max_tokens"], body["temperature"], "thinking" in body) == (400, 0, False)


def test_a_model_that_thinks_is_asked_for_a_format_beside_its_effort() -> None:
    asked = AskedJudge(
        adapter="anthropic_messages",
        provider="anthropic",
        base_url=None,
        model="claude-haiku-5-5",
        parameters={"max_tokens": 8000, "output_config.effort": "low"},
        answer_method="json_schema",
    )
    body = anthropic_messages.request_body(request_for(asked=asked).prompt)
    config = body["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["schema"]["properties"]["confidence"] == {"type": "integer"}
    assert config["format"]["schema"]["additionalProperties"] is False
    assert "tools" not in body


def test_a_known_call_costs_what_the_price_list_says_to_the_pico_dollar() -> None:
    prices = {row.model: row.prices for row in price_rows()}
    usage = openai_outcome(CHAT).usage
    assert usage is not None
    # 86 tokens at 0.25, 1,920 at 0.025, 300 at 2 USD a million
    assert cost_pusd(usage, prices["gpt-5-mini"]) == 21_500_000 + 48_000_000 + 600_000_000
    usage = anthropic_outcome(MESSAGE).usage
    assert usage is not None
    # 2,095 at 1, 188 at 1.25, 1,024 at 0.10, 93 at 5 USD a million
    expected = 2_095_000_000 + 235_000_000 + 102_400_000 + 465_000_000
    assert cost_pusd(usage, prices["claude-haiku-4-5"]) == expected == 0.0028974 * PUSD_PER_USD
