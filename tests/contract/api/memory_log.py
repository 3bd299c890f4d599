"""An upload log in memory: it decides and folds with the same code as UploadLog, but without Kafka."""

from collections.abc import Mapping
from itertools import count
from uuid import uuid4

from processors.policy import Policy
from processors.upload_log.upload_log import DRY_RUN_METADATA, Page, UploadLog, WriteResult
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import ADMINISTERED_ROLES, AssignmentContext, UploadEvent, role_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.commands import WriteCommand, WriteMetadata, decide
from tables.context import component_of, fold, live
from tables.upload_record import UploadRecord

TOPICS = {
    role: topic.name for role, topic in zip(ADMINISTERED_ROLES, Topics().administered, strict=True)
}
PARTITIONS = 4
CODEC = Codec()


class MemoryLog(UploadLog):
    """Commits immediately; the next calls raise the `faults`, or succeed where one is None.

    folds: whether writes report that they are folded.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rows: dict[str, AssignmentContext] = {}
        self.faults: list[Exception | None] = []
        self.folds = True
        self.checks = {"replica": True, "kafka": True}
        self.records: list[UploadRecord] = []
        self._offsets = count()

    @property
    def fenced(self) -> int:
        return 0

    def ready(self) -> Mapping[str, bool]:
        return self.checks

    async def read(self, scope_key: str) -> AssignmentContext | None:
        self._raise_next()
        return self.rows.get(scope_key)

    async def page(
        self, *, page: int, page_size: int, grade_scale: str | None, id_prefix: str | None = None
    ) -> Page:
        self._raise_next()
        rows = [
            (-component.occurred_at_ms, key, context)
            for key, context in self.rows.items()
            if (component := live(context, "instructions"))
            and grade_scale in (None, component.grade_scale)
            and (id_prefix is None or key.partition(":")[2].startswith(id_prefix))
        ]
        rows.sort(key=lambda row: row[:2] if id_prefix is None else row[1])
        start = (page - 1) * page_size
        items = tuple(context for *_, context in rows[start : start + page_size])
        return Page(items=items, total=len(rows))

    async def check(self, command: WriteCommand) -> None:
        decide(self.rows.get(command.scope_key), command, DRY_RUN_METADATA, lambda: "-")

    async def write(self, command: WriteCommand, metadata: WriteMetadata) -> WriteResult:
        self._raise_next()
        before = self.rows.get(command.scope_key)
        decision = decide(before, command, metadata, lambda: str(uuid4()))
        positions = tuple(
            self.append(event, command.scope_key, metadata.occurred_at_ms)
            for event in decision.events
        )
        context = self.rows.get(command.scope_key)
        if not positions:
            roles = {*decision.outcomes, command.condition_on}
            components = (
                component_of(context, role) for role in ADMINISTERED_ROLES if role in roles
            )
            positions = tuple(component.source for component in components if component is not None)
        return WriteResult(
            decision=decision,
            context=context,
            folded=self.folds,
            positions=positions,
            append_s=0.001,
            fold_wait_s=0.001,
        )

    def append(self, event: UploadEvent, scope_key: str, appended_at_ms: int = 0) -> Coordinates:
        """Append and fold an event, as another producer could."""
        partition = partition_for(scope_key.encode(), PARTITIONS)
        at = Coordinates(TOPICS[role_of(event)], partition, next(self._offsets))
        fold(self.rows, event, at, appended_at_ms)
        value = CODEC.encode(event)
        self.records.append(UploadRecord(at, scope_key.encode(), value, appended_at_ms))
        return at

    def _raise_next(self) -> None:
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
