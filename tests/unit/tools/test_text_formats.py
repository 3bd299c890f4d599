"""Formats that are not plain text are recognised and named; plain text is not."""

import gzip
import io
import zipfile

import pytest

from tools.text_formats import foreign_format
from tools.text_rules import broken_rule


def archive(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("[Content_Types].xml", "x" * 5000)
        opened.writestr(name, "text")
    return file.getvalue()


FOREIGN = {
    b"%PDF-1.7\n": "a PDF document",
    b"{\\rtf1\\ansi Write about a rule.}": "an RTF document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....": "a Word document of before 2007 (.doc)",
    archive("word/document.xml"): "a Word document (.docx)",
    archive("xl/workbook.xml"): "an Excel workbook",
    archive("notes.txt"): "a ZIP archive",
    b"PK\x05\x06" + bytes(18): "a ZIP archive",
    archive("word/document.xml") + archive("word/vbaProject.bin"): "a document with macros (.docm)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"): (
        "a document with a password"
    ),
    gzip.compress(b"Write about a rule."): "gzip data",
    "Write about a rule.".encode("utf-16"): "UTF-16 text",
    "Skriv om en regel, på två sidor".encode("utf-16-le"): "UTF-16 text",
    "Write about a rule.".encode("utf-16-be"): "UTF-16 text",
    b"<!-- saved from a page -->\n<html>": "an HTML page",
    b"<svg xmlns='x'></svg>": "an SVG image",
    "Write about a rule.".encode("utf-32"): "UTF-32 text",
    b'--b0\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext': "a multipart form",
    b"MIME-Version: 1.0\r\nSubject: x\r\n\r\ntext": "an e-mail message",
    b"data:text/plain;base64,V3JpdGU=": "a data URL",
    b"\xef\xbb\xbf\n<!DOCTYPE html><p>Write": "an HTML page",
    b"<?xml version='1.0'?><p>Write": "an XML document",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
}
PLAIN = [
    b"Write about a rule that you would change.",
    b"--- Task ---\nContent-Disposition: what is it?",
    b"<task> Write about HTML. </task>",
    b"Received wisdom: discuss.",
    b"% of pupils who passed",
    "Skriv om en regel. å ä ö".encode(),
    b"\xef\xbb\xbfWrite about a rule.",
    b"data: a plural noun?",
    b"a\0b\0",
    b"<!-- a comment --> Write about it.",
    b"<header> Write about it.",
    b"",
]
NOTHING_VISIBLE = ["\u200b" * 20, "\u00ad" * 20, "\u2800" * 20, "\u3164" * 20, "\ufe0f\u200d" * 9]


@pytest.mark.parametrize(("content", "name"), FOREIGN.items(), ids=FOREIGN.values())
def test_a_foreign_format_is_named(content: bytes, name: str) -> None:
    assert foreign_format(content) == name


@pytest.mark.parametrize("content", PLAIN)
def test_plain_text_has_no_foreign_format(content: bytes) -> None:
    assert foreign_format(content) is None


@pytest.mark.parametrize("text", NOTHING_VISIBLE)
def test_a_text_with_nothing_visible_is_blank(text: str) -> None:
    assert broken_rule(text, 1000) == ("blank", None)


@pytest.mark.parametrize(
    "text", ["1 + 1 = 2 ?", "なぜ規則が必要なのですか。", "🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂"]
)
def test_a_visible_text_of_any_script_is_not_blank(text: str) -> None:
    assert broken_rule(text, 1000) is None
