"""A provider of judges on loopback: it speaks the dialects of OpenAI and Anthropic, checks requests, and has bad days.

Of each call it notes what the provider would bill, so that a ledger can be compared with it to the pico-dollar.
"""

import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from schemas.judging_events import TokenUsage

KEY = "sk-loopback-0123456789"
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
BYTES_PER_TOKEN = 4
CACHED_FROM = 64  # tokens; the providers' own limits are higher
TEXT = re.compile(r"<text-([AB])-([0-9a-f]{16})>\n(.*?)\n</text-\1-\2>", re.DOTALL)
NUMBER = re.compile(r"\d+")
OPENAI_MEMBERS = {
    *("model", "messages", "response_format", "temperature", "max_completion_tokens"),
    *("max_tokens", "reasoning_effort", "verbosity"),
}
ANTHROPIC_MEMBERS = {
    *("model", "messages", "system", "tools", "tool_choice", "temperature", "max_tokens"),
    "output_config",
}
KNOWN = (None, "unusable", "truncated", "refusal")  # the caller gets the usage


@dataclass
class Day:
    """The faults of the provider: the probability of each fault, and the faults of the next calls, which come first.

    The faults: rate_limited, server_error, garbage (no JSON), unusable (names no winner), truncated, refusal, cut (the
    connection breaks in the response), hang (nothing comes), endless (longer than any answer).
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    next: list[str | None] = field(default_factory=list)
    retry_after: Mapping[str, str] = field(default_factory=lambda: {"retry-after": "0"})


@dataclass(frozen=True)
class Billed:
    """What a call costs: its tokens, and whether its caller can know them."""

    usage: TokenUsage
    is_known: bool


class Refused(Exception):
    """The provider finds a request wrong: status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class JudgeServer:
    """The state of the provider."""

    def __init__(self, seed: int) -> None:
        self.url = ""
        self.day = Day()
        self.moved_to: str | None = None  # every call is redirected there
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.billed: list[Billed] = []
        self.released = threading.Event()  # set: hanging calls end
        self._random = random.Random(seed)
        self._cached: set[str] = set()
        self._lock = threading.Lock()

    def call(self, path: str, headers: dict[str, str], body: Any) -> str | None:
        """Note a call; returns its fault."""
        with self._lock:
            self.requests.append((path, headers, body))
            return self._fault()

    def _fault(self) -> str | None:
        if self.day.next:
            return self.day.next.pop(0)
        left = self._random.random()
        for name, probability in self.day.probabilities.items():
            if left < probability:
                return name
            left -= probability
        return None

    def bill(self, shared: str, rest: str, output: str, fault: str | None) -> TokenUsage:
        """The tokens of a call; what the last calls had in common is read from the cache."""
        prefix, own = _tokens(shared), _tokens(rest)
        reasoning = 24
        with self._lock:
            is_cached = shared in self._cached
            self._cached.add(shared)
            is_cacheable = prefix >= CACHED_FROM
            usage = TokenUsage(
                input=own + (0 if is_cacheable else prefix),
                cache_write=prefix if is_cacheable and not is_cached else 0,
                cache_read=prefix if is_cacheable and is_cached else 0,
                output=_tokens(output) + reasoning,
                reasoning=reasoning,
            )
            self.billed.append(Billed(usage, is_known=fault in KNOWN))
        return usage


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def judgement(prompt: str) -> str:
    """The answer: the text with the higher first number is better."""
    texts = {side: text for side, _, text in TEXT.findall(prompt)}
    if set(texts) != {"A", "B"}:
        raise Refused(400, "no two texts")
    a, b = (int((NUMBER.findall(texts[side]) or ["0"])[0]) for side in "AB")
    winner = "A" if a > b else "B"
    return json.dumps({"winner": winner, "confidence": 4, "justification": "It says more."})


def openai_request(body: Any) -> tuple[str, str]:
    """The part that is the same in a run, and the rest. Raises Refused as the provider does."""
    _refuse_unknown(body, OPENAI_MEMBERS)
    if "gpt-5" in body["model"] and "temperature" in body:
        raise Refused(400, "Unsupported parameter: 'temperature' is not supported with this model.")
    form = body["response_format"]
    if form["type"] == "json_schema":
        schema = form["json_schema"]["schema"]
        if not form["json_schema"]["strict"] or schema["additionalProperties"] is not False:
            raise Refused(400, "Invalid schema for response_format")
        if set(schema["required"]) != set(schema["properties"]):
            raise Refused(400, "Invalid schema: 'required' must have every key")
    system, user = body["messages"]
    if (system["role"], user["role"]) != ("system", "user"):
        raise Refused(400, "unexpected roles")
    shared, mark, rest = user["content"].partition("<text-A-")
    return system["content"] + shared, mark + rest


def anthropic_request(body: Any) -> tuple[str, str]:
    """The same for the Messages API; what is the same in a run ends with a mark of the request."""
    _refuse_unknown(body, ANTHROPIC_MEMBERS)
    if "max_tokens" not in body:
        raise Refused(400, "max_tokens: Field required")
    if not 0 <= body.get("temperature", 1) <= 1:
        raise Refused(400, "temperature: range: 0..1")
    config = body.get("output_config", {})
    if "tools" in body:
        (tool,) = body["tools"]
        if body["tool_choice"]["name"] != tool["name"]:
            raise Refused(400, "tool_choice: no such tool")
        if "-5-5" in body["model"]:
            raise Refused(400, "tool_choice forces tool use, which is not compatible with thinking")
    elif any("minimum" in member for member in config["format"]["schema"]["properties"].values()):
        raise Refused(400, "output_config.format.schema: minimum is not supported")
    (message,) = body["messages"]
    blocks = message["content"]
    (end,) = (number for number, block in enumerate(blocks, 1) if "cache_control" in block)
    texts = [block["text"] for block in blocks]
    return body["system"] + "".join(texts[:end]), "".join(texts[end:])


