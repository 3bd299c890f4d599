"""The anchors of an assignment as the judge uses them: live at a position of their partition. Pure."""

from dataclasses import dataclass

from schemas.coordinates import Coordinates
from schemas.events import ANCHORS, Anchor, AssignmentContext
from tables.context import live, live_anchors


@dataclass(frozen=True, slots=True)
class AnchorsFound:
    """The live anchors of an assignment before a position of their partition; source is None if none are live."""

    anchors: tuple[Anchor, ...]
    source: Coordinates | None  # of the upload that they are from
    position: int

    def of_scale(self, grade_scale: str | None) -> tuple[Anchor, ...]:
        """The anchors of one grade scale, sorted by id."""
        wanted = (anchor for anchor in self.anchors if anchor.grade_scale == grade_scale)
        return tuple(sorted(wanted, key=lambda anchor: anchor.anchor_id))


def anchors_found(context: AssignmentContext | None, position: int) -> AnchorsFound:
    """The live anchors in a context that was folded up to a position of the anchors' partition."""
    component = live(context, ANCHORS)
    source = None if component is None else component.source
    return AnchorsFound(live_anchors(context), source, position)
