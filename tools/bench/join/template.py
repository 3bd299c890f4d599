"""Fast encoding of many events that differ in some strings of fixed length. Pure."""

from collections.abc import Iterable, Sequence


class Template:
    """The bytes of an encoded event, with gaps for strings of the same length as those it was encoded with."""

    def __init__(self, encoded: bytes, strings: Iterable[str]) -> None:
        """Cut the strings, which occur once each and in this order, out of the encoded event."""
        self._fixed = list[bytes]()
        self._lengths = list[int]()
        rest = encoded
        for string in strings:
            before, found, rest = rest.partition(string.encode())
            if not found:
                raise ValueError("the encoded event does not have the string, or not in this order")
            self._fixed.append(before)
            self._lengths.append(len(found))
        self._last = rest

    def filled(self, strings: Sequence[bytes]) -> bytes:
        """The event with these strings; they must have the lengths of those that were cut out."""
        if [*map(len, strings)] != self._lengths:
            raise ValueError("a string has another length than the one in the template")
        parts = [part for pair in zip(self._fixed, strings, strict=True) for part in pair]
        parts.append(self._last)
        return b"".join(parts)
