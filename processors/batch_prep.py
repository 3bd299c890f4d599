"""Batch preparation: requests in, outcomes out, one transaction a batch.

Two halves, each on a thread of its own: `next_batch` fetches, waits for the replica and resolves; `commit`
carries one such batch through its transaction. A Faust agent on a channel stands between them.
"""

import logging
from collections.abc import Callable

from confluent_kafka import Message

from processors.fetch import Fetcher
from processors.outbox import Batch, Outbox, Record, TooLargeError
from processors.outcomes import Answers
from processors.ownership import Ownership
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Aborted, BadRecord, Fenced, Malformed, Unreachable
from schemas.events import CJBatchPrepared, Coordinates
from schemas.topics import Topics
from tables.replica import ContextReplica, Positions

log = logging.getLogger("cjstream.prep")
PATIENCE_S = 3.0  # for the replica to pass the watermarks, before the batch is fetched anew
POSITIONS_HEADER = "cjstream-upload-positions"
FENCED_MOST = 5  # times in a row, before another instance is taken to own this worker's slot


class Committer:
    """Carries batches through transactions; whatever goes wrong ends in one of three ways."""

    def __init__(self, ownership: Ownership, outbox: Outbox) -> None:
        self._ownership = ownership
        self._outbox = outbox
        self._fenced = 0
        self.refused_at: Coordinates | None = None  # a lone request whose outcome was too large
        self.too_large = 0  # requests in the last batch that the broker refused for its size

    def commit(self, batch: Batch) -> None:
        """Commit, drop a batch that may not be committed any more, or rewind by ending the epoch.

        Raises Fenced where every new producer is fenced again, Discrepancy where a batch was lost.
        """
        with self._ownership.transaction(batch.epoch, batch.start, batch.end) as mine:
            if not mine:
                return
            try:
                self._outbox.commit(batch)
            except Aborted as fault:
                self._ownership.end_epoch()
                self._remember(batch, fault)
                _told("batch aborted", batch, fault)
            except Fenced as fault:
                self._ownership.end_epoch()
                self._fenced += 1
                _told("batch fenced", batch, fault)
                if self._fenced > FENCED_MOST:
                    raise
                self._outbox.renew()
            else:
                self._fenced = 0
                self.too_large = 0

    def _remember(self, batch: Batch, fault: Aborted) -> None:
        if not isinstance(fault, TooLargeError):
            return
        self.too_large = batch.requests
        if batch.requests == 1:
            (at,) = batch.start
            self.refused_at = Coordinates(at.topic, at.partition, batch.end[at] - 1)


def _told(phrase: str, batch: Batch, fault: Exception) -> None:
    first = ", ".join(f"{at.topic}/{at.partition}@{start}" for at, start in batch.start.items())
    log.warning(phrase, extra={"requests": batch.requests, "first": first, "reason": str(fault)})


class Preparer:
    """Makes batches of what is fetched: every request gets one outcome, from one state of the replica."""

    def __init__(
        self,
        fetcher: Fetcher,
        replica: ContextReplica,
        answers: Answers,
        topics: Topics,
        watermarks: Callable[[], Positions],
        ownership: Ownership,
        committer: Committer,
    ) -> None:
        self._fetcher = fetcher
        self._replica = replica
        self._answers = answers
        self._topics = topics
        self._watermarks = watermarks
        self._ownership = ownership
        self._committer = committer
        self._most = fetcher.limit

    def next_batch(self, wait_s: float) -> Batch | None:
        """The next prepared batch, or None where there is nothing to do just now.

        1. fetch  2. take the high watermarks of the upload topics  3. let the replica pass them
        4. resolve each request against one state of the replica
        """
        self._fetcher.limit = self._limit()
        fetched = self._fetcher.fetch(wait_s)  # 1
        if fetched is None or not self._caught_up():  # 2, 3
            return None
        with self._replica.still() as positions:  # 4
            header = (POSITIONS_HEADER, told_positions(positions, self._topics))
            records = [self._record(message, header) for message in fetched.messages]
        return Batch(
            records, len(fetched.messages), fetched.start, fetched.end, fetched.group, fetched.epoch
        )

    def _limit(self) -> int:
        """A batch refused for its size is halved until the one request that does not fit is alone."""
        refused = self._committer.too_large
        return max(1, refused // 2) if refused else self._most

    def _caught_up(self) -> bool:
        """Whether the replica passed what was acknowledged before the fetch; otherwise the batch is dropped."""
        try:
            behind = self._replica.wait_past(self._watermarks(), PATIENCE_S)
        except Unreachable as fault:
            log.warning("batch waits for the upload topics", extra={"reason": str(fault)})
        else:
            if not behind:
                return True
            named = ", ".join(f"{at.topic}/{at.partition}" for at in behind)
            log.warning("batch waits for uploads (an open transaction?)", extra={"behind": named})
        self._ownership.end_epoch()
        return False

    def _record(self, message: Message, header: tuple[str, bytes]) -> Record:
        at = Coordinates(
            self._topics.requests.name, int(message.partition() or 0), int(message.offset() or 0)
        )
        try:
            if at == self._committer.refused_at:
                raise Malformed("the broker refused its outcome: too large for the outcome topic")
            answer = self._answers.answer(message.value(), at)
        except BadRecord as fault:
            kept = _headers(message)
            headers = dead_letter_headers(at, message.timestamp()[1], fault, kept)
            dead_letters = self._topics.requests_dlq.name
            return Record(dead_letters, at.partition, message.key(), message.value(), headers)
        prepared = answer.outcome is CJBatchPrepared
        topic = self._topics.batches if prepared else self._topics.unresolved
        return Record(topic.name, at.partition, message.key(), answer.value, (header,))


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    kept = message.headers() or []
    pairs = kept.items() if isinstance(kept, dict) else kept
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def told_positions(positions: Positions, topics: Topics) -> bytes:
    """The upload positions of a join: per upload topic, in the catalogue's order, the next offset of each partition.

    For example `12 3 4 5|7 8 9 1|0 0 0 0`.
    """
    by_topic = {topic.name: list[tuple[int, int]]() for topic in topics.uploads}
    for at, offset in positions.items():
        by_topic[at.topic].append((at.partition, offset))
    return "|".join(
        " ".join(str(offset) for _, offset in sorted(of_topic)) for of_topic in by_topic.values()
    ).encode()
