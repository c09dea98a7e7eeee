"""The root command: version, help, usage errors, start-up cost."""

import contextlib
import errno
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from illada_cli.app import VERBS, build_app, escape_help, report
from illada_core import __version__
from tests.conftest import command_environment

REPO = Path(__file__).resolve().parents[2]


def test_version_is_one_line_on_stdout(illada):
    done = illada("--version")
    assert done.stdout == f"illada {__version__}\n"
    assert done.stderr == ""


def test_bare_command_prints_help_and_fails_as_usage(illada):
    assert "Usage: illada" in illada(code=2).stdout


def test_unknown_verb_is_a_usage_error_with_a_hint(illada):
    done = illada("pretrian", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("illada: ")
    assert "hint: " in done.stderr


def test_sentences_of_help_flow_at_any_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    command = typer.main.get_command(build_app(panels=False))
    for verb in VERBS:
        with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
            command.main([verb, "--help"], prog_name="illada")
        examples = r"^  Examples:\n(    .*\n)*"  # lines to be copied, as they are
        told = re.sub(examples, "", shown.getvalue(), flags=re.MULTILINE)
        assert [line for line in told.splitlines() if len(line) > 60] == [], verb


def test_help_in_panels_keeps_its_brackets():
    command = typer.main.get_command(build_app(panels=True))
    escape_help(command)
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        command.main(["pack", "--help"], prog_name="illada")
    assert "[default: all" in shown.getvalue()


def test_help_loads_no_heavy_package():
    script = (
        "import sys; from illada_cli.app import main; main(['--help']);"
        "heavy = {'torch', 'numpy', 'datasets', 'tokenizers', 'safetensors'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_signal_while_the_interpreter_exits_does_not_take_the_code():
    """The signal comes from a global's end, after the interpreter has dropped its handlers."""
    script = """
import os, signal, sys
from illada_cli import __main__, app

class Late:
    def __del__(self, kill=os.kill, me=os.getpid()):
        kill(me, 15)

late = Late()
signal.signal(signal.SIGTERM, lambda *_: None)
app.main = lambda arguments: 143
__main__.run()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, timeout=60)
    assert done.returncode == 143


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("cannot allocate"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nGPU 0 has …"),
        MemoryError(),
    ],
)
def test_memory_that_is_not_enough_is_told_as_that_and_not_as_a_bug(error, capsys):
    assert report(error) == 1
    told = capsys.readouterr().err
    assert told.startswith("illada: out of memory: ")
    assert "hint: " in told
    assert "bug" not in told
    assert "GPU 0" not in told


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files", "a.txt"), "ulimit -n"),
    ],
)
def test_limits_of_the_machine_are_told_as_that_and_not_as_a_bug(error, hint, capsys):
    assert report(error) == 1
    told = capsys.readouterr().err
    assert hint in told
    assert "bug" not in told


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "arguments", ["--version", "score --ckpt nowhere --text -", "pack --stats no"]
)
def test_a_closed_stream_is_as_good_as_dev_null(closed, arguments, tmp_path):
    def run(redirected):
        command = f"exec {sys.executable} -m illada_cli {arguments} {redirected}"
        return subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=command_environment(),
        )

    devnull = closed.replace("<&-", "</dev/null").replace(">&-", ">/dev/null")
    done, expected = run(closed), run(devnull)
    assert (done.returncode, done.stdout, done.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )
    assert "Traceback" not in done.stderr
