"""What a test can query or wait for in its installation, with clients of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.settings import Settings
from tests.faults.checker import Findings, Terms
from tests.faults.checking import Installation, check
from tests.faults.reading import Coordinates, committed_offsets, end_offsets
from tests.faults.running import Process
from tests.support.until import until

Answer = TypeVar("Answer")
Config = dict[str, Any]
NO_MEMBERS = SimpleNamespace(members=())


class Progress:
    """The committed offsets of the requests, and waits for them; it keeps its clients open."""

    def __init__(self, settings: Settings) -> None:
        client: Config = {"bootstrap.servers": settings.bootstrap_servers, "log_level": 0}
        self._admin = AdminClient(client)
        # with read_committed, a request for offsets is refused again and again while transactions follow each other
        group = {"group.id": settings.prep_group, "isolation.level": "read_uncommitted"}
        self._consumer = Consumer({**client, **group})
        topics, numbers = settings.topics, range(settings.partitions)
        self._partitions = [TopicPartition(topics.requests.name, number) for number in numbers]
        outcomes = (topics.batches, topics.unresolved, topics.requests_dlq, topics.parked)
        self._outcomes = [TopicPartition(topic.name, n) for topic in outcomes for n in numbers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def committed(self) -> Mapping[tuple[str, int], int]:
        """The committed offset of each partition, 0 if there is none."""
        found = retry_until_answered(lambda: committed_offsets(self._consumer, self._partitions))
        return {tp: max(offset, 0) for tp, offset in found.items()}

    def high_watermarks(self) -> Mapping[tuple[str, int], int]:
        """The high watermark of each partition of the requests."""
        return self._ends(self._partitions, IsolationLevel.READ_UNCOMMITTED)

    def total(self) -> int:
        """The sum of the committed offsets."""
        return sum(self.committed().values())

    def is_complete(self) -> bool:
        """Whether every partition is committed up to its high watermark."""
        committed = self.committed()
        return all(committed[tp] >= end for tp, end in self.high_watermarks().items())

    def is_settled(self) -> bool:
        """Whether every request is committed, and its outcome visible to readers of committed records.

        A commit writes its markers partition by partition: an offset can be visible before its outcome is.
        """
        if not self.is_complete():
            return False
        ends = self._ends(self._outcomes, IsolationLevel.READ_UNCOMMITTED)
        stable = self._ends(self._outcomes, IsolationLevel.READ_COMMITTED)
        return all(stable[tp] >= end for tp, end in ends.items())

    def _ends(
        self, partitions: Sequence[TopicPartition], level: IsolationLevel
    ) -> Mapping[tuple[str, int], int]:
        return retry_until_answered(lambda: end_offsets(self._admin, partitions, level))

    def wait_for_more(self, requests: int = 1, seconds: float = 60) -> None:
        """Wait until that many more requests have been committed; as many must still come, or a Flow runs."""
        before = self.total()
        until(lambda: self.total() >= before + requests, seconds)

    def wait_for_the_end(self, *workers: Process, seconds: float = 60) -> None:
        """Wait until every outcome can be read; the test fails if one of the workers ends."""
        until(lambda: self.is_settled() or any(not worker.is_alive for worker in workers), seconds)
        assert all(worker.is_alive for worker in workers)


def answer_or_none(request: Callable[[], Answer]) -> Answer | None:
    """The broker's answer, or None while the broker is down or a coordinator moves."""
    try:
        return request()
    except KafkaException:
        return None


def retry_until_answered(request: Callable[[], Answer], seconds: float = 60) -> Answer:
    """The broker's answer; the request is repeated until there is one."""
    (answer,) = until(lambda: answer_or_none(lambda: [request()]) or [], seconds)
    return answer


def members_of(settings: Settings, group: str) -> int:
    """The number of members of a consumer group."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
    (future,) = admin.describe_consumer_groups([group], request_timeout=10).values()
    return len((answer_or_none(future.result) or NO_MEMBERS).members)


def pause(seconds: float) -> None:
    """Wait for a fixed time."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5)


def installation_of(settings: Settings) -> Installation:
    """What the checker needs to know to read an installation."""
    return Installation(
        settings.bootstrap_servers,
        settings.topics,
        settings.prep_group,
        settings.fold_group,
        settings.partitions,
    )


def terms_of(settings: Settings, acknowledged: Mapping[Coordinates, int] | None = None) -> Terms:
    """What the checker has to expect; `acknowledged` says when the broker acknowledged each upload, in ms."""
    return Terms(settings.required_roles, settings.patience_s, acknowledged)


def check_until_correct(settings: Settings, seconds: float = 60) -> Findings:
    """Check repeatedly until nothing is wrong; the test fails if a fault is final or the time is up."""
    newest = list[Findings]()

    def is_correct_or_final() -> bool:
        newest[:] = [
            retry_until_answered(lambda: check(installation_of(settings), terms_of(settings)))
        ]
        return newest[0].is_final or not newest[0].faults

    with suppress(AssertionError):
        until(is_correct_or_final, seconds)
    assert not newest[0].faults, str(newest[0])
    return newest[0]


def all_have_one_outcome(settings: Settings) -> Findings:
    """Check the installation once, when it has settled or after some seconds; the test fails if anything is wrong."""
    with Progress(settings) as progress, suppress(AssertionError):
        until(progress.is_settled, seconds=20)
    found = check(installation_of(settings), terms_of(settings))
    assert not found.faults, str(found)
    return found
