"""How an answer is seen: denoising live on a terminal, or plainly when it is finished.

Whole lines of finished blocks are written once and stay. What is still in motion, the line at hand
and the open block, is drawn below them again and again: settled text plainly, committed words and
masks beyond the first mask dimly.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from illada_cli import ui
from illada_cli.generate.answers import UNFINISHED, begun

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

FRAME_S = 0.05
Decode = Callable[[Sequence[int]], str]
State = Literal["settled", "loose", "mask"]


class View(Protocol):
    """Shows one answer; it is entered before the first step and left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, ids: list[int], block_done: bool) -> None:
        """Show what stands on the canvas after a step."""

    def finish(self, text: str, fields: dict[str, Any]) -> None:
        """Show the finished answer; `fields` say more about it."""


class PlainView:
    """Writes an answer when it is finished, as text or as a JSON object."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, ids: list[int], block_done: bool) -> None:
        pass

    def finish(self, text: str, fields: dict[str, Any]) -> None:
        print(json.dumps({"text": text, **fields}) if self.as_json else ui.printable(text))
        sys.stdout.flush()


def runs(
    ids: Sequence[int], mask_id: int, decode: Decode, glyph: str
) -> Iterator[tuple[str, State]]:
    """Cut a canvas at its masks: what is settled, then masks and what stands loose among them."""
    state: State = "settled"
    for is_mask, run in groupby(ids, lambda token: token == mask_id):
        stretch = list(run)
        if is_mask:
            yield glyph * len(stretch), "mask"
            state = "loose"
        else:
            # The bytes of a character may be on both sides of a mask.
            text = decode(stretch).rstrip(UNFINISHED)
            yield ui.printable(text.lstrip(UNFINISHED) if state == "loose" else text), state


class LiveView:
    """Draws an answer on a terminal while it is written."""

    def __init__(self, decode: Decode, mask_id: int, stops: Sequence[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self.decode, self.mask_id, self.stops = decode, mask_id, stops
        self.console = Console(
            markup=False, highlight=False, emoji=False, no_color=not ui.has_colour(sys.stdout)
        )
        self.glyph = "░" if self.console.encoding.startswith("utf") else "_"
        self.live = Live(console=self.console, transient=True, auto_refresh=False)
        self.written = 0
        self.drawn = 0.0

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def show(self, ids: list[int], block_done: bool) -> None:
        from rich.text import Text

        if block_done:
            self.settle(ids)
        elif time.monotonic() - self.drawn < FRAME_S:
            return
        text = Text()
        for piece, state in runs(ids, self.mask_id, self.decode, self.glyph):
            text.append(piece, style="" if state == "settled" else "dim")
        self.live.update(Tail(text[self.written :]), refresh=True)
        self.drawn = time.monotonic()

    def settle(self, ids: list[int]) -> None:
        """Write the whole lines of what has settled, for good."""
        settled = ids[: ids.index(self.mask_id)] if self.mask_id in ids else ids
        text = ui.printable(self.decode(settled).rstrip(UNFINISHED))
        ready = text.rfind("\n", 0, len(text) - begun(text, self.stops))
        if ready >= self.written:
            self.write(text[self.written : ready])
            self.written = ready + 1

    def finish(self, text: str, fields: dict[str, Any]) -> None:
        self.live.update("", refresh=True)
        self.write(ui.printable(text)[self.written :])

    def write(self, text: str) -> None:
        """Write lines above what is drawn; the terminal wraps them, so they copy as they are."""
        from rich.text import Text

        self.console.print(Text(text), soft_wrap=True)


class Tail:
    """The last rows of a text, as many as the terminal has."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        rows = console.render_lines(self.text, options, pad=False)
        for row in rows[-max(1, console.height - 1) :]:
            yield from row
            yield Segment.line()
