"""Runs a cjstream command that ends when its parent has ended, in whatever way: also by SIGKILL.

Its stdin is a pipe to which the parent never writes; the end of the parent is the end of the pipe. Unlike Linux's
PR_SET_PDEATHSIG, macOS has this, too.
"""

import os
import signal
import threading

from tools.cli import main

STDIN = 0


def _terminate_at_end_of_stdin() -> None:
    os.read(STDIN, 1)
    os.kill(os.getpid(), signal.SIGTERM)  # the command bounds the time that its stop takes


if __name__ == "__main__":
    threading.Thread(target=_terminate_at_end_of_stdin, daemon=True).start()
    main()
