"""The entry point of the `illada` executable, and of `python -m illada_cli`."""

import signal
import sys

from illada_cli.signals import CAUGHT
from illada_core.errors import SIGNAL_EXIT_BASE


def run() -> None:
    """Run the command line and leave with its exit code."""
    from illada_cli.app import main

    code = main(sys.argv[1:])
    if code > SIGNAL_EXIT_BASE:
        # The interpreter gives caught signals their default back while it exits: another one that
        # came then would end the process without its code.
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    run()
