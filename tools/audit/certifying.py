"""The fast way to find nothing wrong with an outcome: it is made again by splicing, and has the same bytes. Pure.

What this does not certify may still be right: it is judged in full then, and that decides. So a guess is enough here
where a wrong one can only fail to certify.
"""

from processors.positions import POSITIONS_HEADER, read_positions
from processors.resolve import Policy, Prepared
from processors.splicing import Answer, Splicer
from schemas.codec import FRAME, Codec
from schemas.errors import Malformed
from schemas.events import Coordinates
from schemas.topics import Topics
from tables.replica import Positions
from tools.audit.ledger import Ledger
from tools.audit.raw_contexts import RawContext, RawContexts, told_of
from tools.audit.standing import Standing

DIGITS = 20  # and more are no offset
BEHIND = 2  # bytes that a later schema may put behind an earlier request's
Headers = list[tuple[str, bytes | None]]


class Certifier:
    """Certifies outcomes of one partition, the faster the more of them were joined at the same positions."""

    def __init__(
        self,
        codec: Codec,
        topics: Topics,
        policy: Policy,
        standing: Standing,
        contexts: RawContexts,
        upload_ends: Positions,
        ledger: Ledger,
        partition: int,
    ) -> None:
        self._topics = topics
        self._standing = standing
        self._contexts = contexts
        self._upload_ends = upload_ends
        self._ledger = ledger
        self._partition = partition
        self._spliced = Splicer(codec, policy, self._context_of, told_of).spliced
        self._begins = f"{topics.requests.name}/{partition}@".encode()
        self._told: bytes | None = None
        self._scope_key = ""
        self._behind = 0

    def _context_of(self, scope_key: str) -> RawContext | None:
        self._scope_key = scope_key
        return self._contexts.context(scope_key)

    def certified(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        appended_at_ms: int,
    ) -> int | None:
        """The offset of its request, if the outcome is certainly right; None where that has to be judged."""
        if value is None or headers is None or not self._stands(headers):
            return None
        offset = self.offset_in(value)
        if offset is None or offset not in self._ledger:
            return None
        request = self._embedded(offset, key, value)
        if request is None:
            return None
        at = Coordinates(self._topics.requests.name, self._partition, offset)
        answer = self._spliced(request, at)
        if answer is None or answer.value != value or topic != self._topic_of(answer):
            return None
        # what was appended after the outcome, was appended after its request
        return offset if self._contexts.is_settled(self._scope_key, appended_at_ms) else None

    def _embedded(self, offset: int, key: bytes | None, value: bytes) -> bytes | None:
        found = self._ledger.embedded(offset, key, value, self._behind)
        for behind in range(BEHIND) if found is None else ():
            if found := self._ledger.embedded(offset, key, value, behind):
                self._behind = behind
                break
        return found

    def _stands(self, headers: Headers) -> bool:
        """Stand at the positions that the headers tell, where they can be told at all."""
        if len(headers) != 1 or headers[0][0] != POSITIONS_HEADER:
            return False
        told = headers[0][1]
        if told != self._told:
            self._told = None
            try:
                positions = read_positions(told or b"", self._topics)
                self._standing.stand_at(positions)
            except Malformed:
                return False
            if any(position > self._upload_ends[one] for one, position in positions.items()):
                return False
            self._told = told
        return True

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, which is the first field: the request's coordinates as text."""
        start = FRAME.size + 1
        if len(value) <= start:
            return None
        size = value[start - 1]
        if size > 127:  # of 64 characters or more
            size += (value[start] - 1) << 7
            start += 1
        text = value[start : start + (size >> 1)]
        digits = text[len(self._begins) :]
        is_of_here = text.startswith(self._begins) and digits.isdigit() and len(digits) < DIGITS
        return int(digits) if is_of_here else None

    def _topic_of(self, answer: Answer[RawContext]) -> str:
        is_prepared = isinstance(answer.resolution, Prepared)
        return (self._topics.batches if is_prepared else self._topics.unresolved).name
