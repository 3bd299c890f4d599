"""How every command fails: lines for people on stderr and, with --json, one document on stdout."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any

import typer
from typer.core import TyperGroup

from schemas.errors import CJStreamError, Unreachable
from tools.admin.failures import document_of, lines_of, local_problem
from tools.printing import PRINTED, print_json
from tools.progress import say

# typer exports it under no other name
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ReportingGroup(TyperGroup):
    """All commands; it reports the failure of each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Record whether --json is given, before anything can fail."""
        PRINTED.clear()
        ctx.obj = "--json" in takewhile(lambda word: word != "--", args)
        with _failures_reported(as_json=ctx.obj):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an expected error becomes its exit code."""
        with _failures_reported(as_json=ctx.obj):
            return super().invoke(ctx)


@contextmanager
def _failures_reported(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except UsageError as fault:
        _print_problem(local_problem(getattr(fault, "message", str(fault)), 2), as_json=as_json)
        raise
    except CJStreamError as raised:
        cause = explained(raised)
        for line in lines_of(cause):
            say(line)
        _print_problem(document_of(cause), as_json=as_json)
        raise typer.Exit(cause.exit_code) from raised
    except BrokenPipeError:
        raise
    except OSError as fault:
        file = f"{fault.filename}: " if fault.filename else ""
        detail = f"{file}{fault.strerror or type(fault).__name__}"
        say(f"cjstream: {detail}")
        _print_problem(local_problem(detail, 1), as_json=as_json)
        raise typer.Exit(1) from fault
    except typer.Exit as ended:
        if ended.exit_code:
            problem = local_problem("its messages on stderr say what failed", ended.exit_code)
            _print_problem(problem, as_json=as_json)
        raise


def explained(fault: CJStreamError) -> CJStreamError:
    """The failure, or its cause if a broker that answers gives addresses where nothing answers."""
    if type(fault) is not Unreachable:
        return fault
    # loads slowly, and most commands do not fail
    from processors.kafka.why_refused import wrong_listeners
    from processors.settings import settings_from_environment

    with suppress(CJStreamError):
        if why := wrong_listeners(settings_from_environment()):
            return Unreachable(why)
    return fault


def _print_problem(problem: Any, *, as_json: bool) -> None:
    """Print the document of a failure, unless the command has printed its own already."""
    if as_json and not PRINTED:
        print_json(problem)
