"""`illada pack --chat` as a person meets it: pairs in, rows that know their turns out."""

import json
import random
import signal
import time

import numpy as np
import pytest

from illada_core.data.store.dataset import open_dataset, open_packed
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.text.messages import Message
from tests.byte_model import CONTROLS, FIRST_BYTE_ID
from tests.cli.pack.conftest import PAIRS, TEMPLATE, documents_of
from tests.text.chat import asked_ids

EOS, TURN_END = CONTROLS["<[EOS]>"], CONTROLS["<|eot_id|>"]


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bytes_of(text):
    return [FIRST_BYTE_ID + byte for byte in text.encode()]


def test_pairs_become_rows_whose_prompts_are_what_generate_and_chat_ask(pack_chat, tmp_path):
    done = pack_chat("--mode", "fit")
    assert done.stdout == "pairs-packed\n"
    assert "3 examples" in done.stderr
    checkpoint = open_checkpoint(str(tmp_path / "model"))
    for pair, (ids, turns) in zip(PAIRS, documents_of(tmp_path / "pairs-packed"), strict=True):
        messages = [Message(**m) for m in pair.get("messages", ())] or [
            Message("user", pair["prompt"]),
            Message("assistant", pair["response"]),
        ]
        assert ids[-2:].tolist() == [TURN_END, EOS]
        assert ids.tolist().count(EOS) == 1
        places = [place for place, m in enumerate(messages) if m.role == "assistant"]
        for turn, place in enumerate(places, 1):
            first = int(np.flatnonzero(turns == turn)[0])
            assert ids[:first].tolist() == asked_ids(checkpoint.tokenizer, messages[:place])
            said = ids[turns == turn].tolist()
            end = [TURN_END, EOS] if place == places[-1] else [TURN_END]
            assert said == bytes_of(messages[place].content) + end


def test_verify_and_stats_know_chat_examples(illada, pack_chat):
    pack_chat()
    for folder in ("pairs-packed", "pairs-packed/tokens"):
        assert "every byte is sound" in illada("pack", "--verify", folder).stdout
        (line,) = illada("pack", "--stats", folder, "--json").stdout.splitlines()
        facts = json.loads(line)
        assert (facts["examples"], facts["responses"]) == (3, 4)
        assert facts["prompt_tokens"] + facts["response_tokens"] == facts["tokens"]
        assert facts["response_length"]["min"] == len("4") + 2
        assert (facts["cut_examples"], facts["left_out"]) == (0, {})
        table = illada("pack", "--stats", folder).stdout
        assert "response tokens" in table
        assert "left out" in table


def test_the_tokenizer_and_its_template_travel_with_the_rows(pack_chat, model, tmp_path):
    pack_chat()
    for name in ("tokenizer.json", "chat_template.jinja"):
        expected = (model / name).read_bytes()
        assert (tmp_path / "pairs-packed" / name).read_bytes() == expected


def test_without_a_template_the_plain_one_is_used_and_named(pack_chat, model, tmp_path):
    (model / "chat_template.jinja").unlink()
    assert "using the plain one" in pack_chat("--mode", "fit").stderr
    ids, turns = documents_of(tmp_path / "pairs-packed")[0]
    checkpoint = open_checkpoint(str(model))
    asked = asked_ids(checkpoint.tokenizer, [Message("user", "What is 2+2?")])
    assert ids.tolist() == [*asked, *bytes_of("4"), EOS]
    assert turns.tolist() == [0] * len(asked) + [1, 1]


def test_the_same_command_again_is_complete_and_other_settings_need_fresh(pack_chat):
    pack_chat()
    again = pack_chat()
    assert again.stdout == "pairs-packed\n"
    assert "complete already" in again.stderr
    refused = pack_chat("--eos-padding", "8", code=2)
    assert "other settings" in refused.stderr
    assert "--fresh" in refused.stderr
    pack_chat("--eos-padding", "8", "--fresh")


def test_another_template_is_another_dataset(pack_chat, model):
    pack_chat()
    (model / "chat_template.jinja").write_text(TEMPLATE.replace("trim", "upper"))
    assert "other settings" in pack_chat(code=2).stderr


LONG_PROMPT = {"prompt": "p" * 300, "response": "short"}
LONG_RESPONSE = {"prompt": "short", "response": "r" * 300}


