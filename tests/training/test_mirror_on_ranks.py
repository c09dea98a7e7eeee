"""Copies at a URL, made by one of several ranks: all go on from them, or fail alike."""

import shutil
import signal

import pytest

from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.remote import UNFINISHED
from illada_core.training.mirror import complete_steps, steps_among
from tests.training.mirror_on_ranks import mirrored_recipe
from tests.training.on_ranks import CURVE, play
from tests.training.test_loop import run_training
from tests.training.test_sharding import same_losses
from tests.training.tiny import tiny_recipe, write_conversations, write_packed

MODULE = "tests.training.mirror_on_ranks"
KILLED, LOST = -signal.SIGKILL, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, a run of one process, and the mirror of one that has stopped."""
    folder = tmp_path_factory.mktemp("mirrored")
    write_packed(folder / "chats", write=write_conversations)
    run_training(tiny_recipe(folder / "chats", *CURVE), folder / "whole-1")
    run_training(mirrored_recipe(folder, "bucket-of-one"), folder / "stopped-1", stop_after=4)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    """What two ranks found before one of them was killed."""
    scenarios = ("bare_machine", "from_one", "broken", "foreign", "slow_store", "killed")
    return play(2, folder, *scenarios, module=MODULE, codes=[KILLED, LOST])


def files_at(bucket):
    return {str(path.relative_to(bucket)): path for path in bucket.rglob("*") if path.is_file()}


def steps_at(bucket):
    return complete_steps(steps_among(files_at(bucket)))


def test_a_bare_machine_goes_on_with_as_many_ranks(folder, two):
    """And nothing is seen of it: the mirror has the bytes of the run, shards and all."""
    assert [rank["bare_machine"] for rank in two] == [4, 4]
    same_losses(folder / "whole-1", folder / "bare")
    steps = [step for step, _ in list_checkpoints(folder / "bare")]
    assert steps_at(folder / "bucket")[-len(steps) :] == steps
    newest = newest_checkpoint(folder / "bare")
    copied = folder / "bucket" / "checkpoints" / newest.name
    own = files_at(newest)
    assert {"optimizer-00001.safetensors", "optimizer-00002.safetensors"} <= own.keys()
    assert files_at(copied).keys() == own.keys()
    assert all(files_at(copied)[name].read_bytes() == own[name].read_bytes() for name in own)


def test_two_ranks_go_on_from_the_mirror_of_one_process(folder, two):
    assert [rank["from_one"] for rank in two] == [4, 4]
    same_losses(folder / "whole-1", folder / "from-one")


def test_one_process_goes_on_from_the_mirror_of_two_ranks(folder, two):
    shutil.rmtree(folder / "bucket")
    shutil.copytree(folder / "bucket-at-4", folder / "bucket")
    events = run_training(mirrored_recipe(folder, "bucket"), folder / "from-two")
    assert events[0].step == 4
    same_losses(folder / "whole-1", folder / "from-two")


def test_killed_in_the_middle_of_a_copy_its_mirror_has_the_one_before(folder, two):
    """What is half there has not its name, and goes when the run goes on."""
    bucket = folder / "bucket-of-killed"
    assert steps_at(bucket) == [2]
    assert [name for name in files_at(bucket) if name.endswith(UNFINISHED)]
    events = run_training(mirrored_recipe(folder, bucket.name), folder / "from-killed")
    assert events[0].step == 2
    same_losses(folder / "whole-1", folder / "from-killed")
    assert steps_at(bucket) == [2, 4, 6, 8]
    assert not [name for name in files_at(bucket) if name.endswith(UNFINISHED)]


def test_a_mirror_that_cannot_be_written_ends_all_ranks_alike_or_none(two):
    """One rank copies and meets with it: no other waits for it in vain."""
    code, sentence = two[0]["broken"]["stop"][2]
    assert code == 1
    assert sentence.startswith("cannot write file:///")
    assert sentence.endswith(": no network")
    assert [rank["broken"]["stop"][2] for rank in two] == [(code, sentence)] * 2


def test_a_run_that_goes_on_without_copies_is_whole_and_says_so_at_its_end(folder, two):
    said, saved, failure = two[0]["broken"]["continue"]
    assert said
    assert all(
        each.startswith("a checkpoint was not copied, and training goes on: ") for each in said
    )
    assert saved == [step for step, _ in list_checkpoints(folder / "broken-continue")]
    assert [rank["broken"]["continue"][2] for rank in two] == [failure] * 2
    assert failure[1].endswith(": no network")
    assert two[1]["broken"]["continue"][0] == [], "one rank tells it"
    same_losses(folder / "whole-1", folder / "broken-continue")
    assert (folder / "broken-continue" / "model").is_dir(), "exported before it is told"


def test_ranks_wait_for_the_one_that_copies_as_long_as_it_takes(folder, two):
    """Before the first step and after the last, each here longer than they wait for all else."""
    assert [rank["slow_store"] for rank in two] == [None, None]
    assert steps_at(folder / "bucket-of-slow")[-1] == 8


def test_what_only_one_rank_sees_at_the_url_is_refused_by_all(two):
    code, sentence = two[0]["foreign"]
    assert code == 2
    assert sentence.endswith("/foreign is not the mirror of a run, but holds notes.txt")
    assert two[1]["foreign"] == (code, sentence)