def _refuse_unknown(body: Any, members: set[str]) -> None:
    if unknown := set(body) - members:
        raise Refused(400, f"{min(unknown)}: Extra inputs are not permitted")


def openai_response(body: Any, answer: str, usage: TokenUsage, fault: str | None) -> Any:
    """A chat completion, as the provider documents it."""
    message: dict[str, Any] = {"role": "assistant", "content": answer, "refusal": None}
    if fault == "refusal":
        message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
    prompt = usage.input + usage.cache_write + usage.cache_read
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": f"{body['model']}-2026-08-07",
        "choices": [
            {
                "index": 0,
                "message": {**message, "annotations": []},
                "logprobs": None,
                "finish_reason": "length" if fault == "truncated" else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": usage.output,
            "total_tokens": prompt + usage.output,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read,
                "cache_write_tokens": usage.cache_write,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
    }


def anthropic_response(body: Any, answer: str, usage: TokenUsage, fault: str | None) -> Any:
    """A message, as the provider documents it."""
    reason = {"truncated": "max_tokens", "refusal": "refusal"}.get(fault or "")
    content: list[Any] = [{"type": "text", "text": answer}]
    if "tools" in body:
        tool_use = {"type": "tool_use", "id": "toolu_01D7FLrfh4GYq7yT1ULFeyMV"}
        content = [{**tool_use, "name": body["tools"][0]["name"], "input": _json_of(answer)}]
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [] if fault == "refusal" else content,
        "stop_reason": reason or ("tool_use" if "tools" in body else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": usage.output,
            "output_tokens_details": {"thinking_tokens": usage.reasoning},
            "service_tier": "standard",
        },
    }


def _json_of(answer: str) -> Any:
    with suppress(json.JSONDecodeError):
        return json.loads(answer)
    return {}


def error_of(path: str, status: int, reason: str) -> Any:
    """The body of an error response in the dialect of the path."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        500: "api_error",
        529: "overloaded_error",
    }
    error = {"type": kinds[status], "message": reason}
    if path == ANTHROPIC:
        return {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
    return {"error": {**error, "param": None, "code": None}}


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def provider(self) -> JudgeServer:
        """The state of the provider."""
        provider: JudgeServer = self.server.provider  # type: ignore[attr-defined]
        return provider

    def do_POST(self) -> None:
        """Answer one call."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.provider.call(self.path, headers, body)
        with suppress(OSError):  # the caller is gone
            try:
                self._answer(headers, body, fault)
            except Refused as refused:
                self._send(refused.status, error_of(self.path, refused.status, str(refused)))
            except (KeyError, TypeError, ValueError) as missing:
                self._send(400, error_of(self.path, 400, f"missing: {missing}"))

    def _answer(self, headers: dict[str, str], body: Any, fault: str | None) -> None:
        if KEY not in (headers.get("x-api-key"), headers.get("authorization", "")[7:]):
            raise Refused(401, "Incorrect API key provided")
        if self.provider.moved_to:
            location = {"location": f"{self.provider.moved_to}{self.path}"}
            self._send(307, {}, location)
            return
        if fault == "rate_limited":
            status = 529 if self.path == ANTHROPIC and len(self.provider.requests) % 2 else 429
            document = error_of(self.path, status, "Slow down")
            self._send(status, document, self.provider.day.retry_after)
            return
        if fault == "server_error":
            self._send(500, error_of(self.path, 500, "The server had an error"))
            return
        if self.path == OPENAI:
            shared, rest = openai_request(body)
        elif self.path == ANTHROPIC and headers.get("anthropic-version"):
            shared, rest = anthropic_request(body)
        else:
            raise Refused(404, "no such route")
        answer = judgement(rest)
        answer = answer[:20] if fault == "truncated" else answer
        answer = '{"winner": "both"}' if fault == "unusable" else answer
        usage = self.provider.bill(shared, rest, answer, fault)
        respond = openai_response if self.path == OPENAI else anthropic_response
        if fault == "hang":
            self.provider.released.wait(60)
            self.close_connection = True
        elif fault == "endless":
            self._send(200, " " * 8_000_000)
        elif fault == "garbage":
            self._send(200, "<html>Bad gateway</html>")
        elif fault == "cut":
            self._send(200, respond(body, answer, usage, None), cut=True)
        else:
            self._send(200, respond(body, answer, usage, fault))

    def _send(
        self,
        status: int,
        document: Any,
        headers: Mapping[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> None:
        """Send a document in chunks; cut: only the first ones, and then no more."""
        content = (document if isinstance(document, str) else json.dumps(document)).encode()
        self.send_response(status)
        request_id = "request-id" if self.path == ANTHROPIC else "x-request-id"
        for name, value in {
            "Content-Type": "application/json",
            "Transfer-Encoding": "chunked",
            request_id: f"req_{len(self.provider.requests)}",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        size = max(1, len(content) // 3)
        chunks = [content[start : start + size] for start in range(0, len(content), size)]
        for chunk in chunks[:1] if cut else chunks:
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        if cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def judge_server(seed: int = 1) -> Iterator[JudgeServer]:
    """Run a provider on its own port while the block runs."""
    provider = JudgeServer(seed)
    with _Server(("127.0.0.1", 0), Handler) as server:
        server.provider = provider  # type: ignore[attr-defined]
        provider.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield provider
        finally:
            provider.released.set()
            server.shutdown()
            serving.join()
