"""The scopes with live instructions, newest first; reading one page does not visit the others."""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from schemas.events import AssignmentContext, Component
from tables.context import live


class SortKey(NamedTuple):
    """The sort key of a scope: newest update first, then by scope key."""

    before_ms: int  # the update's time in ms, negative
    scope_key: str


class ScopeIndex:
    """Keeps the scopes sorted as folds change them; used only under the fold's lock."""

    def __init__(self, context: Callable[[str], AssignmentContext | None]) -> None:
        self._context = context
        self._all = list[SortKey]()
        self._by_scale: dict[str, list[SortKey]] = {}
        self._entries: dict[str, tuple[str, SortKey]] = {}  # grade scale and sort key by scope key

    def fill(self, contexts: Iterable[AssignmentContext]) -> None:
        """Replace the index by these contexts."""
        self._entries = {
            context.scope_key: _entry(context.scope_key, component)
            for context in contexts
            if (component := live(context, "instructions"))
        }
        self._all = sorted(key for _, key in self._entries.values())
        self._by_scale = {}
        for scale, key in sorted(self._entries.values()):
            self._by_scale.setdefault(scale, []).append(key)

    def changed(self, scope_keys: Collection[str]) -> None:
        """Update the entries of these scopes."""
        for scope_key in scope_keys:
            if entry := self._entries.pop(scope_key, None):
                self._remove(*entry)
            if component := live(self._context(scope_key), "instructions"):
                scale, key = self._entries[scope_key] = _entry(scope_key, component)
                insort(self._all, key)
                insort(self._by_scale.setdefault(scale, []), key)

    def _remove(self, scale: str, key: SortKey) -> None:
        for keys in (self._all, self._by_scale[scale]):
            del keys[bisect_left(keys, key)]

    def page(self, page: int, page_size: int, grade_scale: str | None) -> tuple[list[str], int]:
        """The scope keys of one page, from 1, and the total count; no keys past the end."""
        keys = self._all if grade_scale is None else self._by_scale.get(grade_scale, [])
        start = (page - 1) * page_size
        return [key.scope_key for key in keys[start : start + page_size]], len(keys)


def _entry(scope_key: str, component: Component) -> tuple[str, SortKey]:
    return component.grade_scale or "", SortKey(-component.occurred_at_ms, scope_key)
