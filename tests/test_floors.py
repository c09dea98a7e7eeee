"""Imports go down only, rooms on one floor do not know each other, packages have one owner."""

import ast
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FLOORS = {
    "illada_core.errors": 0,
    "illada_core.decoding": 0,
    "illada_core.noise": 1,
    "illada_core.arrays": 1,
    "illada_core.files": 1,
    "illada_core.places": 1,
    "illada_core.remote": 1,
    "illada_core.packaged": 1,
    "illada_core.text": 2,
    "illada_core.model": 3,
    "illada_core.data": 4,
    "illada_core.inference": 4,
    "illada_core.diffusion": 5,
    "illada_core.evaluation": 5,
    "illada_core.training.recipe": 5,
    "illada_core.training": 6,
    "illada_core.benchmark": 6,
    "illada_core.api": 6,
    "illada_core.serving": 6,
    "illada_cli.ui": 7,
    "illada_cli.signals": 7,
    "illada_cli.options": 8,
    "illada_cli.settings": 7,
    "illada_cli.jsonl": 8,
    "illada_cli.ledger": 8,
    "illada_cli.corpus": 8,
    "illada_cli.executor": 8,
    "illada_cli.ranks": 7,
    "illada_cli.launch": 8,
    "illada_cli.chat": 9,
    "illada_cli.convert": 9,
    "illada_cli.eval": 9,
    "illada_cli.generate": 9,
    "illada_cli.help": 9,
    "illada_cli.pack": 9,
    "illada_cli.runs": 9,
    "illada_cli.score": 9,
    "illada_cli.serve": 9,
    "illada_cli.tokenize": 9,
    "illada_cli.train": 9,
    "illada_cli.app": 10,
    "illada_cli.__main__": 11,
    "illada_cli.completions": 11,
}
OWNERS = {
    "tomllib": ("illada_core/decoding.py",),
    "typer": ("illada_cli/",),
    "rich": ("illada_cli/",),
    "datasets": ("illada_core/data/sources/hub.py",),
    "pyarrow": ("illada_core/data/sources/columns.py",),
    "tokenizers": ("illada_core/text/tokenizer.py", "illada_core/data/build/vocabulary.py"),
    "fsspec": ("illada_core/remote.py",),
    "huggingface_hub": ("illada_core/model/finding.py",),
    "fastokens": ("illada_core/text/tokenizer.py",),
    "zstandard": ("illada_core/data/store/frames.py", "illada_core/data/sources/reading.py"),
    "flash_attn": ("illada_core/model/attention.py",),
    "jinja2": ("illada_core/text/template_",),
    "peft": ("illada_core/training/lora.py",),
    "torchao": ("illada_core/training/float8.py", "illada_core/model/quantized.py"),
    "lm_eval": (
        "illada_core/benchmark/harness",
        "illada_core/benchmark/baseline.py",
        "illada_cli/eval/exams.py",
    ),
    "safetensors": (
        "illada_core/model/stored.py",
        "illada_core/model/weights.py",
        "illada_core/training/checkpoint.py",
    ),
    "matplotlib": (
        "illada_core/training/picture.py",
        "illada_core/training/overlay.py",
        "illada_core/benchmark/picture.py",
    ),
    "ray": ("illada_cli/executor.py",),
    "starlette": ("illada_core/serving/",),
    "uvicorn": ("illada_cli/serve/run.py",),
}
# Rooms and files that never import torch, so that `tokenize`, `pack` and a plan start at once.
TORCH_FREE = (
    "illada_core/__init__.py",
    "illada_core/errors.py",
    "illada_core/decoding.py",
    "illada_core/noise.py",
    "illada_core/arrays.py",
    "illada_core/files.py",
    "illada_core/places.py",
    "illada_core/remote.py",
    "illada_core/packaged.py",
    "illada_core/text/",
    "illada_core/data/",
    "illada_core/model/config.py",
    "illada_core/model/configfile.py",
    "illada_core/model/families/",
    "illada_core/model/features.py",
    "illada_core/model/finding.py",
    "illada_core/model/layouts.py",
    "illada_core/benchmark/definition.py",
    "illada_core/benchmark/templates.py",
    "illada_core/benchmark/records.py",
    "illada_core/benchmark/extraction.py",
    "illada_core/benchmark/equality.py",
    "illada_core/benchmark/shots.py",
    "illada_core/benchmark/prompts.py",
    "illada_core/benchmark/programs.py",
    "illada_core/benchmark/suites.py",
    "illada_core/benchmark/report.py",
    "illada_core/inference/defaults.py",
    "illada_core/inference/requests.py",
    "illada_core/inference/rules.py",
    "illada_core/inference/settings.py",
    "illada_core/inference/presets.py",
    "illada_core/training/recipe/",
    "illada_core/training/run_folder.py",
    "illada_core/training/mirror.py",
    "illada_cli/corpus.py",
    "illada_cli/executor.py",
    "illada_cli/tokenize/",
    "illada_cli/pack/",
    "illada_cli/help/",
    "illada_core/training/held_out.py",
    "illada_core/training/events.py",
    "illada_core/training/lines.py",
    "illada_core/training/history.py",
    "illada_cli/runs/",
    "illada_core/training/setup.py",
)
SOURCES = sorted([*REPO.glob("illada_core/**/*.py"), *REPO.glob("illada_cli/**/*.py")])


def room_of(module):
    """Return the room a module lives in: the longest known prefix of its dotted name."""
    known = [room for room in FLOORS if module == room or module.startswith(room + ".")]
    return max(known, key=len) if known else None


def imported_modules(path):
    """Yield every module named by an import, also inside functions, except for type checking."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_of_code_is_checked_and_shipped():
    """Tools pass over folders with names like `build`, unless their settings say otherwise."""
    folders = {path.parent for path in SOURCES}
    assert all((folder / "__init__.py").exists() for folder in folders)
    settings = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]
    ignored = {
        *settings["ruff"]["exclude"],
        *settings["pytest"]["ini_options"]["norecursedirs"],
        *(line.rstrip("/") for line in (REPO / ".gitignore").read_text().splitlines()),
    }
    assert not {folder.name for folder in folders} & ignored


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_imports_go_down_only(path):
    name = str(path.relative_to(REPO))
    room = room_of(name.removesuffix(".py").replace("/", "."))
    for module in imported_modules(path):
        package = module.split(".")[0]
        if package in OWNERS:
            assert name.startswith(OWNERS[package]), f"{name} may not import {package}"
        if package == "torch":
            assert not name.startswith(TORCH_FREE), f"{name} must stay free of torch"
        target = room_of(module)
        if room and target and target != room:
            assert FLOORS[target] < FLOORS[room], f"{name} imports {module}, which is not below it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_json_is_decoded_in_one_place(path):
    """What `json` decodes by itself may be NaN, too deep, or of any shape."""
    name = str(path.relative_to(REPO))
    if name == "illada_core/decoding.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.ImportFrom) or node.module != "json"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "json":
            assert node.attr in ("dumps", "JSONEncoder"), f"{name} calls json.{node.attr}"
