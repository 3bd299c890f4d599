"""The text of a file that people send: UTF-8, or a Word document (.docx)."""

from schemas.errors import CJStreamError
from tools.progress import say
from tools.text_formats import WORD, foreign_format
from tools.text_rules import AS_PLAIN_TEXT
from tools.word_document import MAX_BYTES, text_of_document


def text_in(content: bytes, name: str) -> str:
    """The text of a file's content; what a document has beside its text is named on stderr. Raises CJStreamError."""
    if len(content) > MAX_BYTES:
        raise CJStreamError(f"more than {MAX_BYTES} bytes")
    found = foreign_format(content)
    if found == WORD:
        text, left_out = text_of_document(content)
        if left_out:
            say(f"{name}: the text is used without {' and '.join(left_out)} of the document")
        return text
    if found is not None:
        raise CJStreamError(f"{found}: {AS_PLAIN_TEXT} or as a Word document (.docx)")
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        raise CJStreamError(f"not UTF-8 from byte {fault.start} on: {AS_PLAIN_TEXT}") from None
