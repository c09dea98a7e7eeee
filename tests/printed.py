"""Command lines that a page prints, run as they are but for names, sizes and lengths.

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
from pathlib import Path

from tests.benchmark.items import docs_for
from tests.conftest import REPO, command_environment

SOURCES = ("argparse.py", "ast.py", "asyncio/streams.py", "calendar.py", "json/decoder.py")
# Lines that install something, and what they are beside.
INSTALLS = ("pip install", "make ", "source .venv/bin/activate")
QUICK = "--set log.curves=false --set run.threads=1"
SHORT = (
    "--set run.total_tokens=2048 --set schedule.warmup_tokens=512 --set validation.rows=4 "
    f"--set batch.rows=4 {QUICK}"
)
SHORT_SFT = (
    "--set run.epochs=1 --set batch.rows=4 --set schedule.warmup_tokens=64 "
    f"--set generation.max_new_tokens=8 {QUICK}"
)
# A canvas of the tiny models is short, and so are their answers.
LENGTH = " --max-new-tokens 16 --block-length 8"
BRIEF = {"illada generate": LENGTH, "illada chat": LENGTH}
ITEMS = [
    {"prompt": "The sky is", "choices": [" blue", " green"], "answer": 0},
    {"prompt": "One and one is", "choices": [" two", " 2"], "answer": 1},
    {"prompt": "Nobody knows", "choices": [" it", " him"]},
]
PAIRS = [{"prompt": f"What is {n}?", "response": f"The number {n}."} for n in range(40)]


def served(ckpt):
    """Return a line that serves a checkpoint and ends the server as soon as it is ready."""
    return (
        f"{{ illada serve --ckpt {ckpt} --port 0 > url & until grep -s http url; do sleep 0.1; "
        "done; kill $!; wait $!; test $? = 143; }"
    )


def printed_lines(page):
    """Return the command lines of a page in their order, without those that install."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPO / page).read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(INSTALLS)]


def small(line, instead):
    """Return a line as it is run here: with the small things that stand in for what is printed."""
    command = line.split("  #")[0].rstrip()
    for printed, tiny in instead.items():
        command = command.replace(printed, tiny)
    for verb, options in BRIEF.items():
        before, found, after = command.partition(verb)
        command = before + found + options * bool(found) + after
    return command


def write_executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def fill(folder, byte_model):
    """Write what the pages say is there: a corpus, items, pairs, a dump, a checkpoint."""
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


def run(folder, lines, instead):
    """Run lines in a folder; return what each printed to stdout, under its own words."""
    environment = command_environment()
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    outputs = {}
    for line in lines:
        command = small(line, instead)
        ran = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 0, f"{line}\nran as: {command}\n{ran.stderr}"
        outputs[line.split("  #")[0].strip()] = ran.stdout
    return outputs


def output_of(outputs, words):
    """Return what the one line with these words printed."""
    (found,) = (output for line, output in outputs.items() if words in line)
    return found
