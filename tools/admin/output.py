"""How admin commands print a response: the document itself for machines, tables for people."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from tools.admin.failures import Usage
from tools.printing import harmless, one_line, print_table
from tools.progress import say


def show_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print names and values."""
    show_rows(
        title, ("", ""), [(name.replace("_", " "), cell(value)) for name, value in pairs.items()]
    )


def show_rows(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on a terminal, otherwise one line per row with tabs between the cells."""
    from rich.console import Console  # only here: machines ask for JSON and need not wait for it

    if Console().is_terminal:
        print_table(title, columns, rows)
        return
    for row in rows:
        line = "\t".join(map(one_line, row))
        sys.stdout.write(line + "\n")


def show_text(title: str, text: str | None) -> None:
    """Print a text under its title: unchanged, but on a terminal without control characters."""
    sys.stdout.write(f"\n{title}:\n{harmless(text or '') if sys.stdout.isatty() else text}\n")


def cell(value: Any) -> str:
    """A value as text for people."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case {"topic": topic, "partition": partition, "offset": offset}:
            return f"{topic}/{partition}@{offset}"
        case [*values]:
            return ", ".join(map(cell, values)) or "-"
        case {**pairs} if not isinstance(value, str):
            return ", ".join(f"{name}: {cell(item)}" for name, item in pairs.items()) or "-"
    return str(value)


def confirm(warning: str, *, yes: bool) -> None:
    """Ask before something is deleted; exits with 1 if the user declines. Raises Usage if there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage(f"{warning} Without a terminal, confirm with --yes.")
    say(warning)
    if not typer.confirm("Delete?", err=True):
        say("nothing was deleted")
        raise typer.Exit(1)
