"""Splices the outcomes of whole batches. Pure.

What the outcomes of one scope share is prepared once and kept in a table, until the scope's context changes. Requests
that are not spliced are left to the caller, record by record: those that are not canonical or are too large, and
those that may have to wait for their context.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from processors.outcomes.encoding import long, text
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import ScannedFields, request_layouts
from processors.outcomes.resolve import Prepared, Unresolved
from processors.outcomes.splice import encode_resolved
from processors.policy import Policy
from schemas.codec import Codec
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
)
from tables.scan.layout import Layout

ASSIGNMENT, COURSE = "assignment:", "course:"


class Kind(IntEnum):
    """What becomes of the requests of one scope."""

    PREPARED = 0
    UNRESOLVED = 1
    LEFT = 2  # to the caller: they may have to wait


class ScopeUse(NamedTuple):
    """What an outcome's context part depends on, beside the context: the id, of what, and who brings the prompt."""

    is_course: bool
    brings_prompt: bool
    id: bytes

    @property
    def number(self) -> int:
        """0 to 3, of the two flags."""
        return 2 * self.is_course + self.brings_prompt


class SharedPart(NamedTuple):
    """What the outcomes of one use of a scope share."""

    kind: Kind
    encoded: bytes


class Spliced(NamedTuple):
    """The outcomes of a batch's requests, and whether each is prepared; None for a request that is left."""

    values: Sequence[bytes | None]
    are_prepared: Sequence[bool]


class BatchSplicer(Protocol):
    """Splices batches; only one thread at a time may call it."""

    def splice(
        self, requests: Sequence[bytes], partitions: Sequence[int], offsets: Sequence[int]
    ) -> Spliced:
        """The outcomes of requests at these places of the request topic."""

    def prepare(self, scope_keys: Collection[str]) -> bool:
        """Prepare contexts that are not prepared yet, before they are needed; False if there is no room for all."""

    def forget(self, scope_keys: Collection[str]) -> None:
        """Prepare the contexts of these scopes anew when they are needed."""


class OutcomeParts:
    """The bytes that outcomes are spliced from, apart from the requests."""

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        request_topic: str,
        recipe: int = RECIPE,
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._topic = request_topic
        self._recipe = RECIPES[recipe]

    def layouts(self) -> list[tuple[bytes, Layout, bytes]]:
        """The frames of requests that can be spliced, with their layouts, and what follows their bytes in an outcome.

        It may grow: the codec learns the ids of a schema registry.
        """
        by_version = request_layouts()
        return [
            (frame, by_version[version], self._recipe.spliced[version])
            for frame, version in self._codec.frames_of(CJAssessmentRequested).items()
            if version in self._recipe.spliced
        ]

    def head_of(self, partition: int) -> tuple[bytes, bytes]:
        """What precedes and what follows the offset in the event id, for requests of one partition."""
        middle = (long(self._recipe.number), text(self._topic), long(partition))
        return f"{self._topic}/{partition}@".encode(), b"".join(middle)

    def shared_part(self, use: ScopeUse) -> SharedPart:
        """The frame and the context part that outcomes share, from the present context."""
        an_id, prompt = use.id.decode(), "its own" if use.brings_prompt else None
        scope_key = (COURSE if use.is_course else ASSIGNMENT) + an_id
        request = ScannedFields(None if use.is_course else an_id, an_id, prompt)
        context = self._context_of(scope_key)
        part = encode_resolved(request, context, self._policy, self._codec, self._recipe)
        resolution = part.resolution
        kind = Kind.PREPARED if isinstance(resolution, Prepared) else Kind.UNRESOLVED
        if isinstance(resolution, Unresolved) and resolution.may_wait and self._policy.patience_s:
            kind = Kind.LEFT
        return SharedPart(kind, part.encoded)

    def frames(self) -> tuple[bytes, bytes]:
        """The first five bytes of a prepared outcome and of an unresolved one."""
        version = self._recipe.outcome
        return (
            self._codec.frame_of(CJBatchPrepared, version),
            self._codec.frame_of(CJBatchUnresolved, version),
        )


def usual_use_of(scope_key: str) -> ScopeUse:
    """The use of a scope by requests that bring no prompt of their own."""
    is_course = scope_key.startswith(COURSE)
    an_id = scope_key.removeprefix(COURSE if is_course else ASSIGNMENT).encode()
    return ScopeUse(is_course, False, an_id)


def uses_of(scope_keys: Iterable[str]) -> list[ScopeUse]:
    """Every use of these scopes."""
    usual = [usual_use_of(scope_key) for scope_key in scope_keys]
    return [use._replace(brings_prompt=brings) for use in usual for brings in (False, True)]
