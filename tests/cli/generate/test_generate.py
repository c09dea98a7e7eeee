"""`illada generate` as a process: streams, formats, bad input, signals."""

import json
import shutil
import signal
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
TINY = FIXTURES / "illada-tiny"


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def jsonl(*objects):
    return "".join(json.dumps(item) + "\n" for item in objects)


@pytest.mark.parametrize(("name", "canvas"), [("illada-tiny", "variable"), ("llada-tiny", "fixed")])
def test_output_equals_the_reference_and_comes_in_input_order(illada, name, canvas):
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    if canvas == "fixed":
        wanted = {"gen_length": 32, "block_length": 8, "steps_total": 12}
        cases, size, steps, key = "generate_fixed_canvas", 32, 3, "canvas"
    else:
        wanted = {"budget": 64, "block_length": 16, "steps_per_block": 16}
        cases, size, steps, key = "generate_variable_length", 64, 16, "tokens"
    chosen = [case for case in expected["cases"][cases] if wanted.items() <= case.items()]
    assert len(chosen) == 3
    prompts = [{"prompt_ids": case["prompt"], "id": f"case {i}"} for i, case in enumerate(chosen)]
    options = ["--canvas", canvas, "--max-new-tokens", size, "--steps-per-block", steps]
    block = ["--block-length", wanted["block_length"], "--jsonl", "-", "--json"]
    done = illada("generate", "--ckpt", FIXTURES / name, *options, *block, stdin=jsonl(*prompts))
    for number, (case, answer) in enumerate(zip(chosen, lines(done.stdout), strict=True)):
        written = case[key][len(case["prompt"]) :]
        has_eos = expected["eos_id"] in written
        cut = written[: written.index(expected["eos_id"])] if has_eos else written
        assert answer["output_ids"] == cut
        assert answer["finish_reason"] == ("eos" if has_eos else "length")
        assert answer["new_tokens"] == len(cut)
        assert answer["text"] is None
        assert (answer["line"], answer["id"]) == (number + 1, f"case {number}")
        assert 0 < answer["forwards"] <= 64
    assert "tokens per forward" in done.stderr
    assert "peak memory" in done.stderr


def test_prompt_by_argument_file_and_pipe_give_the_same_text_streamed_or_not(
    illada, byte_model, tmp_path
):
    common = ("generate", "--ckpt", byte_model, "--max-new-tokens", 40, "--block-length", 8, "-q")
    plain = illada(*common, "The cat")
    assert plain.stdout.endswith("\n")
    assert plain.stderr == ""
    (tmp_path / "prompt.txt").write_text("The cat\n")
    assert illada(*common, "--file", "prompt.txt", "--stream").stdout == plain.stdout
    assert illada(*common, stdin="The cat").stdout == plain.stdout


def test_a_prompt_yields_the_same_alone_and_in_company_at_a_temperature(illada, byte_model):
    options = ("--temperature", 0.8, "--top-p", 0.9, "--seed", 3, "--samples", 2, "--json", "-q")
    common = ("generate", "--ckpt", byte_model, *options, "--max-new-tokens", 24, "--jsonl", "-")
    prompts = [{"prompt": text} for text in ("one", "two and more", "three", "four")]
    together = lines(illada(*common, stdin=jsonl(*prompts)).stdout)
    assert [answer["sample"] for answer in together] == [0, 1] * 4
    assert together[0]["output_ids"] != together[1]["output_ids"]
    alone = lines(illada(*common, "--batch-tokens", 1, stdin=jsonl(*prompts[2:3])).stdout)
    assert [answer["text"] for answer in alone] == [answer["text"] for answer in together[4:6]]


def test_a_locale_that_lacks_a_character_does_not_lose_the_text(illada, byte_model):
    infill = ("--infill", "na\u00efve [MASK:2]")
    done = illada("generate", "--ckpt", byte_model, *infill, "-q", PYTHONIOENCODING="ascii")
    assert done.stdout.startswith("na\\xefve ")


def test_infilling_keeps_the_text_around_its_gaps(illada, byte_model):
    text = "def f(x):\n[MASK:7]\n    return [MASK:2]y"
    answer = lines(
        illada("generate", "--ckpt", byte_model, "--infill", text, "--json", "-q").stdout
    )[0]
    assert answer["text"].startswith("def f(x):\n")
    assert answer["text"].endswith("y")
    assert "\n    return " in answer["text"]
    assert [len(fill) for fill in answer["fills"]] == [7, 2]
    assert answer["new_tokens"] == 9


