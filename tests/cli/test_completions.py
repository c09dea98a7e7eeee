"""The committed completion scripts are those of today's command tree, and the shells take them."""

import shutil
import subprocess

import pytest

from illada_cli.app import VERBS
from illada_cli.completions import FOLDER, Flag, Verb, bash, fish, scripts, zsh

TREE = [
    Verb(
        "pack",
        "Pack it's text",
        (
            Flag(("--mode",), "How: rows [are] cut", takes_value=True, choices=("stream", "fit")),
            Flag(("--quiet", "-q"), "Errors only", takes_value=False),
        ),
    ),
    Verb("pretrain", "Train", (Flag(("--set",), "A key", takes_value=True, repeatable=True),)),
]
SHELLS = {"bash": (bash, ["-n"]), "zsh": (zsh, ["-n"]), "fish": (fish, ["--no-execute"])}


@pytest.mark.parametrize("name", ["illada.bash", "_illada", "illada.fish"])
def test_committed_scripts_are_up_to_date(name):
    committed = (FOLDER / name).read_text()
    assert committed == scripts()[name], "run `make completions`"
    for verb in VERBS:
        assert verb in committed


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_accepts_its_script(shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    script, check = SHELLS[shell]
    path = tmp_path / "script"
    path.write_text(script(TREE))
    done = subprocess.run([shell, *check, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["illada", "p"], {"pack", "pretrain"}),
        (["illada", "pack", "--mode", ""], {"stream", "fit"}),
        (["illada", "pack", "--"], {"--mode", "--quiet"}),
        (["illada", "pretrain", "-"], {"--set"}),
    ],
)
def test_bash_completes_verbs_flags_and_choices(line, expected, tmp_path):
    path = tmp_path / "illada.bash"
    path.write_text(bash(TREE))
    words = " ".join(f"'{word}'" for word in line)
    script = (
        f"source {path}; COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _illada;"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
