"""`--mixture` of the verbs that train."""

import json
import tomllib

from tests.training.tiny import RECIPE, write_packed


def test_a_mixture_takes_the_place_of_a_dataset(illada, tmp_path):
    write_packed(tmp_path / "web", 24)
    write_packed(tmp_path / "code", 17)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    mixture = ("--mixture", "web=3", "--mixture", "code=1")
    plan = tomllib.loads(illada("pretrain", "tiny.toml", *mixture, "-n").stdout)
    assert (plan["data"]["path"], plan["data"]["mixture"]) == ("", ["web=3", "code=1"])
    both = illada("pretrain", "tiny.toml", *mixture, "--data", "web", code=2)
    assert "illada: give one of --data and --mixture" in both.stderr
    wrong = illada("pretrain", "tiny.toml", "--mixture", "web", "-n", code=2)
    assert "illada: no source of a mixture: 'web'" in wrong.stderr
    done = illada("pretrain", "tiny.toml", *mixture, "-o", "run")
    assert "from step 1 on the rows are 75.0% web/train, 25.0% code/train" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["kind"] for line in lines].count("mixture") == 1
