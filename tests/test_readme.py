"""Every command line of the README does what is printed; only names, sizes and lengths change.

The lines run in their order, in one folder. Where the machine has no `jq`, a stand-in checks that
what reaches it is JSON, and what `jq` would print is not looked at.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.benchmark.items import docs_for
from tests.conftest import REPO, command_environment

SOURCES = ("argparse.py", "ast.py", "asyncio/streams.py", "calendar.py", "json/decoder.py")
# Lines that install something, and what they are beside.
INSTALLS = ("pip install", "make venv", "source .venv/bin/activate", "make test")
QUICK = "--set log.curves=false --set run.threads=1"
SHORT = (
    "--set run.total_tokens=2048 --set schedule.warmup_tokens=512 --set validation.rows=4 "
    f"--set batch.rows=4 {QUICK}"
)
SHORT_SFT = (
    "--set run.epochs=1 --set batch.rows=4 --set schedule.warmup_tokens=64 "
    f"--set generation.max_new_tokens=8 {QUICK}"
)
# A server is asked to end as soon as it is ready; tests/serving has more.
SERVED = (
    "{ illada serve --ckpt tiny --port 0 > url & until grep -s http url; do sleep 0.1; done; "
    "kill $!; wait $!; test $? = 143; }"
)
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
    "illada serve --ckpt runs/first": SERVED,
    "jsonl --tokenizer tokenizer.json -o tokens/": "jsonl --tokenizer tokenizer.json -o dump/",
}
# A canvas of the tiny models is short, and so are their answers.
LENGTH = " --max-new-tokens 16 --block-length 8"
BRIEF = {"illada generate": LENGTH, "illada chat": LENGTH}
ITEMS = [
    {"prompt": "The sky is", "choices": [" blue", " green"], "answer": 0},
    {"prompt": "One and one is", "choices": [" two", " 2"], "answer": 1},
    {"prompt": "Nobody knows", "choices": [" it", " him"]},
]
PAIRS = [{"prompt": f"What is {n}?", "response": f"The number {n}."} for n in range(40)]


def test_the_plan_that_is_printed_is_the_plan(illada):
    block = re.search(r"<!-- plan: .*?```text\n(.*?)```", (REPO / "README.md").read_text(), re.S)[1]
    told = illada("pretrain", "8b", "--dry-run", "--gpus", "512", "--gpu", "h100").stdout
    assert told.endswith("".join(f"# {line}\n" for line in block.splitlines()))


def printed_lines():
    """Return the command lines of the README in their order, without those that install."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPO / "README.md").read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(INSTALLS)]


def small(line):
    """Return a line as it is run here."""
    command = line.split("  #")[0].rstrip()
    for printed, instead in SMALL.items():
        command = command.replace(printed, instead)
    for verb, options in BRIEF.items():
        before, found, after = command.partition(verb)
        command = before + found + options * bool(found) + after
    return command


def write_executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def fill(folder, byte_model):
    """Write what the README says is there: a corpus, items, pairs, a dump, a checkpoint."""
    (folder / "corpus").mkdir()
    for name in SOURCES:
        text = (Path(sysconfig.get_path("stdlib")) / name).read_text()
        (folder / "corpus" / name.replace("/", "-")).write_text(text)
    shutil.copytree(byte_model, folder / "tiny")
    for name, objects in (
        ("prompts.jsonl", [{"prompt": "Once"}, {"prompt": "Twice"}]),
        ("arc.jsonl", ITEMS),
        ("pairs.jsonl", PAIRS),
    ):
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in objects))
    with gzip.open(folder / "dump.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "A dumped document."}) + "\n")
    (folder / "README.md").write_text((REPO / "README.md").read_text()[:1000])
    python = sys.executable
    (folder / "items").mkdir()
    questions = "".join(json.dumps(each) + "\n" for each in docs_for("arc_challenge", 4))
    (folder / "items/arc_challenge.jsonl").write_text(questions)
    write_executable(folder / "bin/illada", f'#!/bin/sh\nexec "{python}" -m illada_cli "$@"\n')
    if not shutil.which("jq"):
        check = "import json, sys; [json.loads(line) for line in sys.stdin]; print()"
        write_executable(folder / "bin/jq", f"#!/bin/sh\nexec \"{python}\" -c '{check}'\n")


@pytest.fixture(scope="module")
def done(tmp_path_factory, byte_model):
    """Run every line; return the folder, and what each printed to stdout under its own words."""
    folder = tmp_path_factory.mktemp("readme")
    fill(folder, byte_model)
    environment = command_environment(HF_HUB_OFFLINE="1")
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"

    def run(lines):
        outputs = {}
        for line in lines:
            ran = subprocess.run(
                ["bash", "-c", f"set -o pipefail; {small(line)}"],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            assert ran.returncode == 0, f"{line}\nran as: {small(line)}\n{ran.stderr}"
            outputs[line.split("  #")[0].strip()] = ran.stdout
        return outputs

    # Lines that need nothing but the tiny checkpoint run beside those that make a model.
    beside = [[], []]
    for line in printed_lines():
        beside["--ckpt tiny" in small(line)].append(line)
    with ThreadPoolExecutor(2) as pool:
        made, served = pool.map(run, beside)
    return folder, made | served


def output_of(outputs, words):
    """Return what the one line with these words printed."""
    (found,) = (output for line, output in outputs.items() if words in line)
    return found


def test_what_is_made_small_is_printed_in_the_readme():
    text = "\n".join(printed_lines())
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
