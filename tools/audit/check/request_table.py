"""The requests of one partition, as verify remembers them: a digest, a length, the append time and a state of each.

Bodies are not held: an outcome embeds its request's bytes, and the digest shows whether they are the same. Memory:
30 bytes for each offset of the range.
"""

from array import array
from collections.abc import Iterator
from hashlib import blake2b

from schemas.codec import FRAME

DIGEST_BYTES = 16
MAX_FRAMES = 255  # distinct frames; the requests of any further one are checked in full
REQUEST, HAS_OUTCOME = 1, 2


def digest_of(key: bytes | None, value: bytes) -> bytes:
    """A digest of a request's key and value; no key and an empty key differ."""
    length = b"-" if key is None else b"%d:" % len(key)
    return blake2b(b"".join((length, key or b"", value)), digest_size=DIGEST_BYTES).digest()


class RequestTable:
    """Requests by offset, `[start, end)`."""

    def __init__(self, start: int, end: int) -> None:
        count = max(0, end - start)
        self.start = start
        self.end = start + count
        self._digests = bytearray(DIGEST_BYTES * count)
        self._lengths = array("I", bytes(4 * count))
        self._times_ms = array("q", bytes(8 * count))
        self._frame_numbers = bytearray(count)
        self._states = bytearray(count)
        self._frames: list[bytes] = [b""]
        self._numbers: dict[bytes, int] = {}

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.end

    def add(self, offset: int, key: bytes | None, value: bytes | None, appended_at_ms: int) -> None:
        """Add the request at this offset."""
        index = offset - self.start
        self._states[index] = REQUEST
        self._times_ms[index] = appended_at_ms
        if value is None or len(value) < FRAME.size:
            return  # its outcome is a dead letter, which is checked in full
        frame = value[: FRAME.size]
        number = self._numbers.get(frame)
        if number is None:
            number = self._add_frame(frame)
        self._frame_numbers[index] = number
        self._lengths[index] = len(value) - FRAME.size
        start = index * DIGEST_BYTES
        self._digests[start : start + DIGEST_BYTES] = digest_of(key, value)

    def _add_frame(self, frame: bytes) -> int:
        if len(self._frames) > MAX_FRAMES:
            return 0
        self._frames.append(frame)
        self._numbers[frame] = len(self._frames) - 1
        return self._numbers[frame]

    def frame(self, offset: int) -> bytes:
        """The frame of the request at this offset; empty if it has none or it is not kept."""
        return self._frames[self._frame_numbers[offset - self.start]]

    def embedded_request(
        self, offset: int, key: bytes | None, outcome: bytes, suffix_bytes: int
    ) -> bytes | None:
        """The request, if the outcome ends with its bytes and this many more; otherwise None."""
        index = offset - self.start
        number, length = self._frame_numbers[index], self._lengths[index]
        end = len(outcome) - suffix_bytes
        if not number or length > end:
            return None
        request = self._frames[number] + outcome[end - length : end]
        start = index * DIGEST_BYTES
        is_same = digest_of(key, request) == self._digests[start : start + DIGEST_BYTES]
        return request if is_same else None

    def appended_at_ms(self, offset: int) -> int:
        """The append time of the request at this offset."""
        return self._times_ms[offset - self.start]

    def is_request(self, offset: int) -> bool:
        """Whether there is a committed request at this offset."""
        return bool(self._states[offset - self.start] & REQUEST)

    def mark_outcome(self, offset: int) -> bool:
        """Note that this request has an outcome; returns False if it had one already."""
        index = offset - self.start
        is_first = not self._states[index] & HAS_OUTCOME
        self._states[index] |= HAS_OUTCOME
        return is_first

    def lacks_outcome(self, offset: int) -> bool:
        """Whether there is a request without an outcome at this offset."""
        return self._states[offset - self.start] == REQUEST

    def without_outcome(self) -> Iterator[int]:
        """The offsets of the requests without an outcome, in order."""
        index = self._states.find(REQUEST)
        while index >= 0:
            yield self.start + index
            index = self._states.find(REQUEST, index + 1)

    def is_same(self, offset: int, key: bytes | None, value: bytes) -> bool:
        """Whether the request at this offset has this key and value."""
        start = (offset - self.start) * DIGEST_BYTES
        return digest_of(key, value) == self._digests[start : start + DIGEST_BYTES]