def test_ids_with_masks_are_filled_in_place_and_prompts_with_masks_refused(illada):
    text = jsonl({"infill_ids": [70, 5, 5, 59, 5, 26]}, {"prompt_ids": [70, 5, 26]})
    options = ("--jsonl", "-", "--json", "--on-error", "skip")
    done = illada("generate", "--ckpt", TINY, *options, stdin=text)
    (answer,) = lines(done.stdout)
    assert [len(fill) for fill in answer["fills"]] == [2, 1]
    assert "line 2: prompt_ids holds the mask id 5" in done.stderr


def test_kept_keys_and_values_are_called_approximate(illada, byte_model, tmp_path):
    common = (
        "generate",
        "--ckpt",
        byte_model,
        "The cat",
        "--json",
        "--trace",
        "t",
        "--eos-guard=logits",
    )
    sizes = ("--max-new-tokens", 16, "--block-length", 8)
    plain = illada(*common, *sizes, "--vicinity", 2)
    assert "approximate" not in plain.stderr
    assert "without cache = block there is no vicinity" in plain.stderr
    (exact,) = lines(plain.stdout)
    assert (exact["exact"], exact["refreshes"], exact["forwards"]) == (True, 16, 16)
    assert not any("exact" in commit for commit in lines((tmp_path / "t").read_text()))
    kept = illada(*common, *sizes, "--cache", "block", "--cache-tokens", 8)
    assert "approximate: a step computes the block" in kept.stderr
    assert "keys and values 0.00 GiB" in kept.stderr
    (near,) = lines(kept.stdout)
    assert (near["exact"], near["refreshes"], near["forwards"]) == (False, 2, 16)
    assert near["rows_computed"] == exact["rows_computed"] - 7 * (15 - 8) - 7 * (23 - 8)
    whole = [commit.get("exact", True) for commit in lines((tmp_path / "t").read_text())]
    assert whole == [True, *[False] * 7] * 2
    every = illada(*common, *sizes, "--cache", "block", "--refresh-every", 1)
    assert lines(every.stdout) == [exact]


