"""Many ranks are one rank: gradients, losses, checkpoints and exports, whatever their number."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from illada_core.errors import UsageError
from illada_core.model.config import parameter_count
from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.model.weights import load_model
from illada_core.training import run_folder
from illada_core.training.lines import read_lines
from illada_core.training.recipe.footprint import choose_shard
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import row_source
from tests.training.on_ranks import (
    KINDS,
    adapted_recipe,
    curve_recipe,
    mixed,
    play,
    stretched,
    stretched_elsewhere,
)
from tests.training.test_loop import CPU, losses, run_training
from tests.training.tiny import tiny_recipe, write_conversations, write_packed

WORLDS = (2, 3, 4)
WRAPPED = ("selective", "full")
ALONE = (
    "curve",
    "stopped",
    "going_on",
    "bad_gradient",
    "looked_at",
    "slow_save",
    "full_disk",
    "unfit",
    "stretched",
)
WEIGHTS = "model.safetensors"
# Sums in another order: relative to a tensor's length, and to a loss.
GRADIENT_TOLERANCE = {"float32": 2e-6, "bfloat16": 1e-2}
LOSS_TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Datasets, a run of one process, and one that it has stopped."""
    folder = tmp_path_factory.mktemp("ranks")
    write_packed(folder / "packed")
    write_packed(folder / "chats", write=write_conversations)
    run_training(curve_recipe(folder), folder / "whole-1")
    run_training(curve_recipe(folder), folder / "stopped-1", stop_after=4)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    """What two ranks found; they also go on from where one process has stopped."""
    shutil.copytree(as_in_format_1(folder / "stopped-1"), folder / "resumed-1-on-2")
    return play(2, folder, "gradients", *WRAPPED, *ALONE, "adapters")


@pytest.fixture(scope="module")
def three(folder, two):
    """What three ranks found, after two had stopped."""
    shutil.copytree(folder / "stopped", folder / "resumed-2-on-3")
    shutil.copytree(folder / "stopped", folder / "stretched-2-on-3")
    damage(shutil.copytree(folder / "stopped", folder / "damaged"))
    scenarios = ("going_on", "stretched_elsewhere", "damaged", "refused", "mixed")
    return play(3, folder, "gradients", *scenarios)


@pytest.fixture(scope="module")
def four(folder, two):
    """What four ranks found, in one copy and in two, after two had stopped."""
    shutil.copytree(folder / "stopped", folder / "resumed-2-on-4")
    return play(4, folder, "gradients", "copies", "going_on", "copied_curve")


@pytest.fixture
def played(two, three, four):
    """What each number of ranks found."""
    return {2: two, 3: three, 4: four}


def as_in_format_1(run):
    """Sign a run's newest checkpoint as earlier versions did."""
    path = newest_checkpoint(run)
    content = json.loads((path / "state.json").read_text()) | {"format": 1}
    del content["sha256"]
    signed = content | {"sha256": run_folder.content_sha256(content)}
    (path / "state.json").write_text(json.dumps(signed))
    return run


def damage(run):
    """Change a byte of what the second rank has written."""
    file = newest_checkpoint(run) / "model" / "model-00002.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def plain_gradients(folder, world, dtype, tied):
    """Return what autograd sums up: of each micro-batch over the ranks, then over micro-batches."""
    keys = (f"run.compute_dtype={dtype}", f"model.tied={str(tied).lower()}")
    asked = tiny_recipe(folder / "packed", "batch.rows=3", "batch.micro_rows=1", *keys)
    sums = []
    with open_session(prepare(asked), folder / "plain", CPU, fresh=True) as session:
        of_ranks = []
        for rank in range(world):
            share = replace(session.share, rank=rank, world=world)
            source = row_source(session.setup.train, session.corruption, share)(0)
            of_ranks.append(next(source))
            source.close()
        for micro_batches in zip(*of_ranks, strict=True):
            parts = [gradients(session.denoiser, noisy) for noisy in micro_batches]
            sums.append([sum(tensors) for tensors in zip(*parts, strict=True)])
    return [sum(tensors) for tensors in zip(*sums, strict=True)]


def gradients(denoiser, noisy):
    denoiser.zero_grad()
    (denoiser(noisy).nats / 96).backward()
    return [parameter.grad.clone() for parameter in denoiser.parameters()]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("dtype", "tied"), KINDS)
