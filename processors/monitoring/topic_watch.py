"""Finds topics that are deleted, created again or given partitions while a worker runs. Pure."""

from collections.abc import Mapping

from processors.kafka.topic_admin import SeenTopic, more_partitions
from schemas.errors import Discrepancy

MISSING_OBSERVATIONS = 3  # in a row: a broker that has just started may not know a topic yet


class TopicWatch:
    """Compares the topics with what it observed first."""

    def __init__(self) -> None:
        self._first: dict[str, SeenTopic] = {}
        self._missing: dict[str, int] = {}

    def observe(self, topics: Mapping[str, SeenTopic | None]) -> None:
        """Compare these topics; None is one that the cluster does not have. Raises Discrepancy.

        A topic that never existed is no fault here: the worker has not started yet.
        """
        for name, seen in topics.items():
            known = self._first.get(name)
            if seen is not None:
                if known is not None and known.topic_id != seen.topic_id:
                    raise Discrepancy(
                        f"{name} was deleted and created again while the worker ran: its offsets mean other records"
                        " now. Start again: the worker then says what it needs"
                    )
                if known is not None and known.partitions < seen.partitions:
                    raise Discrepancy(more_partitions(name, seen.partitions, known.partitions))
                self._first[name] = seen
                self._missing.pop(name, None)
            elif known is not None:
                self._missing[name] = self._missing.get(name, 0) + 1
                if self._missing[name] >= MISSING_OBSERVATIONS:
                    raise Discrepancy(
                        f"{name} was deleted while the worker ran: `cjstream topics apply` creates it again, empty"
                    )
