"""The upload log as the admin API uses it: reads at its end, writes through fenced producers, and sees its own writes.

Blocking calls run on other threads; the event loop only waits for them.
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
from uuid import uuid4

from confluent_kafka.admin import AdminClient

from processors.fold.catch_up import (
    Display,
    no_display,
    require_reached,
    wait_until_caught_up,
)
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks
from processors.kafka.rights import require_rights
from processors.kafka.topic_admin import checked_topics, count_brokers
from processors.policy import Policy
from processors.settings import Settings, administered_topics
from processors.upload_log.fenced_producer import FencedProducer
from processors.upload_log.partition_writer import (
    DecidedWrite,
    PartitionWriter,
    WriteRequest,
)
from processors.upload_log.scope_index import ScopeIndex
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import OutcomeUnknown, ReplicaBehind, Unreachable
from schemas.events import ADMINISTERED_ROLES, AssignmentContext
from schemas.partitioner import partition_for
from tables.commands import WriteCommand, WriteDecision, WriteMetadata, decide
from tables.context import component_of
from tables.replica import ContextReplica

T = TypeVar("T")
log = logging.getLogger("cjstream.admin")
THREADS = 32  # threads in which reads and writes wait for the replica
KAFKA_FRESH_S = 30.0  # how long after an answer Kafka counts as reachable
RETRY_S = 0.2
CHECK_S = 10.0
JOIN_S = 2.0
HANG_S = 10.0  # added to the write timeout: after that a call into librdkafka is considered to hang
DRY_RUN_METADATA = WriteMetadata(actor="-", correlation_id="-", occurred_at_ms=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the scopes with live instructions, newest first, and how many there are in all."""

    items: tuple[AssignmentContext, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """The result of a write.

    `context` is the scope's context after it. `positions` are the coordinates of the appended events or, if there are
    none, of the components that already were as requested. `folded`: this process's replica has the events.
    `append_s` and `fold_wait_s` are the times that the writer and the fold took.
    """

    decision: WriteDecision
    context: AssignmentContext | None
    folded: bool
    positions: tuple[Coordinates, ...]
    append_s: float
    fold_wait_s: float


class UploadLog:
    """Reads and writes of the upload log for one API process; except `ready`, called only in its event loop."""

    def __init__(
        self,
        settings: Settings,
        client: AdminClient,
        replica: ContextReplica,
        feed: ReplicaFeed,
        scope_index: ScopeIndex,
        new_writer: Callable[[int, Callable[[Iterable[Partition]], Positions]], PartitionWriter],
        fail: Callable[[BaseException], None],
        display: Display = no_display,
    ) -> None:
        self.settings = settings
        self.policy: Policy = settings.policy
        self._client = client
        self._replica = replica
        self._feed = feed
        self._scope_index = scope_index
        self._new_writer = new_writer
        self._fail = fail
        self._display = display  # of the catch-up at the start
        self._uploads = settings.administered_partitions
        self._writers: dict[int, PartitionWriter] = {}
        self._executor = ThreadPoolExecutor(THREADS, "admin-log")
        self._stopping = asyncio.Event()
        self._follow_task: asyncio.Task[None] | None = None
        self._ends_at_start: Positions | None = None
        self._answered_at = float("-inf")

    async def start(self) -> None:
        """Start to follow the log; returns at once, `ready` shows the progress."""
        self._follow_task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Refuse waiting requests, finish the current ones, and close everything."""
        self._stopping.set()
        if self._follow_task is not None:
            await self._follow_task
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.stop()
        for writer in self._writers.values():
            writer.join(JOIN_S)
        self._feed.stop()
        self._executor.shutdown(cancel_futures=True)
        self._replica.close()

    async def _follow(self) -> None:
        """Start the replica's feed, then check regularly that Kafka answers."""
        try:
            while not self._stopping.is_set() and not await self._in_thread(self._start_feed):
                await self._pause(RETRY_S)
            while not self._stopping.is_set():
                await self._pause(CHECK_S)
                with suppress(Unreachable):
                    await self._in_thread(partial(self._watermarks, self._uploads))
        except Exception as fault:  # noqa: BLE001 (without it every answer would be stale)
            self._fail(fault)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _start_feed(self) -> bool:
        """Feed the replica from its stored positions; False if no broker answers yet."""
        try:
            count_brokers(self._client, self.settings, 2.0)
            require_rights("api", self._client, self.settings)
            topic_ids = checked_topics(self._client, self.settings)
            ends = self._watermarks(self._uploads)
        except Unreachable:
            return False
        names = [topic.name for topic in self.settings.topics.administered]
        positions = self._replica.open({name: topic_ids[name] for name in names})
        self._scope_index.fill(self._replica.contexts())
        self._replica.on_changed = self._scope_index.changed
        self._feed.start(positions)
        self._ends_at_start = ends
        # it only logs and displays; reads wait for the replica themselves
        self._executor.submit(
            wait_until_caught_up, self._replica, ends, self._stopping.is_set, self._display
        )
        return True

    def ready(self) -> Mapping[str, bool]:
        """`replica`: it has reached the log's end as of the start, but for partitions that an upload of a later
        release stopped. `kafka`: it answered within the last 30 s.
        """
        ends, stopped = self._ends_at_start, self._replica.stopped().keys()
        return {
            "replica": ends is not None and self._replica.wait_past(ends, 0).keys() <= stopped,
            "kafka": time.monotonic() - self._answered_at < KAFKA_FRESH_S,
        }

    @property
    def fenced(self) -> int:
        """How often another instance has fenced a writer of this one."""
        return sum(writer.fenced for writer in self._writers.values())

    async def read(self, scope_key: str) -> AssignmentContext | None:
        """The context of one scope at the log's end; None if nothing was ever uploaded.

        Raises ReplicaBehind or Unreachable.
        """
        return await self._in_thread(partial(self._context, scope_key))

    async def page(
        self, *, page: int, page_size: int, grade_scale: str | None, id_prefix: str | None = None
    ) -> Page:
        """A page, from 1, of the scopes with live instructions. Raises ReplicaBehind or Unreachable."""
        return await self._in_thread(partial(self._page, page, page_size, grade_scale, id_prefix))

    async def check(self, command: WriteCommand) -> None:
        """Raise the Refusal that the command would get now; ReplicaBehind or Unreachable."""
        context = await self._in_thread(partial(self._context, command.scope_key))
        decide(context, command, DRY_RUN_METADATA, lambda: "-")

    async def write(self, command: WriteCommand, metadata: WriteMetadata) -> WriteResult:
        """Execute the command at the log's end.

        Raises a Refusal; ReplicaBehind, Unreachable or WriterContended if nothing was appended; OutcomeUnknown.
        """
        started_at = time.monotonic()
        request = WriteRequest(command, metadata, started_at + self.settings.write_timeout_s)
        self._writer_of(command.scope_key).submit(request)
        try:
            written = await asyncio.wait_for(
                asyncio.wrap_future(request.future), self.settings.write_timeout_s + HANG_S
            )
        except TimeoutError as fault:  # a call inside librdkafka cannot be interrupted
            raise OutcomeUnknown(command.scope_key) from fault
        committed_at = time.monotonic()
        folded = await self._in_thread(partial(self._wait_until_folded, written))
        waited_s = time.monotonic() - committed_at
        if not folded:
            log.warning(
                "committed write not folded in time",
                extra={"scope_key": command.scope_key, "waited_ms": round(waited_s * 1000)},
            )
        return WriteResult(
            decision=written.decision,
            context=written.context,
            folded=folded,
            positions=_positions(command, written),
            append_s=committed_at - started_at,
            fold_wait_s=waited_s,
        )

    def _writer_of(self, scope_key: str) -> PartitionWriter:
        number = partition_for(scope_key.encode(), self.settings.partitions)
        if number not in self._writers:
            self._writers[number] = self._new_writer(number, self._ends)
            self._writers[number].start()
        return self._writers[number]

    def _wait_until_folded(self, written: DecidedWrite) -> bool:
        ends = {
            Partition(event.at.topic, event.at.partition): event.at.offset + 1
            for event in written.appended
        }
        return not self._replica.wait_past(ends, self.settings.fold_timeout_s)

    def _context(self, scope_key: str) -> AssignmentContext | None:
        number = partition_for(scope_key.encode(), self.settings.partitions)
        self._wait_for_replica(self.settings.administered_partitions_with(number))
        return self._replica.context(scope_key)

    def _page(
        self, page: int, page_size: int, grade_scale: str | None, id_prefix: str | None
    ) -> Page:
        stopped = self._replica.stopped()  # their scopes are listed as they were
        self._wait_for_replica([one for one in self._uploads if one not in stopped])
        with self._replica.frozen():
            scope_keys, total = self._scope_index.page(page, page_size, grade_scale, id_prefix)
            contexts = [self._replica.context(scope_key) for scope_key in scope_keys]
        return Page(
            items=tuple(context for context in contexts if context is not None), total=total
        )

    def _wait_for_replica(self, partitions: list[Partition]) -> None:
        """Wait until the replica passes the log's current end of these partitions."""
        until = time.monotonic() + self.settings.fold_timeout_s
        ends = retry_while_unreachable(
            partial(self._watermarks, partitions),
            self.settings.fold_timeout_s,
            "the high watermarks of the upload topics",
        )
        self._require_started()
        require_reached(self._replica, ends, until)

    def _ends(self, partitions: Iterable[Partition]) -> Positions:
        self._require_started()
        return self._watermarks(partitions)

    def _require_started(self) -> None:
        if self._ends_at_start is None:
            raise ReplicaBehind("the replica has not been started yet")

    def _watermarks(self, partitions: Iterable[Partition]) -> Positions:
        ends = high_watermarks(self._client, partitions)
        self._answered_at = time.monotonic()
        return ends

    async def _in_thread(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, step)


def _positions(command: WriteCommand, written: DecidedWrite) -> tuple[Coordinates, ...]:
    if written.appended:
        return tuple(event.at for event in written.appended)
    requested = {*written.decision.outcomes, command.condition_on}
    components = (
        component_of(written.context, role) for role in ADMINISTERED_ROLES if role in requested
    )
    return tuple(component.source for component in components if component is not None)


def build_upload_log(
    settings: Settings,
    fail: Callable[[BaseException], None],
    codec: Codec,
    display: Display = no_display,
) -> UploadLog:
    """Wire the API's upload log; faults that must end the process are passed to `fail`, from any thread.

    Opens the replica's folder, but contacts no broker before the log is started.
    """
    replica = open_replica(settings, codec, settings.api_dir, topics=administered_topics(settings))

    def new_writer(
        number: int, watermarks: Callable[[Iterable[Partition]], Positions]
    ) -> PartitionWriter:
        partitions = settings.administered_partitions_with(number)
        producer = FencedProducer(settings, codec, number)
        return PartitionWriter(producer, replica, partitions, watermarks, lambda: str(uuid4()))

    return UploadLog(
        settings,
        admin_client(settings),
        replica,
        ReplicaFeed(settings, replica, fail),
        ScopeIndex(replica.context),
        new_writer,
        fail,
        display,
    )