@pytest.mark.parametrize(
    ("arguments", "examples", "cut", "left_out"),
    [
        (("--mode", "fit"), 3, 0, {"longer than a row": 2}),
        (("--mode", "fit", "--on-long", "cut"), 4, 1, {"response too long for a row": 1}),
        ((), 5, 0, {}),
        (("--on-long", "drop"), 3, 0, {"longer than a row": 2}),
    ],
)
def test_examples_longer_than_a_row(pack_chat, tmp_path, arguments, examples, cut, left_out):
    done = pack_chat(*arguments, "--json", pairs=[*PAIRS, LONG_PROMPT, LONG_RESPONSE])
    facts = json.loads(done.stdout)["train"]
    assert facts["examples"] == examples
    assert (facts["cut_examples"], facts["left_out"]) == (cut, left_out)
    for reason in left_out:
        assert reason in done.stderr
    if cut:
        assert "cut to fit a row: 1 example" in done.stderr
        asked = [Message("user", LONG_PROMPT["prompt"])]
        ids, turns = documents_of(tmp_path / "pairs-packed")[3]
        assert len(ids) == 256
        assert ids[turns == 1].tolist() == [*bytes_of("short"), TURN_END, EOS]
        checkpoint = open_checkpoint(str(tmp_path / "model"))
        excess = len(asked_ids(checkpoint.tokenizer, asked)) + 7 - 256
        shorter = [Message("user", "p" * (300 - excess))]
        assert ids[turns == 0].tolist() == asked_ids(checkpoint.tokenizer, shorter)


def test_padding_fills_up_with_the_end_token(pack_chat, tmp_path):
    pack_chat("--mode", "fit", "--eos-padding", "32")
    for ids, turns in documents_of(tmp_path / "pairs-packed"):
        assert len(ids) % 32 == 0
        assert ids[-1] == EOS
        assert turns[-1] == turns.max()


def test_a_bad_line_stops_with_its_place_or_is_skipped_and_counted(pack_chat, illada, tmp_path):
    bad = [{"prompt": "a", "response": ""}, {"prompt": "a"}, {"messages": [{"role": "\x1b[31m"}]}]
    stopped = pack_chat(pairs=[PAIRS[0], *bad], code=1)
    assert "illada: pairs.jsonl:2: empty response\n" in stopped.stderr
    assert "hint: --on-error skip" in stopped.stderr
    assert stopped.stdout == ""
    assert not (tmp_path / "pairs-packed" / "manifest.json").exists()
    done = pack_chat("--on-error", "skip", "--skip-limit", "1", pairs=[PAIRS[0], *bad])
    assert "left out: pairs.jsonl:3: no example (none of messages; prompt with res" in done.stderr
    assert "left out: 3 examples (1 empty response, 2 no example)" in done.stderr
    assert "\x1b" not in done.stderr
    facts = json.loads(illada("pack", "--stats", "pairs-packed", "--json").stdout)
    assert facts["left_out"] == {"empty response": 1, "no example": 2}


def test_verbose_lists_every_line_left_out(pack_chat):
    pairs = [PAIRS[0], *[{"prompt": "a"}] * 7]
    skip = ("--on-error", "skip", "--skip-limit", "0.9")
    short = pack_chat(*skip, pairs=pairs).stderr
    assert short.count("left out: pairs.jsonl:") == 5
    assert "left out: more (-v shows all)" in short
    full = pack_chat(*skip, "--fresh", "-v", pairs=pairs).stderr
    assert full.count("left out: pairs.jsonl:") == 7


def test_more_than_a_tenth_left_out_is_a_failure_unless_it_is_allowed(pack_chat, tmp_path):
    few, many = [*PAIRS * 3, {"prompt": "a"}], [*PAIRS * 3, *[{"prompt": "a"}] * 2]
    for _ in range(2):  # a second run does not forget it
        failed = pack_chat("--on-error", "skip", "--fresh", pairs=many, code=1)
        assert "2 lines of 11 were left out, more than 10%" in failed.stderr
        assert "--skip-limit" in failed.stderr
        assert failed.stdout == ""
    assert not (tmp_path / "pairs-packed" / "train").exists()
    pack_chat("--on-error", "skip", "--skip-limit", "0.2", pairs=many)
    done = pack_chat("--on-error", "skip", "--fresh", pairs=few)
    assert "left out: 1 example" in done.stderr


def test_the_date_is_an_option_recorded_and_refused_where_it_lacks(pack_chat, model, tmp_path):
    (model / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}\n" + TEMPLATE)
    refused = pack_chat("--on-error", "skip", code=2)
    assert "the chat template asks for the date" in refused.stderr
    assert "--date" in refused.stderr
    assert "Invalid value" in pack_chat("--date", "tomorrow", code=2).stderr
    dated = ("--mode", "fit", "--date")
    pack_chat(*dated, "2024-02-29")
    for ids, _ in documents_of(tmp_path / "pairs-packed"):
        assert ids[:12].tolist() == bytes_of("29 Feb 2024\n")
    manifest = json.loads((tmp_path / "pairs-packed" / "tokens" / "manifest.json").read_text())
    assert manifest["settings"]["date"] == "2024-02-29"
    before = files_of(tmp_path / "pairs-packed")
    assert "complete already" in pack_chat(*dated, "2024-02-29").stderr
    assert files_of(tmp_path / "pairs-packed") == before
    assert "other settings" in pack_chat(*dated, "2024-03-01", code=2).stderr


