"""The fast path of batch preparation: appends a request's own bytes to those of its context. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from processors.outcomes.encoding import (
    encode_context_part,
    encode_head,
    encode_roles,
    optional,
)
from processors.outcomes.recipes import RECIPE, RECIPES, Recipe
from processors.outcomes.request_scan import ScannedFields, scan_request
from processors.outcomes.resolve import (
    Prepared,
    RequestFields,
    Unresolved,
    resolve,
    scope_key_for,
)
from processors.policy import Policy
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
)
from tables.scan.layout import FRAME_BYTES

MAX_CACHED_CONTEXTS = 20_000
Resolution = Prepared[AssignmentContext] | Unresolved[AssignmentContext]


class BuiltOutcome(NamedTuple):
    """The scope and the resolution of a request, and the framed bytes of its outcome."""

    scope_key: str
    resolution: Resolution
    value: bytes


class ContextPart(NamedTuple):
    """What the outcomes of one scope share: their resolution, frame and context part."""

    resolution: Resolution
    frame: bytes
    encoded: bytes


def encode_resolved(
    request: RequestFields,
    context: AssignmentContext | None,
    policy: Policy,
    codec: Codec,
    recipe: Recipe,
) -> ContextPart:
    """The shared part of the outcomes of requests with this scope, which bring a prompt if this one does."""
    resolution = resolve(request, context, policy)
    outcome = CJBatchPrepared if isinstance(resolution, Prepared) else CJBatchUnresolved
    roles = encode_roles(resolution.context)
    brings_prompt = request.student_prompt_ref is not None
    return ContextPart(
        resolution,
        codec.frame_of(outcome, recipe.outcome),
        encode_context_part(resolution, roles, brings_prompt=brings_prompt),
    )


class _Cached(NamedTuple):
    """A part, valid while the context is the same object."""

    context: AssignmentContext | None
    part: ContextPart


class Splicer:
    """Builds outcomes of canonical requests from a table of contexts.

    `context_of` returns the context of a scope key, and the same object until it changes. An older recipe rebuilds
    the outcomes of an earlier release.
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
        self._cache: dict[tuple[str, bool], _Cached] = {}

    def spliced(self, payload: bytes | None, at: Coordinates) -> BuiltOutcome | None:
        """The outcome of a request, or None if its bytes may not be canonical or this recipe cannot splice them."""
        if payload is None:
            return None
        version = self._codec.version_of(CJAssessmentRequested, payload)
        suffix = self._recipe.spliced.get(version)
        request = None if suffix is None else scan_request(payload, version)
        if suffix is None or request is None:
            return None
        scope_key = scope_key_for(request)
        context = self._context_of(scope_key)
        explicit = request.student_prompt_ref
        cached = self._cache.get((scope_key, explicit is not None))
        if cached is None or cached.context is not context:
            cached = self._encode_context(scope_key, context, request)
        part = cached.part
        pieces = [part.frame, encode_head(at, self._recipe.number), part.encoded]
        if explicit is not None and isinstance(part.resolution, Prepared):
            pieces.append(optional(explicit))
        pieces += (payload[FRAME_BYTES:], suffix)
        return BuiltOutcome(scope_key, part.resolution, b"".join(pieces))

    def _encode_context(
        self, scope_key: str, context: AssignmentContext | None, request: ScannedFields
    ) -> _Cached:
        part = encode_resolved(request, context, self._policy, self._codec, self._recipe)
        if len(self._cache) >= MAX_CACHED_CONTEXTS:
            self._cache.clear()
        cached = self._cache[scope_key, request.student_prompt_ref is not None] = _Cached(
            context, part
        )
        return cached
