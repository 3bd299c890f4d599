"""Compares a stored row of a scope with the row that the log gives. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.coordinates import Partition, Positions
from schemas.events import ROLES, AssignmentContext, Component
from tables.context import component_of

Kind = Literal["missing", "behind", "ahead", "other"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One role of one scope whose stored component differs from the log.

    missing: nothing is stored; behind: an older upload is stored; ahead: an upload that the log does not have there;
    other: the same coordinates with other content.
    """

    scope_key: str
    role: str
    kind: Kind
    expected: Component | None
    found: Component | None


def differences(
    scope_key: str,
    expected: AssignmentContext | None,
    found: AssignmentContext | None,
    ends: Positions,
) -> Iterator[RowDifference]:
    """Each role that differs; stored components of uploads at or past the ends are not compared."""
    for role in ROLES:
        in_log, stored = component_of(expected, role), component_of(found, role)
        if in_log != stored and not (stored and _is_past(stored, ends)):
            yield RowDifference(scope_key, role, _kind(in_log, stored), in_log, stored)


def _is_past(stored: Component, ends: Positions) -> bool:
    end = ends.get(Partition(stored.source.topic, stored.source.partition))
    return end is not None and stored.source.offset >= end


def _kind(in_log: Component | None, stored: Component | None) -> Kind:
    if stored is None:
        return "missing"
    if in_log is None or in_log.source.offset < stored.source.offset:
        return "ahead"
    return "behind" if stored.source.offset < in_log.source.offset else "other"
