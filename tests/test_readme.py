"""Every command line of the README does what is printed; only names, sizes and lengths change."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import REPO
from tests.printed import (
    BRIEF,
    SHORT,
    SHORT_SFT,
    fill,
    output_of,
    printed_lines,
    run,
    served,
    small,
)

PAGE = "README.md"
# What is printed, and the small thing that runs in its place; each must be there.
SMALL = {
    "--sequence-length 64 ": "--sequence-length 64 --holdout 0.3 ",
    "-o runs/first": f"-o runs/first {SHORT}",
    "-o runs/chat": f"-o runs/chat {SHORT_SFT}",
    "pretrain 8b --dry-run": "pretrain demo --dry-run",
    "pretrain my.toml": f"pretrain my.toml {SHORT}",
    "--nproc 8": "--nproc 1",  # tests/cli/train/test_nproc.py has more
    "8b-sft --ckpt iLLaDA-8B-Base": f"demo-sft -n --ckpt runs/first {SHORT_SFT}",  # its plan
    "--ckpt LLaDA-8B-Instruct": "--ckpt tiny",
    "--ckpt iLLaDA-8B-Base": "--ckpt tiny",
    "--ckpt iLLaDA-8B-Instruct": "--ckpt tiny",
    "--ckpt DIR": "--ckpt tiny",
    "--tokenizer MODEL": "--tokenizer tiny",
    "illada serve --ckpt runs/first": served("tiny"),
    "jsonl --tokenizer tokenizer.json -o tokens/": "jsonl --tokenizer tokenizer.json -o dump/",
}


def test_the_plan_that_is_printed_is_the_plan(illada):
    told = illada("pretrain", "8b", "--dry-run", "--gpus", "512", "--gpu", "h100").stdout
    printed = re.compile(r"<!-- plan: .*?```text\n(.*?)```", re.S)
    whole = printed.search((REPO / "docs/reproduce.md").read_text())[1].splitlines()
    assert told.endswith("".join(f"# {line}\n" for line in whole))
    some = printed.search((REPO / PAGE).read_text())[1].splitlines()
    assert some == [line for line in whole if line in some]
    assert len(some) > 5


@pytest.fixture(scope="module")
def done(tmp_path_factory, byte_model):
    """Run every line; return the folder, and what each printed to stdout under its own words."""
    folder = tmp_path_factory.mktemp("readme")
    fill(folder, byte_model)
    # Lines that need nothing but the tiny checkpoint run beside those that make a model.
    beside = [[], []]
    for line in printed_lines(PAGE):
        beside["--ckpt tiny" in small(line, SMALL)].append(line)
    with ThreadPoolExecutor(2) as pool:
        made, tried = pool.map(lambda lines: run(folder, lines, SMALL), beside)
    return folder, made | tried


def test_what_is_made_small_is_printed_in_the_readme():
    text = "\n".join(printed_lines(PAGE))
    assert [name for name in (*SMALL, *BRIEF) if name not in text] == []


def test_the_tour_leads_from_text_to_a_model(done):
    folder, _ = done
    for name in ("recipe.toml", "metrics.jsonl", "model/model.safetensors", "model/tokenizer.json"):
        assert (folder / "runs" / "first" / name).exists(), name
    assert (folder / "runs" / "chat" / "model" / "model.safetensors").exists()


def test_checkpoints_answer_and_score(done):
    _, outputs = done
    assert output_of(outputs, "Why is the sky blue?").strip()
    assert output_of(outputs, "--infill").startswith("def area(r):\n")
    assert len(output_of(outputs, '"The sky is"').splitlines()) == 2
    assert "perplexity" in output_of(outputs, "--text README.md")


@pytest.mark.skipif(not shutil.which("jq"), reason="there is no jq on this machine")
def test_pipelines_print_what_they_are_for(done):
    folder, outputs = done
    assert len(output_of(outputs, "jq -r .text").splitlines()) >= 2
    share = float(output_of(outputs, "--choices arc.jsonl"))
    assert share in (0, 1 / 3, 2 / 3)
    assert int(output_of(outputs, "jq length")) > 1
    assert int(output_of(outputs, "jq .tokens")) > 1000
    assert json.loads(output_of(outputs, "jq .train.left_out")) in (0, None, {})
    assert (folder / "hello.jsonl").exists()
    assert (folder / "dump" / "manifest.json").exists()
