"""The log as the admin API sees it: reads at its end, writes through fenced writers, own writes read.

Whatever blocks runs on other threads; the event loop only waits for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from confluent_kafka.admin import AdminClient

from processors.fold.replica_feed import ReplicaFeed
from processors.kafka.bounded_wait import wait_until
from processors.kafka.offsets import high_watermarks
from processors.kafka.topic_admin import checked_topics, count_brokers
from processors.policy import Policy
from processors.settings import Settings, upload_partitions
from processors.upload_log.partition_writer import DecidedWrite, PartitionWriter, WriteRequest
from processors.upload_log.scope_index import ScopeIndex
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import OutcomeUnknown, ReplicaBehind, Unreachable
from schemas.events import ROLES, AssignmentContext
from schemas.partitioner import partition_for
from tables.commands import WriteCommand, WriteDecision, WriteMetadata, decide
from tables.context import component_of
from tables.replica import ContextReplica

T = TypeVar("T")
log = logging.getLogger("cjstream.admin")
WAITING = 32  # threads in which reads and writes wait for the replica
HEARD_S = 30.0  # Kafka counts as there for so long after it has answered
AGAIN_S = 0.2
ASK_AGAIN_S = 10.0
WRITERS_S = 2.0
HANG_S = 10.0  # over the write timeout, before a call into librdkafka is taken to hang
NOBODY = WriteMetadata(actor="-", correlation_id="-", occurred_at_ms=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentContext:
    """The context of one scope at the log's end; None where nothing was ever uploaded."""

    context: AssignmentContext | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the scopes whose instructions live, newest first, and how many there are in all."""

    items: tuple[AssignmentContext, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a write came to.

    context is the scope's after it; positions are those of the events appended, or, where nothing was, of the
    components that are as wanted already. folded: the own replica has them. append_s and fold_wait_s say how long
    the writer and the fold took.
    """

    decision: WriteDecision
    context: AssignmentContext | None
    folded: bool
    positions: tuple[Coordinates, ...]
    append_s: float
    fold_wait_s: float


