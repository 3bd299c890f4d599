"""The fold never commits an offset above a record that was read and is not processed, whatever happens to fetches."""

from dataclasses import dataclass, field

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from processors.fold.offset_tracker import OffsetTracker

PARTITION = ("assessment.instructions.v1", 0)


@dataclass(eq=False)
class Delivered:
    """A delivered chunk: the offsets of its records that are not yet processed."""

    offsets: list[int]


def tracker_at(committed: int) -> OffsetTracker[tuple[str, int]]:
    tracker = OffsetTracker[tuple[str, int]]()
    tracker.start_at(PARTITION, committed)
    return tracker


def deliver(tracker: OffsetTracker[tuple[str, int]], *offsets: int) -> list[Delivered]:
    chunks = [Delivered([offset]) for offset in offsets]
    for chunk in chunks:
        tracker.delivered(PARTITION, chunk.offsets[0], chunk)
    return chunks


def test_a_fetched_record_holds_the_offset_back_until_it_is_processed() -> None:
    tracker = tracker_at(5)
    assert tracker.fetched(PARTITION, 5, [5, 6], 8)
    five, six = deliver(tracker, 5, 6)
    tracker.processed(PARTITION, 6, six)
    assert tracker.committable(PARTITION) == 5
    tracker.processed(PARTITION, 5, five)
    assert tracker.committable(PARTITION) == 8  # past the marker at 7


def test_a_chunk_holds_the_offset_back_at_its_first_record_that_is_not_processed() -> None:
    tracker = tracker_at(5)
    tracker.fetched(PARTITION, 5, [5], 9)
    (chunk,) = deliver(tracker, 5)
    tracker.partly_processed(PARTITION, 5, chunk, 7)
    assert tracker.committable(PARTITION) == 7
    tracker.processed(PARTITION, 5, chunk)  # its offset is 7 now
    assert tracker.committable(PARTITION) == 7
    tracker.processed(PARTITION, 7, chunk)
    assert tracker.committable(PARTITION) == 9


def test_a_fetch_from_another_position_is_dropped_and_moves_nothing() -> None:
    tracker = tracker_at(5)
    assert not tracker.fetched(PARTITION, 7, [7], 8)
    assert (tracker.fetch_positions([PARTITION]), tracker.committable(PARTITION)) == (
        {PARTITION: 5},
        5,
    )


def test_a_fetch_that_was_only_partly_delivered_loses_the_position() -> None:
    tracker = tracker_at(5)
    tracker.fetched(PARTITION, 5, [5, 6], 7)
    deliver(tracker, 5)
    assert tracker.without_position([PARTITION]) == [PARTITION]
    assert tracker.fetch_positions([PARTITION]) == {}


def test_a_partition_without_a_position_delivers_and_commits_nothing() -> None:
    tracker = tracker_at(5)
    tracker.reset()
    assert not tracker.fetched(PARTITION, 5, [5], 6)
    assert tracker.committable(PARTITION) is None


def test_processing_the_first_read_of_a_record_does_not_complete_its_second_read() -> None:
    tracker = tracker_at(5)
    tracker.fetched(PARTITION, 5, [5], 6)
    (first,) = deliver(tracker, 5)
    tracker.reset()
    tracker.start_at(PARTITION, 5)
    tracker.fetched(PARTITION, 5, [5], 6)
    deliver(tracker, 5)
    tracker.processed(PARTITION, 5, first)
    assert tracker.committable(PARTITION) == 5


@dataclass
class Log:
    """A partition: the offsets of its records, and its end."""

    records: list[int] = field(default_factory=list)
    end: int = 0


