"""Rules for the texts that people give."""

MIN_TEXT = 10  # characters
MAX_TEXT_BYTES = {"instructions": 65_536, "student_prompt": 131_072, "judge_rubric": 131_072}


def trimmed(text: str) -> str:
    """Without one leading byte-order mark and without white space around it."""
    return text.removeprefix("\ufeff").strip()
