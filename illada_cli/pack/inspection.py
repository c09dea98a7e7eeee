"""Datasets on a terminal: their statistics as a table, and the verdict of a check."""

from __future__ import annotations

import json
from pathlib import Path

from illada_cli import ui
from illada_cli.corpus import show_facts
from illada_core.data.store.dataset import open_parts
from illada_core.data.store.frames import Mapper
from illada_core.data.store.verify import describe, tokenizer_problem, verify
from illada_core.errors import DataError
from illada_core.places import told, with_urls


def show_statistics(folder: Path, as_json: bool) -> None:
    """Print what a dataset, or each part of a packed one, holds."""
    for part, dataset in open_parts(folder).items():
        place = told(dataset.folder)
        show_facts(describe(dataset), as_json, place, {"dataset": place, "part": part})


def check_dataset(folder: Path, over: Mapper, as_json: bool, talk: ui.Talk) -> None:
    """Check every byte of a dataset; print problems, or that there are none. DataError if any."""
    parts = open_parts(folder, anew=True)
    total = sum(dataset.tokens for dataset in parts.values())
    problems: list[str] = []
    with talk.progress("verify", total, "tok") as advance:
        for part, dataset in parts.items():
            before = len(problems)
            for step in verify(dataset, over):
                advance(step.tokens)
                if step.problem:
                    problems.append(step.problem)
            problem = tokenizer_problem(folder, dataset)
            if problem and problem not in problems:
                problems.append(problem)
            show_verdict(dataset.folder, part, dataset.tokens, problems[before:], as_json)
    if problems:
        raise DataError(
            f"{ui.plural(len(problems), 'problem')} in {folder}",
            "restore the damaged files, or make the dataset again",
        )


def show_verdict(folder: Path, part: str, tokens: int, problems: list[str], as_json: bool) -> None:
    """Print what a check found in one dataset."""
    if as_json:
        told_of = list(map(with_urls, problems))
        facts = {"dataset": told(folder), "part": part, "tokens": tokens, "problems": told_of}
        print(json.dumps(facts), flush=True)
    else:
        for line in problems or [f"{folder}: {ui.plural(tokens, 'token')}, every byte is sound"]:
            print(ui.printable(with_urls(line)), flush=True)
