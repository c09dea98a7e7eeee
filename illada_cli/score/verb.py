"""`illada score`: choices in, their scores and the best out; or a text in, its perplexity out."""

from __future__ import annotations

from illada_cli.cores import share_cores
from illada_cli.options import takes_options
from illada_cli.score.options import ScoreOptions, check
from illada_cli.ui import Talk


@takes_options
def score(asked: ScoreOptions) -> None:
    """Score choices after a prompt and pick the best, or bound the perplexity of a text.

    \b
    Examples:
      illada score --ckpt DIR --prompt "The sky is" --choices " blue" --choices " green"
      illada score --ckpt DIR --choices arc.jsonl --delimiter " " --json | jq .pick
      illada score --ckpt DIR --choices arc.jsonl --rule likelihood --normalize byte -o arc.out
      illada score --ckpt DIR --text book.txt

    A line of JSON Lines holds prompt (or query, or messages) and choices, or prompt_ids and
    choices_ids, and may hold answer (or gold): the right choice's place from 0, or its text.
    The fields of ARC, HellaSwag, WinoGrande and PIQA are understood, others by --map.
    Choices follow the prompt as they are, so begin them with the space that belongs there, or
    give --delimiter.
    """
    talk = Talk(asked.quiet, asked.verbose)
    check(asked)
    talk.say(f"loading {asked.ckpt}")
    share_cores()
    if asked.text is None:
        from illada_cli.score.run import score_choices

        score_choices(asked, talk)
    else:
        from illada_cli.score.text import score_text

        score_text(asked, talk)
