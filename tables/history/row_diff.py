"""A row that somebody keeps of a scope, held against the one that the log gives. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.coordinates import Partition, Positions
from schemas.events import ROLES, AssignmentContext, Component
from tables.context import component_of

Kind = Literal["missing", "behind", "ahead", "other"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One role of one scope that is kept otherwise than the log says.

    missing: nothing is kept; behind: an older upload; ahead: one that the log does not have there; other: the same
    coordinates with another content.
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
    """Each role that differs; what was found of uploads at these ends or past them is not judged."""
    for role in ROLES:
        wanted, kept = component_of(expected, role), component_of(found, role)
        if wanted != kept and not (kept and _is_past(kept, ends)):
            yield RowDifference(scope_key, role, _kind(wanted, kept), wanted, kept)


def _is_past(kept: Component, ends: Positions) -> bool:
    end = ends.get(Partition(kept.source.topic, kept.source.partition))
    return end is not None and kept.source.offset >= end


def _kind(wanted: Component | None, kept: Component | None) -> Kind:
    if kept is None:
        return "missing"
    if wanted is None or wanted.source.offset < kept.source.offset:
        return "ahead"
    return "behind" if kept.source.offset < wanted.source.offset else "other"
