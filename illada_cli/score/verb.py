"""`illada score`: its options, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli import options
from illada_cli.ui import Talk
from illada_core.errors import UsageError

RULE = "Rule"
TEXT = "Text"

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


@dataclass(frozen=True)
class ScoreOptions:
    """What is to be scored, and how, as the options say; None for one that was not given."""

    prompt: str | None
    choices: list[str] | None
    jsonl: str | None
    text: str | None
    chat: bool
    delimiter: str | None
    bos: bool | None
    truncate: Literal["left"] | None
    on_error: Literal["stop", "skip"]
    rule: Literal["confidence", "likelihood", "one-shot"]
    visible_eos: bool
    normalize: Literal["sum", "token", "byte"] | None
    samples: int | None
    stop_gap: float | None
    cfg: float
    seed: int
    window: int | None
    stride: int | None
    output: str | None
    fresh: bool
    as_json: bool

    @property
    def ledger(self) -> Path | None:
        """The output file, None where verdicts go to standard output."""
        return Path(self.output) if self.output not in (None, "-") else None


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
    asked = ScoreOptions(
        prompt=prompt,
        choices=choices,
        jsonl=jsonl,
        text=text,
        chat=chat,
        delimiter=delimiter,
        bos=bos,
        truncate=truncate,
        on_error=on_error,
        rule=rule or ("confidence" if text is None else "likelihood"),
        visible_eos=visible_eos,
        normalize=normalize,
        samples=samples,
        stop_gap=stop_gap,
        cfg=cfg or 0.0,
        seed=seed,
        window=window,
        stride=stride,
        output=output,
        fresh=fresh,
        as_json=as_json,
    )
    check(asked)
    talk.say(f"loading {ckpt}")
    model = options.ModelOptions(ckpt, device, dtype, mask_id, batch_tokens)
    if text is None:
        from illada_cli.score.run import score_choices

        score_choices(asked, model, talk)
    else:
        from illada_cli.score.text import score_text

        score_text(asked, model, talk)


def check(asked: ScoreOptions) -> None:
    """Raise UsageError for options that contradict each other, or would do nothing."""
    items_source(asked)
    is_text = asked.text is not None
    if asked.chat and asked.prompt is None:
        raise UsageError(
            "--chat is for one prompt", "in JSON Lines a conversation is given as messages"
        )
    about_choices = {
        "--visible-eos": asked.visible_eos or None,
        "--normalize": asked.normalize,
        "--delimiter": asked.delimiter,
        "--truncate": asked.truncate,
        "--stop-gap": asked.stop_gap,
        "-o": asked.output,
    }
    refuse(about_choices, is_text, "about choices, and --text has one answer")
    refuse({"--window": asked.window, "--stride": asked.stride}, not is_text, "about --text")
    draws = {"--samples": asked.samples, "--stop-gap": asked.stop_gap}
    refuse(draws, asked.rule != "likelihood", "about --rule likelihood")
    if is_text and asked.rule != "likelihood":
        raise UsageError(f"--text bounds a likelihood, so --rule {asked.rule} does not go with it")
    keep = asked.ledger
    if keep and not keep.parent.is_dir():
        raise UsageError(f"there is no folder {keep.parent} to write {keep.name} to")


def refuse(given: Mapping[str, object], is_useless: bool, reason: str) -> None:
    """Raise UsageError for options that were given (not None) where they would do nothing."""
    names = [name for name, value in given.items() if value is not None]
    if is_useless and names:
        raise UsageError(f"{' and '.join(names)} {'are' if names[1:] else 'is'} {reason}")


def items_source(asked: ScoreOptions) -> str | None:
    """Return the file of items, or None where the options hold the item or a text is scored.

    Raises UsageError unless exactly one thing is to be scored.
    """
    choices = asked.choices or []
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