def test_nothing_but_bad_lines_is_no_dataset(pack_chat):
    failed = pack_chat("--on-error", "skip", pairs=[{"prompt": "a"}], code=1)
    assert "no example is left (1 no example)" in failed.stderr


def test_a_template_that_fails_names_the_line(pack_chat, model):
    (model / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    failed = pack_chat(code=1)
    assert (
        "pairs.jsonl:1: unfit for the chat template (the chat template fails: never)"
        in failed.stderr
    )


def test_a_holdout_takes_whole_examples(pack_chat, tmp_path):
    pairs = [{"prompt": f"Count to {n}.", "response": f"{n} it is"} for n in range(200)]
    result = json.loads(pack_chat("--holdout", "0.2", "--json", pairs=pairs).stdout)
    held = result["validation"]["examples"]
    assert 20 < held < 60
    assert held + result["train"]["examples"] == 200
    train, validation = open_packed(tmp_path / "pairs-packed")
    assert train.has_turns
    assert validation.has_turns


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(pack_chat, tmp_path):
    plan = json.loads(pack_chat("-n", "--mode", "fit", "--json").stdout)
    assert plan["dataset"] == "pairs-packed/tokens"
    assert (plan["inputs"], plan["chat_template"]) == (1, "the tokenizer's")
    assert (plan["longest"], plan["on_long"], plan["eos_padding"]) == (256, "drop", 0)
    assert "on long" in pack_chat("-n").stdout
    assert not (tmp_path / "pairs-packed").exists()


def test_quiet_leaves_stderr_empty(pack_chat):
    assert pack_chat("-q").stderr == ""


def test_tokens_of_examples_can_be_packed_again(illada, pack_chat, tmp_path):
    pack_chat()
    again = ("pack", "pairs-packed/tokens", "--sequence-length", "64", "--holdout", "0")
    illada(*again, "-o", "narrow")
    train, _ = open_packed(tmp_path / "narrow")
    assert train.has_turns
    assert train.tokens == open_dataset(tmp_path / "pairs-packed" / "tokens").tokens
    assert "every byte is sound" in illada("pack", "--verify", "narrow").stdout
    refused = illada(*again, "--chat", code=2)
    assert "is a token dataset, and --chat is for JSON Lines" in refused.stderr
    assert "leave --chat away" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--on-long", "cut"),
        ("--eos-padding", "8"),
        ("--on-error", "skip"),
        ("--date", "2024-02-29"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_of_examples_need_chat(illada, pack_chat, arguments):
    pack_chat()
    refused = illada("pack", "pairs-packed/tokens", "-o", "other", *arguments, code=2)
    assert f"{arguments[0]} is for chat examples" in refused.stderr


def test_what_cannot_be_used_is_one_sentence(illada, model, write_pairs, tmp_path):
    pairs = write_pairs()
    assert "no tokenizer" in illada("pack", "--chat", pairs, code=2).stderr
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1")
    command = ("--tokenizer", "model", "-o", "out")
    refused = illada("pack", "--chat", "pairs.parquet", *command, code=1)
    assert "pairs.parquet: damaged" in refused.stderr
    assert "no such file" in illada("pack", "--chat", "nowhere.jsonl", *command, code=1).stderr
    text = (model / "tokenizer.json").read_text()
    for name in ("<[EOS]>", "<|eot_id|>"):
        text = text.replace(name, name[::-1])
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / "tokenizer.json").write_text(text)
    command = ("--tokenizer", "endless", "-o", "out")
    endless = illada("pack", "--chat", pairs, *command, code=2)
    assert "does not say which token ends an example" in endless.stderr
    assert "hint: name it as" in endless.stderr


def test_stopped_and_killed_runs_end_like_one_that_was_not(
    illada, start_illada, model, write_pairs, tmp_path
):
    generator = random.Random(0)
    words = ["alpha", "beta\n", "gamma ", "<|eot_id|>"]
    pairs = [
        {key: "x" + "".join(generator.choices(words, k=100)) for key in ("prompt", "response")}
        for _ in range(4000)
    ]
    command = ("pack", "--chat", write_pairs(pairs), "--tokenizer", "model", "--workers", "1")
    illada(*command, "-o", "whole")
    journal = tmp_path / "broken" / "tokens" / "tokenize-000000.jsonl.partial"
    for send, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        process = start_illada(*command, "-o", "broken")
        while not journal.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(send)
        assert process.wait(timeout=60) == code
    illada(*command, "-o", "broken")
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")
