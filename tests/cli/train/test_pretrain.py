"""`illada pretrain`: real processes, real signals, real kills, real bad input."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from illada_cli.train.run import let_memory_grow
from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.recipe.files import packaged_recipes, recipe_from, to_toml
from tests.conftest import command_environment
from tests.training.tiny import tiny_recipe, write_packed, write_rows

LONG = (
    "run.total_tokens=6400",
    "checkpoint.every_steps=3",
    "checkpoint.keep_last=20",
    "validation.every_steps=5",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run that was never interrupted; its recipe lies beside it."""
    place = tmp_path_factory.mktemp("whole")
    recipe = tiny_recipe(write_packed(place / "packed"), *LONG)
    (place / "tiny.toml").write_text(to_toml(recipe))
    command = [sys.executable, "-m", "illada_cli", "pretrain", "tiny.toml", "-q", "-o", "run"]
    subprocess.run(command, cwd=place, env=command_environment(), check=True, capture_output=True)
    return place / "run"


def losses(run):
    """Return the metrics but for the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "tokens_per_s", "mfu")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def wait_for_lines(run, lines, process, timeout_s=120):
    """Wait until the metrics hold that many lines."""
    path, deadline = run / "metrics.jsonl", time.monotonic() + timeout_s
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no step in time"
        time.sleep(0.005)


def test_a_run_ends_with_its_model_on_stdout(illada, tiny, tmp_path):
    done = illada("pretrain", tiny(), "-v")
    assert done.stdout == "runs/tiny/model\n"
    assert "training on cpu" in done.stderr
    assert "validation after step 12" in done.stderr
    assert "saved runs/tiny/checkpoints/step-000000004" in done.stderr
    run = tmp_path / "runs" / "tiny"
    found = {path.name for path in run.iterdir()}
    assert found == {"recipe.toml", "environment.json", "metrics.jsonl", "checkpoints", "model"}
    start = json.loads((run / "environment.json").read_text())["starts"][0]
    assert start["threads"] == int(os.environ["OMP_NUM_THREADS"])
    assert start["command"][1:] == ["pretrain", str(tiny()), "-v"]


def test_a_finished_run_is_left_as_it_is_but_for_its_curves(illada, whole, tmp_path):
    pytest.importorskip("matplotlib")
    before = losses(whole)
    model = (whole / "model" / "model.safetensors").stat()
    arguments = ("pretrain", whole.parent / "tiny.toml", "-q", "-o", whole)
    done = illada(*arguments, "--set", "log.curves=true")
    assert done.stdout == f"{whole}/model\n"
    assert done.stderr == ""
    assert losses(whole) == before
    assert (whole / "model" / "model.safetensors").stat() == model
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_killed_at_random_moments_a_run_gives_the_same_losses(
    illada, start_illada, whole, tmp_path
):
    arguments = ("pretrain", whole.parent / "tiny.toml", "-q", "-o", "killed")
    run, moments, lines = tmp_path / "killed", random.Random(4), 0
    for _ in range(3):
        process = start_illada(*arguments)
        wait_for_lines(run, lines + moments.randint(4, 12), process)
        time.sleep(moments.random() * 0.05)
        process.kill()
        process.wait()
        saved = [step for step, _ in list_checkpoints(run)]
        lines = sum(line["step"] <= max(saved, default=0) for line in losses(run))
    illada(*arguments)
    assert losses(run) == losses(whole)
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (run, whole)]
    assert weights[0] == weights[1]
    assert len(json.loads((run / "environment.json").read_text())["starts"]) == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_and_saves(illada, start_illada, whole, tmp_path, number, code):
    arguments = ("pretrain", whole.parent / "tiny.toml", "-q", "-o", "run")
    process = start_illada(*arguments)
    wait_for_lines(tmp_path / "run", 4, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == ""
    last = losses(tmp_path / "run")[-1]["step"]
    assert stderr.splitlines() == [
        "illada: stopping after this step and saving, again to quit now",
        f"illada: stopped after step {last}",
        "",
        "hint: to go on: illada pretrain --resume run, or the same command again",
    ]
    assert newest_checkpoint(tmp_path / "run").name == f"step-{last:09d}"
    illada(*arguments)
    assert losses(tmp_path / "run") == losses(whole)


def test_a_second_signal_leaves_at_once_with_the_last_checkpoint_standing(
    illada, start_illada, tiny, tmp_path
):
    slow = ("batch.rows=2000", "batch.micro_rows=1", "run.total_tokens=1e8")
    file = tiny(*slow, "checkpoint.every_steps=2")
    process = start_illada("pretrain", file, "-o", "run")
    wait_for_lines(tmp_path / "run", 1, process)
    refused = illada("pretrain", file, "-o", "run", code=1)
    assert "another run is writing run" in refused.stderr
    # After an odd step nothing is saved: the signals come in the middle of the next one.
    odd = len(losses(tmp_path / "run")) // 2 * 2 + 3
    wait_for_lines(tmp_path / "run", odd, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert time.monotonic() - began < 5.0
    assert stderr.count("stopping after this step") == 1
    run_folder.read_checkpoint(newest_checkpoint(tmp_path / "run"))


def test_divergence_ends_with_code_3_and_the_last_good_checkpoint(illada, tiny, tmp_path):
    done = illada(
        "pretrain",
        tiny("checkpoint.every_steps=1"),
        *("-o", "run", "--set", "optimizer.peak_lr=1e30", "--set", "run.max_bad_steps=2"),
        code=3,
    )
    newest = newest_checkpoint(tmp_path / "run")
    run_folder.read_checkpoint(newest)
    assert "not finite in 2 steps in a row" in done.stderr
    assert f"the last good checkpoint is {newest.relative_to(tmp_path)}" in done.stderr
    assert done.stdout == ""


def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_half_written(
    illada, start_illada, whole, tmp_path
):
    run = shutil.copytree(whole, tmp_path / "run")
    for _, path in list_checkpoints(run)[1:]:
        shutil.rmtree(path)
    before = newest_checkpoint(run)
    # A limit on the size of files stands for the full disk: weights and moments exceed it.
    command = f"ulimit -f 12; exec {sys.executable} -m illada_cli pretrain $0 -q -o run"
    done = subprocess.run(
        ["bash", "-c", command, whole.parent / "tiny.toml"],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"illada: file too large: run/checkpoints/step-\d+\n", done.stderr)
    run_folder.read_checkpoint(before)
    assert list((run / "checkpoints").iterdir()) == [before]


WITH_SIZES = [
    name
    for name, path in packaged_recipes().items()
    if "layers" in tomllib.loads(path.read_text()).get("model", {})
]


@pytest.mark.parametrize("name", WITH_SIZES)
def test_every_recipe_has_a_plan_that_can_be_fed_back(illada, tmp_path, name):
    done = illada("pretrain", name, "--dry-run")
    assert done.stderr == ""
    (tmp_path / "mine.toml").write_text(done.stdout)
    recipe = recipe_from(tomllib.loads(done.stdout), name)
    assert to_toml(recipe) in done.stdout
    assert "# parameters" in done.stdout
    again = illada("pretrain", "mine.toml", "--dry-run").stdout
    measured = "# on 1 x CPU"  # what follows is another rate each time
    assert again.partition(measured)[0] == done.stdout.partition(measured)[0]
    assert not (tmp_path / "runs").exists()


def test_a_plan_warns_of_what_its_run_warns_of(illada, tiny):
    """Once, on stderr: what is printed can still be fed back."""
    asked = tiny("batch.rows=25", "validation.least_tokens=257", "run.total_tokens=800")
    plan, run = illada("pretrain", asked, "-n"), illada("pretrain", asked, "-o", "run", "-q")
    assert plan.stderr == run.stderr
    told = plan.stderr.splitlines()
    assert [line.split(": ")[1] for line in told] == ["warning", "warning"]
    assert "only 24 rows, and a step takes 25" in told[0]
    assert "measured on 256 held-out tokens only" in told[1]
    assert tomllib.loads(plan.stdout)["batch"]["rows"] == 25


def test_the_plan_of_8b_is_the_papers(illada):
    plan = illada("pretrain", "8b", "-n").stdout
    assert "7,615,025,152" in plan
    assert "6,979,588,096" in plan
    assert "does not fit" not in plan
    alone = ("--set", "plan.devices=1", "--set", "run.recompute=none")
    kept = illada("pretrain", "8b", "-n", *alone).stdout
    assert "does not fit into one H200" in kept


def test_a_recipe_that_names_no_device_is_planned_for_this_machine(illada):
    plan = illada("pretrain", "demo", "-n", "--set", "run.device=cpu").stdout
    assert re.search(r"# on 1 x CPU of \d+ cores at 40% MFU", plan)
    assert "does not fit" not in plan
    rate = float(re.search(r"tokens per second +([\d.]+) k", plan)[1])
    assert 0.1 < rate < 1000, "thousands of tokens a second"
    large = illada(
        "pretrain", "demo", "-n", "--set", "model.layers=9000", "--set", "run.device=cpu"
    )
    assert "does not fit into one CPU" in large.stdout
    assert "--gpu h100" in illada("pretrain", "demo", "-n", "--gpus", "2", code=2).stderr


def test_with_data_the_plan_knows_vocabulary_and_rows(illada, tiny, packed):
    plan = illada("pretrain", tiny(), "-n").stdout
    assert "vocab_size = 128 " in plan
    assert "(4 rows of 32)" in plan
    assert "Assumed" not in plan


def test_neither_plans_nor_usage_errors_import_torch(tiny):
    script = (
        "import sys; from illada_cli.app import main; code = main(sys.argv[1:]);"
        "sys.exit('torch loaded' if 'torch' in sys.modules else code)"
    )
    for arguments, code in (
        (["pretrain", "8b", "--dry-run"], 0),
        (["pretrain", str(tiny()), "--dry-run"], 0),
        (["pretrain", "8b", "--set", "run.sed=1"], 2),
        (["pretrain", "8b"], 2),
        (["pretrain", "8b", "--dry-run", "--set", "run.device=tpu"], 2),
        (["pretrain", "8b", "--dry-run", "--set", "run.attention=fast"], 2),
        (["pretrain", "8b", "--dry-run", "--set", "lora.rank=4"], 2),
        (["pretrain", str(tiny()), "--set", "model.max_length=16"], 2),
    ):
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=command_environment())
        assert done.returncode == code, done.stderr


def test_a_closed_pipe_ends_quietly(tmp_path):
    command = f"set -o pipefail; {sys.executable} -m illada_cli pretrain 8b -n | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=command_environment()
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("changes", "code", "sentence", "hint"),
    [
        (["optimizer.lr=1"], 2, "unknown key optimizer.lr", "optimizer.peak_lr"),
        (["batch.rows=many"], 2, 'batch.rows must be a whole number, not "many"', None),
        (["data.path="], 2, "no data to train on", "--data DIR"),
        (["data.path=nowhere"], 1, "no dataset at nowhere", "illada pack"),
        (["model.max_length=16"], 2, "row 0 of", "--sequence-length 16"),
        (["model.vocab_size=39"], 2, "has 40", "model.vocab_size = 0"),
        (["schedule.warmup_tokens=5000"], 2, "do not fit into 1_536 tokens", "warmup_tokens"),
        (["run.device=cuda"], 2, "run.device is cuda, but torch sees no CUDA", None),
        (["model.layers=0"], 2, "missing model.layers, or model.ckpt", "illada sft RECIPE --ckpt"),
        (["run.device=tpu"], 2, "run.device must be auto, cpu, cuda or cuda:N", None),
        (["model.ckpt=nowhere"], 1, "no such model, checkpoint or run: nowhere", None),
    ],
)
def test_bad_input_gets_a_sentence_a_hint_and_a_code(
    illada, tiny, tmp_path, changes, code, sentence, hint
):
    changes = [part for change in changes for part in ("--set", change)]
    done = illada("pretrain", tiny(), "-o", "run", *changes, code=code)
    assert done.stderr.startswith("illada: ")
    assert sentence in done.stderr
    assert done.stdout == ""
    assert hint is None or hint in done.stderr.split("hint: ")[1]
    assert not list(tmp_path.glob("run/**/*.toml"))


def test_a_tampered_shard_is_named(illada, tiny, packed):
    shard = next((packed / "train").glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(bytes(data))
    done = illada("pretrain", tiny(), "-q", "-o", "run", code=1)
    assert done.stderr.startswith(f"illada: damaged shard: {shard}, frame 0")


def test_data_that_do_not_fit_each_other_or_the_model_are_refused(illada, tiny, tmp_path):
    write_rows(tmp_path / "unmasked", 4, mask=None)
    done = illada("pretrain", tiny(), "--data", "unmasked", code=1)
    assert "the tokenizer of unmasked has no mask token" in done.stderr
    write_rows(tmp_path / "other", 4, tokenizer="b")
    done = illada("pretrain", tiny(), "--set", "data.holdout=other", code=1)
    assert "made with another tokenizer" in done.stderr


def test_help_shows_examples_before_options(illada):
    text = illada("pretrain", "--help").stdout
    assert text.index("illada pretrain demo") < text.index("--data")


@pytest.mark.parametrize("name", [None, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_blocks_of_a_gpus_memory_grow_unless_its_user_chose_otherwise(monkeypatch, name):
    for each in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(each, raising=False)
    if name:
        monkeypatch.setenv(name, "max_split_size_mb:64")
    let_memory_grow()
    chosen = {key: value for key, value in os.environ.items() if "ALLOC_CONF" in key}
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    expected = {name: "max_split_size_mb:64"} if name else None
    assert chosen == (expected or {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})


def test_a_run_is_not_written_to_a_url(illada, tmp_path, tiny):
    refused = illada("pretrain", tiny(), "-o", "s3://bucket/run", code=2)
    assert "illada: a run is written to a folder here, not to s3://bucket/run" in refused.stderr
    assert "checkpoint.mirror" in refused.stderr
    assert not (tmp_path / "s3:").exists()
