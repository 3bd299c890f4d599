"""What the brokers speak: their versions, and whether they have the group protocol that is set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, UnsupportedVersionError
from aiokafka.protocol.types import Boolean, CompactArray, Int16, Int32

from processors.kafka.admin_protocol import (
    NO_TAGS,
    TEXT,
    Prepared,
    array_of,
    message,
    run_on_client,
)
from processors.settings import Settings
from schemas.errors import Misconfigured

# its answer starts with the error code of the group: a group that does not exist has no members
DESCRIBE_GROUP = message(
    "ConsumerGroupDescribe",
    69,
    0,
    (("group_ids", CompactArray(TEXT)), ("include_authorized_operations", Boolean)),
    (
        ("throttle_time_ms", Int32),
        (
            "groups",
            array_of(
                ("error_code", Int16),
                ("error_message", TEXT),
                ("group_id", TEXT),
                ("group_state", TEXT),
                ("group_epoch", Int32),
                ("assignment_epoch", Int32),
                ("assignor_name", TEXT),
                ("members", CompactArray(Int32)),
                ("authorized_operations", Int32),
            ),
        ),
    ),
)
FETCH, DESCRIBE_TRANSACTIONS = 1, 65  # API keys
NO_CONSUMER_PROTOCOL = (
    "CJSTREAM_GROUP_PROTOCOL is consumer, but a broker does not have that protocol: it needs Kafka 4.0 or later,"
    " and `consumer` in the broker's group.coordinator.rebalance.protocols; set it to classic"
)


class Release(NamedTuple):
    """A range of Kafka releases, as a broker's versions of its messages show it."""

    name: str
    is_supported: bool


OLD = Release("older than 3.0", False)  # it cannot describe transactions
THREE = Release("3.x", True)
FOUR = Release("4.0 or later", True)  # it dropped the oldest versions of Fetch


@dataclass(frozen=True, slots=True)
class BrokerFeatures:
    """The oldest release among the brokers, and whether all have KIP-848's group protocol, `consumer`."""

    oldest: Release
    has_consumer_protocol: bool


def broker_features(settings: Settings) -> BrokerFeatures:
    """Ask every broker what it speaks. Raises Unreachable."""

    async def ask(client: AIOKafkaClient) -> BrokerFeatures:
        metadata = await client.fetch_all_metadata()
        nodes = [broker.nodeId for broker in metadata.brokers()]
        found = [await _ask_one(client, node) for node in nodes]
        order = (OLD, THREE, FOUR)
        return BrokerFeatures(
            min((one.oldest for one in found), key=order.index),
            all(one.has_consumer_protocol for one in found),
        )

    return run_on_client(settings, ask, "the brokers' versions")


async def _ask_one(client: AIOKafkaClient, node: int) -> BrokerFeatures:
    noted = _NoteVersions(DESCRIBE_GROUP([str(uuid4())], False, NO_TAGS))
    try:
        answer = (await client.send(node, noted)).to_object()
    except IncompatibleBrokerVersion:
        return BrokerFeatures(release_of(noted.versions), False)
    # a broker answers so, too, if the protocol is switched off in its configuration
    codes = {group["error_code"] for group in answer["groups"]}
    return BrokerFeatures(release_of(noted.versions), UnsupportedVersionError.errno not in codes)


class _NoteVersions(Prepared):
    """A request that notes the broker's versions of all messages."""

    versions: Mapping[int, tuple[int, int]]

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        self.versions = versions
        return super().prepare(versions)


def release_of(versions: Mapping[int, tuple[int, int]]) -> Release:
    """The release of a broker, from the lowest and highest version of each message that it knows."""
    if DESCRIBE_TRANSACTIONS not in versions:
        return OLD
    lowest_fetch, _ = versions[FETCH]
    return FOUR if lowest_fetch >= 4 else THREE


def check_group_protocol(settings: Settings) -> None:
    """Raises Misconfigured if the brokers do not have the group protocol that is set; Unreachable."""
    if (
        settings.group_protocol == "consumer"
        and not broker_features(settings).has_consumer_protocol
    ):
        raise Misconfigured(NO_CONSUMER_PROTOCOL)
