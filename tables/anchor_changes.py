"""Changes of the anchors of an assignment, one grade scale at a time, and the whole set after one. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAnchors:
    """Replace the anchors of a grade scale; those of other scales stay."""

    grade_scale: str
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAnchor:
    """Add an anchor, or replace the one that has its id in its grade scale."""

    anchor: Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAnchors:
    """Remove the anchors of a grade scale: one of them, or all if anchor_id is None."""

    grade_scale: str
    anchor_id: str | None = None

    def names(self, anchor: Anchor) -> bool:
        """Whether it removes this anchor."""
        is_one = self.anchor_id in (None, anchor.anchor_id)
        return is_one and anchor.grade_scale == self.grade_scale


AnchorsChange = PutAnchors | AddAnchor | RemoveAnchors


def anchors_after(current: Iterable[Anchor], change: AnchorsChange) -> tuple[Anchor, ...]:
    """All anchors after a change, sorted by grade scale and id."""
    match change:
        case PutAnchors():
            new = change.anchors
            kept = [one for one in current if one.grade_scale != change.grade_scale]
        case AddAnchor():
            new = (change.anchor,)
            kept = [one for one in current if _key(one) != _key(change.anchor)]
        case RemoveAnchors():
            new, kept = (), [one for one in current if not change.names(one)]
    return tuple(sorted((*kept, *new), key=_key))


def _key(anchor: Anchor) -> tuple[str, str]:
    return anchor.grade_scale, anchor.anchor_id
