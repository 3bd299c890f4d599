"""The codec of an installation, with the schema ids of an external registry if one is configured.

Two schemas are the same if their canonical forms are equal; the id alone proves nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.registry.id_lookup import IdLookup
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import Unreachable

log = logging.getLogger("cjstream.registry")
WAIT_S = 10.0
PROCESS_WAIT_S = 60.0  # of a worker or an API process that starts


def codec_for(
    settings: Settings, wait_s: float = WAIT_S, may_wait: Callable[[], bool] = lambda: True
) -> Codec:
    """The codec of this installation, with a registry's ids if the settings name a registry.

    Waits for an unreachable registry while may_wait allows it. Raises Unreachable if the registry does not answer in
    time, Misconfigured if it refuses a released schema.
    """
    if not settings.schema_registry_url:
        return Codec()
    # loads slowly, and most installations do not need it
    from processors.registry.client import RegistryClient

    registry = RegistryClient(settings.schema_registry_url, settings.registry)
    request = partial(registry.ids, settings.topics)
    try:
        ids = request()
    except Unreachable:
        log.warning("waiting for the schema registry")
        ids = retry_while_unreachable(request, wait_s, "the schema registry", may_wait)
    log.info("using the schema registry's ids", extra={"schemas": len(ids)})
    return Codec(ids=ids, form_of=IdLookup(registry.schema, time.monotonic).form_of)


async def codec_unless_stopped(settings: Settings, is_stopping: Callable[[], bool]) -> Codec | None:
    """The codec, as soon as the schema registry answers, if there is one; None if the process stops first."""
    try:
        return await asyncio.to_thread(
            codec_for, settings, PROCESS_WAIT_S, lambda: not is_stopping()
        )
    except Unreachable:
        if is_stopping():
            return None
        raise
