"""Rules for the texts that people upload."""

import unicodedata

from tools.text_formats import LOOKED_AT, foreign_format

MIN_TEXT = 10  # characters
MIN_ANCHOR = 100  # characters
MAX_TEXT_BYTES = {
    "instructions": 65_536,
    "student_prompt": 131_072,
    "judge_rubric": 131_072,
    "essay": 131_072,
    "anchor": 131_072,
}
AS_PLAIN_TEXT = "save it as plain text in UTF-8"
VISIBLE = frozenset("LNPS")  # letters, numbers, punctuation, symbols
LOOK_EMPTY = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols, by their category


def minimum_of(kind: str) -> int:
    """The fewest characters of a text of this kind: a role, `essay` or `anchor`."""
    return MIN_ANCHOR if kind == "anchor" else MIN_TEXT


def trimmed(text: str) -> str:
    """The text without one leading byte-order mark and without surrounding white space."""
    return text.removeprefix("\ufeff").strip()


def broken_rule(
    text: str, max_bytes: int, minimum: int = MIN_TEXT
) -> tuple[str, int | None] | None:
    """The first rule that a trimmed text breaks, by its code in the API, and the limit of that rule."""
    if not any(map(_is_visible, text)):
        return "blank", None
    if len(text) < minimum:
        return "too_short", minimum
    if len(text.encode()) > max_bytes:
        return "too_long", max_bytes
    if "\0" in text:
        return "invalid_characters", None
    return ("not_plain_text", None) if format_of(text) else None


def format_of(text: str) -> str | None:
    """The name of the format that a text has; None if it is plain text."""
    return foreign_format(text[:LOOKED_AT].encode())


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] in VISIBLE and character not in LOOK_EMPTY
