"""`illada help`: the documentation, without a network."""

from __future__ import annotations

from illada_cli.help.options import HelpOptions
from illada_cli.options import takes_options


@takes_options
def show_help(asked: HelpOptions) -> None:
    """Read the documentation: a page, what a verb does, or the list of pages.

    \b
    Examples:
      illada help                      # every page, with its title
      illada help tutorial             # from nothing to a model that is served
      illada help generate             # what illada generate --help says
      illada help formats | less

    Pages are those of the folder docs/, as this version of illada came with them. A terminal shows
    them laid out, a pipe gets them as they are (Markdown).
    """
    from illada_cli.help.run import run

    run(asked)
