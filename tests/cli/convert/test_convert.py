"""`illada convert` as a person meets it."""

import json

from tests.conftest import REPO

SOURCE = REPO / "tests" / "fixtures" / "llada-tiny"


def test_a_folder_is_planned_written_and_verified(illada, tmp_path):
    arguments = ("convert", SOURCE, "-o", tmp_path / "copy", "--layout", "illada", "--json")
    plan = illada(*arguments, "--dry-run")
    assert json.loads(plan.stdout)["layout"] == "illada"
    assert not (tmp_path / "copy").exists()
    done = illada(*arguments, "--verify", "--shard-size", "200KB")
    assert done.stdout == plan.stdout
    assert "bit for bit" in done.stderr
    assert json.loads((tmp_path / "copy/config.json").read_text())["model_type"] == "illada"


def test_options_that_cannot_be_are_usage_errors(illada, tmp_path):
    (tmp_path / "empty").mkdir()
    merging = ("--merge-lora", tmp_path / "empty")
    for extra, told in (
        ((*merging, "--verify"), "--merge-lora makes another model"),
        (("--shard-size", "5"), "--shard-size is a size"),
        (("-o", SOURCE), "source and output are one folder"),
    ):
        done = illada("convert", SOURCE, "-o", tmp_path / "copy", *extra, code=2)
        assert told in done.stderr
    assert "holds no adapters" in illada("convert", SOURCE, "-o", "x", *merging, code=1).stderr
