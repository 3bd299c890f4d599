"""The text options: files of teachers, Word documents among them."""

import io
from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls

from schemas.errors import CJStreamError
from tools.admin.arguments import texts_of
from tools.admin.failures import Usage

W = nsdecls("w")


def saved(document: "docx.document.Document") -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def task() -> "docx.document.Document":
    document = docx.Document()
    document.add_heading("Uppgift", 1)
    document.add_paragraph("Skriv om en regel som du vill ändra.")
    return document


def read(tmp_path: Path, content: bytes, name: str = "task.docx") -> str:
    file = tmp_path / name
    file.write_bytes(content)
    return texts_of(prompt=(str(file), None))["prompt"]


def test_a_word_document_is_read(tmp_path: Path) -> None:
    document = task()
    document.add_paragraph("Exempel: en skolregel", style="List Bullet")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Längd", "300 ord"
    document.add_paragraph("Lycka\ttill!")
    expected = [
        "Uppgift",
        "Skriv om en regel som du vill ändra.",
        "Exempel: en skolregel",
        "Längd\t300 ord",
        "Lycka\ttill!",
    ]
    assert read(tmp_path, saved(document)).splitlines() == expected


def _insertion(document: "docx.document.Document") -> None:
    paragraph = document.add_paragraph("")._p  # noqa: SLF001
    for tag, text in (("ins", "<w:t>inserted</w:t>"), ("del", "<w:delText>gone</w:delText>")):
        paragraph.append(parse_xml(f"<w:{tag} {W} w:id='1'><w:r>{text}</w:r></w:{tag}>"))


def _content_control(document: "docx.document.Document") -> None:
    body = (
        f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>inserted</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    document.element.body.insert(0, parse_xml(body))


def _link(document: "docx.document.Document") -> None:
    paragraph = document.add_paragraph("")._p  # noqa: SLF001
    paragraph.append(parse_xml(f"<w:hyperlink {W}><w:r><w:t>inserted</w:t></w:r></w:hyperlink>"))


@pytest.mark.parametrize("change", [_insertion, _content_control, _link])
def test_no_text_of_a_document_is_lost(
    tmp_path: Path, change: Callable[["docx.document.Document"], None]
) -> None:
    document = task()
    change(document)
    text = read(tmp_path, saved(document))
    assert "inserted" in text.splitlines()
    assert "gone" not in text


def test_what_a_text_cannot_hold_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = task()
    paragraph = document.add_paragraph("See the picture.")._p  # noqa: SLF001
    element = OxmlElement("w:r")
    element.append(OxmlElement("w:drawing"))
    paragraph.append(element)
    read(tmp_path, saved(document))
    assert "task.docx: the text is used without a picture" in capsys.readouterr().err


REFUSED = {
    "a PDF document": b"%PDF-1.4 ...",
    "an RTF document": b"{\\rtf1 Write.}",
    "UTF-16 text": "Write about a rule.".encode("utf-16"),
    "a damaged Word document": saved(task())[:3000],
    "not UTF-8 from byte 6 on": "Skriv å".encode("latin-1"),
    "more than 20971520 bytes": b"x" * (20 * 1024 * 1024 + 1),
}


@pytest.mark.parametrize(("reason", "content"), REFUSED.items(), ids=REFUSED)
def test_another_file_is_refused_and_its_format_is_named(
    tmp_path: Path, reason: str, content: bytes
) -> None:
    with pytest.raises(CJStreamError, match=f"cannot read .*: {reason}"):
        read(tmp_path, content)


@pytest.mark.parametrize("size", [262_143, 262_144, 262_145, 400_000])
def test_a_long_text_is_too_long_and_not_called_something_else(tmp_path: Path, size: int) -> None:
    content = ("å" * size).encode()
    with pytest.raises(Usage, match=f"{len(content)} bytes; the maximum is 131072"):
        read(tmp_path, content, "task.txt")
    with pytest.raises(Usage, match="the maximum is 131072"):
        read(tmp_path, b"x" + content, "task.txt")
