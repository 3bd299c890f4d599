"""The scopes with live instructions, newest first; reading one page does not visit the others."""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable
from operator import itemgetter
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
        self._entries: dict[str, tuple[str, SortKey]] = {}  # grade scale and sort key by scope key
        self._newest: dict[str | None, list[SortKey]] = {}  # by grade scale; None: all
        self._by_key: dict[str | None, list[str]] = {}

    def fill(self, contexts: Iterable[AssignmentContext]) -> None:
        """Replace the index by these contexts."""
        self._entries = {
            context.scope_key: _entry(context.scope_key, component)
            for context in contexts
            if (component := live(context, "instructions"))
        }
        self._newest, self._by_key = {}, {}
        for scale, key in sorted(self._entries.values(), key=itemgetter(1)):
            for of in (None, scale):
                self._newest.setdefault(of, []).append(key)
        for scope_key in sorted(self._entries):
            for of in (None, self._entries[scope_key][0]):
                self._by_key.setdefault(of, []).append(scope_key)

    def changed(self, scope_keys: Collection[str]) -> None:
        """Update the entries of these scopes."""
        for scope_key in scope_keys:
            if entry := self._entries.pop(scope_key, None):
                self._remove(*entry)
            if component := live(self._context(scope_key), "instructions"):
                scale, key = self._entries[scope_key] = _entry(scope_key, component)
                for of in (None, scale):
                    insort(self._newest.setdefault(of, []), key)
                    insort(self._by_key.setdefault(of, []), scope_key)

    def _remove(self, scale: str, key: SortKey) -> None:
        for of in (None, scale):
            newest, by_key = self._newest[of], self._by_key[of]
            del newest[bisect_left(newest, key)]
            del by_key[bisect_left(by_key, key.scope_key)]

    def page(
        self, page: int, page_size: int, grade_scale: str | None, id_prefix: str | None = None
    ) -> tuple[list[str], int]:
        """The scope keys of one page, from 1, and the total count; no keys past the end.

        Newest first; with a prefix of ids, sorted by them: assignments, then courses.
        """
        start = (page - 1) * page_size
        if id_prefix is None:
            keys = self._newest.get(grade_scale, [])
            return [key.scope_key for key in keys[start : start + page_size]], len(keys)
        by_key = self._by_key.get(grade_scale, [])
        ranges = [_range(by_key, f"{kind}:{id_prefix}") for kind in ("assignment", "course")]
        found = list[str]()
        for low, end in ranges:
            found += by_key[min(low + start, end) : min(low + start + page_size - len(found), end)]
            start = max(0, start - (end - low))
        return found, sum(end - low for low, end in ranges)


def _range(scope_keys: list[str], prefix: str) -> tuple[int, int]:
    """The range of the keys with this prefix."""
    low = bisect_left(scope_keys, prefix)
    return low, bisect_left(scope_keys, True, low, key=lambda key: not key.startswith(prefix))


def _entry(scope_key: str, component: Component) -> tuple[str, SortKey]:
    return component.grade_scale or "", SortKey(-component.occurred_at_ms, scope_key)
