"""Checks a row of the changelog against the replica. Pure; positions are the replica's, read before its context.

Below its position the replica has every upload of a partition. So a row that names another upload there is wrong, and
a row that lacks one is behind. What a row names from the position on may be an upload that the replica has not folded
yet; past the end of the log it is wrong.
"""

from dataclasses import dataclass, field
from enum import Enum

from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import BadRecord, UnknownSchema
from schemas.events import ROLES, AssignmentContext, Component
from schemas.partitioner import partition_for
from tables.context import FOLD_VERSION, component_of

_UNPROVEN = "unproven"


class Problem(Enum):
    """What is wrong with a row of the changelog."""

    BEHIND = "behind"  # it lacks an upload
    AHEAD = "ahead"  # it has an upload that the log does not have
    OTHER = "other"  # it has other content than the upload
    DAMAGED = "damaged"  # it cannot be decoded, or is the row of another scope
    UNKNOWN_SCOPE = "unknown scope"  # the log has no upload of its scope
    MISPLACED = "misplaced"  # its key belongs to another partition, or is no scope key


@dataclass(frozen=True, slots=True)
class FoundProblem:
    """What is wrong with a row.

    BEHIND is a problem only once the fold has processed the uploads up to `lacks`. If `is_unproven`, nothing is wrong
    yet: the row names an upload that the replica has not folded.
    """

    problem: Problem
    lacks: Positions = field(default_factory=dict)
    is_unproven: bool = False


def is_misplaced(key: bytes | None, partition: int, partitions: int) -> bool:
    """Whether no row of this key belongs in this partition."""
    try:
        return not key or not key.decode() or partition_for(key, partitions) != partition
    except UnicodeDecodeError:
        return True


@dataclass(frozen=True, slots=True)
class RowChecker:
    """Checks rows of one installation; upload_topics are those of the roles, in order."""

    codec: Codec
    upload_topics: tuple[str, ...]
    partitions: int

    def check(
        self,
        key: bytes,
        partition: int,
        value: bytes | None,
        known: AssignmentContext | None,
        positions: Positions,
        log_ends: Positions | None = None,
    ) -> FoundProblem | None:
        """What is wrong with a row, if anything; `log_ends` are the ends of the upload partitions, if they are known.

        `known` is the replica's context of the scope. A row of a later release is right.
        """
        if value is None:
            return None if known is None else FoundProblem(Problem.BEHIND, _lacks(None, known))
        if value == (known and self.codec.encode(known)):
            return None
        try:
            row = self.codec.decode_as(AssignmentContext, value)
        except BadRecord as fault:
            is_later = isinstance(fault, UnknownSchema) and fault.may_be_later
            return None if is_later else FoundProblem(Problem.DAMAGED)
        if row.scope_key.encode() != key:
            return FoundProblem(Problem.DAMAGED)
        found = {
            self._check_role(role, partition, row, known, positions, log_ends) for role in ROLES
        }
        if Problem.AHEAD in found or (known is None and found == {None}):
            return FoundProblem(Problem.AHEAD if known else Problem.UNKNOWN_SCOPE)
        if Problem.OTHER in found or (known and row.fold_version < known.fold_version):
            return FoundProblem(Problem.OTHER)
        if Problem.BEHIND in found:
            return FoundProblem(Problem.BEHIND, _lacks(row, known))
        return FoundProblem(Problem.AHEAD, is_unproven=True) if _UNPROVEN in found else None

    def _source(self, role: str, partition: int) -> Partition:
        return Partition(self.upload_topics[ROLES.index(role)], partition)

    def _check_role(
        self,
        role: str,
        partition: int,
        row: AssignmentContext,
        known: AssignmentContext | None,
        positions: Positions,
        log_ends: Positions | None,
    ) -> "Problem | str | None":
        found, expected = component_of(row, role), component_of(known, role)
        if found == expected:
            return None
        if found is None:
            return Problem.BEHIND
        source = self._source(role, partition)
        if _source_of(found) != source:
            return Problem.AHEAD
        offset = found.source.offset
        if offset >= positions.get(source, 0):
            is_past_end = log_ends is not None and offset >= log_ends.get(source, offset + 1)
            return Problem.AHEAD if is_past_end else _UNPROVEN
        if expected is None or offset > expected.source.offset:
            return Problem.AHEAD
        if offset < expected.source.offset:
            return Problem.BEHIND
        return Problem.OTHER if row.fold_version <= FOLD_VERSION else None


def _source_of(component: Component) -> Partition:
    return Partition(component.source.topic, component.source.partition)


def _lacks(row: AssignmentContext | None, known: AssignmentContext | None) -> Positions:
    """The positions past the uploads that a row lacks."""
    lacks = {}
    for role in ROLES:
        expected, found = component_of(known, role), component_of(row, role)
        if expected and (found is None or found.source.offset < expected.source.offset):
            lacks[_source_of(expected)] = expected.source.offset + 1
    return lacks
