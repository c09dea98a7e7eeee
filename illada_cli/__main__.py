"""The entry point of the `illada` executable, and of `python -m illada_cli`."""

import os
import signal
import sys

from illada_cli.signals import CAUGHT
from illada_core.errors import SIGNAL_EXIT_BASE


def run() -> None:
    """Run the command line and leave with its exit code."""
    open_closed_streams()
    from illada_cli.app import main

    code = main(sys.argv[1:])
    if code > SIGNAL_EXIT_BASE:
        # The interpreter gives caught signals their default back while it exits: another one that
        # came then would end the process without its code.
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def open_closed_streams() -> None:
    """Put /dev/null where cron or a daemon closed a standard stream.

    Else the next file that is opened would take its number, and be written to or read.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


if __name__ == "__main__":
    run()