def test_trace_holds_every_commit(illada, byte_model, tmp_path):
    options = ("--canvas", "fixed", "--max-new-tokens", 12, "--block-length", 5, "--trace", "t")
    done = illada(
        "generate", "--ckpt", byte_model, "abc", *options, "--json", "--eos-guard", "logits"
    )
    commits = lines((tmp_path / "t").read_text())
    assert [commit["step"] for commit in commits] == list(range(12))
    by_place = {commit["position"]: commit["token"] for commit in commits}
    assert [by_place[3 + i] for i in range(12)] == lines(done.stdout)[0]["output_ids"]
    assert all(0 < commit["confidence"] <= 1 for commit in commits)
    assert {"prompt", "piece"} <= commits[0].keys()
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def test_a_bad_line_is_named_and_ends_with_two_before_anything_is_loaded(illada, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "ok"}\n\n{"prompt": \n')
    done = illada("generate", "--ckpt", "nowhere", "--jsonl", "prompts.jsonl", code=2)
    assert done.stdout == ""
    assert "prompts.jsonl, line 3: not valid JSON" in done.stderr


def test_what_comes_through_a_pipe_before_a_bad_line_is_answered(illada, byte_model, tmp_path):
    text = '{"prompt": "one"}\n{"prompt": "two"}\nnonsense\n{"prompt": "never"}\n'
    options = ("--jsonl", "-", "--json", "--max-new-tokens", 9, "--trace", "trace.jsonl")
    done = illada("generate", "--ckpt", byte_model, *options, stdin=text, code=2)
    assert [answer["line"] for answer in lines(done.stdout)] == [1, 2]
    assert {commit["prompt"] for commit in lines((tmp_path / "trace.jsonl").read_text())} == {0, 1}
    assert "illada: standard input, line 3: not valid JSON" in done.stderr


def test_bad_lines_may_be_skipped(illada, byte_model):
    text = '{"prompt": "ok"}\nnonsense\n{"prompt": "fine", "id": "\\ud800"}\n{"prompt": "\\udc80"}'
    options = ("--jsonl", "-", "--on-error", "skip", "--json", "--max-new-tokens", 4, "-q")
    done = illada("generate", "--ckpt", byte_model, *options, stdin=text)
    assert [answer["line"] for answer in lines(done.stdout)] == [1, 3]
    assert "standard input, line 2: not valid JSON" in done.stderr
    assert "standard input, line 4: the text holds bytes or surrogates" in done.stderr


def test_prompts_beyond_the_context_are_an_error_or_cut_on_request(illada):
    prompts = jsonl({"prompt_ids": [70] * 600}, {"prompt_ids": [70] * 504})
    common = ("generate", "--ckpt", TINY, "--jsonl", "-", "--json", "--max-new-tokens", 8)
    refused = illada(*common, stdin=prompts, code=2)
    assert "line 1: the prompt is 600 tokens long, and the context of 512" in refused.stderr
    assert "--truncate left" in refused.stderr
    done = illada(*common, "--truncate", "left", stdin=prompts)
    assert "prompts are cut on the left" in done.stderr
    cut, short = lines(done.stdout)
    assert cut["output_ids"] == short["output_ids"]


def test_a_budget_beyond_the_context_is_cut_and_told(illada):
    prompt = jsonl({"prompt_ids": [70] * 508})
    done = illada("generate", "--ckpt", TINY, "--jsonl", "-", "--json", stdin=prompt)
    assert lines(done.stdout)[0]["new_tokens"] <= 4
    assert "leaves room for fewer than 1,024 new tokens" in done.stderr


def test_damaged_checkpoints_are_one_sentence(illada, byte_model, tmp_path):
    def sentence(folder):
        done = illada("generate", "--ckpt", folder, "a", code=1)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "nowhere" in sentence(tmp_path / "nowhere")
    half = Path(shutil.copytree(byte_model, tmp_path / "half"))
    weights = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "was not written to its end" in sentence(half)


def test_a_hub_id_that_cannot_be_fetched_is_one_clear_error(illada):
    done = illada("generate", "--ckpt", "GSAI-ML/iLLaDA-8B-Base", "a", code=1)
    assert "no such model could be fetched from the hub" in done.stderr


def test_a_run_folder_serves_its_newest_complete_checkpoint(illada, byte_model, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    for name in ("step-000000009", "step-000000010"):
        shutil.copytree(byte_model, checkpoints / name / "model")
    (checkpoints / ".partial-step-000000011" / "model").mkdir(parents=True)
    done = illada("generate", "--ckpt", "run", "a", "--max-new-tokens", 2, "-v")
    assert "step-000000010" in done.stderr


def test_a_closed_pipe_is_code_141(start_illada, byte_model):
    process = start_illada(
        "generate", "--ckpt", byte_model, "a", "--max-new-tokens", 100, "--stream"
    )
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 141


def test_sigterm_leaves_with_143_and_finished_lines_written(start_illada, byte_model):
    process = start_illada(
        "generate",
        "--ckpt",
        byte_model,
        "--jsonl",
        "-",
        "--json",
        "--eos-guard",
        "logits",
        "--max-new-tokens",
        60,
    )
    process.stdin.write(jsonl({"prompt": "first"}))
    process.stdin.flush()
    first = process.stdout.readline()
    process.stdin.write(jsonl(*[{"prompt": f"later {i}"} for i in range(500)]))
    process.stdin.flush()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    answers = lines(first + process.stdout.read())
    assert answers[0]["line"] == 1
    assert all(answer["new_tokens"] == 60 for answer in answers)
    assert "again to quit now" in process.stderr.read()


def test_graphs_where_nothing_can_be_recorded_are_refused(illada, byte_model):
    done = illada("generate", "--ckpt", byte_model, "a", "--graphs", "--device", "cpu", code=2)
    assert "graphs need a packed kernel of attention, not " in done.stderr
    assert "on a GPU in bfloat16 there is one" in done.stderr


def test_wrong_options_are_code_two_without_loading_torch(illada):
    wrong = [
        ("generate", "a"),
        ("generate", "--ckpt", TINY, "a", "--preset", "gsm8k"),
        ("generate", "--ckpt", TINY, "a", "--jsonl", "b"),
        ("generate", "--ckpt", TINY, "a", "--threshold", 0.9, "--factor", 1),
        ("generate", "--ckpt", TINY, "a", "--json", "--stream"),
        ("generate", "--ckpt", TINY, ""),
        ("generate", "--ckpt", TINY, "a", "--stop", ""),
        ("generate", "--ckpt", TINY, "a", "--temperature", "inf"),
        ("generate", "--ckpt", TINY, "a", "--end-thinking", "\udcff"),
        ("generate", "--ckpt", TINY, "a", "--trace", TINY),
        ("generate", "--ckpt", TINY, "a", "--stop-id", 320, "-q"),
    ]
    for arguments in wrong:
        done = illada(*arguments, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith("illada: ")
    assert "did you mean gsm8k-" in illada(*wrong[1], code=2).stderr


def test_help_shows_examples_before_options(illada):
    text = illada("generate", "--help").stdout
    assert text.index("illada generate --ckpt") < text.index("--max-new-tokens")
