"""The result of a command on stdout: one JSON document for machines, or a table for people."""

import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

# of C0 and C1 all but tab and line feed, and what reverses the direction of text
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PRINTED: deque[bool] = deque(maxlen=1)  # not empty: this command has printed its document
BREAK = re.compile("[\t\n\u2028\u2029]")


def print_json(document: Any) -> None:
    """Print one JSON document and a line feed."""
    print_json_lines(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def print_json_lines(lines: bytes) -> None:
    """Print documents that are encoded already."""
    PRINTED.append(True)
    sys.stdout.buffer.write(lines)


def print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Print a table for people."""
    from rich.console import Console  # only here: machines ask for JSON and need not wait for it
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        # Text: cells may hold foreign markup
        table.add_row(*(Text(one_line(str(cell))) for cell in row))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=250).print(table)


def print_fields(title: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one document: as JSON, or as a table of names and values."""
    if as_json:
        print_json(document)
    else:
        print_table(title, ("", ""), document.items())


def print_line(text: str) -> None:
    """Print one line for people, safe for a terminal whatever is in it."""
    sys.stdout.write(f"{one_line(text)}\n")


def number_of(count: int, noun: str) -> str:
    """Such as `1 member` and `2 members`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(text: str) -> str:
    """The text as one line that is safe for a terminal: no string from outside can end it or write another."""
    return BREAK.sub(" ", harmless(text))


def harmless(text: str) -> str:
    """The text with control characters replaced, except tab and line feed, so that it is safe for a terminal."""
    return CONTROL.sub("\ufffd", text)
