"""What an audit of outcomes has to say: findings, what cannot be verified, and notes. Values."""

from collections import Counter
from dataclasses import dataclass, field

from schemas.coordinates import Coordinates


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: its kind, where it shows, and one sentence."""

    kind: str
    at: Coordinates
    sentence: str


@dataclass(frozen=True, slots=True)
class NotVerifiable:
    """What the log no longer has, so that nothing is said of the record that needs it."""

    kind: str
    at: Coordinates
    sentence: str


@dataclass(frozen=True, slots=True)
class Note:
    """What is no fault, and worth knowing: such as that today's policy would have decided otherwise."""

    kind: str
    at: Coordinates
    sentence: str


Finding = Violation | NotVerifiable | Note


@dataclass(slots=True)
class FindingGroup:
    """Remarks of one kind: how many, and the first and last of them in the order they came."""

    count: int = 0
    first: str = ""
    last: str = ""

    def add(self, at: str) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or at
        self.last = at


@dataclass(slots=True)
class Tally:
    """Counts of one part of the log; findings themselves are told as they come and not kept."""

    outcomes: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    findings: dict[str, FindingGroup] = field(default_factory=dict)
    not_verifiable: dict[str, FindingGroup] = field(default_factory=dict)
    notes: dict[str, FindingGroup] = field(default_factory=dict)
    deadlines_ms: list[int] = field(default_factory=list)  # the first of what waits, and the last

    def wait(self, deadline_ms: int) -> None:
        """One more request waits, until then."""
        self.requests["waiting"] += 1
        known = [*self.deadlines_ms, deadline_ms]
        self.deadlines_ms = [min(known), max(known)]

    def add(self, remark: Finding) -> None:
        """Count a remark under its kind."""
        of = {Violation: self.findings, NotVerifiable: self.not_verifiable, Note: self.notes}
        of[type(remark)].setdefault(remark.kind, FindingGroup()).add(str(remark.at))

    def join(self, other: "Tally") -> None:
        """Take in the counts of another part."""
        self.outcomes.update(other.outcomes)
        self.requests.update(other.requests)
        deadlines = self.deadlines_ms + other.deadlines_ms
        self.deadlines_ms = [min(deadlines), max(deadlines)] if deadlines else []
        for mine, its in (
            (self.findings, other.findings),
            (self.not_verifiable, other.not_verifiable),
            (self.notes, other.notes),
        ):
            for kind, group in its.items():
                known = mine.setdefault(kind, FindingGroup(0, group.first))
                known.count += group.count
                known.last = group.last
