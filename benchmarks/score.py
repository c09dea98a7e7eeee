"""Score four-choice items with illada and with a plain loop, in turns, and print the ratio.

The plain side is what evaluation harnesses do: one item and one choice at a time, the logits of
every position, torch's own matrix products (or illada's too, with --same-products). Both sides have
the same random weights and must agree.

    python benchmarks/score.py --vocab-size 32000 --rule confidence
    python benchmarks/score.py --rule likelihood --samples 128 --plain-every 16

With --pick-only both sides are illada: the whole confidence rule, and best first, which stops when
the pick is certain. They must pick alike. With --ckpt and --jsonl items and weights are real ones.

    python benchmarks/score.py --pick-only --vocab-size 32000
    python benchmarks/score.py --pick-only --ckpt DIR --jsonl arc.jsonl --delimiter " " --items 200
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from functools import partial
from itertools import accumulate, islice
from unittest import mock

import numpy as np
import torch

from illada_core.evaluation.bound import sample
from illada_core.evaluation.items import ScoringSettings, prepare_item
from illada_core.evaluation.questions import Reader
from illada_core.evaluation.scoring import (
    Item,
    Masking,
    best_first,
    confidence,
    likelihood,
    pick,
    score,
)
from illada_core.evaluation.shapes import read_choice_request
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.requests import Prompting
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.kernels import linear

SHAPE = {
    "width": 512,
    "layers": 8,
    "heads": 8,
    "kv_heads": 8,
    "head_size": 64,
    "ffn_size": 1408,
}
MASK_ID = 5
PLAIN_BATCH = 16
BUDGET_TOKENS = 2048
CONFIDENCE = {"confidence": confidence, "pick only": best_first}
MEASURES = ("sum", "byte", "token")


def random_items(count, vocab_size, prompt_tokens, choice_tokens, seed=0):
    """Draw prompts and four choices each, lengths uniform in the given closed ranges."""
    random = np.random.default_rng(seed)

    def ids(low, high):
        return random.integers(10, vocab_size, random.integers(low, high + 1)).astype(np.int64)

    return [
        Item(ids(*prompt_tokens), tuple(ids(*choice_tokens) for _ in range(4)), (1.0,) * 4, number)
        for number in range(count)
    ]


def all_logits(model, canvases):
    """Return logits [canvases, length, V] of every position of some equally long canvases."""
    ends = tuple(accumulate(len(ids) for ids in canvases))
    ids_T = torch.from_numpy(np.concatenate(canvases))
    logits = model.logits_at(ids_T, ends, torch.arange(len(ids_T)))
    return logits.view(len(canvases), -1, logits.shape[-1])


def plain_confidence(model, item, mask_id):
    sums = []
    for target in item.choices:
        hidden = np.ones(len(target), dtype=bool)
        total = 0.0
        while hidden.any():
            ids = np.concatenate((item.prompt, np.where(hidden, mask_id, target)))
            places = np.flatnonzero(hidden)
            logits = all_logits(model, [ids])[0, len(item.prompt) + places]
            sure = logits.log_softmax(-1)[torch.arange(len(places)), torch.tensor(target[places])]
            best = int(sure.argmax())
            total += float(sure[best])
            hidden[places[best]] = False
        sums.append(total)
    return sums


def plain_likelihood(model, item, mask_id, samples):
    """Average LLaDA's estimator over draws, in batches of 16 canvases of one choice."""
    sums = []
    for target in item.choices:
        drawn = sample(len(target), samples, 0, item.noise_key)
        total = 0.0
        for start in range(0, samples, PLAIN_BATCH):
            hidden = drawn.hidden_NL[start : start + PLAIN_BATCH]
            canvases = [np.concatenate((item.prompt, np.where(h, mask_id, target))) for h in hidden]
            logits = all_logits(model, canvases)[:, len(item.prompt) :]
            hidden_BL = torch.from_numpy(hidden)
            targets = torch.from_numpy(target).expand(len(hidden), -1)
            losses = torch.nn.functional.cross_entropy(
                logits[hidden_BL], targets[hidden_BL], reduction="none"
            )
            weights = drawn.weight_N[start : start + PLAIN_BATCH].repeat(hidden.sum(axis=1))
            total -= float((losses.double() * torch.from_numpy(weights)).sum())
        sums.append(total)
    return sums


