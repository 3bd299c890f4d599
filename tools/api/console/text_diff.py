"""The difference of two texts, as rows of two columns. Pure."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

WORDS = re.compile(r"\s+|\w+|[^\w\s]")
CONTEXT_LINES = 3
MAX_WORDS = 2000  # of a line: longer ones are compared whole, for the time grows with the square


class Piece(NamedTuple):
    """A part of a line; whether the other side has it, too."""

    text: str
    is_changed: bool


class Row(NamedTuple):
    """One line of both sides, with its numbers from 1; None where a side has none. `is_gap`: equal lines left out."""

    left: tuple[Piece, ...] | None
    right: tuple[Piece, ...] | None
    left_number: int | None
    right_number: int | None
    is_gap: bool = False


def diff_rows(left: str, right: str) -> list[Row]:
    """The changed lines of two texts with some equal lines around them; nothing for equal texts."""
    lines, others = left.splitlines(), right.splitlines()
    rows = list[Row]()
    matcher = SequenceMatcher(None, lines, others, autojunk=False)
    for number, group in enumerate(matcher.get_grouped_opcodes(CONTEXT_LINES)):
        if number:
            rows.append(Row(None, None, None, None, is_gap=True))
        for tag, start, end, other_start, other_end in group:
            paired = max(end - start, other_end - other_start)
            for offset in range(paired):
                at, other_at = start + offset, other_start + offset
                one = lines[at] if at < end else None
                other = others[other_at] if other_at < other_end else None
                pieces = _pieces(one, other, is_equal=tag == "equal")
                rows.append(
                    Row(
                        *pieces,
                        None if one is None else at + 1,
                        None if other is None else other_at + 1,
                    )
                )
    return rows


def _pieces(
    one: str | None, other: str | None, *, is_equal: bool
) -> tuple[tuple[Piece, ...] | None, tuple[Piece, ...] | None]:
    if one is None or other is None or is_equal:
        return _whole(one, not is_equal), _whole(other, not is_equal)
    words, others = WORDS.findall(one), WORDS.findall(other)
    if max(len(words), len(others)) > MAX_WORDS:
        return _whole(one, True), _whole(other, True)
    codes = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    left = _joined(((tag, words[start:end]) for tag, start, end, _, _ in codes))
    right = _joined(((tag, others[start:end]) for tag, _, _, start, end in codes))
    return left, right


def _whole(line: str | None, is_changed: bool) -> tuple[Piece, ...] | None:
    return None if line is None else (Piece(line, is_changed),)


def _joined(parts: Iterator[tuple[str, list[str]]]) -> tuple[Piece, ...]:
    return tuple(Piece("".join(words), tag != "equal") for tag, words in parts if words)
