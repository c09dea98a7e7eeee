"""`illada sft`: a base in, a fine-tuned model out; real processes, real signals, real bad input."""

import json
import shutil
import signal
import tomllib

import pytest

from illada_core.model.finding import newest_checkpoint
from illada_core.training.recipe.files import packaged_recipes, recipe_from, to_toml
from tests.cli.train.test_pretrain import losses, wait_for_lines
from tests.conftest import REPO
from tests.training.tiny import (
    RECIPE,
    tiny_recipe,
    write_conversations,
    write_packed,
    write_rows,
)

TINY = REPO / "tests" / "fixtures" / "illada-tiny"
SFT = RECIPE[RECIPE.index("[batch]") :]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with conversations, a base that has seen plain rows, and an SFT recipe."""
    from tests.training.test_loop import run_training

    place = tmp_path_factory.mktemp("sft")
    write_packed(place / "chats", write=write_conversations)
    plain = write_packed(place / "plain")
    run_training(tiny_recipe(plain, "run.total_tokens=512"), place / "base")
    (place / "sft.toml").write_text(f"{SFT}[objective]\nmask = 'response'\n")
    return place


@pytest.fixture
def sft(illada, place):
    """Run `illada sft` with that recipe, base and data."""

    def run(*arguments, code=0, ckpt="base", data="chats"):
        given = ("--ckpt", place / ckpt) if ckpt else ()
        data = ("--data", place / data) if data else ()
        return illada("sft", place / "sft.toml", *given, *data, *arguments, code=code)

    return run


def test_a_base_becomes_a_model_and_says_where(sft, tmp_path):
    done = sft("-o", "run")
    assert done.stdout == "run/model\n"
    assert "validation after step 12" in done.stderr
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert recipe["model"]["width"] == 16
    assert recipe["objective"]["mask"] == "response"
    assert losses(tmp_path / "run")[-2]["mask"] == "response"


def test_a_signal_saves_and_the_same_command_goes_on_bit_for_bit(
    sft, start_illada, place, tmp_path
):
    long = ("--set", "run.total_tokens=6400")
    sft("-o", "whole", *long)
    base = ("--ckpt", place / "base", "--data", place / "chats")
    process = start_illada("sft", place / "sft.toml", *base, "-o", "run", "-q", *long)
    wait_for_lines(tmp_path / "run", 4, process)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (143, "")
    assert "hint: to go on: illada sft --resume run, or the same command again" in stderr
    sft("-o", "run", *long)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    weights = [
        (tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "whole")
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", [name for name in packaged_recipes() if name.endswith("-sft")])
def test_packaged_recipes_take_their_sizes_from_the_base(illada, tmp_path, name):
    done = illada("sft", name, "--ckpt", TINY, "--dry-run")
    assert done.stderr == ""
    (tmp_path / "mine.toml").write_text(done.stdout)
    recipe = recipe_from(tomllib.loads(done.stdout), name)
    assert to_toml(recipe) in done.stdout
    assert "# parameters" in done.stdout
    again = illada("sft", "mine.toml", "-n").stdout
    measured = "# on 1 x CPU"  # what follows is another rate each time
    assert again.partition(measured)[0] == done.stdout.partition(measured)[0]
    assert not (tmp_path / "runs").exists()


def test_with_data_the_plan_knows_the_base_and_the_rows(sft, tmp_path):
    plan = sft("-n").stdout
    assert "layers = 2 " in plan
    assert "(4 rows of 32)" in plan
    assert not (tmp_path / "runs").exists()


def test_without_a_base_there_is_nothing_to_fine_tune(illada, sft):
    for done in (sft(ckpt=None, code=2), illada("sft", "8b-sft", "--dry-run", code=2)):
        assert done.stderr == (
            "illada: there is no model to fine-tune\n\n"
            "hint: give a model folder or a run: --ckpt BASE\n"
        )


@pytest.mark.parametrize(
    ("changes", "code", "sentence", "hint"),
    [
        (["objective.mask=answers"], 2, 'must be one of "all", "response", "turn"', None),
        (["objective.normalise=length"], 2, "unknown key objective.normalise", "normalize"),
        (["model.layers=3"], 2, "model.layers is 3, but", "leave the sizes out"),
        (["generation.block_length=0"], 2, "generation.block_length must be at least 1", None),
        (["model.ckpt=nowhere"], 1, "no such model, checkpoint or run: nowhere", None),
    ],
)
def test_bad_keys_get_a_sentence_a_hint_and_a_code(sft, place, changes, code, sentence, hint):
    ckpt = None if "model.ckpt" in changes[0] else "base"
    done = sft(*(part for change in changes for part in ("--set", change)), code=code, ckpt=ckpt)
    assert done.stderr.startswith("illada: ")
    assert sentence in done.stderr
    assert done.stdout == ""
    assert hint is None or hint in done.stderr.split("hint: ")[1]


def test_data_that_do_not_fit_the_base_or_the_mask_are_refused(sft, place, tmp_path):
    assert "no data to train on" in sft(data=None, code=2).stderr
    done = sft(data="plain", code=2)
    assert 'objective.mask = "response" needs conversations' in done.stderr
    assert "illada pack --chat" in done.stderr
    write_rows(tmp_path / "other", 4, tokenizer="another")
    done = sft("--set", "objective.mask=all", data=tmp_path / "other", code=2)
    assert "have different tokenizers" in done.stderr
    assert f"make the data with {place}/base/checkpoints" in done.stderr


def test_rows_longer_than_the_context_of_the_base_are_refused(illada, place, tmp_path):
    newest = newest_checkpoint(place / "base") / "model"
    model = shutil.copytree(newest, tmp_path / "base")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16}))
    arguments = ("sft", place / "sft.toml", "--data", place / "chats")
    done = illada(*arguments, "--ckpt", model, code=2)
    assert "has 32 tokens, but the model's context (model.max_length) is 16" in done.stderr
    assert done.stderr.endswith("hint: pack with --sequence-length 16\n")


def test_help_shows_examples_before_options(illada):
    text = illada("sft", "--help").stdout
    assert text.index("illada sft demo-sft") < text.index("--data")
