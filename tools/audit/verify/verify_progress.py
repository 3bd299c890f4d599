"""Progress bars on stderr, if that is a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID

from tools.audit.check.findings import Finding
from tools.audit.verify.verify import VerifyProgress, VerifyReport


def with_progress(
    items: Iterator[Finding | VerifyProgress | VerifyReport],
) -> Iterator[Finding | VerifyReport]:
    """The findings and the report; the progress goes to the bars."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = dict[str, TaskID]()
        for item in items:
            if isinstance(item, VerifyProgress):
                if item.what not in tasks:
                    tasks[item.what] = bar.add_task(item.what, total=item.total)
                bar.advance(tasks[item.what], item.more)
            else:
                yield item
