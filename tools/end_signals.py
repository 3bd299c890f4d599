"""The signals that ask a command to end: SIGTERM, Ctrl-C, Ctrl-\\ and the end of its terminal."""

import signal
from typing import NoReturn

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def end_signals() -> tuple[signal.Signals, ...]:
    """These signals, but not SIGHUP if the caller has it ignored, as nohup does."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(one for one in ALL if one != signal.SIGHUP or not ignores_hangup)


def exit_on_end_signals() -> None:
    """Make these signals raise SystemExit, so that every open block is left and ends what it started."""
    for one in end_signals():
        signal.signal(one, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    for one in (
        end_signals()
    ):  # a terminal that closes may send several, and what was started must be ended
        signal.signal(one, signal.SIG_IGN)
    # not sys.exit, which raises with a bare int that librdkafka's binding cannot handle
    raise SystemExit(128 + number)
