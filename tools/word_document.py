"""The text of a Word document (.docx), which is how teachers send prompts."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from schemas.errors import CJStreamError

MAX_BYTES = 20 * 1024 * 1024  # of the file; pictures make it large
MAX_UNPACKED_BYTES = 200 * 1024 * 1024
NAMESPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
REMOVED = ("del", "moveFrom")  # tracked changes
TRACKED = ("ins", "moveTo", *REMOVED)
LEFT_OUT = {
    "drawing": "a picture",
    "pict": "a picture",
    "footnoteReference": "a footnote",
    "endnoteReference": "an endnote",
}


def text_of_document(content: bytes) -> tuple[str, list[str]]:
    """The text, one line per paragraph and per row of a table, and what the text leaves out.

    Tracked changes count as accepted. Raises CJStreamError if it is damaged.
    """
    body = _body(content)
    left_out = dict.fromkeys(
        LEFT_OUT[name] for element in body.iter() if (name := _name(element)) in LEFT_OUT
    )
    return "\n".join(_lines(body)), list(left_out)


def has_tracked_changes(content: bytes) -> bool:
    """Whether the body of the document has changes that nobody has accepted. Raises CJStreamError if it is damaged."""
    return any(_name(element) in TRACKED for element in _body(content).iter())


def _body(content: bytes) -> Any:
    import docx  # it takes longer than a command that reads no document
    from docx.opc.exceptions import PackageNotFoundError

    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise CJStreamError("a Word document that is too large")
        return docx.Document(BytesIO(content)).element.body
    except (
        zipfile.BadZipFile,
        PackageNotFoundError,
        SyntaxError,  # of XML
        KeyError,
        ValueError,
        OSError,
    ) as fault:
        raise CJStreamError("a damaged Word document") from fault


def _lines(block: Any) -> Iterator[str]:
    """The lines of a body, a cell or a content control."""
    for element in block:
        match _name(element):
            case "p":
                yield from _paragraph(element)
            case "tr":
                yield "\t".join("\n".join(_lines(cell)) for cell in element)
            case "tcPr" | "tblPr" | "tblGrid" | "trPr" | "sdtPr":
                pass
            case _:
                yield from _lines(element)


def _paragraph(paragraph: Any) -> Iterator[str]:
    is_item = next(paragraph.iter(f"{NAMESPACE}numPr"), None) is not None
    text = "".join(_runs(paragraph))
    yield f"- {text}" if is_item and text else text


def _runs(element: Any) -> Iterator[str]:
    """The text of a paragraph's runs, in links, fields, insertions and text boxes, too."""
    for child in element:
        name = _name(child)
        if name == "t":
            yield child.text or ""
        elif name in CHARACTERS:
            yield CHARACTERS[name]
        elif name == "p":  # of a text box
            yield "\n" + "".join(_runs(child))
        elif name not in REMOVED and name != "pPr" and child.tag != FALLBACK:
            yield from _runs(child)


def _name(element: Any) -> str:
    """The name of a WordprocessingML element; other elements have none."""
    return element.tag.removeprefix(NAMESPACE) if isinstance(element.tag, str) else ""
