"""Sends dead letters back to the topics they came from, each exactly once, even if processes are killed.

A re-driven record and the marker that closes its dead letter are written in one transaction, under a transactional
id that all re-drives of an installation share. So a dead letter without a marker is open. If a re-drive is killed,
the next one continues its work. If two run at once, the older one is fenced.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from processors.dead_letters.open_letters import DeadLetter, read_dead_letters, read_values
from processors.dead_letters.redrive_plan import (
    NewestUploads,
    RedriveDecision,
    ScopeRole,
    Target,
    chunks,
    decide,
    scope_role_of,
    target_of_request,
    target_of_upload,
)
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.kafka.transactional_producer import (
    is_retriable,
    kafka_error_of,
    producer_with_id,
)
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.log.set_aside import upload_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.dead_letters import SUPERSEDED, Origin, marker_headers, origin_of, redriven_headers
from schemas.errors import Aborted, Fenced, Unreachable
from schemas.topics import Topic

CHUNK_LETTERS = 200
CHUNK_BYTES = 8 * 1024 * 1024
MAX_RACES = 20  # attempts, if uploads arrive between a decision and its commit
TAKEOVER_S = 30.0
Filter = Callable[[DeadLetter], bool]


class Redrive:
    """One re-drive of one dead-letter topic: `plan` is a dry run; `take_over`, then `run`, re-drive."""

    def __init__(self, settings: Settings, topic: Topic, *, max_attempts: int) -> None:
        self._settings = settings
        self._topic = topic
        self._max_attempts = max_attempts
        self._transaction = producer_with_id(settings, f"{settings.topic_prefix}cjstream-redrive")
        self._codec = codec_for(settings)
        self._uploads = upload_topics_with_set_aside(settings)
        self._redrives_uploads = topic == settings.topics.uploads_dlq
        self._ends: Positions = {}  # high watermarks of the upload topics at the last read
        # of the records that this re-drive produced, also of the aborted ones
        self._produced_at: set[Coordinates] = set()

    def plan(self, wanted: Filter) -> list[RedriveDecision]:
        """The decisions on the open dead letters that the filter matches; fences nobody."""
        letters = self._open(wanted)
        return self._decide(letters, self._targets(letters))

    def take_over(self, wanted: Filter) -> list[DeadLetter]:
        """Fence every other re-drive and abort its open transaction; then return the open dead letters.

        Raises Fenced or Unreachable.
        """
        self._transaction.take_over(TAKEOVER_S)
        return self._open(wanted)

    def run(self, letters: Sequence[DeadLetter]) -> Iterator[tuple[RedriveDecision, str]]:
        """Decide on these dead letters and commit chunk by chunk; yields each decision and destination once committed.

        If an upload arrives in between, the rest is decided again. Raises Fenced if another re-drive took over, Aborted
        if a chunk cannot be committed, Unreachable.
        """
        targets = self._targets(letters)
        done = set[Coordinates]()
        for _ in range(MAX_RACES):
            plan = self._decide([letter for letter in letters if letter.at not in done], targets)
            movable = [decision for decision in plan if decision.fate in ("redrive", "superseded")]
            for chunk in chunks(movable, CHUNK_LETTERS, CHUNK_BYTES):
                destinations = self._commit(chunk)
                if destinations is None:
                    break
                done |= {decision.letter.at for decision in chunk}
                yield from zip(chunk, destinations, strict=True)
            else:
                yield from (
                    (decision, "") for decision in plan if decision.fate in ("refused", "held")
                )
                return
        raise Aborted(
            "uploads of the same scopes keep arriving during the re-drive: try again later"
        )

    def close(self) -> None:
        """Abort the open transaction, if any."""
        self._transaction.close()

    def _open(self, wanted: Filter) -> list[DeadLetter]:
        letters = read_dead_letters(self._settings, [self._topic])
        return [letter for letter in letters.open if wanted(letter)]

    def _targets(self, letters: Sequence[DeadLetter]) -> dict[Coordinates, Target]:
        """The target of each letter, which is compared with the record at its original coordinates."""
        targets = {letter.at: self._target(letter, None) for letter in letters}
        by_record = dict[Coordinates, list[DeadLetter]]()
        partitions = {*self._settings.upload_partitions}
        partitions |= {*self._settings.partitions_of(self._settings.topics.requests)}
        for letter in letters:
            at = letter.refusal.at
            if Partition(at.topic, at.partition) in partitions:
                by_record.setdefault(at, []).append(letter)
        for original in records_at(self._settings, by_record):
            for letter in by_record[original.at]:
                targets[letter.at] = self._target(letter, original)
        return targets

    def _target(self, letter: DeadLetter, original: LogRecord | None) -> Target:
        if self._redrives_uploads:
            return target_of_upload(letter, original, self._uploads, self._codec)
        return target_of_request(letter, original, self._settings.topics.requests)

    def _decide(
        self, letters: Sequence[DeadLetter], targets: dict[Coordinates, Target]
    ) -> list[RedriveDecision]:
        newest = self._newest_uploads(letters) if self._redrives_uploads and letters else {}
        return decide(letters, targets, newest, max_attempts=self._max_attempts)

    def _newest_uploads(self, letters: Iterable[DeadLetter]) -> dict[ScopeRole, Origin]:
        """The newest upload of each letter's scope and role, up to the high watermarks."""
        newest = NewestUploads(map(scope_role_of, letters), self._uploads, self._codec)
        partitions = self._settings.upload_partitions
        self._ends = high_watermarks_when_reachable(self._settings, partitions)
        with LogReader(self._settings, partitions) as log:
            log.seek_to_start()
            for record in log.records_until(self._ends):
                upload = upload_of(record)
                newest.add(upload, origin_of(record.headers, record.at, record.appended_at_ms))
        return newest.origins

    def _commit(self, chunk: Sequence[RedriveDecision]) -> list[str] | None:
        """Commit one chunk; returns the destinations, or None if it was aborted because an upload arrived.

        1. begin  2. produce the re-driven records  3. check that no upload arrived since the decision
        4. produce the markers  5. commit
        """
        transaction = self._transaction
        values = read_values(self._settings, (decision.letter for decision in chunk if decision.to))
        try:
            transaction.begin()  # 1
            redriven = [decision for decision in chunk if decision.to]
            records = [_redriven(decision, values[decision.letter.at]) for decision in redriven]
            produced_at = [*map(coordinates_of, transaction.produce_and_wait(records))]  # 2
            if self._redrives_uploads and self._upload_came_between(produced_at, redriven):  # 3
                transaction.abort()
                return None
            redriven_to = {
                decision.letter.at: str(at)
                for decision, at in zip(redriven, produced_at, strict=True)
            }
            destinations = [
                redriven_to.get(decision.letter.at, f"{SUPERSEDED} {decision.reason}")
                for decision in chunk
            ]
            transaction.produce_and_wait(map(_marker, chunk, destinations))  # 4
            transaction.commit()  # 5
        except Fenced as fault:
            if (error := kafka_error_of(fault)) and is_retriable(error):
                raise Unreachable(str(fault)) from fault
            raise Fenced(
                "another re-drive has taken over, or the outcome of the last transaction is unknown "
                f"({fault}): `cjstream dlq list` shows what is still open"
            ) from fault
        except Aborted as fault:
            raise Aborted(
                f"the last transaction was not committed ({fault}); the ones before it were"
            ) from fault
        return destinations

    def _upload_came_between(
        self, produced_at: Sequence[Coordinates], redriven: Sequence[RedriveDecision]
    ) -> bool:
        """Whether an upload of a re-driven scope and role was appended between the last read and the re-driven record.

        Open transactions count, too. A record after the re-driven one is newer, and therefore wins.
        """
        scope_roles = {scope_role_of(decision.letter) for decision in redriven}
        self._produced_at.update(produced_at)
        last = {Partition(at.topic, at.partition): at.offset for at in sorted(produced_at)}
        with LogReader(self._settings, last, uncommitted=True) as log:
            log.seek({partition: self._ends[partition] for partition in last})
            return any(
                record.at not in self._produced_at and (record.at.topic, record.key) in scope_roles
                for record in log.records_until(last)
            )


def _redriven(decision: RedriveDecision, value: bytes | None) -> Record:
    letter, to = decision.letter, decision.to
    assert to is not None
    headers = redriven_headers(letter.at, letter.refusal)
    return Record(to.topic, to.partition, letter.key, value, headers)


def _marker(decision: RedriveDecision, destination: str) -> Record:
    at = decision.letter.at
    return Record(
        at.topic, at.partition, decision.letter.key, None, marker_headers(at, destination)
    )
