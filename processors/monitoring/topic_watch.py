"""Finds topics that are deleted, or deleted and created again, while a worker runs. Pure."""

from collections.abc import Mapping

from schemas.errors import Discrepancy

MISSING_OBSERVATIONS = 3  # in a row: a broker that has just started may not know a topic yet


class TopicWatch:
    """Compares the ids of the topics with those that it observed first."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._missing: dict[str, int] = {}

    def observe(self, ids: Mapping[str, str | None]) -> None:
        """Compare these ids; None is a topic that the cluster does not have. Raises Discrepancy.

        A topic that never existed is no fault here: the worker has not started yet.
        """
        for name, topic_id in ids.items():
            known = self._ids.get(name)
            if topic_id is not None:
                if known not in (None, topic_id):
                    raise Discrepancy(
                        f"{name} was deleted and created again while the worker ran: its offsets mean other records"
                        " now. Start again: the worker then says what it needs"
                    )
                self._ids[name] = topic_id
                self._missing.pop(name, None)
            elif known is not None:
                self._missing[name] = self._missing.get(name, 0) + 1
                if self._missing[name] >= MISSING_OBSERVATIONS:
                    raise Discrepancy(
                        f"{name} was deleted while the worker ran: `cjstream topics apply` creates it again, empty"
                    )
