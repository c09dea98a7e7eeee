"""Options that several verbs share (the same flag means the same), and how verbs take options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from illada_cli.settings import setting_parameters, settle
from illada_cli.words import Words, changes
from illada_core.inference.settings import Settings
from illada_core.places import path_of

INPUT = "Input"
MODEL = "Model"
OUTPUT = "Output"
CLUSTER = "On many machines"
TALK = "Talk"
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Errors and results only.", rich_help_panel=TALK)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more on stderr.", rich_help_panel=TALK)
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", help="Start over: replace what an earlier run left.", rich_help_panel=OUTPUT
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and write nothing.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object a line on stdout.", rich_help_panel=OUTPUT),
]
Part = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Do the I-th (from 0) of N parts of the work; --merge ends it.",
        rich_help_panel=CLUSTER,
        show_default=False,
    ),
]
Merge = Annotated[
    bool,
    typer.Option(
        "--merge",
        help="Check what all parts have written, and make it a dataset.",
        rich_help_panel=CLUSTER,
    ),
]
Executor = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--executor",
        help="Do the work here, or all its parts as tasks of a Ray cluster (extra: cluster).",
        rich_help_panel=CLUSTER,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.", min=0)]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Threads to use [default: all cores].", min=1),
]
TokenizerFile = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", help="A tokenizer.json, or a folder that holds one.", parser=path_of
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a recipe key: --set optimizer.peak_lr=1e-4 (TOML value).",
    ),
    Words(changes),
]
Chat = Annotated[
    bool, typer.Option("--chat", help="The prompt is a user's message.", rich_help_panel=INPUT)
]
Ckpt = Annotated[
    str,
    typer.Option(
        "--ckpt",
        metavar="DIR",
        help="Run folder (its newest checkpoint), model folder, or hub id.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, … or auto.", rich_help_panel=MODEL
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        "--dtype",
        help="Of the weights; auto: bfloat16 on a GPU, else as stored.",
        rich_help_panel=MODEL,
    ),
]
Quantize = Annotated[
    Literal["int8", "int4"] | None,
    typer.Option(
        "--quantize",
        help="Keep the weights of the layers in 8 or, on a GPU, 4 bits (extra: quant).",
        rich_help_panel=MODEL,
    ),
]
Graphs = Annotated[
    bool,
    typer.Option(
        "--graphs",
        help="Replay small passes as CUDA graphs: the same texts sooner, on a GPU.",
        rich_help_panel=MODEL,
    ),
]
MaskId = Annotated[
    int | None,
    typer.Option(
        "--mask-id",
        help="Id of the mask token [default: from the files].",
        min=0,
        rich_help_panel=MODEL,
    ),
]
Attention = Annotated[
    Literal["full", "causal"] | None,
    typer.Option(
        "--attention",
        help="What a token attends to [default: as the files say].",
        rich_help_panel=MODEL,
    ),
]
Shift = Annotated[
    bool | None,
    typer.Option(
        "--shift/--no-shift",
        help="A row of logits speaks of the next token, or of its own [default: as the files say].",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        help="Packed tokens in one call of the model [default: 16384 on a GPU, else 2048].",
        min=1,
        rich_help_panel=MODEL,
    ),
]
CacheTokens = Annotated[
    int | None,
    typer.Option(
        "--cache-tokens",
        help="Tokens whose keys and values are kept at once, where a cache is asked for "
        "[default: 65536 on a GPU, where they fit a third of its free memory; else 16384].",
        min=1,
        rich_help_panel=MODEL,
    ),
]
Cfg = Annotated[
    float | None,
    typer.Option(
        "--cfg",
        help="Classifier-free guidance [default: 0, none].",
        min=0.0,
        rich_help_panel=MODEL,
    ),
]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="Put bos before a plain prompt [default: as the tokenizer's files say].",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
JsonlFile = Annotated[
    str | None,
    typer.Option(
        "--jsonl",
        metavar="FILE",
        help="JSON Lines, one prompt a line; - is standard input.",
        rich_help_panel=INPUT,
    ),
]
OnError = Annotated[
    Literal["stop", "skip"],
    typer.Option("--on-error", help="What to do at a bad line.", rich_help_panel=INPUT),
]
Truncate = Annotated[
    Literal["left"] | None,
    typer.Option(
        "--truncate",
        help="Cut prompts that exceed the context, instead of an error.",
        rich_help_panel=INPUT,
    ),
]


OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write JSON Lines here; run again to go on where it ended.",
        rich_help_panel=OUTPUT,
    ),
]


def takes_options(verb: Callable[[Any], None]) -> Callable[..., None]:
    """Give a verb an option for each field of its only parameter, a dataclass of options.

    A field of type `Settings` stands for --preset and an option for each setting.
    """
    (parameter,) = inspect.signature(verb, eval_str=True).parameters.values()
    asked = parameter.annotation
    kinds = get_type_hints(asked, include_extras=True)
    expanded = {
        field.name: setting_parameters()
        if kinds[field.name] is Settings
        else [option_parameter(field, kinds[field.name])]
        for field in fields(asked)
    }

    @wraps(verb)
    def called(**given: Any) -> None:
        values = {
            name: settle({each.name: given[each.name] for each in parameters})
            if kinds[name] is Settings
            else given[name]
            for name, parameters in expanded.items()
        }
        verb(asked(**values))

    parameters = [each for group in expanded.values() for each in group]
    for each in parameters:
        name_value(each.annotation)
    # Where typer and the completions look for what a verb takes.
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def name_value(annotation: Any) -> None:
    """Let help say what the value of an option is, where the option does not: not its type."""
    kind, *extras = get_args(annotation)
    kinds = {part for outer in (kind, *get_args(kind)) for part in (outer, *get_args(outer))}
    for option in extras:
        if isinstance(option, OptionInfo) and option.metavar is None:
            option.metavar = next((METAVARS[part] for part in METAVARS if part in kinds), None)


def option_parameter(field: Field[Any], annotation: Any) -> inspect.Parameter:
    """Return a field as the parameter that typer makes an option of."""
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, keyword, default=default, annotation=annotation)
