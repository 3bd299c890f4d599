"""A judge behind Anthropic's Messages API."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from processors.http_clients import sdk_http_client
from processors.judging.judges.answer import Answer, answer_of
from processors.judging.judges.judge import Answered, Block, Failed, JudgeRequest, Prompt, Reason
from processors.judging.judges.provider_calls import (
    LazyClient,
    ProviderAccess,
    nested,
    received,
    silence,
)
from processors.judging.judges.provider_responses import (
    document_of,
    member,
    name_in,
    outcome_of_text,
    usage_of,
)
from processors.judging.prompt import TEXT_ROLES
from schemas.judging_events import TokenUsage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

ADAPTER = "anthropic_messages"
TOOL = "judge"
TOOL_PURPOSE = "Records which of the two texts is better."
KEYLESS = "none"  # the SDK needs one; a gateway without keys ignores it
REQUEST_ID = "request-id"
PROBLEMS: dict[str, Reason] = {
    "refusal": "declined",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
}
UNSUPPORTED_IN_FORMATS = ("minimum", "maximum")


class AnthropicMessagesJudge:
    """Every model of one provider; the prompt names which one."""

    def __init__(self, access: ProviderAccess) -> None:
        self._client = LazyClient(lambda: _client_of(access))

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Answered | Failed:
        """Ask once; takes at most timeout_s. Raises CancelledError, and Misconfigured at the first use."""
        client = await self._client.get()
        import anthropic

        body = request_body(request.prompt)
        call = client.messages.with_streaming_response.create(
            model=body.pop("model"),
            messages=body.pop("messages"),
            max_tokens=body.pop("max_tokens", request.max_output_tokens),
            extra_body=body,  # the SDK no longer has parameters that older models take
            timeout=timeout_s,
        )
        response = await received(anthropic, call, timeout_s, REQUEST_ID)
        if isinstance(response, Failed):
            return response
        return outcome_of(response.content, response.request_id, request.prompt.model)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _client_of(access: ProviderAccess) -> "AsyncAnthropic":
    import anthropic

    silence("anthropic", "httpx2")
    return anthropic.AsyncAnthropic(
        api_key=access.key or KEYLESS,
        base_url=access.base_url,
        max_retries=0,
        http_client=sdk_http_client(
            anthropic.DefaultAsyncHttpxClient, access.base_url, access.calls_max
        ),
    )


def request_body(prompt: Prompt) -> dict[str, Any]:
    """The members of the request. What is the same in a whole run ends with a mark: up to there it is cached."""
    shared = sum(block.role not in TEXT_ROLES for block in prompt.blocks[:-1])
    body = nested(prompt.parameters)
    body |= {
        "model": prompt.model,
        "system": prompt.system,
        "messages": [
            {
                "role": "user",
                "content": [
                    _content(block, is_last_shared=number == shared)
                    for number, block in enumerate(prompt.blocks, 1)
                ],
            }
        ],
    }
    if prompt.answer_method == "tool":
        body["tools"] = [
            {"name": TOOL, "description": TOOL_PURPOSE, "input_schema": prompt.answer_schema}
        ]
        body["tool_choice"] = {
            "type": "tool",
            "name": TOOL,
            "disable_parallel_tool_use": True,
        }
    else:
        schema = _without(prompt.answer_schema, UNSUPPORTED_IN_FORMATS)
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    return body


def _content(block: Block, *, is_last_shared: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": block.text}
    return {**content, "cache_control": {"type": "ephemeral"}} if is_last_shared else content


def _without(schema: Any, names: tuple[str, ...]) -> Any:
    """A JSON schema without these keywords, at any depth."""
    if not isinstance(schema, Mapping):
        return schema
    return {name: _without(value, names) for name, value in schema.items() if name not in names}


def read_kept(content: bytes) -> Answer | None:
    """The answer in a kept response; None if it has no usable one."""
    return answer_of(outcome_of(content, None, ""))


def outcome_of(content: bytes, request_id: str | None, asked_model: str) -> Answered | Failed:
    """The outcome that a successful response stands for."""
    document = document_of(content)
    return outcome_of_text(
        _answer_in(document.get("content")),
        PROBLEMS.get(name_in(document.get("stop_reason")) or ""),
        model=name_in(document.get("model")),
        asked_model=asked_model,
        request_id=name_in(request_id) or name_in(document.get("id")),
        usage=_usage_in(document.get("usage")),
        content=content,
    )


def _answer_in(blocks: object) -> str | bytes | None:
    """The JSON of the tool's input, else that of the first text."""
    for block in blocks if isinstance(blocks, list) else ():
        if member(block, "type") == "tool_use" and member(block, "name") == TOOL:
            return orjson.dumps(member(block, "input"))
        if member(block, "type") == "text" and isinstance(member(block, "text"), str):
            text: str = member(block, "text")
            if text.lstrip().startswith("{"):
                return text
    return None


def _usage_in(usage: object) -> TokenUsage | None:
    """The token usage: the three classes of input are apart already."""
    if member(usage, "input_tokens") is None or member(usage, "output_tokens") is None:
        return None
    return usage_of(
        input_=member(usage, "input_tokens"),
        cache_write=member(usage, "cache_creation_input_tokens"),
        cache_read=member(usage, "cache_read_input_tokens"),
        output=member(usage, "output_tokens"),
        reasoning=member(usage, "output_tokens_details", "thinking_tokens"),
    )
