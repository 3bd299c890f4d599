"""The fast path of batch preparation: a request's own bytes behind those of its context. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from processors.outcomes.encoding import (
    NOTHING,
    EncodedRoles,
    encode_context_part,
    encode_head,
    encode_roles,
    optional,
)
from processors.outcomes.recipes import RECIPE, RECIPES, Recipe
from processors.outcomes.request_scan import FRAME_BYTES, ScannedFields, scan_request
from processors.outcomes.resolve import Prepared, Unresolved, resolve, scope_key_for
from processors.policy import Policy
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
)

CACHED = 20_000
Resolution = Prepared[AssignmentContext] | Unresolved[AssignmentContext]


class BuiltOutcome(NamedTuple):
    """An outcome as it goes out: what it rests on, and its framed bytes."""

    resolution: Resolution
    value: bytes


class _Spliced(NamedTuple):
    """The bytes of one context, kept for as long as the context is the same object."""

    context: AssignmentContext | None
    resolution: Resolution
    frame: bytes
    middle: bytes


class Splicer:
    """Outcomes of canonical requests against a table of contexts.

    `context_of` gives the context of a scope key: the same object for as long as it is unchanged. Another recipe than
    that of the day makes an earlier release's outcomes again.
    """

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        recipe: int = RECIPE,
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._recipe: Recipe = RECIPES[recipe]
        self._spliced: dict[tuple[str, bool], _Spliced] = {}

    def spliced(self, payload: bytes | None, at: Coordinates) -> BuiltOutcome | None:
        """A request's outcome, or None where its bytes are not certainly canonical ones of this recipe."""
        if payload is None:
            return None
        version = self._codec.version_of(CJAssessmentRequested, payload)
        behind = self._recipe.spliced.get(version)
        asked = None if behind is None else scan_request(payload, version)
        if behind is None or asked is None:
            return None
        scope_key = scope_key_for(asked)
        context = self._context_of(scope_key)
        explicit = asked.student_prompt_ref
        known = self._spliced.get((scope_key, explicit is not None))
        if known is None or known.context is not context:
            known = self._splice(scope_key, context, asked)
        parts = [known.frame, encode_head(at, self._recipe.number), known.middle]
        if explicit is not None and isinstance(known.resolution, Prepared):
            parts.append(optional(explicit))
        parts += (payload[FRAME_BYTES:], behind)
        return BuiltOutcome(known.resolution, b"".join(parts))

    def _splice(
        self, scope_key: str, context: AssignmentContext | None, asked: ScannedFields
    ) -> _Spliced:
        resolution = resolve(asked, context, self._policy)
        is_prepared = isinstance(resolution, Prepared)
        outcome = CJBatchPrepared if is_prepared else CJBatchUnresolved
        told = EncodedRoles(NOTHING, NOTHING, NOTHING)
        if resolution.context is not None:
            told = encode_roles(resolution.context)
        brings_prompt = asked.student_prompt_ref is not None
        spliced = _Spliced(
            context,
            resolution,
            self._codec.frame_of(outcome, self._recipe.outcome),
            encode_context_part(resolution, told, brings_prompt=brings_prompt),
        )
        if len(self._spliced) >= CACHED:
            self._spliced.clear()
        self._spliced[(scope_key, brings_prompt)] = spliced
        return spliced
