"""Compares a stored row of a scope with the row that the log gives. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.coordinates import Partition, Positions
from schemas.events import ADMINISTERED_ROLES, AssignmentContext, Component
from tables.context import component_of

Kind = Literal["missing", "behind", "ahead", "other", "damaged", "misplaced"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One role of one scope whose stored component differs from the log, or a whole row.

    missing: nothing is stored; behind: an older upload is stored; ahead: an upload that the log does not have there;
    other: the same coordinates with other content. A whole row: damaged: it cannot be decoded, or is that of another
    scope; misplaced: no row of its key belongs in its partition.
    """

    scope_key: str
    role: str | None
    kind: Kind
    expected: Component | None
    found: Component | None
    partition: int | None = None  # of the changelog, if it is misplaced


def differences(
    scope_key: str,
    expected: AssignmentContext | None,
    found: AssignmentContext | None,
    ends: Positions,
    log_ends: Positions | None = None,
) -> Iterator[RowDifference]:
    """Each role that differs; stored components of uploads at or past the ends are not compared.

    With `log_ends`, the ends of the log when the row was read or later, an upload past those is a difference.
    """
    for role in ADMINISTERED_ROLES:
        in_log, stored = component_of(expected, role), component_of(found, role)
        if in_log != stored and not (stored and _is_between(stored, ends, log_ends)):
            yield RowDifference(scope_key, role, _kind(in_log, stored), in_log, stored)


def _is_between(stored: Component, ends: Positions, log_ends: Positions | None) -> bool:
    partition = Partition(stored.source.topic, stored.source.partition)
    end, offset = ends.get(partition), stored.source.offset
    is_in_log = log_ends is None or offset < log_ends.get(partition, offset + 1)
    return end is not None and offset >= end and is_in_log


def _kind(in_log: Component | None, stored: Component | None) -> Kind:
    if stored is None:
        return "missing"
    if in_log is None or in_log.source.offset < stored.source.offset:
        return "ahead"
    return "behind" if stored.source.offset < in_log.source.offset else "other"