class FoldConsumer(RuleBasedStateMachine):
    """A client whose position may change at any time, and a worker that fetches by the rule and commits at any time.

    The steps of the rule run one by one, so that a rebalance, a seek or a commit may happen between any two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.tracker = OffsetTracker[tuple[str, int]]()
        self.position: int | None = None  # of the client
        self.start: int | None = None  # of the current fetch
        self.committed_answer: int | None = None  # a committed offset that is not used yet
        self.committed = 0
        self.sent_commits: list[int] = []  # offsets whose commit was sent, and may arrive late
        self.undelivered: list[int] = []  # fetched, and not delivered
        self.delivered_chunks: list[Delivered] = []
        self.effects: set[int] = set()

    @initialize()
    def append_first_records(self) -> None:
        self.append([True, False, True])

    @rule(kinds=st.lists(st.booleans(), min_size=1, max_size=4))
    def append(self, kinds: list[bool]) -> None:
        """Append records, and gaps: markers, or aborted records."""
        self.log.records += [self.log.end + n for n, is_record in enumerate(kinds) if is_record]
        self.log.end += len(kinds)

    @rule()
    def request_committed_offset(self) -> None:
        if self.start is None and self.tracker.without_position([PARTITION]):
            self.committed_answer = self.committed

    @rule()
    def start_at_committed_offset(self) -> None:
        if self.committed_answer is not None:
            self.tracker.start_at(PARTITION, self.committed_answer)
            self.committed_answer = None

    @rule()
    def start_fetch(self) -> None:
        """A fetch before the last one was delivered: that one was abandoned."""
        if (
            self.start is None
            and self.committed_answer is None
            and not self.tracker.without_position([PARTITION])
        ):
            self.position = self.start = self.tracker.fetch_positions([PARTITION])[PARTITION]
            self.undelivered = []

    @rule(max_records=st.integers(1, 4))
    def end_fetch(self, max_records: int) -> None:
        if self.start is None or self.position is None:
            return
        fetched = [offset for offset in self.log.records if offset >= self.position][:max_records]
        self.position = fetched[-1] + 1 if len(fetched) == max_records else self.log.end
        if self.tracker.fetched(PARTITION, self.start, fetched[:1], self.position):
            self.undelivered = fetched
        self.start = None

    @rule()
    def deliver_fetched(self) -> None:
        if self.undelivered and self.start is None:
            chunk = Delivered(self.undelivered)
            self.undelivered = []
            self.tracker.delivered(PARTITION, chunk.offsets[0], chunk)
            self.delivered_chunks.append(chunk)

    @rule()
    def drop_undelivered(self) -> None:
        self.undelivered = []

    @rule(data=st.data())
    def process_some(self, data: st.DataObject) -> None:
        """Process the next records of a chunk, or all of them."""
        if not self.delivered_chunks:
            return
        chunk = data.draw(st.sampled_from(self.delivered_chunks))
        count = data.draw(st.integers(1, len(chunk.offsets)))
        offset, processed, rest = chunk.offsets[0], chunk.offsets[:count], chunk.offsets[count:]
        self.effects.update(processed)
        chunk.offsets = rest
        if rest:
            self.tracker.partly_processed(PARTITION, offset, chunk, rest[0])
        else:
            self.delivered_chunks.remove(chunk)
            self.tracker.processed(PARTITION, offset, chunk)

    @rule()
    def rebalance(self) -> None:
        """Drop the delivered chunks and seek."""
        self.delivered_chunks.clear()
        self.tracker.reset()

    @rule()
    def reassign(self) -> None:
        """The client seeks to the committed offset by itself, also during a fetch."""
        self.tracker.reset()
        self.position = self.committed

    @rule()
    def move_the_position(self) -> None:
        """Between fetches the position may be anywhere, because of a fetch that the worker does not know of."""
        if self.start is None:
            self.position = self.log.end

    @rule()
    def send_commit(self) -> None:
        offset = self.tracker.committable(PARTITION)
        if offset is not None:
            self.sent_commits.append(offset)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        if self.sent_commits:
            self.committed = self.sent_commits.pop(
                data.draw(st.integers(0, len(self.sent_commits) - 1))
            )

    @invariant()
    def nothing_was_skipped(self) -> None:
        below = {offset for offset in self.log.records if offset < self.committed}
        assert below <= self.effects

    def teardown(self) -> None:
        """Without further faults, every record is read and processed."""
        self.start = self.committed_answer = None
        self.tracker.reset()
        self.request_committed_offset()
        self.start_at_committed_offset()
        self.start_fetch()
        for _ in range(len(self.log.records) + 1):
            self.end_fetch(1)
            self.deliver_fetched()
            while self.delivered_chunks:
                chunk = self.delivered_chunks.pop()
                self.effects.update(chunk.offsets)
                self.tracker.processed(PARTITION, chunk.offsets[0], chunk)
            self.start_fetch()
        assert self.tracker.committable(PARTITION) == self.log.end
        assert set(self.log.records) <= self.effects


TestFoldConsumer = FoldConsumer.TestCase
TestFoldConsumer.settings = hypothesis_settings(
    max_examples=2 * hypothesis_settings().max_examples, stateful_step_count=60
)
