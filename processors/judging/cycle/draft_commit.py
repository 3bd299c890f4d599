"""Commits a draft in one transaction, with the offsets of every partition that it touches."""

from collections.abc import Mapping

from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.judging.cycle.draft import Draft, JudgingRecords
from processors.judging.cycle.fetched_batches import FetchedBatches
from processors.judging.observer import JudgingObserver
from processors.judging.open_runs import OpenRuns
from processors.kafka.plain_producer import Deliveries
from schemas.coordinates import Partition
from tables.judging.run import Run


class DraftCommit:
    """After a commit, the runs, the fetched batches and the metrics know of it. The cycle thread alone uses it."""

    def __init__(
        self,
        encoded: JudgingRecords,
        epochs: FetchEpoch,
        committer: Committer,
        runs: OpenRuns,
        batches: FetchedBatches,
        observer: JudgingObserver,
    ) -> None:
        self._encoded = encoded
        self._epochs = epochs
        self._committer = committer
        self._runs = runs
        self._batches = batches
        self._observer = observer

    def new_draft(self) -> Draft:
        """A draft without records."""
        return Draft(self._encoded)

    def is_current(self, epoch: int) -> bool:
        """Whether a draft of this epoch can still be committed."""
        return self._epochs.number == epoch

    def commit(self, draft: Draft, group: bytes, epoch: int) -> bool:
        """Commit a draft that is not empty; False: nothing was committed, as far as this process knows."""
        deliveries = Deliveries()
        start = self._batches.committed_positions(self._encoded.topics.batches.name, draft.numbers)
        batch = Batch(
            draft.records,
            0,
            start,
            {**start, **draft.next_offsets},
            group,
            epoch,
            internal=len(draft.records),
            state_offsets=self._state_offsets(draft),
            deliveries=deliveries,
        )
        self._committer.commit(batch)
        if not self.is_current(epoch):
            return False
        self._batches.committed(draft.next_offsets)
        self._note_written(draft, deliveries)
        for outcome in draft.outcomes:
            self._observer.committed_call(outcome)
        for one in draft.results:
            self._observer.committed_result(one)
        return True

    def _state_offsets(self, draft: Draft) -> Mapping[Partition, int]:
        """In the judging log: from where a new owner must read each partition."""
        before = {one.run.opened.run_id: one.run for one in self._runs.by_urgency()}
        after: Mapping[str, Run | None] = {**before, **draft.runs}
        open_after = {run_id for run_id, run in after.items() if run is not None}
        topic = self._encoded.topics.judging.name
        return {
            Partition(topic, number): self._runs.offset_to_commit(number, open_after)
            for number in sorted(draft.numbers)
        }

    def _note_written(self, draft: Draft, deliveries: Deliveries) -> None:
        messages = zip(deliveries.messages, draft.writers, strict=True)
        self._runs.written(
            (message, draft.runs[run_id]) for message, run_id in messages if run_id is not None
        )
        self._runs.remove(run_id for run_id, run in draft.runs.items() if run is None)
