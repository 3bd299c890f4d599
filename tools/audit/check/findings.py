"""The findings about outcomes: violations, what cannot be verified, and notes."""

from collections import Counter
from dataclasses import dataclass, field

from schemas.coordinates import Coordinates

COPIED = "the records were copied from another cluster or prefix; coordinates are their identity: audit the original"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: its kind, the coordinates of the record that shows it, and one sentence."""

    kind: str
    at: Coordinates
    sentence: str


class Violation(Finding):
    """A broken guarantee."""


def copied(outcome: Coordinates, request: Coordinates) -> Violation:
    """The violation of an outcome that names a request of another topic."""
    return Violation("copied", outcome, f"it is the outcome of {request}: {COPIED}")


class NotVerifiable(Finding):
    """A record that cannot be verified, because the log no longer has what that takes."""


class Note(Finding):
    """A fact that is no error but worth knowing, such as that today's policy would have decided differently."""


@dataclass(slots=True)
class FindingGroup:
    """The findings of one kind: their count, and the first and the last in the order of arrival."""

    count: int = 0
    first: str = ""
    last: str = ""

    def add(self, at: str) -> None:
        """Count one more."""
        self.count += 1
        self.first = self.first or at
        self.last = at


@dataclass(slots=True)
class Tally:
    """The counts for one part of the log; findings are only counted, not kept."""

    outcomes: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    findings: dict[str, FindingGroup] = field(default_factory=dict)
    not_verifiable: dict[str, FindingGroup] = field(default_factory=dict)
    notes: dict[str, FindingGroup] = field(default_factory=dict)
    deadlines_ms: list[int] = field(default_factory=list)  # earliest and latest of parked requests

    def add_parked(self, deadline_ms: int) -> None:
        """Count a parked request with this deadline."""
        self.requests["waiting"] += 1
        deadlines_ms = [*self.deadlines_ms, deadline_ms]
        self.deadlines_ms = [min(deadlines_ms), max(deadlines_ms)]

    def add(self, finding: Finding) -> None:
        """Count a finding under its kind."""
        of = {Violation: self.findings, NotVerifiable: self.not_verifiable, Note: self.notes}
        of[type(finding)].setdefault(finding.kind, FindingGroup()).add(str(finding.at))

    def merge(self, other: "Tally") -> None:
        """Add the counts for another part of the log."""
        self.outcomes.update(other.outcomes)
        self.requests.update(other.requests)
        deadlines_ms = self.deadlines_ms + other.deadlines_ms
        self.deadlines_ms = [min(deadlines_ms), max(deadlines_ms)] if deadlines_ms else []
        for own, others in (
            (self.findings, other.findings),
            (self.not_verifiable, other.not_verifiable),
            (self.notes, other.notes),
        ):
            for kind, group in others.items():
                known = own.setdefault(kind, FindingGroup(0, group.first))
                known.count += group.count
                known.last = group.last
