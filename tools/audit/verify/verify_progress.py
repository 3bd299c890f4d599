"""Bars of what is read and judged, on stderr where that is a terminal, while everything else passes through."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID

from tools.audit.check.findings import Finding
from tools.audit.verify.verify import VerifyProgress, VerifyReport


def with_progress(
    told: Iterator[Finding | VerifyProgress | VerifyReport],
) -> Iterator[Finding | VerifyReport]:
    """The same without the counts, which the bar shows."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = dict[str, TaskID]()
        for one in told:
            if isinstance(one, VerifyProgress):
                if one.what not in tasks:
                    tasks[one.what] = bar.add_task(one.what, total=one.total)
                bar.advance(tasks[one.what], one.more)
            else:
                yield one
