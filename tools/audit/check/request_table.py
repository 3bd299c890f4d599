"""The requests of one partition as verify keeps them: of each a digest, a length, its time and what came of it. Pure.

Bodies are not held: an outcome embeds its request's bytes, and the digest says whether they are the same. Memory:
30 bytes an offset of the range.
"""

from array import array
from collections.abc import Iterator
from hashlib import blake2b

from schemas.codec import FRAME

DIGEST_BYTES = 16
OTHER_FRAMES = (
    255  # more kinds of first bytes than that are not told apart: their outcomes are judged in full
)
REQUEST, ANSWERED = 1, 2


def digest_of(key: bytes | None, value: bytes) -> bytes:
    """What tells a request's key and value from any other's."""
    length = b"-" if key is None else b"%d:" % len(key)
    return blake2b(b"".join((length, key or b"", value)), digest_size=DIGEST_BYTES).digest()


class RequestTable:
    """Requests by offset, `[begin, end)`."""

    def __init__(self, begin: int, end: int) -> None:
        count = max(0, end - begin)
        self.begin = begin
        self.end = begin + count
        self._digests = bytearray(DIGEST_BYTES * count)
        self._lengths = array("I", bytes(4 * count))
        self._times_ms = array("q", bytes(8 * count))
        self._frame_numbers = bytearray(count)
        self._states = bytearray(count)
        self._frames: list[bytes] = [b""]
        self._numbers: dict[bytes, int] = {}

    def __contains__(self, offset: int) -> bool:
        return self.begin <= offset < self.end

    def add(self, offset: int, key: bytes | None, value: bytes | None, appended_at_ms: int) -> None:
        """A request stands there."""
        index = offset - self.begin
        self._states[index] = REQUEST
        self._times_ms[index] = appended_at_ms
        if value is None or len(value) < FRAME.size:
            return  # such a one has a dead letter, which is judged in full
        frame = value[: FRAME.size]
        number = self._numbers.get(frame)
        if number is None:
            number = self._admit(frame)
        self._frame_numbers[index] = number
        self._lengths[index] = len(value) - FRAME.size
        place = index * DIGEST_BYTES
        self._digests[place : place + DIGEST_BYTES] = digest_of(key, value)

    def _admit(self, frame: bytes) -> int:
        if len(self._frames) > OTHER_FRAMES:
            return 0
        self._frames.append(frame)
        self._numbers[frame] = len(self._frames) - 1
        return self._numbers[frame]

    def frame(self, offset: int) -> bytes:
        """The frame of the request that stands there; empty where it has none that is kept."""
        return self._frames[self._frame_numbers[offset - self.begin]]

    def embedded(self, offset: int, key: bytes | None, outcome: bytes, behind: int) -> bytes | None:
        """The request, if the outcome has its bytes at its end, but for so many behind them."""
        index = offset - self.begin
        number, length = self._frame_numbers[index], self._lengths[index]
        end = len(outcome) - behind
        if not number or length > end:
            return None
        request = self._frames[number] + outcome[end - length : end]
        place = index * DIGEST_BYTES
        is_same = digest_of(key, request) == self._digests[place : place + DIGEST_BYTES]
        return request if is_same else None

    def appended_at_ms(self, offset: int) -> int:
        """When the request that stands there was appended."""
        return self._times_ms[offset - self.begin]

    def is_request(self, offset: int) -> bool:
        """Whether a committed request stands there."""
        return bool(self._states[offset - self.begin] & REQUEST)

    def mark_answered(self, offset: int) -> bool:
        """An outcome of this request was found; False where there was one already."""
        index = offset - self.begin
        is_first = not self._states[index] & ANSWERED
        self._states[index] |= ANSWERED
        return is_first

    def is_open(self, offset: int) -> bool:
        """Whether a request stands there that has no outcome."""
        return self._states[offset - self.begin] == REQUEST

    def open(self) -> Iterator[int]:
        """The requests without an outcome, in order."""
        index = self._states.find(REQUEST)
        while index >= 0:
            yield self.begin + index
            index = self._states.find(REQUEST, index + 1)

    def is_same(self, offset: int, key: bytes | None, value: bytes) -> bool:
        """Whether these are the key and value that stand there."""
        place = (offset - self.begin) * DIGEST_BYTES
        return digest_of(key, value) == self._digests[place : place + DIGEST_BYTES]
