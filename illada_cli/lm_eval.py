"""`python -m illada_cli.lm_eval`: lm-evaluation-harness' own command line, which knows our model.

Its releases up to 0.4.13 look for no entry points, so a module has to be imported first.
"""

from __future__ import annotations

import sys

from illada_cli.ui import complain
from illada_core.errors import IlladaError, UsageError


def run() -> int:
    """Run the harness; return an exit code."""
    try:
        try:
            from illada_core.benchmark.harness import run_command_line
        except ModuleNotFoundError as error:
            raise UsageError(f"{error.name} is missing", "pip install 'illada[eval]'") from None
        run_command_line()
    except IlladaError as error:
        complain(error.sentence, error.hint)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(run())
