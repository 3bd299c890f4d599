"""A slot: the `group.instance.id` that a process keeps across restarts, seen from the coordinator.

librdkafka says "fenced" although nobody else has the slot (librdkafka #3437). If a broker is away for longer than a
session, the client drops its member id. Until the application knows that its partitions are lost, the client sends
heartbeats without an id. The coordinator still knows the old member from its log, and takes them for a second process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer

from processors.kafka.clients import group_member
from processors.kafka.consumer_groups import member_of_slot
from processors.settings import Settings


@dataclass(frozen=True, slots=True)
class Slot:
    """What a member needs in order to join again after its client has failed."""

    member_id: Callable[[], str | None]  # of the slot's member; None: nobody. Raises Unreachable
    new_client: Callable[[], Consumer]


def slot_of(settings: Settings, group: str) -> Slot | None:
    """The slot of this process in a group; None if it has none."""
    if not settings.slot:
        return None
    return Slot(partial(member_of_slot, settings, group), partial(group_member, settings, group))
