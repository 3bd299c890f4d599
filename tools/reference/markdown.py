"""Generated pages as Markdown."""

from collections.abc import Iterable, Sequence

WRITTEN_BY = "<!-- Generated: `python -m tools.reference` writes this page. -->\n"


def page(title: str, introduction: str, *parts: str) -> str:
    """A page; its parts are separated by blank lines."""
    return "\n\n".join([f"# {title}", WRITTEN_BY + "\n" + introduction, *parts]) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a pipe in a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
