"""Requests that librdkafka has no calls for: defined from Kafka's protocol guide, and sent by aiokafka's client."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Schema, TaggedFields

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S
from processors.kafka.clients import aiokafka_config
from processors.settings import Settings
from schemas.errors import Unreachable

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a command prints only its own lines
T = TypeVar("T")
Fields = tuple[tuple[str, Any], ...]
TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)
NO_TAGS: dict[int, bytes] = {}


def array_of(*fields: tuple[str, Any]) -> CompactArray:
    """The type of an array of structs."""
    return CompactArray(*fields, TAGS)


def message(name: str, key: int, version: int, request: Fields, response: Fields) -> Any:
    """The request class of one version of a message; aiokafka finds the response class in it."""
    both = {"API_KEY": key, "API_VERSION": version}
    answer = type(f"{name}Response", (Response,), {**both, "SCHEMA": Schema(*response, TAGS)})
    own = {"FLEXIBLE_VERSION": True, "RESPONSE_TYPE": answer, "SCHEMA": Schema(*request, TAGS)}
    return type(f"{name}Request", (RequestStruct,), {**both, **own})


class Prepared:
    """A request as aiokafka's client takes it: a struct, once the versions of a broker are known."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """The struct. Raises IncompatibleBrokerVersion if the broker does not know the message."""
        low, high = versions.get(self._request.API_KEY, (0, -1))
        if not low <= self._request.API_VERSION <= high:
            raise IncompatibleBrokerVersion(f"{type(self._request).__name__}: Kafka is too old")
        return self._request


def run_on_client(
    settings: Settings, work: Callable[[AIOKafkaClient], Awaitable[T]], what: str
) -> T:
    """Run requests on a new client. Raises Unreachable, naming `what`, if no broker answers."""

    async def connected() -> T:
        client = AIOKafkaClient(**aiokafka_config(settings))
        try:
            await client.bootstrap()
            return await work(client)
        finally:
            await client.close()

    try:
        return asyncio.run(asyncio.wait_for(connected(), 3 * REQUEST_TIMEOUT_S))
    except (KafkaError, OSError, TimeoutError) as fault:
        reason = str(fault) or type(fault).__name__
        raise Unreachable(f"{what} cannot be read: {reason[:200]}") from fault
