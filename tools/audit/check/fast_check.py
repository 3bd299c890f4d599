"""The fast check of a claim: encode the context part of the outcome again, and compare the bytes.

An outcome that does not pass may still be right: the full check decides. So a shortcut is allowed here if it can only
make an outcome fail.
"""

from functools import lru_cache

from processors.outcomes.encoding import NOTHING, EncodedRoles, encode_context_part, optional
from processors.outcomes.positions_header import read_positions
from processors.outcomes.resolve import Prepared, resolve, scope_key_for
from processors.policy import Policy
from schemas.coordinates import Positions
from schemas.errors import Malformed
from schemas.topics import Topics
from tables.upload_record import UploadTopics
from tools.audit.check.encoded_contexts_as_of import (
    EncodedContext,
    EncodedContextsAsOf,
    encoded_roles,
)
from tools.audit.check.outcome_claim import OutcomeClaim
from tools.audit.check.uploads_as_of import PositionTable, position_table

MAX_CACHED_POSITIONS = 40_000  # of all partitions; the batches of one join have the same positions
NO_CONTEXT = EncodedRoles(NOTHING, NOTHING, NOTHING)


class PositionsCache:
    """The positions in outcome headers, if they are readable and not beyond the ends of the uploads; cached."""

    def __init__(self, topics: Topics, upload_topics: UploadTopics, upload_ends: Positions) -> None:
        self._topics = topics
        self._upload_topics = upload_topics
        self._upload_ends = upload_ends
        self.positions = lru_cache(
            maxsize=max(100, MAX_CACHED_POSITIONS // upload_topics.partitions)
        )(self._positions)

    def _positions(self, header: bytes) -> PositionTable | None:
        try:
            positions = read_positions(header, self._topics)
            table = position_table(positions, self._upload_topics)
        except Malformed:
            return None
        is_within = all(
            position <= self._upload_ends[partition] for partition, position in positions.items()
        )
        return table if is_within else None


class FastCheck:
    """The fast check of claims, given the encoded contexts of their scopes."""

    def __init__(
        self,
        topics: Topics,
        policy: Policy,
        positions_cache: PositionsCache,
        contexts: EncodedContextsAsOf,
    ) -> None:
        self._batches = topics.batches.name
        self._policy = policy
        self._positions = positions_cache.positions
        self._context_as_of = contexts.as_of

    def passes(self, claim: OutcomeClaim) -> bool:
        """Whether the outcome is certainly right."""
        positions = self._positions(claim.positions)
        if positions is None:
            return False
        request = claim.request_fields
        context, followed_ms = self._context_as_of(scope_key_for(request).encode(), positions)
        # a record beyond the positions may be older than the request, and the join may have missed it
        if followed_ms < claim.appended_at_ms:
            return False
        resolution = resolve(request, context, self._policy)
        is_prepared = isinstance(resolution, Prepared)
        if is_prepared != (claim.topic == self._batches):
            return False
        own_prompt = request.student_prompt_ref
        known: EncodedContext | None = resolution.context
        encoded = NO_CONTEXT if known is None else encoded_roles(known)
        context_part = encode_context_part(
            resolution, encoded, brings_prompt=own_prompt is not None
        )
        if is_prepared and own_prompt is not None:
            context_part += optional(own_prompt)
        return context_part == claim.context_part
