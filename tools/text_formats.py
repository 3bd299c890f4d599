"""Formats that are not plain text, by their first bytes."""

import re

WORD = "a Word document (.docx)"
LOOKED_AT = 1024  # of a text
MIN_UNITS = 4  # of two bytes
SIGNATURES = (
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"-----BEGIN ", "a key or a certificate"),
)
ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # with files and empty
MACROS = b"vbaProject.bin"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
WITH_PASSWORD = "EncryptedPackage".encode("utf-16-le")  # a stream in it
IN_ZIP = (  # names of files, which a ZIP archive does not compress
    (b"word/document.xml", WORD),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", "an OpenDocument text (.odt)"),
    (b"ppt/presentation.xml", "a PowerPoint presentation"),
    (b"xl/workbook.xml", "an Excel workbook"),
)
STARTS = (
    (re.compile(rb"--[^\r\n]{1,200}\r?\nContent-Disposition: form-data", re.I), "a multipart form"),
    (
        re.compile(rb"(MIME-Version|Received|Return-Path|Delivered-To|Message-ID): .", re.I),
        "an e-mail message",
    ),
    (re.compile(rb"data:[\w/+.-]*(;[\w=-]+)*;base64,", re.I), "a data URL"),
    (
        re.compile(rb"(<!--.*?-->\s*)*<(!doctype html|html|head|body)[\s>]", re.I | re.S),
        "an HTML page",
    ),
    (re.compile(rb"<svg[\s>]", re.I), "an SVG image"),
    (re.compile(rb"<\?xml\s", re.I), "an XML document"),
)


def foreign_format(content: bytes) -> str | None:
    """The name of the format, with its article; None if the content may be plain text."""
    for signature, name in SIGNATURES:
        if content.startswith(signature):
            return name
    if content.startswith(OLE):
        is_locked = WITH_PASSWORD in content
        return (
            "a document with a password" if is_locked else "a Word document of before 2007 (.doc)"
        )
    if content.startswith(ZIPS):
        if MACROS in content:
            return "a document with macros (.docm)"
        return next((name for part, name in IN_ZIP if part in content), "a ZIP archive")
    start = content[:LOOKED_AT]
    if _is_utf_16(start):
        return "UTF-16 text"
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((name for pattern, name in STARTS if pattern.match(start)), None)


def _is_utf_16(start: bytes) -> bool:
    """Whether nearly every second byte is zero, as in texts of European languages without a byte-order mark."""
    half = len(start) // 2
    return half >= MIN_UNITS and any(
        start[at::2].count(0) >= 0.9 * half and 0 not in start[1 - at :: 2] for at in (0, 1)
    )