class UploadLog:
    """Reads and writes of the upload log for one API process; all but `ready` is called in its event loop."""

    def __init__(
        self,
        settings: Settings,
        client: AdminClient,
        replica: ContextReplica,
        feed: ReplicaFeed,
        listing: ScopeIndex,
        new_writer: Callable[[int, Callable[[Iterable[Partition]], Positions]], PartitionWriter],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.settings = settings
        self.policy: Policy = settings.policy
        self._client = client
        self._replica = replica
        self._feed = feed
        self._listing = listing
        self._new_writer = new_writer
        self._fatal = fatal
        self._uploads = upload_partitions(settings)
        self._writers: dict[int, PartitionWriter] = {}
        self._executor = ThreadPoolExecutor(WAITING, "admin-log")
        self._stopping = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._ends_at_start: Positions | None = None
        self._heard_at = float("-inf")

    async def start(self) -> None:
        """Begin to follow the log; returns at once, `ready` tells how far it is."""
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Refuse what waits, end what is under way, let go of everything."""
        self._stopping.set()
        if self._following is not None:
            await self._following
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.stop()
        for writer in self._writers.values():
            writer.join(WRITERS_S)
        self._feed.stop()
        self._executor.shutdown(cancel_futures=True)
        self._replica.close()

    async def _follow(self) -> None:
        """Take the replica up where it stands, then ask now and again whether Kafka is there."""
        try:
            while not self._stopping.is_set() and not await self._in(self._begin):
                await self._pause(AGAIN_S)
            while not self._stopping.is_set():
                await self._pause(ASK_AGAIN_S)
                with suppress(Unreachable):
                    await self._in(partial(self._watermarks, self._uploads))
        except Exception as fault:  # noqa: BLE001 (without it every answer would be stale)
            self._fatal(fault)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _begin(self) -> bool:
        """Feed the replica from where it stands; False where no broker answers yet."""
        try:
            count_brokers(self._client, self.settings, 2.0)
            topic_ids = checked_topics(self._client, self.settings)
            ends = self._watermarks(self._uploads)
        except Unreachable:
            return False
        names = [topic.name for topic in self.settings.topics.uploads]
        positions = self._replica.open({name: topic_ids[name] for name in names})
        self._listing.fill(self._replica.contexts())
        self._replica.changed = self._listing.changed
        self._feed.start(self._uploads, positions)
        self._ends_at_start = ends
        return True

    def ready(self) -> Mapping[str, bool]:
        """`replica`: it has reached the log's end as it was at start. `kafka`: it answered within 30 s."""
        ends = self._ends_at_start
        return {
            "replica": ends is not None and not self._replica.wait_past(ends, 0),
            "kafka": time.monotonic() - self._heard_at < HEARD_S,
        }

    @property
    def fenced(self) -> int:
        """How often another instance has fenced a writer of this one."""
        return sum(writer.fenced for writer in self._writers.values())

    async def read(self, scope_key: str) -> CurrentContext:
        """One scope at the log's end. Raises ReplicaBehind or Unreachable."""
        return CurrentContext(context=await self._in(partial(self._context, scope_key)))

    async def page(self, *, page: int, page_size: int, grade_scale: str | None) -> Page:
        """A page, from 1, of the scopes with live instructions. Raises ReplicaBehind or Unreachable."""
        return await self._in(partial(self._page, page, page_size, grade_scale))

    async def check(self, change: WriteCommand) -> None:
        """Raise the Refusal that the change would meet now; ReplicaBehind or Unreachable."""
        context = await self._in(partial(self._context, change.scope_key))
        decide(context, change, NOBODY, lambda: "-")

    async def write(self, change: WriteCommand, writing: WriteMetadata) -> WriteResult:
        """Make the change at the log's end.

        Raises a Refusal; ReplicaBehind, Unreachable or WriterContended where nothing was appended; OutcomeUnknown.
        """
        begun = time.monotonic()
        request = WriteRequest(change, writing, begun + self.settings.write_timeout_s)
        self._writer_of(change.scope_key).submit(request)
        try:
            appended = await asyncio.wait_for(
                asyncio.wrap_future(request.answer), self.settings.write_timeout_s + HANG_S
            )
        except TimeoutError as fault:  # a thread inside librdkafka cannot be ended
            raise OutcomeUnknown(change.scope_key) from fault
        committed = time.monotonic()
        folded = await self._in(partial(self._has_folded, appended))
        waited_s = time.monotonic() - committed
        if not folded:
            told = {"scope_key": change.scope_key, "waited_ms": round(waited_s * 1000)}
            log.warning("fold_late", extra=told)
        return WriteResult(
            decision=appended.decision,
            context=appended.context,
            folded=folded,
            positions=_positions(change, appended),
            append_s=committed - begun,
            fold_wait_s=waited_s,
        )

    def _writer_of(self, scope_key: str) -> PartitionWriter:
        number = partition_for(scope_key.encode(), self.settings.partitions)
        if number not in self._writers:
            self._writers[number] = self._new_writer(number, self._ends)
            self._writers[number].start()
        return self._writers[number]

    def _has_folded(self, appended: DecidedWrite) -> bool:
        ends = {
            Partition(one.at.topic, one.at.partition): one.at.offset + 1 for one in appended.placed
        }
        return not self._replica.wait_past(ends, self.settings.fold_timeout_s)

    def _context(self, scope_key: str) -> AssignmentContext | None:
        number = partition_for(scope_key.encode(), self.settings.partitions)
        self._pass_by([one for one in self._uploads if one.partition == number])
        return self._replica.context(scope_key)

    def _page(self, page: int, page_size: int, grade_scale: str | None) -> Page:
        self._pass_by(self._uploads)
        with self._replica.frozen():
            scope_keys, total = self._listing.page(page, page_size, grade_scale)
            found = [self._replica.context(scope_key) for scope_key in scope_keys]
        return Page(items=tuple(one for one in found if one is not None), total=total)

    def _pass_by(self, partitions: list[Partition]) -> None:
        """Let the replica pass the log's end of these partitions as it is now."""
        until = time.monotonic() + self.settings.fold_timeout_s
        ends = wait_until(
            partial(self._asked, partitions),
            seconds=self.settings.fold_timeout_s,
            what="the ends of the upload topics",
        )
        self._refuse_before_the_start()
        behind = self._replica.wait_past(ends, max(0.0, until - time.monotonic()))
        if behind:
            raise ReplicaBehind(f"the replica is behind at {len(behind)} upload partitions")

    def _asked(self, partitions: list[Partition]) -> Positions:
        try:
            return self._watermarks(partitions)
        except Unreachable:
            return {}

    def _ends(self, partitions: Iterable[Partition]) -> Positions:
        self._refuse_before_the_start()
        return self._watermarks(partitions)

    def _refuse_before_the_start(self) -> None:
        if self._ends_at_start is None:
            raise ReplicaBehind("the replica has not been taken up yet")

    def _watermarks(self, partitions: Iterable[Partition]) -> Positions:
        ends = high_watermarks(self._client, partitions)
        self._heard_at = time.monotonic()
        return ends

    async def _in(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, step)


def _positions(change: WriteCommand, appended: DecidedWrite) -> tuple[Coordinates, ...]:
    if appended.placed:
        return tuple(one.at for one in appended.placed)
    asked = {*appended.decision.outcomes, change.condition_on}
    found = (component_of(appended.context, role) for role in ROLES if role in asked)
    return tuple(one.source for one in found if one is not None)
