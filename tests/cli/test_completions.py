"""The committed completion scripts are those of today's command tree, and the shells take them."""

import re
import shutil
import subprocess

import pytest

from illada_cli.app import VERBS
from illada_cli.completions import FOLDER, Flag, Verb, bash, command_tree, fish, scripts, zsh

TREE = [
    Verb(
        "pack",
        "Pack it's text",
        (
            Flag(("--mode",), "How: rows [are] cut", takes_value=True, choices=("stream", "fit")),
            Flag(("--quiet", "-q"), "Errors only", takes_value=False),
        ),
    ),
    Verb(
        "pretrain",
        "Train",
        (
            Flag(("--set",), "A key", True, ("run.seed=", "run.dtype=", "run.dtype=f4"), True),
            Flag(("--data",), "A file", takes_value=True),
        ),
        ("demo", "8b"),
    ),
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
        (["illada", "pack", "--mode", "=", "f"], {"fit"}),
        (["illada", "pack", "--mode", "="], {"stream", "fit"}),
        (["illada", "pretrain", "-"], {"--set", "--data"}),
        (["illada", "pretrain", "de"], {"demo"}),
        (["illada", "pretrain", "--set", "run."], {"run.seed=", "run.dtype="}),
        (["illada", "pretrain", "--set", "run.dtype", "="], {"f4"}),
        (["illada", "pretrain", "--set", "run.dtype", "=", "f"], {"f4"}),
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


def test_recipes_presets_and_keys_are_offered():
    verbs = {verb.name: verb for verb in command_tree()}
    assert {"demo", "8b"} < set(verbs["pretrain"].words)
    flags = {flag.names[0]: flag for flag in verbs["generate"].flags}
    assert "gsm8k-instruct" in flags["--preset"].choices
    (changes,) = (flag for flag in verbs["sft"].flags if "--set" in flag.names)
    assert {"optimizer.peak_lr=", "run.attention=sdpa", "run.compile=true"} < set(changes.choices)


def test_help_names_values_and_shows_no_type(illada):
    for verb in VERBS:
        text = illada(verb, "--help").stdout
        assert not re.findall(r"<(?:str|int|float|path|bool|list|%)[^|]*?>", text)
    assert "--set KEY=VALUE" in illada("pretrain", "--help").stdout
