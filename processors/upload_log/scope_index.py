"""The scopes whose instructions live, newest first: a page of them costs no look at the others."""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from schemas.events import AssignmentContext, Component
from tables.context import live


class SortKey(NamedTuple):
    """Where a scope stands: the newest update first, then by scope key."""

    before_ms: int  # the update's time, negative
    scope_key: str


class ScopeIndex:
    """Keeps the order as folds change it. Used under the fold's lock alone."""

    def __init__(self, context: Callable[[str], AssignmentContext | None]) -> None:
        self._context = context
        self._everywhere = list[SortKey]()
        self._by_scale: dict[str, list[SortKey]] = {}
        self._places: dict[str, tuple[str, SortKey]] = {}  # scale and place by scope key

    def fill(self, contexts: Iterable[AssignmentContext]) -> None:
        """Begin anew with these contexts."""
        self._places = {
            context.scope_key: _placed(context.scope_key, living)
            for context in contexts
            if (living := live(context, "instructions"))
        }
        self._everywhere = sorted(place for _, place in self._places.values())
        self._by_scale = {}
        for scale, place in sorted(self._places.values()):
            self._by_scale.setdefault(scale, []).append(place)

    def changed(self, scope_keys: Collection[str]) -> None:
        """Put these scopes where they belong now."""
        for scope_key in scope_keys:
            if known := self._places.pop(scope_key, None):
                self._take_out(*known)
            if living := live(self._context(scope_key), "instructions"):
                scale, place = self._places[scope_key] = _placed(scope_key, living)
                insort(self._everywhere, place)
                insort(self._by_scale.setdefault(scale, []), place)

    def _take_out(self, scale: str, place: SortKey) -> None:
        for order in (self._everywhere, self._by_scale[scale]):
            del order[bisect_left(order, place)]

    def page(self, page: int, page_size: int, grade_scale: str | None) -> tuple[list[str], int]:
        """The scope keys of one page, from 1, and how many there are on all; no keys past the end."""
        order = self._everywhere if grade_scale is None else self._by_scale.get(grade_scale, [])
        begin = (page - 1) * page_size
        return [place.scope_key for place in order[begin : begin + page_size]], len(order)


def _placed(scope_key: str, living: Component) -> tuple[str, SortKey]:
    return living.grade_scale or "", SortKey(-living.occurred_at_ms, scope_key)
