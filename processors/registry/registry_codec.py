"""A schema registry elsewhere: its ids for the released schemas, and the schemas of ids that are not known.

Schemas are the same where their canonical forms are; an id says nothing by itself.
"""

import logging
import time
from collections.abc import Callable, Mapping

from processors.kafka.bounded_wait import wait_until
from processors.registry.id_lookup import IdLookup
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import Unreachable

log = logging.getLogger("cjstream.registry")
WAIT_S = 10.0
AGAIN_S = 0.5


def codec_for(
    settings: Settings, wait_s: float = WAIT_S, goes_on: Callable[[], bool] = lambda: True
) -> Codec:
    """The codec of this installation: with a registry's ids where the settings name a registry.

    Waits for a registry that is away. Raises Unreachable where it stays away, or nothing is to go on any more;
    Misconfigured where it refuses a released schema.
    """
    if not settings.schema_registry_url:
        return Codec()
    from processors.registry.client import (
        RegistryClient,
    )  # takes its time to load, and most do without

    registry = RegistryClient(settings.schema_registry_url)

    def asked() -> Mapping[tuple[str, int], int]:
        try:
            return registry.ids(settings.topics)
        except Unreachable:
            if not goes_on():
                raise
            return {}

    ids = asked()
    if not ids:
        log.warning("waiting for the schema registry")
        ids = wait_until(asked, seconds=wait_s, what="the schema registry", every_s=AGAIN_S)
    log.info("schema ids are the registry's", extra={"schemas": len(ids)})
    return Codec(ids=ids, form_of=IdLookup(registry.schema, time.monotonic).form_of)
