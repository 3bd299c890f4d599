"""Starts clients of aiokafka; unlike the library, it waits for brokers that go away meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from aiokafka.errors import KafkaConnectionError

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import count_brokers
from processors.settings import Settings
from schemas.errors import Unreachable

log = logging.getLogger("cjstream.faust")
ATTEMPTS = 10
BROKER_S = 60.0
REQUEST_S = 2.0


async def start_when_reachable(start: Callable[[], Awaitable[None]], settings: Settings) -> None:
    """Call `start`, again after every failed connection. Raises Unreachable if no broker answers in time."""
    admin = admin_client(settings)
    for _ in range(ATTEMPTS):
        try:
            return await start()
        except KafkaConnectionError as fault:
            last = fault
            log.info("waiting for a broker", extra={"reason": str(fault)})
        request = partial(count_brokers, admin, settings, REQUEST_S)
        await asyncio.to_thread(retry_while_unreachable, request, BROKER_S, "a broker")
    raise Unreachable(f"no connection with a broker: {last}") from last