def plain(model, items, rule, mask_id, samples):
    if rule == "confidence":
        return [plain_confidence(model, item, mask_id) for item in items]
    return [plain_likelihood(model, item, mask_id, samples) for item in items]


def packed(model, items, rule, mask_id, samples, sure):
    """Score items with illada; return their scores and the forwards that took."""
    reader = Reader(model.logits_at, mask_id, torch.device("cpu"), budget_tokens=BUDGET_TOKENS)
    masking = Masking(mask_id)
    if rule in CONFIDENCE:
        how = partial(CONFIDENCE[rule], masking=masking)
    else:
        how = partial(likelihood, masking=masking, samples=samples, seed=0, sure=sure)
    steps = list(score(items, how, reader))
    return [scores for step in steps for scores in step.scores], sum(s.forwards for s in steps)


def agreement(scores, expected):
    """Return the largest difference of sums, over choices that both sides sampled alike."""
    return max(
        abs(total - plain_total)
        for item, plain_sums in zip(scores, expected, strict=True)
        for i, (total, plain_total) in enumerate(zip(item.sums, plain_sums, strict=True))
        if item.standard_errors is None or item.standard_errors[i]
    )


def timed(function, *arguments):
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


def compare(model, items, rule, options):
    """Score the items on both sides in turns, a share at a time; print a row for each way."""
    samples, every = options.samples, options.plain_every
    shares = [items[turn :: options.turns] for turn in range(options.turns)]
    ways = {rule: 0.0}
    if rule == "likelihood":
        ways[f"{rule}, stops at 4 standard errors"] = 4.0
    seconds = {way: [] for way in ("plain", *ways)}
    forwards = dict.fromkeys(ways, 0)
    packed(model, items[:2], rule, MASK_ID, samples, 0.0)
    for share in shares:
        few = share[::every]
        with mock.patch.object(linear, "has_onednn", return_value=options.same_products):
            expected, took = timed(plain, model, few, rule, MASK_ID, samples)
        seconds["plain"].append(
            took * plain_forwards(share, rule, samples) / plain_forwards(few, rule, samples)
        )
        for way, sure in ways.items():
            (scores, used), took = timed(packed, model, share, rule, MASK_ID, samples, sure)
            seconds[way].append(took)
            forwards[way] += used
            if not sure:
                assert agreement(scores[::every], expected) < 1e-3, "the two sides disagree"
    for way in ways:
        ratios = sorted(p / f for p, f in zip(seconds["plain"], seconds[way], strict=True))
        print(
            f"| {model.config.vocab_size} | {way} | {plain_forwards(items, rule, samples)} "
            f"| {forwards[way]} | {sum(seconds['plain']):.1f} | {sum(seconds[way]):.1f} "
            f"| {sum(seconds['plain']) / sum(seconds[way]):.2f} "
            f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |",
            flush=True,
        )


def compare_picks(model, items_by_measure, mask_id, turns):
    """Find the picks by the whole rule and best first, a share at a time in turns; print rows."""
    for measure, items in items_by_measure.items():
        seconds = {rule: [] for rule in CONFIDENCE}
        forwards = dict.fromkeys(CONFIDENCE, 0)
        packed(model, items[:2], "confidence", mask_id, 0, 0.0)
        for turn in range(turns):
            share, picks = items[turn::turns], {}
            for rule in list(CONFIDENCE)[:: 1 if turn % 2 else -1]:
                (scores, used), took = timed(packed, model, share, rule, mask_id, 0, 0.0)
                seconds[rule].append(took)
                forwards[rule] += used
                pairs = zip(scores, share, strict=True)
                picks[rule] = [pick(found.sums, item.divisors) for found, item in pairs]
            assert picks["confidence"] == picks["pick only"], "the two sides disagree"
        print_saved(f"| {model.config.vocab_size} | {measure} ", forwards, seconds)


