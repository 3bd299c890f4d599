"""A judge behind OpenAI's chat completions, or behind one of the many servers that speak them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from processors.http_clients import sdk_http_client
from processors.judging.judges.answer import Answer, answer_of
from processors.judging.judges.judge import Answered, Failed, JudgeRequest, Prompt, Reason
from processors.judging.judges.provider_calls import (
    LazyClient,
    ProviderAccess,
    nested,
    received,
    silence,
)
from processors.judging.judges.provider_responses import (
    count_in,
    document_of,
    failure_of,
    member,
    name_in,
    outcome_of_text,
    usage_of,
)
from schemas.judging_events import TokenUsage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ADAPTER = "openai_chat"
ANSWER_NAME = "judgement"
KEYLESS = "none"  # the SDK needs one; a server without keys ignores it
REQUEST_ID = "x-request-id"
PROBLEMS: dict[str, Reason] = {"length": "truncated", "content_filter": "declined"}


class OpenAIChatJudge:
    """Every model of one provider; the prompt names which one."""

    def __init__(self, access: ProviderAccess) -> None:
        self._client = LazyClient(lambda: _client_of(access))

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Answered | Failed:
        """Ask once; takes at most timeout_s. Raises CancelledError, and Misconfigured at the first use."""
        client = await self._client.get()
        import openai

        body = request_body(request.prompt)
        call = client.chat.completions.with_streaming_response.create(
            model=body.pop("model"),
            messages=body.pop("messages"),
            extra_body=body,  # the SDK refuses parameters that it does not know
            timeout=timeout_s,
            extra_headers={"X-Client-Request-Id": str(request.call)},
        )
        response = await received(openai, call, timeout_s, REQUEST_ID)
        if isinstance(response, Failed):
            return response
        return outcome_of(response.content, response.request_id, request.prompt.model)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _client_of(access: ProviderAccess) -> "AsyncOpenAI":
    import openai

    silence("openai", "httpx2")
    return openai.AsyncOpenAI(
        api_key=access.key or KEYLESS,
        base_url=access.base_url,
        max_retries=0,
        http_client=sdk_http_client(
            openai.DefaultAsyncHttpxClient, access.base_url, access.calls_max
        ),
    )


def request_body(prompt: Prompt) -> dict[str, Any]:
    """The members of the request. What is the same in a whole run comes first: providers cache such beginnings."""
    text = "\n\n".join(block.text for block in prompt.blocks)
    return {
        "model": prompt.model,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": text},
        ],
        "response_format": _response_format(prompt),
        **nested(prompt.parameters),
    }


def _response_format(prompt: Prompt) -> dict[str, Any]:
    if prompt.answer_method == "json_object":
        return {"type": "json_object"}
    schema = {"name": ANSWER_NAME, "schema": prompt.answer_schema, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def read_kept(content: bytes) -> Answer | None:
    """The answer in a kept response; None if it has no usable one."""
    return answer_of(outcome_of(content, None, ""))


def outcome_of(content: bytes, request_id: str | None, asked_model: str) -> Answered | Failed:
    """The outcome that a successful response stands for. A gateway may put an error of its provider into one."""
    document = document_of(content)
    error = document.get("error")
    if error and not document.get("choices"):
        code = member(error, "code")
        status = code if type(code) is int and 400 <= code <= 599 else 502
        return failure_of(status, {}, error, name_in(request_id))
    choice = member(document, "choices", 0)
    problem = PROBLEMS.get(name_in(member(choice, "finish_reason")) or "")
    if member(choice, "message", "refusal"):
        problem = "declined"
    text = member(choice, "message", "content")
    return outcome_of_text(
        text if isinstance(text, str) else None,
        problem,
        model=name_in(document.get("model")),
        asked_model=asked_model,
        request_id=name_in(request_id) or name_in(document.get("id")),
        usage=_usage_in(document.get("usage")),
        content=content,
    )


def _usage_in(usage: object) -> TokenUsage | None:
    """The token usage: prompt_tokens contain what was read from the cache and written to it.

    A server may leave reasoning out of completion_tokens; then the total has it.
    """
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = (
        count_in(usage.get("prompt_tokens")),
        count_in(usage.get("completion_tokens")),
    )
    total = count_in(usage.get("total_tokens"))
    read = count_in(member(usage, "prompt_tokens_details", "cached_tokens"))
    written = count_in(member(usage, "prompt_tokens_details", "cache_write_tokens"))
    if not prompt or None in (completion, total, read, written):
        return None
    assert completion is not None
    assert total is not None
    assert read is not None
    assert written is not None
    if read + written > prompt:
        return None
    return usage_of(
        input_=prompt - read - written,
        cache_write=written,
        cache_read=read,
        output=max(completion, total - prompt),
        reasoning=member(usage, "completion_tokens_details", "reasoning_tokens"),
    )
