"""Bodies of texts: bytes as they are, in no envelope and in no coding that would have to be undone."""

from email.message import Message

from starlette.requests import Request

from tools.api.errors.problems import Problem
from tools.text_formats import foreign_format
from tools.text_rules import AS_PLAIN_TEXT

SUPPORTED = ["text/plain; charset=utf-8"]
ENVELOPES = ("multipart", "message")
FORM = "application/x-www-form-urlencoded"
UNTYPED = ("text/plain", "text/markdown", "application/octet-stream")
UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")
AS_IS = ("identity", "7bit", "8bit", "binary")
HOW = "send the bytes of the file itself, as curl does with --data-binary @FILE and -H 'Content-Type: text/plain'"


def check_not_wrapped(request: Request) -> None:
    """Raise 415 for an envelope, a coding or a character set that would have to be undone."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", SUPPORTED[0])
    if header.get_content_maintype() in ENVELOPES or header.get_content_type() == FORM:
        raise _unsupported(f"{header.get_content_type()} wraps the text: {HOW}")
    for name in ("Content-Encoding", "Content-Transfer-Encoding"):
        codings = (coding.strip().lower() for coding in request.headers.getlist(name))
        if any(coding not in ("", *AS_IS) for line in codings for coding in line.split(",")):
            raise _unsupported(f"{name}: the body is stored as it is: send it without this coding")
    charset = str(header.get_param("charset", "utf-8")).lower()
    if header.get_content_maintype() == "text" and charset not in UTF8:
        raise _unsupported("the text is not in UTF-8: convert it first")


def check_is_text(media_type: str, content: bytes) -> None:
    """Raise 415 for another format that is sent as plain text or without a type."""
    declared = media_type.partition(";")[0].strip().lower()
    if declared in UNTYPED and (found := foreign_format(content)):
        raise _unsupported(f"the body is {found}: {AS_PLAIN_TEXT}")


def _unsupported(detail: str) -> Problem:
    return Problem(
        "unsupported-media-type",
        detail,
        headers={"Accept-Encoding": "identity"},
        supported=SUPPORTED,
    )
