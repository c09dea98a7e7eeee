"""What may be asked of `illada score`, and which options go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli import options as shared
from illada_cli.ledger import check_ledger, ledger_path
from illada_cli.options import INPUT
from illada_core.errors import UsageError

RULE = "Rule"
TEXT = "Text"


@dataclass(frozen=True)
class ScoreOptions:
    """What is to be scored, and how, as the options say; None for one that was not given."""

    ckpt: shared.Ckpt
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="What the choices follow; - is standard input.",
            rich_help_panel=INPUT,
        ),
    ] = None
    choices: Annotated[
        list[str],
        typer.Option(
            "--choices",
            help="With --prompt: a choice; repeatable. Alone: a file, as --jsonl.",
            rich_help_panel=INPUT,
        ),
    ] = field(default_factory=list)
    jsonl: shared.JsonlFile = None
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="Bound the perplexity of this text; - is standard input.",
            rich_help_panel=INPUT,
        ),
    ] = None
    map: Annotated[
        list[str],
        typer.Option(
            "--map",
            metavar="FIELD=NAME",
            help="In JSON Lines, read our FIELD under another NAME; repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = field(default_factory=list)
    chat: shared.Chat = False
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            help="Put this between prompt and choice; most harnesses have a space "
            "[default: nothing].",
            rich_help_panel=INPUT,
            show_default=False,
        ),
    ] = None
    bos: shared.Bos = None
    truncate: shared.Truncate = None
    on_error: shared.OnError = "stop"
    given_rule: Annotated[
        Literal["confidence", "likelihood", "one-shot", "exact"] | None,
        typer.Option(
            "--rule",
            help="Reveal the surest token first, bound the likelihood, read all at once, or, of "
            "a model that writes from left to right, the exact likelihood "
            "[default: confidence; likelihood for --text; exact where it can be].",
            rich_help_panel=RULE,
        ),
    ] = None
    visible_eos: Annotated[
        bool,
        typer.Option(
            "--visible-eos", help="Let an eos be seen after each choice.", rich_help_panel=RULE
        ),
    ] = False
    normalize: Annotated[
        Literal["sum", "token", "byte", "character"] | None,
        typer.Option(
            "--normalize",
            help="What decides the pick: sums, or means per token, byte or character (of the "
            "choice without its leading space, as lm-evaluation-harness has it) [default: sum].",
            rich_help_panel=RULE,
        ),
    ] = None
    pick_only: Annotated[
        bool,
        typer.Option(
            "--pick-only",
            help="confidence: leave choices unfinished that cannot win; the same pick in fewer "
            "forwards, bounds in place of their scores.",
            rich_help_panel=RULE,
        ),
    ] = False
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="likelihood: most masks drawn for a choice [default: 128], or for each window of "
            "--text [default: 16].",
            min=1,
            max=2**20,
            rich_help_panel=RULE,
        ),
    ] = None
    stop_gap: Annotated[
        float | None,
        typer.Option(
            "--stop-gap",
            help="likelihood: stop drawing once the best choice leads by this many standard "
            "errors; 0 never [default: 4].",
            min=0.0,
            rich_help_panel=RULE,
        ),
    ] = None
    cfg: shared.Cfg = None
    seed: shared.Seed = 0
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            help="Tokens seen at once [default: the context].",
            min=2,
            rich_help_panel=TEXT,
        ),
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            help="Tokens scored in a window, given those before [default: all].",
            min=1,
            rich_help_panel=TEXT,
        ),
    ] = None
    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    quantize: shared.Quantize = None
    mask_id: shared.MaskId = None
    attention: shared.Attention = None
    shift: shared.Shift = None
    batch_tokens: shared.BatchTokens = None
    output: shared.OutputFile = None
    fresh: shared.Fresh = False
    as_json: shared.Json = False
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def rule(self) -> Literal["confidence", "likelihood", "one-shot", "exact"]:
        """The rule in force: a text has only its likelihood."""
        return self.given_rule or ("confidence" if self.text is None else "likelihood")

    @property
    def ledger(self) -> Path | None:
        """The output file, None where verdicts go to standard output."""
        return ledger_path(self.output)


def check(asked: ScoreOptions) -> None:
    """Raise UsageError for options that contradict each other, or would do nothing."""
    items_source(asked)
    is_text = asked.text is not None
    if asked.chat and asked.prompt is None:
        raise UsageError(
            "--chat is for one prompt", "in JSON Lines a conversation is given as messages"
        )
    if asked.map:
        check_map(asked)
    about_choices = {
        "--visible-eos": asked.visible_eos or None,
        "--normalize": asked.normalize,
        "--pick-only": asked.pick_only or None,
        "--delimiter": asked.delimiter,
        "--truncate": asked.truncate,
        "--stop-gap": asked.stop_gap,
        "-o": asked.output,
    }
    refuse(about_choices, is_text, "about choices, and --text has one answer")
    refuse({"--window": asked.window, "--stride": asked.stride}, not is_text, "about --text")
    draws = {"--samples": asked.samples, "--stop-gap": asked.stop_gap}
    refuse(draws, asked.rule != "likelihood", "about --rule likelihood")
    refuse(
        {"--pick-only": asked.pick_only or None},
        asked.rule != "confidence",
        "about --rule confidence",
    )
    if is_text and asked.rule not in ("likelihood", "exact"):
        raise UsageError(f"--text bounds a likelihood, so --rule {asked.rule} does not go with it")
    check_ledger(asked.ledger)


def check_map(asked: ScoreOptions) -> None:
    """Raise UsageError for a --map that would do nothing, or that names no field of ours."""
    from illada_core.evaluation.shapes import parse_map

    if items_source(asked) is None:
        raise UsageError("--map is about JSON Lines")
    parse_map(asked.map)


def refuse(given: Mapping[str, object], is_useless: bool, reason: str) -> None:
    """Raise UsageError for options that were given (not None) where they would do nothing."""
    names = [name for name, value in given.items() if value is not None]
    if is_useless and names:
        raise UsageError(f"{' and '.join(names)} {'are' if names[1:] else 'is'} {reason}")


def items_source(asked: ScoreOptions) -> str | None:
    """Return the file of items, or None where the options hold the item or a text is scored.

    Raises UsageError unless exactly one thing is to be scored.
    """
    choices = asked.choices
    if [asked.prompt, asked.jsonl, asked.text].count(None) < 2 or (
        choices and (asked.jsonl or asked.text)
    ):
        raise UsageError("give one of --prompt with --choices, a file of items, and --text")
    if asked.prompt is not None:
        if not choices:
            raise UsageError(
                "--prompt needs --choices", "give each choice: --choices A --choices B"
            )
        return None
    if asked.text is not None:
        return None
    if len(choices) > 1:
        raise UsageError("--choices A --choices B need a --prompt", "--prompt '' is an empty one")
    source = asked.jsonl or (choices[0] if choices else None)
    if source is None:
        raise UsageError("there is nothing to score", "see illada score --help for examples")
    if source != "-" and not Path(source).exists():
        hint = "choices as text need a --prompt" if choices else None
        raise UsageError(f"there is no file {source}", hint)
    return source
