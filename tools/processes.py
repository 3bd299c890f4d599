"""Cjstream commands as real child processes; their last log lines are shown if anything fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from processors.addresses import client_url
from processors.http_clients import http_client
from processors.kafka.bounded_wait import wait_until
from processors.kafka.consumer_groups import committed_offsets
from processors.settings import GROUPS, Settings, variable_of
from schemas.errors import CJStreamError, Unreachable

ROOT = Path(__file__).parent.parent
Say = Callable[[str], None]
COMMAND_S = 60.0
READY_S = 60.0
STOP_S = 15.0
SHOWN_LINES = 20  # last log lines of a process that failed


def command(*arguments: str) -> list[str]:
    """The command line of a cjstream command, with this Python."""
    return module("tools", *arguments)


def child_command(*arguments: str) -> list[str]:
    """The command line of a cjstream command that ends with its parent, which gives it a pipe as stdin."""
    return module("tools.ending_with_parent", *arguments)


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module, with this Python."""
    return [sys.executable, "-P", "-m", name, *arguments]


def environment(**settings: object) -> dict[str, str]:
    """This process's environment, with these settings added and the packages on the import path."""
    variables = {variable_of(name): str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment with exactly these settings, except unset ones."""
    return environment(
        **{
            name: ",".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in settings.model_dump(
                exclude=set(GROUPS)
            ).items()  # their variables are in the environment
            if value is not None
        }
    )


def command_output(settings: Settings, *arguments: str, **variables: str) -> str:
    """What a command prints, run with these settings and more environment variables.

    Raises CJStreamError if its exit code is not 0.
    """
    done = subprocess.run(
        command(*arguments),
        env=environment_of(settings) | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=COMMAND_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        name = " ".join(arguments[:3])
        raise CJStreamError(f"cjstream {name} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


@contextmanager
def running(name: str, settings: Settings, say: Say) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a cjstream command as a process with these settings, and end it with SIGTERM.

    Raises CJStreamError if its exit code is not 0.
    """
    with started(name, settings, say) as child:
        yield child
        child.terminate()
        if code := child.wait(STOP_S):
            raise CJStreamError(f"{name} ended with exit code {code}")


@contextmanager
def started(
    name: str,
    settings: Settings,
    say: Say,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> "Iterator[subprocess.Popen[bytes]]":
    """The same for a process that may end in any way; it is killed when the block is left, if it still runs.

    With arguments, they are its command line, and the name is only shown; variables are added to its environment.
    """
    log = settings.data_dir / f"{name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            arguments or child_command(name),
            env={**environment_of(settings), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C then reaches only this process, which ends the child
        )
    try:
        say(f"{name} starts: process {child.pid}")
        yield child
    except Exception:
        _show_last_lines(name, log, say)
        raise
    finally:
        child.kill()
        child.communicate()  # waits, and closes the pipe


@contextmanager
def api_running(settings: Settings, say: Say) -> Iterator[str]:
    """Run the API as a process; yields its base URL once it is ready."""
    url = client_url(settings.api_host, settings.api_port)
    with running("api", settings, say) as api, http_client(url) as client:

        def is_ready() -> bool:
            if api.poll() is not None:
                raise CJStreamError(f"api ended by itself: {api.returncode}")
            try:
                return client.get(f"{url}/readyz").is_success
            except httpx.HTTPError:
                return False

        wait_until(is_ready, seconds=READY_S, what=f"the admin API on {url}")
        yield url


def wait_for_judge(settings: Settings, judge: "subprocess.Popen[bytes]") -> None:
    """Wait until the first judge has decided where it starts. Raises CJStreamError if it ended."""
    batches = settings.partitions_of(settings.topics.batches)

    def has_started() -> bool:
        if judge.poll() is not None:
            raise CJStreamError(f"judge ended by itself: {judge.returncode}")
        with suppress(Unreachable):  # a new broker's coordinator
            return len(committed_offsets(settings, settings.judge_group, batches)) == len(batches)
        return False

    wait_until(has_started, seconds=READY_S, what="the judge to start")


def _show_last_lines(name: str, log: Path, say: Say) -> None:
    lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
    say(f"the last log lines of {name}:" if lines else f"{name} logged nothing")
    for line in lines:
        say(f"  {line}")
