"""An upload log in memory: what UploadLog does, by the same decisions and the same fold, without Kafka."""

from collections.abc import Mapping
from itertools import count
from uuid import uuid4

from processors.policy import Policy
from processors.upload_log.upload_log import DRY_RUN_METADATA, CurrentContext, Page, WriteResult
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import ROLES, AssignmentContext, UploadEvent, role_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.commands import WriteCommand, WriteMetadata, decide
from tables.context import component_of, fold, live
from tables.upload_record import UploadRecord

TOPICS = dict(zip(ROLES, (topic.name for topic in Topics().uploads), strict=True))
PARTITIONS = 4
CODEC = Codec()


class MemoryLog:
    """Commits at once; `faults` are raised in place of the next answers, `folds` says if commits are folded."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.fenced = 0
        self.rows: dict[str, AssignmentContext] = {}
        self.faults: list[Exception] = []
        self.folds = True
        self.checks = {"replica": True, "kafka": True}
        self.records: list[UploadRecord] = []
        self._offsets = count()

    def ready(self) -> Mapping[str, bool]:
        return self.checks

    async def read(self, scope_key: str) -> CurrentContext:
        self._fail()
        return CurrentContext(context=self.rows.get(scope_key))

    async def page(self, *, page: int, page_size: int, grade_scale: str | None) -> Page:
        self._fail()
        found = [
            (-component.occurred_at_ms, key, context)
            for key, context in self.rows.items()
            if (component := live(context, "instructions"))
            and grade_scale in (None, component.grade_scale)
        ]
        found.sort(key=lambda one: one[:2])
        start = (page - 1) * page_size
        items = tuple(context for *_, context in found[start : start + page_size])
        return Page(items=items, total=len(found))

    async def check(self, change: WriteCommand) -> None:
        decide(self.rows.get(change.scope_key), change, DRY_RUN_METADATA, lambda: "-")

    async def write(self, change: WriteCommand, writing: WriteMetadata) -> WriteResult:
        self._fail()
        known = self.rows.get(change.scope_key)
        decision = decide(known, change, writing, lambda: str(uuid4()))
        positions = tuple(
            self.append(event, change.scope_key, writing.occurred_at_ms)
            for event in decision.events
        )
        context = self.rows.get(change.scope_key)
        if not positions:
            asked = {*decision.outcomes, change.condition_on}
            known_now = (component_of(context, role) for role in ROLES if role in asked)
            positions = tuple(one.source for one in known_now if one is not None)
        return WriteResult(
            decision=decision,
            context=context,
            folded=self.folds,
            positions=positions,
            append_s=0.001,
            fold_wait_s=0.001,
        )

    def append(self, event: UploadEvent, scope_key: str, at_ms: int = 0) -> Coordinates:
        """What any producer may do."""
        partition = partition_for(scope_key.encode(), PARTITIONS)
        at = Coordinates(TOPICS[role_of(event)], partition, next(self._offsets))
        fold(self.rows, event, at, at_ms)
        self.records.append(UploadRecord(at, scope_key.encode(), CODEC.encode(event), at_ms))
        return at

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)
