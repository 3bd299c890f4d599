"""Rules for the texts that people upload."""

MIN_TEXT = 10  # characters
MAX_TEXT_BYTES = {"instructions": 65_536, "student_prompt": 131_072, "judge_rubric": 131_072}


def trimmed(text: str) -> str:
    """The text without one leading byte-order mark and without surrounding white space."""
    return text.removeprefix("\ufeff").strip()
