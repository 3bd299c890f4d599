"""How admin commands show an answer: the document itself for machines, tables for people."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console

from tools.admin.client import ApiResponse
from tools.admin.failures import Usage
from tools.printing import harmless, print_json, print_table
from tools.progress import say


def show_answer(answer: ApiResponse, title: str, fields: Sequence[str], *, as_json: bool) -> None:
    """An answer's document, or some of its fields."""
    if answer.status == 202:
        say("written for good, but not yet folded: a read may show the state before for a moment")
    if as_json:
        print_json(answer.document)
    else:
        show_pairs(title, {name: answer.document.get(name) for name in fields})


def show_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Names and values."""
    show_rows(title, ("", ""), [(name.replace("_", " "), cell(it)) for name, it in pairs.items()])


def show_rows(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table on a terminal; else a line a row, cells apart by tabs."""
    if Console().is_terminal:
        print_table(title, columns, rows)
        return
    for row in rows:
        line = "\t".join(harmless(text).replace("\t", " ").replace("\n", " ") for text in row)
        sys.stdout.write(line + "\n")


def show_text(title: str, text: str | None) -> None:
    """A text with a line above it: as it is, but on a terminal nothing in it steers the terminal."""
    sys.stdout.write(f"\n{title}:\n{harmless(text or '') if sys.stdout.isatty() else text}\n")


def cell(value: Any) -> str:
    """One value for people."""
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
            return ", ".join(f"{name}: {cell(it)}" for name, it in pairs.items()) or "-"
    return str(value)


def confirm(warning: str, *, yes: bool) -> None:
    """Ask before something is deleted. Raises Usage where nobody can be asked; declined ends with 1."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage(f"{warning} Without a terminal, --yes says that it is meant.")
    say(warning)
    if not typer.confirm("Delete?", err=True):
        say("nothing was deleted")
        raise typer.Exit(1)
