"""`illada runs`: runs side by side, and what sets them apart."""

from __future__ import annotations

from illada_cli.options import takes_options
from illada_cli.runs.options import RunsOptions


@takes_options
def runs(asked: RunsOptions) -> None:
    """Show runs side by side: how far and how good they are, and where their recipes differ.

    \b
    Examples:
      illada runs
      illada runs runs/first runs/second --compare both    # both.png and both.json
      illada runs --json | jq -s 'sort_by(.bound) | .[0].run'

    bound is the last validation in nats per token, loss a mean over the last steps. Nothing in the
    folders is changed. A run that was killed counts as running until it is gone on with.
    """
    from illada_cli.runs.run import run

    run(asked)
