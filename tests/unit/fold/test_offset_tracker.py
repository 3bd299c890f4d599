"""What the fold may commit: nothing above a record that was read and not done, whatever fetches come to."""

from dataclasses import dataclass, field

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from processors.fold.offset_tracker import OffsetTracker

AT = ("assessment.instructions.v1", 0)


@dataclass(eq=False)
class Handed:
    """A record in somebody's hands."""

    offset: int


def begun(committed: int) -> OffsetTracker[tuple[str, int]]:
    books = OffsetTracker[tuple[str, int]]()
    books.start_at(AT, committed)
    return books


def handed(books: OffsetTracker[tuple[str, int]], *offsets: int) -> list[Handed]:
    records = [Handed(offset) for offset in offsets]
    for record in records:
        books.delivered(AT, record.offset, record)
    return records


def test_what_was_taken_holds_the_offset_back_until_it_is_done() -> None:
    books = begun(5)
    assert books.fetched(AT, 5, [5, 6], 8)
    five, six = handed(books, 5, 6)
    books.processed(AT, 6, six)
    assert books.committable(AT) == 5
    books.processed(AT, 5, five)
    assert books.committable(AT) == 8  # past the marker at 7


def test_a_fetch_that_starts_elsewhere_is_not_handed_on_and_moves_nothing() -> None:
    books = begun(5)
    assert not books.fetched(AT, 7, [7], 8)
    assert (books.fetch_positions([AT]), books.committable(AT)) == ({AT: 5}, 5)


def test_a_fetch_that_was_not_handed_on_whole_has_lost_its_place() -> None:
    books = begun(5)
    books.fetched(AT, 5, [5, 6], 7)
    handed(books, 5)
    assert books.unplaced([AT]) == [AT]
    assert books.fetch_positions([AT]) == {}


def test_nothing_of_a_partition_without_a_place_is_handed_on_or_committed() -> None:
    books = begun(5)
    books.reset()
    assert not books.fetched(AT, 5, [5], 6)
    assert books.committable(AT) is None


def test_a_record_that_was_read_anew_is_not_done_by_its_first_reading() -> None:
    books = begun(5)
    books.fetched(AT, 5, [5], 6)
    (first,) = handed(books, 5)
    books.reset()
    books.start_at(AT, 5)
    books.fetched(AT, 5, [5], 6)
    handed(books, 5)
    books.processed(AT, 5, first)
    assert books.committable(AT) == 5


@dataclass
class Log:
    """A partition: at which offsets there are records, and where it ends."""

    records: list[int] = field(default_factory=list)
    end: int = 0


class Reading(RuleBasedStateMachine):
    """A client whose position anything may move, and a worker that reads by the rule and commits at any moment.

    The rule's steps are taken one by one, so that a rebalance, a seek or a commit may come between any two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.books = OffsetTracker[tuple[str, int]]()
        self.position: int | None = None  # the client's
        self.start: int | None = None  # of the fetch that is under way
        self.asked: int | None = None  # a committed offset that is under way
        self.committed = 0
        self.sent: list[int] = []  # offsets that are to be committed, and may come late
        self.waiting: list[int] = []  # taken, and not handed on
        self.hands: list[Handed] = []
        self.effects: set[int] = set()

    @initialize()
    def first(self) -> None:
        self.append([True, False, True])

    @rule(kinds=st.lists(st.booleans(), min_size=1, max_size=4))
    def append(self, kinds: list[bool]) -> None:
        """Records, and holes: markers, or what was aborted."""
        self.log.records += [self.log.end + n for n, is_record in enumerate(kinds) if is_record]
        self.log.end += len(kinds)

    @rule()
    def ask(self) -> None:
        if self.start is None and self.books.unplaced([AT]):
            self.asked = self.committed

    @rule()
    def begin(self) -> None:
        if self.asked is not None:
            self.books.start_at(AT, self.asked)
            self.asked = None

    @rule()
    def start_fetch(self) -> None:
        """Another fetch before the last one was handed on: that one was abandoned."""
        if self.start is None and self.asked is None and not self.books.unplaced([AT]):
            self.position = self.start = self.books.fetch_positions([AT])[AT]
            self.waiting = []

    @rule(most=st.integers(1, 4))
    def end_fetch(self, most: int) -> None:
        if self.start is None or self.position is None:
            return
        taken = [one for one in self.log.records if one >= self.position][:most]
        self.position = taken[-1] + 1 if len(taken) == most else self.log.end
        if self.books.fetched(AT, self.start, taken, self.position):
            self.waiting = taken
        self.start = None

    @rule()
    def hand_on(self) -> None:
        if self.waiting and self.start is None:
            record = Handed(self.waiting.pop(0))
            self.books.delivered(AT, record.offset, record)
            self.hands.append(record)

    @rule()
    def drop_the_rest(self) -> None:
        self.waiting = []

    @rule(data=st.data())
    def take_effect(self, data: st.DataObject) -> None:
        if self.hands:
            record = self.hands.pop(data.draw(st.integers(0, len(self.hands) - 1)))
            self.effects.add(record.offset)
            self.books.processed(AT, record.offset, record)

    @rule()
    def drop_what_is_in_hands_and_seek(self) -> None:
        """A rebalance."""
        self.hands.clear()
        self.books.reset()

    @rule()
    def assign_anew(self) -> None:
        """The client finds its own way to the committed offset, also while a fetch is under way."""
        self.books.reset()
        self.position = self.committed

    @rule()
    def move_the_position(self) -> None:
        """Between fetches it may be anywhere: a fetch that nobody knows of."""
        if self.start is None:
            self.position = self.log.end

    @rule()
    def send_commit(self) -> None:
        offset = self.books.committable(AT)
        if offset is not None:
            self.sent.append(offset)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        if self.sent:
            self.committed = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))

    @invariant()
    def nothing_was_skipped(self) -> None:
        below = {one for one in self.log.records if one < self.committed}
        assert below <= self.effects

    def teardown(self) -> None:
        """Left in peace, all of it is read and done."""
        self.start = self.asked = None
        self.books.reset()
        self.ask()
        self.begin()
        self.start_fetch()
        for _ in range(len(self.log.records) + 1):
            self.end_fetch(1)
            self.hand_on()
            while self.hands:
                record = self.hands.pop()
                self.effects.add(record.offset)
                self.books.processed(AT, record.offset, record)
            self.start_fetch()
        assert self.books.committable(AT) == self.log.end
        assert set(self.log.records) <= self.effects


TestReading = Reading.TestCase
TestReading.settings = hypothesis_settings(max_examples=200, stateful_step_count=60, deadline=None)
