"""The README's tour works as it is printed; only the length of the training is cut."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.conftest import REPO, command_environment

SHORT = "--set run.total_tokens=4096 --set schedule.warmup_tokens=1024 --set validation.rows=4"
SOURCES = ("argparse.py", "ast.py", "asyncio/streams.py", "calendar.py", "json/decoder.py")


def tour():
    """Return the commands of the README's tour."""
    block = re.search(r"<!-- tour.*?-->\n```sh\n(.*?)```", (REPO / "README.md").read_text(), re.S)
    return block.group(1)


def test_the_tour_leads_from_text_to_a_model(tmp_path):
    (tmp_path / "corpus").mkdir()
    for name in SOURCES:
        text = (Path(sysconfig.get_path("stdlib")) / name).read_text()
        (tmp_path / "corpus" / name.replace("/", "-")).write_text(text)
    command = tmp_path / "bin" / "illada"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m illada_cli "$@"\n')
    command.chmod(0o755)
    script = "set -e\n" + tour().replace("-o runs/first", f"-o runs/first {SHORT}")
    script = script.replace("--sequence-length 64", "--sequence-length 64 --holdout 0.3")
    environment = command_environment()
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in ("recipe.toml", "metrics.jsonl", "model/model.safetensors", "model/tokenizer.json"):
        assert (tmp_path / "runs" / "first" / name).exists(), name
