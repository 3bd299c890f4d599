"""The result of a command on stdout: one JSON document for machines, or a table for people."""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


def print_json(document: Any) -> None:
    """Print one JSON document and a line feed."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Print a table for people."""
    from rich.console import Console  # only here: machines ask for JSON and need not wait for it
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(
            *(Text(harmless(str(cell))) for cell in row)
        )  # Text: cells may hold foreign markup
    console = Console()
    console.print(table) if console.is_terminal else Console(width=250).print(table)


def print_fields(title: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one document: as JSON, or as a table of names and values."""
    if as_json:
        print_json(document)
    else:
        print_table(title, ("", ""), document.items())


def harmless(text: str) -> str:
    """The text with control characters replaced, except tab and line feed, so that it is safe for a terminal."""
    return CONTROL.sub("\ufffd", text)
