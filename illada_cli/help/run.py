"""The work of `illada help`: a page of docs/, the help of a verb, or the list of pages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from illada_cli import ui
from illada_cli.help.options import HelpOptions
from illada_core.packaged import packaged, unknown

PAGES = "docs"
PAGE_COLUMNS = 100  # longer lines are hard to read


def run(asked: HelpOptions) -> None:
    """Print a page, or the list of them; verbs are answered before (`app.with_help_of_verb`)."""
    pages = packaged(PAGES, ".md")
    if asked.topic is None:
        print(listed(pages), end="")
    elif asked.topic in pages:
        show(pages[asked.topic].read_text(encoding="utf-8"))
    else:
        raise unknown("topic", asked.topic, pages)


def listed(pages: dict[str, Path]) -> str:
    """Return a line for each page: its name and its title."""
    width = max(map(len, pages), default=0)
    return "".join(f"{name:{width}}  {title(path)}\n" for name, path in pages.items())


def title(path: Path) -> str:
    """Return the first heading of a page."""
    with path.open(encoding="utf-8") as lines:
        return next(lines).strip("# \n")


def show(text: str) -> None:
    """Write a page: laid out and paged on a terminal, else as it is."""
    if not ui.is_rich_terminal(sys.stdout):
        print(text, end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "-FR")  # colours pass, and what fits on the screen stays there
    console = Console(width=min(PAGE_COLUMNS, Console().width))
    with console.pager(styles=ui.has_colour(sys.stdout)):
        console.print(Markdown(text, hyperlinks=False))
