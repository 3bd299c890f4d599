"""Rules for the texts that people upload."""

MIN_TEXT = 10  # characters
MAX_TEXT_BYTES = {"instructions": 65_536, "student_prompt": 131_072, "judge_rubric": 131_072}


def trimmed(text: str) -> str:
    """The text without one leading byte-order mark and without surrounding white space."""
    return text.removeprefix("\ufeff").strip()


def broken_rule(text: str, max_bytes: int) -> tuple[str, int | None] | None:
    """The first rule that a trimmed text breaks, by its code in the API, and the limit of that rule."""
    if not text:
        return "blank", None
    if len(text) < MIN_TEXT:
        return "too_short", MIN_TEXT
    if len(text.encode()) > max_bytes:
        return "too_long", max_bytes
    return ("invalid_characters", None) if "\0" in text else None
