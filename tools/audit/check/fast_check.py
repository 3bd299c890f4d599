"""The fast way to find nothing wrong with a claim: what it tells of its context is spelled again. Pure.

What this does not certify may still be right: it is judged in full then, and that decides. So a guess is enough here
where a wrong one can only fail to certify.
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
from tools.audit.check.uploads_as_of import Below, below_of

POSITIONS = 40_000  # partitions' positions that are kept: joins differ in them, the batches of one join do not
OF_NONE = EncodedRoles(NOTHING, NOTHING, NOTHING)


class PositionsCache:
    """Positions as headers tell them, where they can be told and do not reach beyond the ends of the uploads."""

    def __init__(self, topics: Topics, cut: UploadTopics, upload_ends: Positions) -> None:
        self._topics = topics
        self._cut = cut
        self._upload_ends = upload_ends
        self.below = lru_cache(maxsize=max(100, POSITIONS // cut.partitions))(self._below)

    def _below(self, told: bytes) -> Below | None:
        try:
            positions = read_positions(told, self._topics)
            below = below_of(positions, self._cut)
        except Malformed:
            return None
        is_within = all(position <= self._upload_ends[one] for one, position in positions.items())
        return below if is_within else None


class FastCheck:
    """Certifies claims whose scopes' contexts it is given."""

    def __init__(
        self, topics: Topics, policy: Policy, places: PositionsCache, raw: EncodedContextsAsOf
    ) -> None:
        self._batches = topics.batches.name
        self._policy = policy
        self._below = places.below
        self._stood = raw.as_of

    def passes(self, claim: OutcomeClaim) -> bool:
        """Whether the outcome is certainly right."""
        below = self._below(claim.positions)
        if below is None:
            return False
        asked = claim.asked
        context, followed_ms = self._stood(scope_key_for(asked).encode(), below)
        # what follows may have been appended before the request, and the join not have seen it
        if followed_ms < claim.appended_at_ms:
            return False
        resolution = resolve(asked, context, self._policy)
        is_prepared = isinstance(resolution, Prepared)
        if is_prepared != (claim.topic == self._batches):
            return False
        explicit = asked.student_prompt_ref
        known: EncodedContext | None = resolution.context
        told = OF_NONE if known is None else encoded_roles(known)
        middle = encode_context_part(resolution, told, brings_prompt=explicit is not None)
        if is_prepared and explicit is not None:
            middle += optional(explicit)
        return middle == claim.middle
