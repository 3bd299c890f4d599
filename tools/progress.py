"""What a person sees while something takes long: on stderr, so that stdout stays a document."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

Item = TypeVar("Item")


def say(line: str) -> None:
    """One line for people."""
    print(line, file=sys.stderr)  # noqa: T201 (the one place)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say what is waited for: a spinner on a terminal, else one line."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"waiting for {what}"):
            yield
    else:
        console.print(f"waiting for {what}", markup=False, highlight=False, soft_wrap=True)
        yield


def bar(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The same items, counted by a progress bar where stderr is a terminal."""
    console = Console(stderr=True)
    yield from track(
        items,
        description=what,
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is told of so many more, where stderr is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
