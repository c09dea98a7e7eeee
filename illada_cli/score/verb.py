"""`illada score`: choices in, their scores and the best out; or a text in, its perplexity out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from illada_cli import options
from illada_cli.ui import Talk
from illada_core.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from illada_cli.score.run import How
    from illada_cli.score.verdicts import Verdict
    from illada_core.evaluation.questions import Reader
    from illada_core.inference.checkpoint import Checkpoint
    from illada_core.model.transformer import Transformer

RULE = "Rule"
TEXT = "Text"
ITEM_SAMPLES, WINDOW_SAMPLES = 128, 16
STOP_GAP = 4.0
LOGITS_BYTES = {"cpu": 2**28, "cuda": 2**31}

Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="What the choices follow; - is standard input.",
        rich_help_panel=options.INPUT,
    ),
]
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--choices",
        help="With --prompt: a choice; repeatable. Alone: a file, as --jsonl.",
        rich_help_panel=options.INPUT,
    ),
]
TextFile = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="FILE",
        help="Bound the perplexity of this text; - is standard input.",
        rich_help_panel=options.INPUT,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        help="Put this between prompt and choice; most harnesses have a space [default: nothing].",
        rich_help_panel=options.INPUT,
        show_default=False,
    ),
]
RuleName = Annotated[
    Literal["confidence", "likelihood", "one-shot"] | None,
    typer.Option(
        "--rule",
        help="Reveal the surest token first, bound the likelihood, or read all at once "
        "[default: confidence; likelihood for --text].",
        rich_help_panel=RULE,
    ),
]
VisibleEos = Annotated[
    bool,
    typer.Option(
        "--visible-eos", help="Let an eos be seen after each choice.", rich_help_panel=RULE
    ),
]
Normalize = Annotated[
    Literal["sum", "token", "byte"] | None,
    typer.Option(
        "--normalize",
        help="Compare sums, or means per token or byte [default: sum].",
        rich_help_panel=RULE,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        help="likelihood: most masks drawn for a choice [default: 128], or for each window of "
        "--text [default: 16].",
        min=1,
        max=2**20,
        rich_help_panel=RULE,
    ),
]
StopGap = Annotated[
    float | None,
    typer.Option(
        "--stop-gap",
        help="likelihood: stop drawing once the best choice leads by this many standard errors; "
        "0 never [default: 4].",
        min=0.0,
        rich_help_panel=RULE,
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window", help="Tokens seen at once [default: the context].", min=2, rich_help_panel=TEXT
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        help="Tokens scored in a window, given those before [default: all].",
        min=1,
        rich_help_panel=TEXT,
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write JSON Lines here; run again to go on where it ended.",
        rich_help_panel=options.OUTPUT,
    ),
]


def score(
    ckpt: options.Ckpt,
    prompt: Prompt = None,
    choices: Choices = None,
    jsonl: options.JsonlFile = None,
    text: TextFile = None,
    chat: options.Chat = False,
    delimiter: Delimiter = None,
    bos: options.Bos = None,
    truncate: options.Truncate = None,
    on_error: options.OnError = "stop",
    rule: RuleName = None,
    visible_eos: VisibleEos = False,
    normalize: Normalize = None,
    samples: Samples = None,
    stop_gap: StopGap = None,
    cfg: options.Cfg = None,
    seed: options.Seed = 0,
    window: Window = None,
    stride: Stride = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    mask_id: options.MaskId = None,
    batch_tokens: options.BatchTokens = None,
    output: OutputFile = None,
    fresh: options.Fresh = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score choices after a prompt and pick the best, or bound the perplexity of a text.

    \b
    Examples:
      illada score --ckpt DIR --prompt "The sky is" --choices " blue" --choices " green"
      illada score --ckpt DIR --choices arc.jsonl --delimiter " " --json | jq .pick
      illada score --ckpt DIR --choices arc.jsonl --rule likelihood --normalize byte -o arc.out
      illada score --ckpt DIR --text book.txt

    \b
    A line of JSON Lines holds prompt (or query, or messages) and choices, or prompt_ids and
    choices_ids, and may hold answer (or gold): the right choice's place from 0, or its text.
    Choices follow the prompt as they are, so begin them with the space that belongs there, or
    give --delimiter.
    """
    talk = Talk(quiet, verbose)
    from illada_cli.score.requests import Preparation, items_of, items_source

    source = items_source(prompt, choices, jsonl, text)
    rule = rule or ("confidence" if text is None else "likelihood")
    if chat and prompt is None:
        raise UsageError(
            "--chat is for one prompt", "in JSON Lines a conversation is given as messages"
        )
    about_choices = {
        "--visible-eos": visible_eos or None,
        "--normalize": normalize,
        "--delimiter": delimiter,
        "--truncate": truncate,
        "--stop-gap": stop_gap,
        "-o": output,
    }
    refuse(about_choices, text is not None, "about choices, and --text has one answer")
    refuse({"--window": window, "--stride": stride}, text is None, "about --text")
    draws = {"--samples": samples, "--stop-gap": stop_gap}
    refuse(draws, rule != "likelihood", "about --rule likelihood")
    if text is not None and rule != "likelihood":
        raise UsageError(f"--text bounds a likelihood, so --rule {rule} does not go with it")
    keep = Path(output) if output not in (None, "-") else None
    if keep and not keep.parent.is_dir():
        raise UsageError(f"there is no folder {keep.parent} to write {keep.name} to")

    talk.say(f"loading {ckpt}")
    from illada_cli.score.run import How, ItemRun, named_settings
    from illada_cli.score.text import bound_fields, bound_table, cut_text, score_text
    from illada_cli.score.verdicts import open_ledger
    from illada_core.inference.checkpoint import choose_device, open_checkpoint

    checkpoint = open_checkpoint(ckpt, mask_id)
    tail = visible_eos_ids(checkpoint) if visible_eos else ()
    normalize = normalize or "sum"
    preparation = Preparation(checkpoint, bos, delimiter or "", truncate, tail, normalize)
    if text is not None:
        windows, text_bytes = cut_text(text, preparation, window, stride)
    else:
        items = items_of(source, prompt, chat, choices or [], preparation, on_error, talk)

    device = choose_device(device)
    model = checkpoint.load(device, dtype)
    how = How(
        rule=rule,
        normalize=normalize,
        tail=tail,
        samples=samples or (ITEM_SAMPLES if text is None else WINDOW_SAMPLES),
        stop_gap=STOP_GAP if stop_gap is None else stop_gap,
        cfg=cfg or 0.0,
        seed=seed,
        mask_id=checkpoint.mask_id,
        dtype=str(model.compute_dtype),
    )
    reader = reader_for(model, how, device, batch_tokens)
    if text is not None:
        bound = score_text(windows, text_bytes, how, reader, talk)
        print(json.dumps(bound_fields(bound, how)) if as_json else bound_table(bound))
        return
    as_json = as_json or output == "-"
    with open_ledger(keep, named_settings(how, model), fresh) if keep else nullcontext() as ledger:
        run = ItemRun(how, ledger, line_writer(as_json, None if source else choices))
        run.run(items, reader, talk)
    run.tell(items, talk)


