"""`illada eval`: a whole report, streams, resuming, signals, bad input.

What no process of its own is needed for runs in this one, since torch takes its time to load.
"""

import json
import signal
import time

import pytest

from illada_cli.app import main
from illada_cli.eval.exams import changed_settings, find_data
from illada_cli.eval.options import EvalOptions
from illada_cli.eval.run import facts_of
from illada_core.errors import UsageError
from illada_core.inference.checkpoint import open_checkpoint
from tests.benchmark.items import docs_for
from tests.causal_model import write_causal_model


@pytest.fixture
def inside(tmp_path, monkeypatch, capsys):
    """Run `illada ARGUMENTS` in this process; return what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # as somebody said: nothing watches the cores

    def run(*arguments, code=0):
        found = main([str(each) for each in arguments])
        said = capsys.readouterr()
        assert found == code, said.err
        return said

    return run


@pytest.fixture
def items(tmp_path):
    """A folder of items: two tasks of choices, one of texts."""
    folder = tmp_path / "items"
    folder.mkdir()
    for name in ("arc_easy", "piqa", "gsm8k_chat"):
        lines = "".join(json.dumps(doc) + "\n" for doc in docs_for(name, 6))
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


BUDGET = ("--set", "max_new_tokens=16", "--set", "block_length=8")


def test_one_command_gives_a_table_and_files_that_go_on(
    illada, inside, byte_model, items, tmp_path
):
    run = ("eval", "--ckpt", byte_model, "--tasks", "arc_easy,gsm8k_chat", "--data", items)
    run += ("-o", "results", *BUDGET)
    done = illada(*run)
    rows = done.stdout.splitlines()
    assert rows[0].split()[:3] == ["task", "items", "here"]
    tasks = ["arc_easy", "arc_easy", "gsm8k_chat", "gsm8k_chat", "average"]
    assert [row.split()[0] for row in rows[1:]] == tasks
    assert "12 answers now, 0 before" in done.stderr
    results = tmp_path / "results"
    (path,) = results.glob("results_*.json")
    content = json.loads(path.read_text())
    assert content["n-samples"]["arc_easy"] == {"original": 6, "effective": 6}
    assert "acc_norm,none" in content["results"]["arc_easy"]
    assert str(items) not in path.read_text()
    again = inside(*run, "--json")
    assert "0 answers now, 12 before" in again.err
    fields = [json.loads(line) for line in again.out.splitlines()]
    assert fields[0]["metric"] == "acc_norm,none"
    assert fields[2]["tokens_per_forward"] is not None
    mean = (fields[0]["value"] + fields[2]["value"]) / 2
    assert (fields[4]["task"], fields[4]["value"]) == ("average", pytest.approx(mean))
    assert {path.name for path in results.iterdir()} == {
        "answers.jsonl",
        path.name,
        *(f"samples_{task}_{path.stem[8:]}.jsonl" for task in ("arc_easy", "gsm8k_chat")),
    }
    shown = inside("eval", "--report", "results", "--markdown", "--plot", "p.png")
    assert shown.out.startswith("| task | items |")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    inside("eval", "--rescore", "results")
    tested = inside("eval", "--report", "results", "--against", "results", "--json")
    tests = [json.loads(line) for line in tested.out.splitlines() if '"test"' in line]
    assert [(test["difference"], test["p_value"]) for test in tests] == [(0.0, 1.0)] * 2
    fresh = inside(*run, "--fresh")
    assert "12 answers now, 0 before" in fresh.err


def test_two_rules_are_compared_item_by_item(inside, byte_model, items, tmp_path):
    run = ("eval", "--ckpt", byte_model, "--tasks", "arc_easy,piqa", "--data", items, "-o", "t4")
    done = inside(*run, "--compare-rules", "confidence,one-shot", "--json", "-q")
    lines = [json.loads(line) for line in done.out.splitlines()]
    tests = [line for line in lines if line.get("test") == "paired"]
    assert [(test["task"], test["count"]) for test in tests] == [("arc_easy", 6), ("piqa", 6)]
    shares = {
        line["name"]: line["value"]
        for line in lines
        if line.get("metric") == "acc_norm,none" and "name" in line
    }
    for test in tests:
        gap = shares[f"{test['task']}, confidence"] - shares[f"{test['task']}, one-shot"]
        assert test["difference"] == pytest.approx(gap)
    assert done.err == ""


def test_a_preset_brings_its_figures_and_leaves_out_what_has_no_items(inside, byte_model, items):
    run = ("eval", "--ckpt", byte_model, "--preset", "llada-base", "--data", items, "-o", "r")
    done = inside(*run, "--set", "samples=2", "--json")
    (row, _) = [json.loads(line) for line in done.out.splitlines()]
    assert (row["task"], row["published"], row["metric"]) == ("piqa", 0.736, "acc_norm,none")
    assert row["inside"] in (True, False)
    assert "no items for mmlu, arc_challenge" in done.err


def test_a_plan_is_told_without_a_folder(inside, byte_model, items, tmp_path):
    run = ("eval", "--ckpt", byte_model, "--tasks", "arc_easy,gsm8k_chat", "--data", items)
    done = inside(*run, *BUDGET, "--dry-run", "--json", "--plan-device", "H100")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert rows[1]["forwards"] == 6 * 16
    assert all(row["seconds"] > 0 for row in rows)
    probed = inside(*run, *BUDGET, "--dry-run", "--probe", 2, "--json")
    assert all(json.loads(line)["seconds"] > 0 for line in probed.out.splitlines())
    both = inside(
        *run[:3],
        "--tasks",
        "arc_easy",
        *run[5:],
        "--compare-rules",
        "confidence,one-shot",
        "-n",
        "--json",
    )
    rows = [json.loads(line) for line in both.out.splitlines()]
    assert [row["task"] for row in rows] == ["arc_easy, confidence", "arc_easy, one-shot"]
    assert rows[0]["forwards"] > rows[1]["forwards"]
    assert {path.name for path in tmp_path.iterdir()} == {"items"}


def test_an_item_is_shown_as_the_model_sees_it(inside, byte_model, items):
    shown = inside("eval", "--inspect", "arc_easy", "--data", items, "--ckpt", byte_model).out
    assert "Question: Which word has number 0?\nAnswer:" in shown
    assert shown.count("── choice") == 4
    chat = inside("eval", "--inspect", "gsm8k_chat", "--data", items, "--ckpt", byte_model).out
    assert "⟦" in chat or "user" in chat.lower()
    listed = inside("eval", "--list").out
    assert "arc_challenge" in listed
    assert "--preset paper-base" in listed


def test_sigterm_keeps_what_is_finished(start_illada, illada, byte_model, items, tmp_path):
    docs = "".join(json.dumps(doc) + "\n" for doc in docs_for("arc_easy", 150))
    (items / "arc_easy.jsonl").write_text(docs)
    run = ("eval", "--ckpt", byte_model, "--tasks", "arc_easy", "--data", items, "-o", "results")
    process = start_illada(*run, "--batch-tokens", 512)
    answers = tmp_path / "results" / "answers.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (answers.exists() and answers.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "run the same command again to go on" in said
    kept = len(answers.read_text().splitlines())
    assert 0 < kept < 150
    done = illada(*run)
    assert f"{150 - kept} answers now, {kept} before" in done.stderr
    assert not list((tmp_path / "results").glob("*lock*"))


def test_two_processes_give_the_results_of_one(illada, inside, byte_model, items, tmp_path):
    run = ("eval", "--ckpt", byte_model, "--tasks", "arc_easy,gsm8k_chat", "--data", items, *BUDGET)
    shared = illada(*run, "-o", "shared", "--nproc", 2, "--json", "-q")
    alone = inside(*run, "-o", "alone", "--json", "-q")
    drop = ("seconds",)

    def rows(text):
        lines = [json.loads(line) for line in text.splitlines()]
        return [{k: v for k, v in line.items() if k not in drop} for line in lines]

    assert rows(shared.stdout) == rows(alone.out)
    kept = [
        len((tmp_path / "shared" / name).read_text().splitlines())
        for name in ("answers.jsonl", "answers-1.jsonl")
    ]
    assert sum(kept) == 12
    assert min(kept) > 0
    again = inside(*run, "-o", "shared", "--json")
    assert "0 answers now, 12 before" in again.err
    assert rows(again.out) == rows(alone.out)


BAD = [
    (("--tasks", "harness:x", "--nproc", 2), "--nproc shares out our own tasks"),
    (("--tasks", "arc_esy"), "there is no task arc_esy"),
    (("--tasks", "winogrande"), "there are no items for winogrande"),
    (("--tasks", "arc_easy", "--set", "tresh=1"), "with the name of a setting"),
    (("--tasks", "arc_easy", "--set", "rule=best"), "rule is one of"),
    (("--tasks", "arc_easy", "--set", "pick_only=true"), "pick_only leaves sums unfinished"),
    (("--tasks", "gsm8k_chat", "--compare-rules", "confidence,one-shot"), "is about choices"),
    (("--tasks", "arc_easy", "--compare-rules", "confidence,best"), "wants two rules"),
    (("--tasks", "arc_easy,arc_easy"), "names a task twice"),
    (("--tasks", "arc_easy", "--probe", 3), "--probe is about --dry-run"),
    (("--preset", "paper-bse"), "there is no preset paper-bse"),
    (("--tasks", "humaneval", "--data", "code.jsonl"), "runs programs that the model writes"),
    ((), "there are no --tasks"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD)
def test_bad_input_is_one_sentence(options, sentence, inside, byte_model, items, tmp_path):
    doc = docs_for("humaneval", 1)[0]
    (tmp_path / "code.jsonl").write_text(json.dumps(doc) + "\n")
    done = inside("eval", "--ckpt", byte_model, "--data", items, "-o", "results", *options, code=2)
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_model_that_writes_from_left_to_right_has_no_rules_to_compare(inside, items, tmp_path):
    """Both would be its exact likelihoods, under the names of others."""
    write_causal_model(tmp_path / "causal")
    run = ("eval", "--ckpt", "causal", "--tasks", "arc_easy", "--data", items, "-o", "r")
    refused = inside(*run, "--compare-rules", "confidence,likelihood", code=2)
    assert "has its exact likelihoods alone" in refused.err
    assert not (tmp_path / "r").exists()


def test_settings_and_files_are_found_by_name(tmp_path):
    changes = changed_settings(["threshold=0.9", "visible_eos=true", "rule=one-shot"])
    assert changes == {"threshold": 0.9, "visible_eos": True, "rule": "one-shot"}
    (tmp_path / "piqa.jsonl.gz").write_bytes(b"")
    found = find_data("piqa", [str(tmp_path)], ["piqa", "arc_easy"])
    assert found == str(tmp_path / "piqa.jsonl.gz")
    with pytest.raises(UsageError, match="pica is none of the tasks"):
        find_data("piqa", ["pica=x.jsonl"], ["piqa"])
    with pytest.raises(UsageError, match="there is no file"):
        find_data("piqa", ["piqa=gone.jsonl"], ["piqa"])


def test_results_say_that_weights_were_rounded(byte_model):
    checkpoint = open_checkpoint(byte_model)
    for asked, said in ((EvalOptions(), {}), (EvalOptions(quantize="int8"), {"quantize": "int8"})):
        model_args = facts_of(checkpoint, asked)["model_args"]
        assert model_args == {"pretrained": "", "dtype": "auto", **said}
