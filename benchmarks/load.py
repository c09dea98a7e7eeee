"""Much of everything through the command: how long it takes, and the most memory it holds.

    python benchmarks/load.py [--only prompts items ...] [--scale 1.0]

Each row is one command in a process of its own, on the tiny model of tests/fixtures: a long pipe of
prompts, a line of 200 MB, many small files, many lines, many items. Beside the peak stands what the
same command holds for a tenth of the work, so that a leak shows: memory that grows with the work.
Every row counts what comes out, so that nothing is lost unseen.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
MODEL = REPO / "tests/fixtures/illada-tiny"
WATCH = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
WATCH += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
WATCH += "sys.exit(code)"


@dataclass
class Load:
    """A kind of work: `make` writes its input, `arguments` name the command, `count` what came."""

    make: Callable[[Path, int], None]
    arguments: Callable[[Path], list[str]]
    amount: int
    count: Callable[[Path, str], int]
    feeds: str | None = None  # the file that goes through standard input


def words(number: int) -> str:
    """Return a short text that differs from its neighbours."""
    return f"text {number * 2654435761 % 1_000_003} ends here"


def write_lines(path: Path, lines: Iterator[str]) -> None:
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


def prompts(folder: Path, amount: int) -> None:
    rows = ({"prompt_ids": [number % 50 + 10, 11, 12]} for number in range(amount))
    write_lines(folder / "in.jsonl", map(json.dumps, rows))


def items(folder: Path, amount: int) -> None:
    rows = (
        {"prompt_ids": [number % 50 + 10, 11], "choices_ids": [[12, 13], [14]], "answer": 0}
        for number in range(amount)
    )
    write_lines(folder / "in.jsonl", map(json.dumps, rows))


def one_line(folder: Path, amount: int) -> None:
    with open(folder / "in.txt", "w") as file:
        for number in range(amount // 25):
            file.write(f"{number:>24} ")


def lines(folder: Path, amount: int) -> None:
    write_lines(folder / "in.txt", map(words, range(amount)))


def small_files(folder: Path, amount: int) -> None:
    for number in range(amount):
        if number % 1000 == 0:
            (folder / f"in/{number // 1000:04}").mkdir(parents=True)
        (folder / f"in/{number // 1000:04}/{number:06}.txt").write_text(words(number))


def vocabulary(folder: Path) -> str:
    """Return a small vocabulary, trained once a run."""
    path = folder.parent / "tokenizer.json"
    if not path.exists():
        (folder.parent / "seed.txt").write_text("\n".join(map(words, range(5000))))
        illada = [sys.executable, "-m", "illada_cli", "tokenize", str(folder.parent / "seed.txt")]
        subprocess.run(
            [*illada, "--train-vocab", "400", "-o", str(path), "-q"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return str(path)


def tokenize(*options: str) -> Callable[[Path], list[str]]:
    return lambda folder: [
        *("tokenize", str(folder / options[0]), "--tokenizer", vocabulary(folder)),
        *("-o", str(folder / "out"), "-q", *options[1:]),
    ]


def documents(folder: Path, _: str) -> int:
    return int(json.loads((folder / "out/manifest.json").read_text())["documents"])


def lines_out(_: Path, text: str) -> int:
    return text.count("\n")


def model(verb: str, *options: str) -> Callable[[Path], list[str]]:
    return lambda _: [verb, "--ckpt", str(MODEL), "--jsonl", "-", "--json", "-q", *options]


SHORT = ("--max-new-tokens", "4", "--block-length", "4")
LOADS = {
    "prompts": Load(prompts, model("generate", *SHORT), 20_000, lines_out, "in.jsonl"),
    "items": Load(items, model("score"), 5_000, lines_out, "in.jsonl"),
    "bytes in a line": Load(one_line, tokenize("in.txt"), 200_000_000, documents),
    "small files": Load(small_files, tokenize("in"), 200_000, documents),
    "lines": Load(lines, tokenize("in.txt", "--format", "lines"), 5_000_000, documents),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the whole work")
    asked = parser.parse_args()
    print("| load | came out | s | CPU s | peak, MiB | peak at a tenth |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.only:
            load = LOADS[name]
            amount = max(10, int(load.amount * asked.scale))
            tenth = run(load, amount // 10, Path(scratch) / "tenth")
            whole = run(load, amount, Path(scratch) / "whole")
            print(
                f"| {amount:,} {name} | {whole.count:,} | {whole.seconds:.0f} | {whole.cpu:.0f} | "
                f"{whole.peak} | {tenth.peak} |",
                flush=True,
            )


@dataclass
class Outcome:
    """What a command gave and took; `peak` is MiB."""

    count: int
    seconds: float
    cpu: float
    peak: int


def run(load: Load, amount: int, folder: Path) -> Outcome:
    """Make the input, run the command on it and measure it."""
    folder.mkdir()
    load.make(folder, amount)
    arguments = load.arguments(folder)
    command = [sys.executable, "-c", WATCH, sys.executable, "-m", "illada_cli", *arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    fed = open(folder / load.feeds) if load.feeds else None  # noqa: SIM115 (closed below)
    done = subprocess.run(
        command, stdin=fed or subprocess.DEVNULL, capture_output=True, text=True, cwd=REPO
    )
    if fed:
        fed.close()
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    outcome = Outcome(
        load.count(folder, done.stdout), seconds, cpu, int(done.stderr.split()[-1]) // 1024
    )
    shutil.rmtree(folder)
    return outcome


if __name__ == "__main__":
    main()