def refuse(given: Mapping[str, object], is_useless: bool, reason: str) -> None:
    """Raise UsageError for options that were given (not None) where they would do nothing."""
    names = [name for name, value in given.items() if value is not None]
    if is_useless and names:
        raise UsageError(f"{' and '.join(names)} {'are' if names[1:] else 'is'} {reason}")


def visible_eos_ids(checkpoint: Checkpoint) -> tuple[int]:
    """Return the eos that stands after each choice. Raises CheckpointError where there is none."""
    in_files = checkpoint.tokenizer.special.eos if checkpoint.tokenizer else None
    eos_id = in_files if checkpoint.config.eos_id is None else checkpoint.config.eos_id
    if eos_id is None:
        raise CheckpointError(
            f"{checkpoint.folder} names no eos id, so --visible-eos has nothing to show"
        )
    return (eos_id,)


def reader_for(model: Transformer, how: How, device: str, batch_tokens: int | None) -> Reader:
    """Return what asks the model, within what the device can hold."""
    import torch

    from illada_core.evaluation.questions import Reader
    from illada_core.inference.checkpoint import BATCH_TOKENS

    kind = "cpu" if device == "cpu" else "cuda"
    row_bytes = model.config.vocab_size * model.compute_dtype.itemsize
    return Reader(
        logits=model.logits_at,
        mask_id=how.mask_id,
        device=torch.device(device),
        guidance=how.cfg,
        budget_tokens=batch_tokens or BATCH_TOKENS[kind],
        budget_rows=max(1, LOGITS_BYTES[kind] // row_bytes),
    )


def line_writer(as_json: bool, choices: list[str] | None) -> Callable[[Verdict], str]:
    """Return how a verdict is written: as JSON, as a table of its choices, or as one line."""
    from illada_cli.score.verdicts import plain_line, plain_table

    if as_json:
        return json.dumps
    return partial(plain_table, choices=choices) if choices else plain_line
