"""What a command answers, on stdout: one JSON document for machines, a table for people."""

import re
import sys
from collections.abc import Iterable
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


def print_json(document: Any) -> None:
    """The one JSON document of a --json command."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """A table for people."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(harmless(str(cell))) for cell in row))  # no markup of a stranger's
    console = Console()
    console.print(table) if console.is_terminal else Console(width=250).print(table)


def harmless(text: str) -> str:
    """The text without characters that steer a terminal."""
    return CONTROL.sub("\ufffd", text)
