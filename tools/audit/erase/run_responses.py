"""The responses of judges in the log: to which scope the run of a record belongs, and what a scope's runs name."""

from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import dataclass, field

from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, judging_event_of
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.judging_events import CallAnswered, CallFailed, JudgingOpened


@dataclass(slots=True)
class RunScopes:
    """The scopes of runs; the records of a partition come in log order."""

    codec: Codec
    _by_key: dict[bytes | None, str | None] = field(default_factory=dict)

    def scope_of(self, record: LogRecord) -> str | None:
        """The scope key of a judging record's run; None without an assignment, or if its first record is gone."""
        if record.key not in self._by_key:
            scope = None
            with suppress(BadRecord):
                event = judging_event_of(record, self.codec)
                if isinstance(event, JudgingOpened) and event.context.assignment_id is not None:
                    scope = f"assignment:{event.context.assignment_id}"
            self._by_key[record.key] = scope
        return self._by_key[record.key]


def responses_of(settings: Settings, codec: Codec, scope_key: str) -> Set[str]:
    """The storage ids of every response to a call of the scope's runs. Raises Unreachable, Discrepancy."""
    log, topic = JudgingLog(settings), settings.topics.judging
    starts = {partition: start for partition, (start, _) in log.ranges_of(topic).items()}
    ends = {tp: max(end, starts[tp]) for tp, end in log.high_watermarks(topic).items()}
    return responses_in(log.records(starts, ends), codec, scope_key)


def responses_in(records: Iterable[LogRecord], codec: Codec, scope_key: str) -> Set[str]:
    """The responses that judging records of the scope name."""
    scopes, found = RunScopes(codec), set[str]()
    for record in records:
        if scopes.scope_of(record) == scope_key:
            with suppress(BadRecord):
                event = judging_event_of(record, codec)
                if isinstance(event, CallAnswered | CallFailed) and event.response_storage_id:
                    found.add(event.response_storage_id)
    return found
