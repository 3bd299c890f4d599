"""One call of a provider through its SDK: whatever goes wrong becomes a value, and what is read has a limit."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from processors.judging.judges.judge import Failed
from processors.judging.judges.provider_responses import failure_of, member

MAX_RESPONSE_BYTES = 1024 * 1024
Client = TypeVar("Client", bound="Closable")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccess:
    """Where a provider is, and how to sign in. key None: it takes none; calls_max: connections at a time."""

    base_url: str
    key: str | None = field(default=None, repr=False)
    calls_max: int = 32


class StreamedResponse(Protocol):
    """A successful response of an SDK, whose body has not been read."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers; their names in any case."""
        ...

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Its body, decompressed."""
        ...


class Closable(Protocol):
    """A client of an SDK."""

    async def close(self) -> None:
        """Close its connections."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """The body of a successful response."""

    content: bytes
    request_id: str | None


class LazyClient(Generic[Client]):
    """The client of an SDK, made at its first use and in a thread: importing an SDK takes seconds."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._made: Client | None = None
        self._making = asyncio.Lock()

    async def get(self) -> Client:
        """The client. Raises Misconfigured if the environment's proxies or certificates are unusable."""
        if self._made is None:
            async with self._making:
                if self._made is None:
                    self._made = await asyncio.to_thread(self._make)
        return self._made

    async def close(self) -> None:
        """Close its connections, if it was ever used."""
        if self._made is not None:
            await self._made.close()


def silence(*loggers: str) -> None:
    """Let an SDK log warnings at most, whatever its environment variables say: Anthropic's logs whole requests."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)


def nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as members of a request: a dot in a name is one level down."""
    members: dict[str, Any] = {}
    for name, value in parameters.items():
        *parents, last = name.split(".")
        target = members
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return members


async def received(
    sdk: Any,
    call: AbstractAsyncContextManager[StreamedResponse],
    timeout_s: float,
    request_id_header: str,
) -> Received | Failed:
    """Send a call and read its response; takes at most timeout_s. sdk: the module, with the classes of its errors."""
    import httpx2

    try:
        async with asyncio.timeout(timeout_s), call as response:
            content = await _bounded(response)
            request_id = response.headers.get(request_id_header)
    except TimeoutError:
        return Failed(reason="timeout")
    except sdk.APIStatusError as fault:
        headers = fault.response.headers
        error = member(fault.body, "error") or fault.body
        return failure_of(fault.status_code, headers, error, headers.get(request_id_header))
    except (sdk.APIConnectionError, httpx2.HTTPError, OSError) as fault:
        return Failed(reason="provider_error" if _was_not_sent(fault) else "timeout")
    if content is None:
        return Failed(reason="invalid_answer", provider_request_id=request_id)
    return Received(content, request_id)


async def _bounded(response: StreamedResponse) -> bytes | None:
    """The body; None if it is too long to be an answer."""
    content = bytearray()
    async for part in response.iter_bytes():
        content += part
        if len(content) > MAX_RESPONSE_BYTES:
            return None
    return bytes(content)


def _was_not_sent(fault: BaseException | None) -> bool:
    """Whether there never was a connection; after that, nobody knows whether the call was paid."""
    import httpx2

    unsent = (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.UnsupportedProtocol,
    )
    while fault is not None:
        if isinstance(fault, unsent):
            return True
        fault = fault.__cause__
    return False
