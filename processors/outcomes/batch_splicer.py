"""Splices the outcomes of whole batches. Pure.

What the outcomes of one scope share is prepared once and kept in a table, until the scope's context changes. Requests
that are not spliced are left to the caller, record by record: those that are not canonical or are too large, and
those that may have to wait for their context.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from processors.outcomes.encoded_rows import RowsOf, encoded_context
from processors.outcomes.encoding import (
    EncodedRoles,
    encode_context_part,
    encode_roles,
    encoded_roles,
    long,
    text,
)
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import ScannedFields, request_layouts
from processors.outcomes.resolve import C, Prepared, Unresolved, resolve
from processors.policy import Policy
from schemas.codec import Codec
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
)
from schemas.topics import Topics
from tables.scan.layout import Layout


class Kind(IntEnum):
    """What becomes of the requests of one scope."""

    PREPARED = 0
    UNRESOLVED = 1
    LEFT = 2  # to the caller: they may have to wait


class ScopeUse(NamedTuple):
    """What an outcome's context part depends on, beside the context: the id, of what, and who brings the prompt."""

    number: int  # 0 to 3: twice `is_course` plus `brings_prompt`
    id: bytes

    @property
    def is_course(self) -> bool:
        return self.number >= 2

    @property
    def brings_prompt(self) -> bool:
        return self.number % 2 == 1

    @property
    def scope_key(self) -> bytes:
        return (b"course:" if self.is_course else b"assignment:") + self.id

    @property
    def fields(self) -> ScannedFields:
        """Those of a request with this use."""
        an_id = self.id.decode()
        prompt = "its own" if self.brings_prompt else None
        return ScannedFields(None if self.is_course else an_id, an_id, prompt)


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
    """The bytes that outcomes are spliced from, apart from the requests.

    `context_of` and `rows_of` read the same contexts: decoded ones, and the replica's rows of them.
    """

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        rows_of: RowsOf,
        topics: Topics,
        recipe: int = RECIPE,
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self.rows_of = rows_of
        self._topic = topics.requests.name
        self.upload_topics = tuple(topic.name for topic in topics.uploads)
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
        """The context part that outcomes share, from the present context."""
        context = encoded_context(self.rows_of([use.scope_key]), self.upload_topics)
        if context is None:
            return self.decoded_part(use)
        return self._part(use, context, encoded_roles)

    def decoded_part(self, use: ScopeUse) -> SharedPart:
        """The same by the slow path: decode, resolve, encode."""
        return self._part(use, self._context_of(use.scope_key.decode()), encode_roles)

    def _part(
        self, use: ScopeUse, context: C | None, roles_of: Callable[[C | None], EncodedRoles]
    ) -> SharedPart:
        resolution = self.resolve(use, context)
        roles = roles_of(resolution.context)
        part = encode_context_part(resolution, roles, brings_prompt=use.brings_prompt)
        return SharedPart(self.kind_of(resolution), part)

    def resolve(self, use: ScopeUse, context: C | None) -> Prepared[C] | Unresolved[C]:
        """The resolution of requests with this use."""
        return resolve(use.fields, context, self._policy)

    def kind_of(self, resolution: Prepared[C] | Unresolved[C]) -> Kind:
        """What becomes of requests with this resolution."""
        if isinstance(resolution, Prepared):
            return Kind.PREPARED
        may_wait = resolution.may_wait and self._policy.patience_s
        return Kind.LEFT if may_wait else Kind.UNRESOLVED

    def frames(self) -> tuple[bytes, bytes]:
        """The first five bytes of a prepared outcome and of an unresolved one."""
        version = self._recipe.outcome
        return (
            self._codec.frame_of(CJBatchPrepared, version),
            self._codec.frame_of(CJBatchUnresolved, version),
        )


def usual_use_of(scope_key: str) -> ScopeUse:
    """The use of a scope by requests that bring no prompt of their own."""
    kind, _, an_id = scope_key.encode().partition(b":")
    return ScopeUse(2 if kind == b"course" else 0, an_id)


def uses_of(scope_keys: Iterable[str]) -> list[ScopeUse]:
    """Every use of these scopes."""
    usual = [usual_use_of(scope_key) for scope_key in scope_keys]
    return [ScopeUse(use.number + brings, use.id) for use in usual for brings in (0, 1)]
