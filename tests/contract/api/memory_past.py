"""The audit service of a log in memory: the same pure history code, with records that a test can compact away."""

from collections.abc import Generator
from typing import Any

import orjson

from processors.settings import Settings, administered_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Discrepancy
from tables.content_store import ContentStore
from tables.history.bulk_fold import FoldedScope
from tables.history.point_in_time import AtTime, Moment
from tables.history.scope_history import ScopeHistory, history_of
from tests.contract.api.memory_log import MemoryLog
from tools.api.services.audit_service import AuditService
from tools.audit.replay.replay import document_of
from tools.audit.scope.as_of import ScopeReport, scope_report
from tools.audit.scope.history import UploadUses


class MemoryPast(AuditService):
    """What AuditService does, without Kafka; no batch has used any upload."""

    def __init__(self, log: MemoryLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings
        self.compacted: set[Coordinates] = set()
        self.faults: list[Exception] = []

    async def as_of(self, scope_key: str, moment: Moment, *, texts: bool) -> ScopeReport:
        store = ContentStore.open(self._settings.content) if texts else None
        return scope_report(self._history(scope_key), self._positions_after(moment), store)

    async def history(
        self, scope_key: str, *, with_uses: bool
    ) -> tuple[ScopeHistory, UploadUses | None]:
        return self._history(scope_key), UploadUses({}, (), ()) if with_uses else None

    async def scope(
        self, scope_key: str, moment: Moment | None
    ) -> tuple[ScopeHistory, ScopeReport]:
        now = AtTime(self._log.records[-1].appended_at_ms if self._log.records else 0)
        report = await self.as_of(scope_key, moment or now, texts=True)
        return self._history(scope_key), report

    async def batch(self, batch_id: str, *, texts: bool, everywhere: bool) -> dict[str, Any] | None:
        return None  # this log has no requests

    def replay(
        self, since: Moment | None, until: Moment | None, scope_keys: list[str]
    ) -> Generator[bytes, None, None]:
        if until is not None:
            self._positions_after(until)
        for scope_key, context in self._log.rows.items():
            if scope_key in (scope_keys or [scope_key]):
                document = document_of(FoldedScope(context, ()))
                yield orjson.dumps({"context": document}, option=orjson.OPT_APPEND_NEWLINE)
        yield b'{"summary":{}}\n'

    def verify(
        self, since: Moment | None, until: Moment | None, *, texts: bool
    ) -> Generator[bytes, None, None]:
        if self.faults:
            raise self.faults.pop()
        yield b'{"summary":{}}\n'

    def close(self) -> None:
        pass

    def _history(self, scope_key: str) -> ScopeHistory:
        retained = (
            record
            for record in self._log.records
            if record.key == scope_key.encode() and record.at not in self.compacted
        )
        starts = dict.fromkeys(self._settings.administered_partitions, 0)
        return history_of(scope_key, retained, starts, Codec(), administered_topics(self._settings))

    def _positions_after(self, moment: Moment) -> Positions:
        named = () if isinstance(moment, AtTime) else moment.records
        times = [record.appended_at_ms for record in self._log.records if record.at in named]
        if named and not times:
            raise Discrepancy("no such record")
        until_ms = moment.ms if isinstance(moment, AtTime) else max(times)
        positions = dict.fromkeys(self._settings.administered_partitions, 0)
        for record in self._log.records:
            if record.appended_at_ms <= until_ms:
                at = record.at
                positions[Partition(at.topic, at.partition)] = at.offset + 1
        return {**positions, **{Partition(at.topic, at.partition): at.offset + 1 for at in named}}
