"""How an answer is seen: denoising live on a terminal, or plainly when it is finished.

Whole lines of finished blocks are written once and stay. What is still in motion, the line at hand
and the open block, is drawn below them again and again: settled text plainly, committed words and
masks beyond the first mask dimly.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from illada_cli import ui
from illada_core.inference.text import Decoder, settled_ids, settled_text
from illada_core.inference.text_sampler import Generation
from illada_core.text.tokenizer import UNFINISHED

FRAME_S = 0.05
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

    def finish(self, generation: Generation) -> None:
        """Show the finished answer."""


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

    def finish(self, generation: Generation) -> None:
        if self.as_json:
            print(json.dumps(generation.fields()))
        else:
            print(ui.printable(generation.text or ""))
        sys.stdout.flush()


def runs(
    ids: Sequence[int], mask_id: int, tokenizer: Decoder, glyph: str
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
            text = tokenizer.decode(stretch).rstrip(UNFINISHED)
            yield ui.printable(text.lstrip(UNFINISHED) if state == "loose" else text), state


class LiveView:
    """Draws an answer on a terminal while it is written."""

    def __init__(self, tokenizer: Decoder, mask_id: int, stops: Sequence[str]) -> None:
        self.tokenizer, self.mask_id, self.stops = tokenizer, mask_id, stops
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
        if block_done:
            self.settle(ids)
        elif time.monotonic() - self.drawn < FRAME_S:
            return
        text = Text()
        for piece, state in runs(ids, self.mask_id, self.tokenizer, self.glyph):
            text.append(piece, style="" if state == "settled" else "dim")
        self.live.update(Tail(text[self.written :]), refresh=True)
        self.drawn = time.monotonic()

    def settle(self, ids: list[int]) -> None:
        """Write the whole lines of what has settled, for good."""
        settled = settled_ids(ids, self.mask_id)
        text = ui.printable(settled_text(settled, self.tokenizer, self.stops))
        ready = text.rfind("\n")
        if ready >= self.written:
            self.write(text[self.written : ready])
            self.written = ready + 1

    def finish(self, generation: Generation) -> None:
        self.live.update("", refresh=True)
        self.write(ui.printable(generation.text or "")[self.written :])

    def write(self, text: str) -> None:
        """Write lines above what is drawn; the terminal wraps them, so they copy as they are."""
        self.console.print(Text(text), soft_wrap=True)


class Tail:
    """The last rows of a text, as many as the terminal has."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = console.render_lines(self.text, options, pad=False)
        for row in rows[-max(1, console.height - 1) :]:
            yield from row
            yield Segment.line()
