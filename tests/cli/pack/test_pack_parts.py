"""`illada pack --part` and `--merge` in a shell."""

import json

import numpy as np


def test_parts_and_a_merge_make_what_one_run_makes(illada, write_tokens, tmp_path):
    generator = np.random.default_rng(0)
    write_tokens([generator.integers(6, 300, 50, np.uint32) for _ in range(80)], 300)
    command = ("pack", "tokens", "--sequence-length", "64", "--holdout", "0.2")
    illada(*command, "-o", "whole")
    made = (*command, "-o", "rows")
    first = illada(*made, "--part", "1/2")
    assert (first.stdout, "part 1/2: " in first.stderr) == ("rows\n", True)
    assert "with --merge ends the work" in first.stderr
    early = illada(*made, "--merge", code=1)
    assert "illada: 1 of 2 shards are not finished, rows/" in early.stderr
    part = json.loads(illada(*made, "--part", "0/2", "--json").stdout)
    assert (part["output"], part["part"]) == ("rows", "0/2")
    illada(*made, "--merge")
    wanted = sorted(path.relative_to(tmp_path / "whole") for path in tmp_path.rglob("whole/**/*"))
    assert wanted == sorted(
        path.relative_to(tmp_path / "rows") for path in tmp_path.rglob("rows/**/*")
    )
    for name in wanted:
        if (tmp_path / "whole" / name).is_file():
            assert (tmp_path / "rows" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()


def test_text_has_no_parts(illada, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for option in (("--part", "0/2"), ("--merge",)):
        failed = illada("pack", "a.txt", "-o", "rows", *option, code=2)
        assert f"{option[0]} is for token datasets, and a.txt is none" in failed.stderr
