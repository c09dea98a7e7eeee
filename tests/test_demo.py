"""The line that `make demo` shows, from text to a chat, at a tiny scale."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPO

SHORT = ("--set", "run.threads=1", "--set", "log.curves=false", "--set", "batch.rows=4")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return the folder with the pairs, prompts and choices that the demo draws."""
    folder = tmp_path_factory.mktemp("pairs")
    script = REPO / "recipes" / "stdlib_pairs.py"
    subprocess.run([sys.executable, script, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def test_the_pairs_of_the_demo_keep_what_is_held_out_apart(asked):
    learnt = {pair["prompt"] for pair in lines(asked / "pairs.jsonl")}
    held_out = {line["messages"][0]["content"] for line in lines(asked / "held-out.jsonl")}
    assert len(learnt) > 20 * len(held_out) > 400
    assert not learnt & held_out
    for item in lines(asked / "choices.jsonl"):
        assert item["messages"][0]["content"] in held_out
        assert len(set(item["choices"])) == 4


def test_seven_verbs_lead_from_text_to_a_chat(illada, tmp_path, asked):
    for name, keep in (("pairs.jsonl", 60), ("held-out.jsonl", 2), ("choices.jsonl", 2)):
        kept = (asked / name).read_text().splitlines(keepends=True)[:keep]
        (tmp_path / name).write_text("".join(kept))
    corpus = REPO / "illada_core"
    illada("tokenize", corpus, "--glob", "*.py", "--train-vocab", "320", "-o", "tokenizer.json")
    illada("tokenize", corpus, "--glob", "*.py", "--tokenizer", "tokenizer.json", "-o", "tokens")
    illada("pack", "tokens", "-o", "packed", "--sequence-length", "64", "--holdout", "0.05")
    few = ("--set", "run.total_tokens=2000", "--set", "schedule.warmup_tokens=500")
    illada("pretrain", "demo", "--data", "packed", "-o", "base", *SHORT, *few)

    chat = ("--chat", "pairs.jsonl", "--tokenizer", "tokenizer.json", "-o", "pairs-packed")
    illada("pack", *chat, "--sequence-length", "128", "--holdout", "0.1")
    once = ("--set", "run.epochs=1", "--set", "schedule.warmup_tokens=500")
    brief = ("--set", "generation.max_new_tokens=8")
    tuned = ("--ckpt", "base", "--data", "pairs-packed", "-o", "chat")
    illada("sft", "demo-sft", *tuned, *SHORT, *once, *brief)
    assert lines(tmp_path / "chat" / "samples.jsonl")

    budget = ("--max-new-tokens", "8", "--json")
    answers = illada("generate", "--ckpt", "chat", "--jsonl", "held-out.jsonl", *budget).stdout
    assert [json.loads(line)["line"] for line in answers.splitlines()] == [1, 2]
    scored = illada("score", "--ckpt", "chat", "--choices", "choices.jsonl", "--json")
    assert [len(json.loads(line)["scores"]) for line in scored.stdout.splitlines()] == [4, 4]
    assert "accuracy" in scored.stderr
    turn = ("--max-new-tokens", "8", "--json")
    said = illada("chat", "--ckpt", "chat", *turn, stdin="def size(self):\n").stdout
    assert json.loads(said)["finish_reason"] in ("eos", "length")
