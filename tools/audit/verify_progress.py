"""A bar of the outcomes read, on stderr where that is a terminal, while everything else passes through."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress as Bar

from tools.audit.findings import Remark
from tools.audit.verify import Progress, Report


def with_progress(
    told: Iterator[Remark | Progress | Report],
) -> Iterator[Remark | Report]:
    """The same without the counts, which the bar shows."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("uploads are read", total=None)
        for one in told:
            if isinstance(one, Progress):
                bar.update(task, description="outcomes", total=one.total, advance=one.read)
            else:
                yield one