def test_gradients_are_the_plain_sum(folder, played, world, dtype, tied):
    """Of two ranks bit for bit, phantom included: two numbers have no order to be added in.

    Layers may be computed again, and there may be two copies of the model.
    """
    expected = plain_gradients(folder, world, dtype, tied)
    named = [("gradients", rank) for rank in played[world]]
    more = {2: WRAPPED, 3: (), 4: ("copies",)}[world]
    named += [(name, rank) for name in more for rank in played[world]]
    for name, rank in named:
        forwards, found, *_ = rank[name][f"{dtype} {tied}"]
        assert forwards == -(-3 // world)
        for one, other in zip(found, expected, strict=True):
            if world == 2:
                assert torch.equal(one, other)
            else:
                assert (one - other).norm() <= GRADIENT_TOLERANCE[dtype] * other.norm()


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_agree_on_a_step(played, world):
    for step in zip(*(rank["gradients"].values() for rank in played[world]), strict=True):
        assert len({found[2:] for found in step}) == 1


def same_losses(run, other):
    """Compare the lines of two runs, whose losses may differ in their last digits."""
    one, two = losses(run), losses(other)
    assert [(line["kind"], line["step"], line["tokens"]) for line in one] == [
        (line["kind"], line["step"], line["tokens"]) for line in two
    ]
    for first, second in zip(one, two, strict=True):
        assert second.get("loss", 0) == pytest.approx(first.get("loss", 0), rel=LOSS_TOLERANCE)
        assert second.get("grad_norm", 0) == pytest.approx(first.get("grad_norm", 0), rel=1e-5)


@pytest.mark.parametrize("run", ["whole-2", "copied", "resumed-2-on-4"])
def test_the_losses_are_those_of_one_process(folder, played, run):
    """With validation and answers between steps, after which nothing stale is left of a model."""
    same_losses(folder / "whole-1", folder / run)
    answers = [read_lines(folder / name / "samples.jsonl", {}) for name in ("whole-1", run)]
    assert len(answers[1]) == 9
    assert [line["step"] for line in answers[1]] == [line["step"] for line in answers[0]]


def test_a_mixture_is_that_of_one_process(folder, three):
    """Its rows come in the same places, and it changes at the same step."""
    mixed(folder, CPU)
    same_losses(folder / "mixed-1", folder / "mixed-3")
    kinds = [line["kind"] for line in losses(folder / "mixed-3")]
    assert kinds.count("mixture") == 2
    assert "validation" in kinds


def test_stretches_of_other_batch_sizes_are_those_of_one_process(folder, two):
    stretched(folder, CPU)
    same_losses(folder / "stretched-1", folder / "stretched-2")
    lines = [line for line in losses(folder / "stretched-2") if line["kind"] == "step"]
    rows = [5] * 3 + [7] * 2 + [2] * 6  # 41 of 40: the last step may pass the end
    assert [line["tokens"] for line in lines] == [32 * sum(rows[: n + 1]) for n in range(len(rows))]


def test_a_stretch_begun_on_other_ranks_is_that_of_one_process(folder, three):
    """Two ranks have stopped; three, or one, go on with more rows in a step."""
    run = shutil.copytree(folder / "stopped", folder / "stretched-2-on-1")
    stretched_elsewhere(folder, CPU)
    same_losses(run, folder / "stretched-2-on-3")
    assert [line["step"] for line in losses(run) if line["kind"] == "stretch"] == [5]


def test_resume_on_as_many_ranks_is_exact(folder, two):
    whole, parts = folder / "whole-2", folder / "parts-2"
    assert losses(parts) == losses(whole)
    models = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert models[0] == models[1]


@pytest.mark.parametrize("run", ["resumed-1-on-2", "resumed-2-on-3"])
def test_resume_on_other_ranks_sees_the_same_rows_and_noise(folder, played, run):
    same_losses(folder / "whole-1", folder / run)
    weights = [load_model(folder / name).state_dict() for name in ("whole-1", run)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=2e-6)


def test_one_process_goes_on_where_two_ranks_have_stopped(folder, two):
    run = shutil.copytree(folder / "stopped", folder / "resumed-2-on-1")
    events = run_training(curve_recipe(folder), run)
    assert events[0].step == 4
    same_losses(folder / "whole-1", run)


@pytest.mark.parametrize("run", ["stopped", "copied"])
def test_a_checkpoint_in_shards_is_a_model_as_any_other(folder, played, run):
    """Read by --ckpt, and by torch's own reader, which knows the parts too."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    path = newest_checkpoint(folder / run) / "model"
    model = load_model(path)
    read = {"model.layers.0.mlp.down_proj.weight": torch.zeros(16, 32)}
    with pytest.warns(UserWarning, match="single process"):
        load(read, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    assert torch.equal(*read.values(), model.layers[0].ffn.down.weight)
    if run == "copied":
        exported = load_model(folder / run / "model").state_dict()
        assert all(torch.equal(exported[name], each) for name, each in model.state_dict().items())


def test_a_damaged_shard_is_told_by_all_ranks_in_the_same_words(three):
    kind, sentence, hint = three[0]["damaged"]
    assert kind == "CheckpointError"
    assert sentence.endswith("model-00002.safetensors was changed after it was written")
    assert "delete" in hint
    assert [rank["damaged"] for rank in three] == [(kind, sentence, hint)] * 3


def test_what_only_one_rank_can_know_is_refused_by_all_with_its_code(three):
    """Else the others would take it for lost, and start again."""
    told = [(2, "run.seed changed"), (2, "run.total_tokens can no longer change")]
    assert [rank["refused"] for rank in three] == [told] * 3


def test_a_bad_gradient_of_one_rank_drops_the_step_on_all(two):
    assert [rank["bad_gradient"] for rank in two] == [([True, False], True)] * 2


def test_slow_ranks_are_named_before_the_first_step_if_the_recipe_asks(two):
    """Here no rank can be fast enough, at either of the two things that are measured."""
    asked, unasked = two[0]["unfit"]
    assert [sentence.split(" at ")[0].split(" on ")[0] for sentence in asked] == [
        "rank 0",
        "rank 1",
    ] * 2
    assert unasked == []
    assert two[1]["unfit"] == [[], []], "one rank tells it"


def test_nothing_is_left_of_the_names_that_files_had_on_their_way(folder, played):
    assert not list(folder.rglob("*.partial*"))
    assert not list(folder.rglob("shard-*.safetensors"))


def test_what_was_gathered_without_a_gradient_is_let_go(two):
    assert [rank["looked_at"][:2] for rank in two] == [(True, True)] * 2


def test_ranks_hold_a_model_once_among_them(folder, two):
    held = [rank["looked_at"][2] for rank in two]
    assert held[0] == held[1] == parameter_count(prepare(curve_recipe(folder)).config) // 2


def test_training_goes_on_while_a_checkpoint_is_written_and_one_at_a_time(folder, two):
    """What is written is the model of its step, not of those that came meanwhile."""
    events = two[0]["slow_save"]
    saved = [step for kind, step in events if kind == "Saved"]
    assert saved == [2, 4, 6, 8]
    for step in saved[:-1]:
        assert events.index(("Saved", step)) > events.index(("StepDone", step + 1))
        assert events.index(("Saved", step)) <= events.index(("StepDone", step + 2)) + 1
    meanwhile, blocking = (
        folder / run / "checkpoints" / "step-000000004" for run in ("slow", "stopped")
    )
    names = [str(path.relative_to(blocking)) for path in blocking.rglob("*.safetensors")]
    assert len(names) == 4
    for name in names:
        written, expected = load_file(meanwhile / name), load_file(blocking / name)
        assert written.keys() == expected.keys()
        assert all(torch.equal(written[key], expected[key]) for key in expected)


def test_a_full_disk_costs_a_checkpoint_or_ends_the_run_as_its_recipe_says(folder, two):
    path = folder / "full-stop" / "checkpoints" / "step-000000004"
    assert [rank["full_disk"]["stop"] for rank in two] == [
        [f"[Errno 28] No space left on device: '{path}'"]
    ] * 2
    told = two[0]["full_disk"]["continue"]
    assert len(told) == 1
    assert told[0].startswith("a checkpoint was not written, and training goes on: [Errno 28] No")
    assert two[1]["full_disk"]["continue"] == [], "one rank tells it"
    for run, steps in (("full-stop", [2]), ("full-continue", [2, 6, 8])):
        complete = list_checkpoints(folder / run)
        assert [step for step, _ in complete] == steps
        for _, path in complete:
            run_folder.read_checkpoint(path)
    same_losses(folder / "whole-1", folder / "full-continue")


def test_adapters_on_a_base_in_shards_learn_what_one_process_learns(folder, two):
    pytest.importorskip("peft")
    run_training(adapted_recipe(folder), folder / "adapted-1")
    same_losses(folder / "adapted-1", folder / "adapted-2")
    assert losses(folder / "adapted-parts-2") == losses(folder / "adapted-2")
    models = [folder / f"adapted{name}-2" / "model" / WEIGHTS for name in ("", "-parts")]
    assert models[0].read_bytes() == models[1].read_bytes()
    files = {path.name for path in newest_checkpoint(folder / "adapted-2").iterdir()}
    assert files == {"adapters.safetensors", "optimizer.safetensors", "state.json"}


@pytest.mark.parametrize(
    ("wanted", "world", "local_world", "shard"),
    [(0, 8, 8, 8), (0, 16, 8, 8), (0, 12, 8, 4), (0, 2, 2, 2), (2, 8, 8, 2), (16, 16, 8, 16)],
)
def test_a_copy_lies_in_a_machine_unless_asked_otherwise(wanted, world, local_world, shard):
    assert choose_shard(wanted, world, local_world) == shard


def test_ranks_that_cannot_be_shared_out_are_a_usage_error():
    with pytest.raises(UsageError, match=r"parallel\.shard is 3, which does not divide the 4"):
        choose_shard(3, world=4, local_world=4)