def print_saved(start, forwards, seconds):
    """Print what going on with the best alone saves."""
    whole, best = CONFIDENCE
    ratios = sorted(w / b for w, b in zip(seconds[whole], seconds[best], strict=True))
    print(
        f"{start}| {forwards[whole]} | {forwards[best]} | {forwards[whole] / forwards[best]:.2f} "
        f"| {sum(seconds[whole]):.1f} | {sum(seconds[best]):.1f} "
        f"| {sum(seconds[whole]) / sum(seconds[best]):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |",
        flush=True,
    )


def divided(items):
    """Return random items by what their choices are compared by: sums, or means per token."""
    by_token = [
        replace(item, divisors=tuple(float(len(choice)) for choice in item.choices))
        for item in items
    ]
    return {"sum": items, "token": by_token}


def real_items(options, checkpoint):
    """Read the first items of a file, by what their choices are compared by."""
    with open(options.jsonl) as file:
        fields = [json.loads(line) for line in islice(file, options.items)]
    return {
        measure: [
            prepare_item(
                read_choice_request(None, each),
                checkpoint,
                ScoringSettings(normalize=measure, delimiter=options.delimiter),
                Prompting(truncate="left"),
            ).item
            for each in fields
        ]
        for measure in MEASURES
    }


def plain_forwards(items, rule, samples):
    """Count the canvases that the plain side reads."""
    choices = [choice for item in items for choice in item.choices]
    return sum(map(len, choices)) if rule == "confidence" else samples * len(choices)


def main_picks(options):
    """Print what --pick-only saves, on random models or on a real one."""
    print("| vocabulary | compared by | forwards | pick only | ratio | s | s | ratio | by turn |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    if options.ckpt:
        checkpoint = open_checkpoint(options.ckpt)
        items = real_items(options, checkpoint)
        compare_picks(checkpoint.load(), items, checkpoint.mask_id, options.turns)
        return
    for vocab_size in options.vocab_size:
        model = new_model(ModelConfig(vocab_size=vocab_size, max_length=2048, **SHAPE), seed=0)
        lengths = options.prompt_tokens, options.choice_tokens
        items = random_items(options.items, vocab_size, *lengths)
        compare_picks(model.eval(), divided(items), MASK_ID, options.turns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[32_000, 126_464])
    parser.add_argument("--rule", nargs="+", default=["confidence", "likelihood"])
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16, help="draws a choice")
    parser.add_argument("--turns", type=int, default=4, help="shares scored in turns")
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=(24, 64))
    parser.add_argument("--choice-tokens", type=int, nargs=2, default=(2, 8))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--plain-every", type=int, default=1, help="plain side: one item in so many, time scaled"
    )
    parser.add_argument("--same-products", action="store_true")
    parser.add_argument("--pick-only", action="store_true")
    parser.add_argument("--ckpt", help="with --pick-only and --jsonl: real weights")
    parser.add_argument("--jsonl", help="real items for --ckpt")
    parser.add_argument("--delimiter", default="")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, float32")
    print(f"{options.items} items of 4 choices, {vars(options)}")
    if options.pick_only:
        with torch.no_grad():
            main_picks(options)
        return
    print("| vocabulary | rule | plain forwards | forwards | plain s | s | ratio | by turn |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for vocab_size in options.vocab_size:
        config = ModelConfig(vocab_size=vocab_size, max_length=2048, **SHAPE)
        model = new_model(config, seed=0).eval()
        items = random_items(
            options.items, vocab_size, options.prompt_tokens, options.choice_tokens
        )
        with torch.no_grad():
            for rule in options.rule:
                compare(model, items, rule, options)


if __name__ == "__main__":
    main()
