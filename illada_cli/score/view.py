"""What scoring gives a person: one line an item, a table of its choices, the accuracy."""

from __future__ import annotations

from illada_cli.ui import plural, printable
from illada_core.evaluation.measures import NAMES, NORMALIZES, Normalize, Tally
from illada_core.evaluation.verdicts import Verdict


def plain_line(verdict: Verdict) -> str:
    """Return an item as tab-separated text: line, pick, right or wrong, and the scores."""
    judged = {True: "right", False: "wrong", None: "-"}[verdict.correct]
    return "\t".join([str(verdict.request.line), str(verdict.pick), judged, *shown(verdict)])


def shown(verdict: Verdict) -> list[str]:
    """Return scores as text; what is only known to be below a number has a sign in front."""
    bounds = verdict.upper_bounds or verdict.scores
    return [
        f"<{bound:.4f}" if score is None else f"{score:.4f}"
        for score, bound in zip(verdict.scores, bounds, strict=True)
    ]


def plain_table(verdict: Verdict, choices: list[str]) -> str:
    """Return one item as lines of score and choice, a star at the pick."""
    errors = verdict.standard_errors or [0.0] * len(choices)
    rows = [
        (
            "*" if place == verdict.pick else " ",
            score + (f" ± {error:.4f}" if error else ""),
            printable(choice).replace("\n", "\\n"),
        )
        for place, (score, error, choice) in enumerate(
            zip(shown(verdict), errors, choices, strict=True)
        )
    ]
    width = max(len(score) for _, score, _ in rows)
    return "\n".join(f"{star} {score.rjust(width)}  {choice}" for star, score, choice in rows)


def accuracy_lines(tally: Tally, normalize: Normalize) -> list[str]:
    """Tell the accuracy by the measure that decides, then by each, with 95 % intervals."""
    items, decisive = plural(tally.items, "item"), tally.accuracy(normalize)
    if decisive is None:
        return [f"{items} scored, none with an answer"]
    low, high = (100 * share for share in decisive.interval)
    lines = [
        f"accuracy {100 * decisive.share:.1f} % (95 %: {low:.1f} to {high:.1f} %), "
        f"{decisive.right:,} right of {decisive.answered:,} in {items}"
    ]
    known = {name: found for name in NORMALIZES if (found := tally.accuracy(name))}
    if len(known) == 1:
        return lines
    width = max(len(NAMES[name]) for name in known)
    for name, found in known.items():
        low, high = (100 * share for share in found.interval)
        of = "" if found.answered == decisive.answered else f", of {found.answered:,}"
        lines.append(
            f"  {NAMES[name]:{width}} {100 * found.share:5.1f} % ({low:.1f} to {high:.1f} %){of}"
        )
    return lines
