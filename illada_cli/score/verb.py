"""`illada score`: choices in, their scores and the best out; or a text in, its perplexity out."""

from __future__ import annotations

from illada_cli import options as shared
from illada_cli.score import options
from illada_cli.ui import Talk


def score(
    ckpt: shared.Ckpt,
    prompt: options.Prompt = None,
    choices: options.Choices = None,
    jsonl: shared.JsonlFile = None,
    text: options.TextFile = None,
    map: options.Map = None,
    chat: shared.Chat = False,
    delimiter: options.Delimiter = None,
    bos: shared.Bos = None,
    truncate: shared.Truncate = None,
    on_error: shared.OnError = "stop",
    rule: options.RuleName = None,
    visible_eos: options.VisibleEos = False,
    normalize: options.Normalize = None,
    pick_only: options.PickOnly = False,
    samples: options.Samples = None,
    stop_gap: options.StopGap = None,
    cfg: shared.Cfg = None,
    seed: shared.Seed = 0,
    window: options.Window = None,
    stride: options.Stride = None,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    mask_id: shared.MaskId = None,
    batch_tokens: shared.BatchTokens = None,
    output: options.OutputFile = None,
    fresh: shared.Fresh = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
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
    The fields of ARC, HellaSwag, WinoGrande and PIQA are understood, others by --map.
    Choices follow the prompt as they are, so begin them with the space that belongs there, or
    give --delimiter.
    """
    talk = Talk(quiet, verbose)
    asked = options.ScoreOptions(
        prompt=prompt,
        choices=choices,
        jsonl=jsonl,
        text=text,
        chat=chat,
        map=map or [],
        delimiter=delimiter,
        bos=bos,
        truncate=truncate,
        on_error=on_error,
        rule=rule or ("confidence" if text is None else "likelihood"),
        visible_eos=visible_eos,
        normalize=normalize,
        pick_only=pick_only,
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
    options.check(asked)
    talk.say(f"loading {ckpt}")
    model = shared.ModelOptions(ckpt, device, dtype, mask_id, batch_tokens)
    if text is None:
        from illada_cli.score.run import score_choices

        score_choices(asked, model, talk)
    else:
        from illada_cli.score.text import score_text

        score_text(asked, model, talk)
