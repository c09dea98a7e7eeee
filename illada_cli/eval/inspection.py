"""What a model sees of a task: an item as ids, read back as text, control tokens set apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from illada_cli.eval.exams import build_exams
from illada_cli.eval.options import EvalOptions
from illada_cli.opening import open_asked
from illada_cli.ui import Talk, plural, printable
from illada_core.benchmark.exam import Ask, asks_of
from illada_core.benchmark.examination import for_checkpoint
from illada_core.errors import UsageError
from illada_core.text.tokenizer import Tokenizer


def inspect(asked: EvalOptions) -> None:
    """Show items of a task as the model sees them, the first or --limit: texts, and the answer."""
    if not asked.ckpt:
        raise UsageError("--inspect needs a --ckpt, whose tokenizer makes the ids")
    silent = Talk(quiet=True)
    (exam,) = build_exams(replace(asked, tasks=asked.inspect, limit=None), silent)
    checkpoint = open_asked(asked, silent)
    shown = exam.records[: asked.limit or 1]
    exam = replace(for_checkpoint(exam, checkpoint), records=shown, samples=1)
    tokenizer = checkpoint.require_tokenizer()
    for ask in asks_of(exam, checkpoint):
        for title, ids in parts_of(ask):
            print(f"── {title}, {plural(len(ids), 'token')}")
            print(marked(ids, tokenizer))
        wanted = ask.record.answer or ask.record.fields["program_test"]
        print(f"── answer\n{printable(wanted)}")


def parts_of(ask: Ask) -> list[tuple[str, list[int]]]:
    """Return what an ask is made of: its prompt or prompts, and its choices."""
    if ask.task is not None:
        return [("prompt", list(ask.task.task.runs[0]))]
    assert ask.choices is not None
    item = ask.choices.item
    prompts = [("prompt", ids.tolist()) for ids in item.contexts or (item.prompt,)]
    choices = [(f"choice {at}", ids.tolist()) for at, ids in enumerate(item.choices)]
    return prompts + choices


def marked(ids: list[int], tokenizer: Tokenizer) -> str:
    """Return ids as text, each control token in brackets that set it apart from its spelling."""
    names = {number: name for name, number in tokenizer.controls.items()}
    text = ""
    for is_control, run in groupby(ids, lambda number: number in names):
        numbers = list(run)
        text += (
            "".join(f"⟦{names[number]}⟧" for number in numbers)
            if is_control
            else printable(tokenizer.decode(numbers))
        )
    return text
