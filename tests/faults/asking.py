"""Questions that a test asks of its installation, from outside."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.settings import Settings
from tests.faults.checker import Findings, Terms
from tests.faults.checking import Installation, check
from tests.faults.reading import Coordinates, committed_by, ends_of
from tests.faults.running import Process
from tests.support.until import until

Answer = TypeVar("Answer")
Config = dict[str, Any]
NOBODY = SimpleNamespace(members=())


class Progress:
    """How far the requests' offsets have been committed; asks with clients that it keeps."""

    def __init__(self, settings: Settings) -> None:
        client: Config = {"bootstrap.servers": settings.bootstrap_servers, "log_level": 0}
        self._admin = AdminClient(client)
        # uncommitted: a reader of stable offsets starves beside transactions that follow each other
        uncommitted = {"group.id": settings.prep_group, "isolation.level": "read_uncommitted"}
        self._member = Consumer({**client, **uncommitted})
        topic = settings.topics.requests.name
        self._partitions = [TopicPartition(topic, one) for one in range(settings.partitions)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._member.close()

    def committed(self) -> Mapping[tuple[str, int], int]:
        """The committed offset of each partition, 0 where there is none."""
        found = answered(lambda: committed_by(self._member, self._partitions))
        return {at: max(offset, 0) for at, offset in found.items()}

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Where each partition of the requests ends."""
        level = IsolationLevel.READ_UNCOMMITTED
        return answered(lambda: ends_of(self._admin, self._partitions, level))

    def total(self) -> int:
        """The sum of the committed offsets."""
        return sum(self.committed().values())

    def is_complete(self) -> bool:
        """Whether the end of every partition has been committed."""
        so_far = self.committed()
        return all(so_far[at] >= end for at, end in self.ends().items())

    def wait_for_more(self, requests: int = 1, seconds: float = 30) -> None:
        """Wait until that many more have been committed; so many have to be coming."""
        before = self.total()
        until(lambda: self.total() >= before + requests, seconds)

    def wait_for_the_end(self, *workers: Process, seconds: float = 60) -> None:
        """Wait until everything that was sent has been committed; these workers are not to end."""
        until(lambda: self.is_complete() or any(not one.is_alive for one in workers), seconds)
        assert all(one.is_alive for one in workers)


def answer(ask: Callable[[], Answer]) -> Answer | None:
    """What the broker says, or None while it is away or a coordinator moves."""
    try:
        return ask()
    except KafkaException:
        return None


def answered(ask: Callable[[], Answer], seconds: float = 60) -> Answer:
    """What the broker says, once it does."""
    (said,) = until(lambda: answer(lambda: [ask()]) or [], seconds)
    return said


def members_of(settings: Settings, group: str) -> int:
    """How many members a consumer group has."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
    (future,) = admin.describe_consumer_groups([group], request_timeout=10).values()
    return len((answer(future.result) or NOBODY).members)


def pause(seconds: float) -> None:
    """Let time pass."""
    moment = time.monotonic() + seconds
    until(lambda: time.monotonic() >= moment, seconds + 5)


def installation_of(settings: Settings) -> Installation:
    """Where the checker looks."""
    return Installation(
        settings.bootstrap_servers,
        settings.topics,
        settings.prep_group,
        settings.fold_group,
        settings.partitions,
    )


def terms_of(settings: Settings, acknowledged: Mapping[Coordinates, int] | None = None) -> Terms:
    """What was promised, and when the sender had the broker's word for its uploads."""
    return Terms(settings.required_roles, settings.patience_s, acknowledged)


def settled(settings: Settings, seconds: float = 60) -> Findings:
    """Read everything back until nothing is wrong; the test fails where that is final, or takes too long."""
    looks = list[Findings]()

    def is_settled() -> bool:
        looks[:] = [answered(lambda: check(installation_of(settings), terms_of(settings)))]
        return looks[0].is_final or not looks[0].faults

    with suppress(AssertionError):
        until(is_settled, seconds)
    assert not looks[0].faults, str(looks[0])
    return looks[0]


def all_have_one_outcome(settings: Settings) -> Findings:
    """Read everything back; the test fails where anything is wrong."""
    found = check(installation_of(settings), terms_of(settings))
    assert not found.faults, str(found)
    return found
