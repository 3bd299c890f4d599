"""The text of an input file: UTF-8 or a Word document, extracted by a numbered recipe.

Recipe 1: the body of a Word document, paragraphs and rows of tables in order, without headers and footers, where
names stand; line ends become \\n; one leading byte-order mark and surrounding white space are removed.
"""

import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from schemas.errors import CJStreamError
from tools.text_files import text_in
from tools.text_formats import WORD, foreign_format
from tools.text_rules import MAX_TEXT_BYTES, broken_rule, minimum_of, trimmed
from tools.word_document import MAX_BYTES, has_tracked_changes

RECIPE = 1
SUFFIXES = (".docx", ".txt")
MAX_ID = 64
MAX_SYSTEM_BYTES = 16 * 1024  # of a system prompt, which is an override
LIMITS = {  # bytes, by kind
    "instructions": MAX_TEXT_BYTES["instructions"],
    "prompt": MAX_TEXT_BYTES["student_prompt"],
    "rubric": MAX_TEXT_BYTES["judge_rubric"],
    "system": MAX_SYSTEM_BYTES,
    "anchor": MAX_TEXT_BYTES["anchor"],
    "student": MAX_TEXT_BYTES["essay"],
}
NOT_IN_ID = re.compile(r"[^\w-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputText:
    """One text of a run. kind: instructions, prompt, rubric, system, anchor or student; grade: of an anchor."""

    kind: str
    id: str
    file_name: str
    file_sha256: str
    text: bytes
    grade: str | None = None

    @property
    def storage_id(self) -> str:
        """The sha256 of the text, in hex: its id in the content store."""
        return sha256(self.text).hexdigest()


def id_of(file_name: str) -> str:
    """The id of an essay, from the name of its file: letters, digits, _ and -, at most 64."""
    stem = unicodedata.normalize("NFC", Path(file_name).stem).lower()
    return NOT_IN_ID.sub("_", stem)[:MAX_ID]


def is_text_file(path: Path) -> bool:
    """Whether the name of a file says that it has a text."""
    is_hidden = path.name.startswith((".", "~$"))  # Word's lock files are ~$name.docx
    return path.suffix.lower() in SUFFIXES and not is_hidden


def read_input(kind: str, path: Path, grade: str | None = None) -> InputText:
    """The text of a file. Raises CJStreamError, which says what is wrong with the file but not its name."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise CJStreamError(f"cannot be read: {fault.strerror}") from fault
    return InputText(
        kind=kind,
        id=id_of(path.name),
        file_name=path.name,
        file_sha256=sha256(content).hexdigest(),
        text=_text(kind, content, path.name),
        grade=grade,
    )


def _text(kind: str, content: bytes, name: str) -> bytes:
    if (
        len(content) <= MAX_BYTES
        and foreign_format(content) == WORD
        and has_tracked_changes(content)
    ):
        raise CJStreamError("has tracked changes: accept or reject them, and save it again")
    text = trimmed(text_in(content, name).replace("\r\n", "\n").replace("\r", "\n"))
    minimum = minimum_of(kind)
    broken = broken_rule(text, LIMITS[kind], minimum)
    if broken is not None:
        is_anchor = kind == "anchor"
        needed = f"an anchor needs {minimum}" if is_anchor else f"at least {minimum} are needed"
        rules = {
            "blank": "has no text",
            "too_short": f"has {len(text)} characters, {needed}",
            "too_long": f"has {len(text.encode())} bytes, at most {LIMITS[kind]} are allowed",
            "invalid_characters": "contains U+0000",
            "not_plain_text": "is not plain text: save it as plain text in UTF-8",
        }
        raise CJStreamError(rules[broken[0]])
    return text.encode()
