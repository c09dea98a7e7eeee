"""What is swept: each verb that writes, on inputs so small that it ends within a second or so."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.byte_model import write_byte_model
from tests.crash.process import run
from tests.phrases import TRAINING_TEXT
from tests.training.tiny import RECIPE, write_conversations, write_packed

BATCH_OF_ONE = ("--batch-tokens", "1")  # sums do not depend on what is resumed
SHORT = {
    "\nrows = 4": "\nrows = 2",
    "warmup_tokens = 256": "warmup_tokens = 32",
    "total_tokens = 1536": "total_tokens = 128",
}


@dataclass(frozen=True)
class Case:
    """A command that writes `out` in an empty folder, or in one that `before` has written to."""

    name: str
    arguments: tuple[str, ...]
    before: tuple[str, ...] = ()


def make_inputs(folder: Path) -> list[Case]:
    """Write the inputs of all cases into a new folder; return the cases."""
    folder.mkdir()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"{number}.txt").write_text(f"{number} {TRAINING_TEXT[:900]}")
    write_byte_model(folder / "model")
    tokenizer = str(folder / "model" / "tokenizer.json")
    pairs = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(24)]
    write_lines(folder / "pairs.jsonl", pairs)
    write_lines(
        folder / "items.jsonl", [{"prompt": f"{n} ", "choices": ["a", "bc"]} for n in range(5)]
    )
    write_lines(folder / "prompts.jsonl", [{"prompt": f"{n} is", "id": n} for n in range(5)])
    write_packed(folder / "rows")
    write_packed(folder / "conversations", write=write_conversations)
    recipe = RECIPE.replace("every_steps = 4", "every_steps = 1\nkeep_last = 1")
    for long, short in SHORT.items():
        recipe = recipe.replace(long, short)
    (folder / "tiny.toml").write_text(recipe)
    command = (str(corpus), "--tokenizer", tokenizer, "--workers", "1", "-q")
    shards = ("tokenize", *command, "--shard-tokens", "1500")
    prepare(folder, *shards, "-o", "tokens")
    base = ("pretrain", "tiny.toml", "--data", "rows", "-o", "base", "-q")
    prepare(folder, *base)
    where = ("--data", str(folder / "conversations"), "--ckpt", str(folder / "base"))
    sft = ("sft", str(folder / "tiny.toml"), *where, "-o", "out", "-q")
    model = ("--ckpt", str(folder / "model"), "-q", "-o", "out", *BATCH_OF_ONE)
    questions = [{"question": f"{n}?", "choices": ["a", "bc"], "answer": n % 2} for n in range(3)]
    write_lines(folder / "questions.jsonl", questions)
    asked = ("--tasks", "arc_easy", "--data", str(folder / "questions.jsonl"))
    writing = ("generate", "--max-new-tokens", "8", "--block-length", "4")
    prompts = ("--jsonl", str(folder / "prompts.jsonl"))
    packing = ("--sequence-length", "64", "-o", "out", "--workers", "1", "-q")
    tokenize = (*shards, "-o", "out")
    pack = ("pack", str(folder / "tokens"), "--holdout", "0.2", *packing)
    trained = ("tokenize", str(corpus), "--train-vocab", "280", "-o", "out/tokenizer.json", "-q")
    chat = (str(folder / "pairs.jsonl"), "--chat", "--tokenizer", tokenizer, *packing)
    pretrain = ("pretrain", str(folder / "tiny.toml"), "--data", str(folder / "rows"))
    pretrain = (*pretrain, "-o", "out", "-q")
    score = ("score", *model, "--choices", str(folder / "items.jsonl"))
    evaluate = ("eval", *model, *asked)
    generate = (*writing, *model, *prompts, "--samples", "2")
    traced = (*writing, "--ckpt", str(folder / "model"), "-q", "--trace", "out", *prompts)
    return [
        Case("tokenize", tokenize),
        Case("tokenize --fresh", (*tokenize, "--fresh"), (*tokenize[:-3], "900", "-o", "out")),
        Case("tokenize --part", (*tokenize, "--part", "0/2")),
        Case("tokenize --merge", (*tokenize, "--merge"), (*tokenize, "--part", "0/1")),
        Case("tokenize --train-vocab", trained),
        Case("pack", pack),
        Case("pack --part", (*pack, "--part", "0/2")),
        Case("pack --merge", (*pack, "--merge"), (*pack, "--part", "0/1")),
        Case("pack --chat", ("pack", *chat)),
        Case("pack --chat --fresh", ("pack", *chat, "--fresh"), ("pack", *chat, "--seed", "1")),
        Case("pretrain", pretrain),
        Case("pretrain --fresh", (*pretrain, "--fresh"), (*pretrain, "--set", "run.seed=1")),
        Case("sft", sft),
        Case("sft, LoRA", (*sft, "--set", "lora.rank=2")),
        Case("score -o", score),
        Case("score -o --fresh", (*score, "--fresh"), (*score, "--rule", "one-shot")),
        Case("eval -o", evaluate),
        Case("eval -o --fresh", (*evaluate, "--fresh"), (*evaluate, "--set", "rule=one-shot")),
        Case("generate -o", generate),
        Case("generate --trace", traced),
    ]


def prepare(folder: Path, *arguments: str) -> None:
    ended = run(list(arguments), folder)
    assert ended.code == 0, ended.stderr


def write_lines(path: Path, objects: list[dict]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
