"""Sends dead letters back to where they came from, each once, whatever is killed.

A re-driven record and the marker that closes its dead letter are one transaction, under an id that all re-drives
of an installation share. So what is open is what has no marker, a killed re-drive is gone on with by the next
one, and of two at a time the first one is fenced.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from processors.dead_letters.open_letters import DeadLetter, read_dead_letters, read_values
from processors.dead_letters.redrive_plan import (
    Judged,
    NewestUploads,
    RedriveDecision,
    Slot,
    chunks,
    decide,
    judge_request,
    judge_upload,
    slot_of,
)
from processors.kafka.clients import transactional_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.kafka.records import Record
from processors.kafka.transactional_producer import TransactionalProducer
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_topics
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.dead_letters import SUPERSEDED, Origin, marker_headers, origin_of, redriven_headers
from schemas.errors import Aborted, Fenced
from schemas.topics import Topic
from tables.upload_record import UploadRecord

CHUNK_LETTERS = 200
CHUNK_BYTES = 8 * 1024 * 1024
RACES = 20  # in a row: uploads that arrive between a decision and its commit
Wanted = Callable[[DeadLetter], bool]


class Redrive:
    """One re-drive of one dead-letter topic: `plan` is its dry run, `begin` and `carry` do it."""

    def __init__(self, settings: Settings, topic: Topic, *, most_attempts: int) -> None:
        self._settings = settings
        self._topic = topic
        self._most_attempts = most_attempts
        self._transaction = TransactionalProducer(
            transactional_producer(settings, f"{settings.topic_prefix}cjstream-redrive"),
            settings.transaction_timeout_s,
        )
        self._codec = codec_for(settings)
        self._uploads = upload_topics(settings)
        self._of_uploads = topic == settings.topics.uploads_dlq
        self._ends: Positions = {}  # of the upload topics, when they were last read
        self._own: set[Coordinates] = set()  # where this re-drive produced, committed or taken back

    def plan(self, wanted: Wanted) -> list[RedriveDecision]:
        """What would become of the dead letters wanted that are open now; nothing is fenced by it."""
        letters = self._open(wanted)
        return self._decided(letters, self._judged(letters))

    def begin(self, wanted: Wanted) -> list[DeadLetter]:
        """Fence every other re-drive and end what it left open; then read which dead letters are open.

        Raises Fenced or Unreachable.
        """
        self._transaction.take_over()
        return self._open(wanted)

    def carry(self, letters: Sequence[DeadLetter]) -> Iterator[tuple[RedriveDecision, str]]:
        """Decide on these and commit chunk by chunk; gives each decision and where the bytes went, once committed.

        Where uploads came in between, the rest is decided anew. Raises Fenced where another re-drive took over,
        Aborted where a chunk cannot be committed, Unreachable.
        """
        judged = self._judged(letters)
        done = set[Coordinates]()
        for _ in range(RACES):
            plan = self._decided([one for one in letters if one.at not in done], judged)
            going = [one for one in plan if one.fate in ("redrive", "superseded")]
            for chunk in chunks(going, CHUNK_LETTERS, CHUNK_BYTES):
                went = self._committed(chunk)
                if went is None:
                    break
                done |= {one.letter.at for one in chunk}
                yield from zip(chunk, went, strict=True)
            else:
                yield from ((one, "") for one in plan if one.fate in ("refused", "held"))
                return
        raise Aborted("uploads of the same scopes keep coming in between: try again later")

    def close(self) -> None:
        """Take back what is open."""
        self._transaction.close()

    def _open(self, wanted: Wanted) -> list[DeadLetter]:
        found = read_dead_letters(self._settings, [self._topic])
        return [letter for letter in found.open if wanted(letter)]

    def _judged(self, letters: Sequence[DeadLetter]) -> dict[Coordinates, Judged]:
        if not self._of_uploads:
            requests, partitions = self._settings.topics.requests, self._settings.partitions
            return {one.at: judge_request(one, requests, partitions) for one in letters}
        judged = dict[Coordinates, Judged]()
        for some in _cut(letters):
            values = read_values(self._settings, some)
            for letter in some:
                value = values[letter.at]
                judged[letter.at] = judge_upload(letter, value, self._uploads, self._codec)
        return judged

    def _decided(
        self, letters: Sequence[DeadLetter], judged: dict[Coordinates, Judged]
    ) -> list[RedriveDecision]:
        newest = self._newest(letters) if self._of_uploads and letters else {}
        return decide(letters, judged, newest, most_attempts=self._most_attempts)

    def _newest(self, letters: Iterable[DeadLetter]) -> dict[Slot, Origin]:
        """The newest upload of each letter's slot, up to the high watermarks."""
        newest = NewestUploads(map(slot_of, letters), self._uploads, self._codec)
        partitions = partitions_of(self._uploads.by_name, self._settings)
        self._ends = high_watermarks_when_reachable(self._settings, partitions)
        with LogReader(self._settings, partitions) as log:
            log.seek({one: low for one, (low, _) in log.offset_ranges().items()})
            for record in log.records_until(self._ends):
                upload = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
                newest.learn(upload, origin_of(record.headers, record.at, record.appended_at_ms))
        return newest.origins

    def _committed(self, chunk: Sequence[RedriveDecision]) -> list[str] | None:
        """Commit one chunk; gives where each went, or None where it was taken back for an upload in between.

        1. begin  2. produce the re-driven records  3. look whether an upload came since the decision
        4. produce the markers  5. commit
        """
        transaction = self._transaction
        values = read_values(self._settings, (one.letter for one in chunk if one.to))
        try:
            transaction.begin()  # 1
            redriven = [one for one in chunk if one.to]
            records = [_redriven(one, values[one.letter.at]) for one in redriven]
            stand = transaction.produce(records)  # 2
            if self._of_uploads and self._came_between(stand, redriven):  # 3
                transaction.abort()
                return None
            at = {one.letter.at: str(at) for one, at in zip(redriven, stand, strict=True)}
            went = [at.get(one.letter.at, f"{SUPERSEDED} {one.reason}") for one in chunk]
            transaction.produce(map(_marker, chunk, went))  # 4
            transaction.commit()  # 5
        except Fenced as fault:
            raise Fenced(
                "another re-drive has taken over, or what became of the last transaction is unknown "
                f"({fault}): `cjstream dlq list` shows what is still open"
            ) from fault
        except Aborted as fault:
            told = f"the last transaction was not committed ({fault}), those before it were"
            raise Aborted(told) from fault
        return went

    def _came_between(
        self, stand: Sequence[Coordinates], redriven: Sequence[RedriveDecision]
    ) -> bool:
        """Whether an upload of a re-driven slot stands between what was read and the record re-driven now.

        Open transactions count, too. What comes after our record is newer than it, and wins by that.
        """
        slots = {slot_of(one.letter) for one in redriven}
        self._own.update(stand)
        last = {Partition(at.topic, at.partition): at.offset for at in sorted(stand)}
        with LogReader(self._settings, last, uncommitted=True) as log:
            log.seek({one: self._ends[one] for one in last})
            return any(
                record.at not in self._own and (record.at.topic, record.key) in slots
                for record in log.records_until(last)
            )


def _redriven(decision: RedriveDecision, value: bytes | None) -> Record:
    letter, to = decision.letter, decision.to
    assert to is not None
    headers = redriven_headers(letter.at, letter.refusal)
    return Record(to.topic, to.partition, letter.key, value, headers)


def _marker(decision: RedriveDecision, went: str) -> Record:
    at = decision.letter.at
    return Record(at.topic, at.partition, decision.letter.key, None, marker_headers(at, went))


def _cut(letters: Sequence[DeadLetter]) -> Iterable[Sequence[DeadLetter]]:
    return (letters[at : at + CHUNK_LETTERS] for at in range(0, len(letters), CHUNK_LETTERS))
