"""What is to be scored: the options' one item, or those of JSON Lines as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from illada_cli.jsonl import JsonLines, read_text
from illada_cli.score.options import ScoreOptions, items_source
from illada_cli.ui import Talk
from illada_core.evaluation.items import ChoiceItem, ScoringSettings, prepare_item
from illada_core.evaluation.shapes import ChoiceRequest, parse_map, read_choice_request
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting
from illada_core.text.messages import Dialogue, Message


@dataclass(frozen=True)
class Items:
    """Items as they come, None whenever the next is not there yet; `total` if it is known.

    `lines` is the file that they are read from, if they are.
    """

    arriving: Iterator[ChoiceItem | None]
    total: int | None
    lines: JsonLines[ChoiceItem] | None = None


def read_items(
    asked: ScoreOptions, checkpoint: Checkpoint, settings: ScoringSettings, talk: Talk
) -> Items:
    """Return the items of a file of JSON Lines, or the one that the options hold.

    A file is read at once, so that what is wrong in it is told before any work.
    """
    prompting = Prompting(asked.bos, asked.truncate)
    source = items_source(asked)
    if source is None:
        text = read_text(asked.prompt, None)
        prompt = Dialogue((Message("user", text),)) if asked.chat else text
        request = ChoiceRequest(prompt, asked.choices)
        return Items(iter([prepare_item(request, checkpoint, settings, prompting)]), 1)
    names = parse_map(asked.map)
    lines = JsonLines(
        source,
        lambda line, fields: prepare_item(
            read_choice_request(line, fields, names), checkpoint, settings, prompting
        ),
        asked.on_error,
        talk,
    )
    if source == "-":
        return Items(lines.arriving(), None, lines)
    known = list(lines.arriving())
    return Items(iter(known), len(known), lines)
