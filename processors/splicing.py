"""The fast path of batch preparation: a request's own bytes behind those of its context. Pure."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from processors.canonical import FRAME_BYTES, Asked, walk
from processors.recipes import RECIPE, RECIPES, Recipe
from processors.resolve import Policy, Prepared, Unresolved, resolve, scope_key_for
from processors.spelling import NOTHING, Told, head_of, middle_of, optional
from schemas.codec import Codec
from schemas.events import CJAssessmentRequested, CJBatchPrepared, CJBatchUnresolved, Coordinates
from tables.context import Roles

CACHED = 20_000
C = TypeVar("C", bound=Roles)


class Answer(NamedTuple, Generic[C]):
    """An outcome as it goes out: what it rests on, and its framed bytes."""

    resolution: Prepared[C] | Unresolved[C]
    value: bytes


class _Spliced(NamedTuple, Generic[C]):
    """The bytes of one context, kept for as long as the context is the same object."""

    context: C | None
    resolution: Prepared[C] | Unresolved[C]
    frame: bytes
    middle: bytes


class Splicer(Generic[C]):
    """Outcomes of canonical requests against a table of contexts, in whatever form it has them.

    `context_of` gives the context of a scope key: the same object for as long as it is unchanged; `told_of` spells
    it. Another recipe than that of the day makes an earlier release's outcomes again.
    """

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], C | None],
        told_of: Callable[[C], Told],
        recipe: int = RECIPE,
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._told_of = told_of
        self._recipe: Recipe = RECIPES[recipe]
        self._spliced: dict[tuple[str, bool], _Spliced[C]] = {}

    def spliced(self, payload: bytes | None, at: Coordinates) -> Answer[C] | None:
        """A request's outcome, or None where its bytes are not certainly canonical ones of this recipe."""
        if payload is None:
            return None
        version = self._codec.version_of(CJAssessmentRequested, payload)
        behind = self._recipe.spliced.get(version)
        asked = None if behind is None else walk(payload, version)
        if behind is None or asked is None:
            return None
        scope_key = scope_key_for(asked)
        context = self._context_of(scope_key)
        explicit = asked.student_prompt_ref
        known = self._spliced.get((scope_key, explicit is not None))
        if known is None or known.context is not context:
            known = self._splice(scope_key, context, asked)
        parts = [known.frame, head_of(at, self._recipe.number), known.middle]
        if explicit is not None and isinstance(known.resolution, Prepared):
            parts.append(optional(explicit))
        parts += (payload[FRAME_BYTES:], behind)
        return Answer(known.resolution, b"".join(parts))

    def _splice(self, scope_key: str, context: C | None, asked: Asked) -> _Spliced[C]:
        resolution = resolve(asked, context, self._policy)
        is_prepared = isinstance(resolution, Prepared)
        outcome = CJBatchPrepared if is_prepared else CJBatchUnresolved
        told = Told(NOTHING, NOTHING, NOTHING)
        if resolution.context is not None:
            told = self._told_of(resolution.context)
        brings_prompt = asked.student_prompt_ref is not None
        spliced = _Spliced(
            context,
            resolution,
            self._codec.frame_of(outcome, self._recipe.outcome),
            middle_of(resolution, told, brings_prompt=brings_prompt),
        )
        if len(self._spliced) >= CACHED:
            self._spliced.clear()
        self._spliced[(scope_key, brings_prompt)] = spliced
        return spliced
