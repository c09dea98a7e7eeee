"""Fine-tune one base on the same pairs by two rules, and print what each has learnt, and how fast.

"all" hides prompts, responses and eos alike (the paper, section 2.2), "response" the responses
and their eos only (LLaDA). Both are trained by the same recipe on the same rows, in turns: on one
stream cut into rows (the demo's), and on examples that are kept whole and do not see each other.

    python benchmarks/masks.py DEMO RUNS

DEMO is a folder that recipes/demo.sh has left, or will be. The bound is that of held-out responses
given their prompts (and, in a stream, what is beside them); prompts and choices are those of the
demo; a step's time is the median. `illada` must be on the PATH.
"""

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import fmean, median

from illada_core.evaluation.scoring import wilson_interval

MASKS = ("all", "response")
# How rows are packed, and how many make a step: as many tokens in both.
ROWS = {"stream": (128, 16), "fit": (256, 8)}
# As in the demo: answers of a base that does not stop fill the budget.
BUDGET = ("--max-new-tokens", "128", "--block-length", "16")
COLUMNS = (
    "rows",
    "mask",
    "seed",
    "bound, nats per token",
    "ended by eos",
    "score accuracy",
    "95 %",
    "ms a step",
)


def illada(*arguments: object) -> str:
    """Run a verb and return what it printed."""
    command = ["illada", *map(str, arguments), "-q"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def pack(demo: Path, data: Path, mode: str) -> None:
    """Pack the demo's pairs as it does, in one of the two modes."""
    settings = ("--tokenizer", demo / "tokenizer.json", "--mode", mode, "--holdout", "0.05")
    length = ("--sequence-length", ROWS[mode][0])
    illada("pack", "--chat", demo / "pairs.jsonl", *settings, *length, "-o", data)


def tune(demo: Path, data: Path, run: Path, mode: str, mask: str, seed: int) -> None:
    """Fine-tune the demo's base; a run that is there already goes on, or is left as it is."""
    changes = [f"objective.mask={mask}", f"run.seed={seed}", "validation.sample_every=0"]
    changes += [f"batch.{key}={ROWS[mode][1]}" for key in ("rows", "micro_rows")]
    settings = [part for change in changes for part in ("--set", change)]
    illada("sft", "demo-sft", "--ckpt", demo / "base", "--data", data, "-o", run, *settings)


def measured(demo: Path, run: Path) -> tuple[str, ...]:
    """Measure a fine-tuned model and return its columns of the table."""
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bound = [line["loss"] for line in metrics if line["kind"] == "validation"][-1]
    seconds = median(line["seconds"] for line in metrics if line["kind"] == "step")
    asked = demo / "held-out.jsonl"
    answers = illada("generate", "--ckpt", run, "--jsonl", asked, "--json", *BUDGET).splitlines()
    ended = fmean(json.loads(line)["finish_reason"] == "eos" for line in answers)
    scores = illada("score", "--ckpt", run, "--choices", demo / "choices.jsonl", "--json")
    correct = [json.loads(line)["correct"] for line in scores.splitlines()]
    low, high = wilson_interval(sum(correct), len(correct))
    return (
        f"{bound:.3f}",
        f"{ended:.0%} of {len(answers)}",
        f"{fmean(correct):.1%} of {len(correct)}",
        f"{low:.1%} to {high:.1%}",
        f"{1000 * seconds:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if not (options.demo / "choices.jsonl").exists():
        script = Path(__file__).parents[1] / "recipes" / "demo.sh"
        subprocess.run([script, options.demo], check=True, stdout=sys.stderr)
    options.runs.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for mode in ROWS:
        data = options.runs / f"pairs-{mode}"
        pack(options.demo, data, mode)
        for seed, mask in product(range(options.seeds), MASKS):
            run = options.runs / f"{mode}-{mask}-{seed}"
            tune(options.demo, data, run, mode, mask, seed)
            row = (mode, f'"{mask}"', str(seed), *measured(options.demo, run))
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
