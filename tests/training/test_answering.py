"""What ends an answer, which prompts are held out, and the answers that a run writes down."""

import json
import shutil

import numpy as np
import pytest

from illada_core.data.store.dataset import open_dataset
from illada_core.data.store.frames import narrow
from illada_core.data.store.manifest import Manifest, write_manifest
from illada_core.data.store.shards import RowChunk, TokenShardWriter, shard_name
from illada_core.data.store.turns import spans_of
from illada_core.errors import UsageError
from illada_core.inference.defaults import generation_defaults, turn_end_id
from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.model.weights import load_model
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord
from illada_core.training import run_folder
from illada_core.training.events import Noticed, Sampled
from illada_core.training.held_out import held_out_prompts
from illada_core.training.lines import read_lines
from illada_core.training.setup import prepare
from tests.training.test_loop import run_training
from tests.training.tiny import EOS, tiny_recipe, tokenizer_json, write_conversations, write_packed

SPECIAL = SpecialIds(bos=0, pad=1, eos=2, mask=5)
END_OF_TURN, THINK = 3, 4
TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}{% endif %}"
)


@pytest.fixture
def chats(tmp_path):
    """Return the function that makes the tiny recipe on conversations, with changes."""
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    keys = ("validation.samples=3", "generation.max_new_tokens=10", "generation.block_length=4")
    return lambda *changes: tiny_recipe(packed, *keys, *changes)


@pytest.fixture
def talking(tmp_path):
    """Return a tokenizer with a template, an end of turns and an end of thinking."""
    content = json.loads(tokenizer_json())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for number, name, special in ((END_OF_TURN, "<|end|>", True), (THINK, "</think>", False)):
        vocabulary = content["model"]["vocab"]
        del vocabulary[next(token for token, each in vocabulary.items() if each == number)]
        vocabulary[name] = number
        content["added_tokens"].append({"id": number, "content": name, "special": special, **flags})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return load_tokenizer(tmp_path, "tokenizers")


def test_answers_end_as_the_template_ends_them(talking):
    assert turn_end_id(talking) == END_OF_TURN
    assert generation_defaults(SPECIAL, talking, 8).facts() == {
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": [EOS, END_OF_TURN],
        "mask_token_id": 5,
        "block_length": 8,
        "end_thinking_token_ids": [THINK],
    }


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{{ messages[1].content }}"])
def test_a_template_that_fails_or_ends_nothing_leaves_eos_alone(talking, tmp_path, template):
    (tmp_path / "chat_template.jinja").write_text(template)
    talking = load_tokenizer(tmp_path, "tokenizers")
    assert generation_defaults(SPECIAL, talking, 8).eos_ids == (EOS,)
    assert generation_defaults(SPECIAL, None, 8).eos_ids == (EOS,)


def test_without_a_template_eos_ends_answers_as_in_the_plain_one(chats):
    defaults = prepare(chats()).defaults
    assert (defaults.eos_ids, defaults.end_thinking_ids) == ((EOS,), ())


def test_a_prompt_is_that_of_the_first_example_that_begins_in_its_row(tmp_path):
    rows = [  # pieces of examples: (offset, turns)
        [(0, [0, 0, 1, 1])],
        [(4, [0, 1, 1]), (0, [0, 0, 0, 1, 0, 2])],  # its first piece begins elsewhere
        [(0, [0, 0, 0])],  # the response is in another row
        [(2, [1, 1])],
        [(0, [1, 1]), (0, [0, 1])],  # nobody asked
        [(0, [0] * 6 + [1])],  # too long
    ]
    pieces = [piece for row in rows for piece in row]
    lengths = np.array([len(turns) for _, turns in pieces])
    turns = np.concatenate([turns for _, turns in pieces]).astype(np.uint16)
    ids = np.arange(len(turns), dtype=np.uint32)
    none = np.zeros(len(pieces), np.int64)
    with TokenShardWriter(tmp_path / shard_name(0, 100), 100, "job") as writer:
        row_lengths = np.array([sum(len(turns) for _, turns in row) for row in rows])
        offsets = np.array([offset for offset, _ in pieces])
        writer.add_rows(
            RowChunk(narrow(ids, 2), row_lengths, row_lengths, lengths, none, none, offsets)
        )
        writer.add_spans(*spans_of(turns, np.cumsum(lengths)))
        entry = writer.close()
    record = TokenizerRecord("hash", 100, SPECIAL)
    write_manifest(tmp_path, Manifest("rows", record, (), {"chat": True}, (entry,)))
    dataset = open_dataset(tmp_path)
    assert held_out_prompts(dataset, 9, longest=5) == ((0, 1), (7, 8, 9), (20,))
    assert held_out_prompts(dataset, 2, longest=6) == ((0, 1), (7, 8, 9))
    assert held_out_prompts(dataset, 9, longest=6)[-1] == (22, 23, 24, 25, 26, 27)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 8])
def test_samples_are_written_once_a_step_across_stops_and_kills(chats, tmp_path, stop_after):
    asked = chats("validation.sample_every=3", "run.total_tokens=1280")
    events = run_training(asked, tmp_path / "whole")
    assert [event.step for event in events if isinstance(event, Sampled)] == [3, 6, 9, 10]
    run_training(asked, tmp_path / "run", stop_after)
    for _, path in list_checkpoints(tmp_path / "run")[1:]:  # as if killed before it
        run_folder.remove_folder(path)
    run_training(asked, tmp_path / "run")
    whole, parts = (read_lines(tmp_path / name / "samples.jsonl", {}) for name in ("whole", "run"))
    assert parts == whole
    assert [line["step"] for line in whole] == [step for step in (3, 6, 9, 10) for _ in range(3)]
    run_training(asked, tmp_path / "run")
    assert read_lines(tmp_path / "run" / "samples.jsonl", {}) == whole


def test_samples_do_not_change_what_is_learnt(chats, tmp_path):
    for name, every in (("with", 2), ("without", 0)):
        run_training(chats(f"validation.sample_every={every}"), tmp_path / name)
    weights = [
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("with", "without")
    ]
    assert weights[0] == weights[1]
    assert not (tmp_path / "without" / "samples.jsonl").exists()


def test_a_model_learns_to_answer_and_to_end_its_answers(tmp_path):
    packed = write_packed(tmp_path / "chats", rows=64, write=write_conversations)
    asked = tiny_recipe(
        packed,
        *("model.width=32", "model.ffn_size=64", "batch.rows=8", "batch.micro_rows=8"),
        *("objective.mask=response", "objective.masking=fixed-count"),
        *("objective.ratio=stratified", "objective.split_probability=0"),
        *("validation.sample_every=900", "validation.samples=3", "run.total_tokens=40960"),
        *("generation.max_new_tokens=10", "generation.block_length=8"),
    )
    events = run_training(asked, tmp_path / "run")
    assert [event for event in events if isinstance(event, Sampled)] == [Sampled(160, 3, 3)]
    for line in read_lines(tmp_path / "run" / "samples.jsonl", {}):
        answer = "".join(chr(ord(letter) + 1) for letter in line["prompt"][:7])
        assert line == {
            "step": 160,
            "prompt": line["prompt"],
            "text": answer,
            "finish_reason": "eos",
            "new_tokens": 7,
        }


def test_rows_of_plain_text_are_continued_and_infilled(tmp_path):
    packed = write_packed(tmp_path / "plain")
    keys = ("validation.sample_every=6", "validation.samples=3", "generation.block_length=4")
    events = run_training(tiny_recipe(packed, *keys), tmp_path / "run")
    sampled = [event for event in events if isinstance(event, Sampled)]
    assert [(event.step, event.answers, event.is_plain) for event in sampled] == [
        (6, 6, True),
        (12, 6, True),
    ]
    lines = read_lines(tmp_path / "run" / "samples.jsonl", {})
    assert [line["step"] for line in lines] == [6] * 6 + [12] * 6
    rows, tokenizer = open_dataset(packed / "validation"), load_tokenizer(packed, "tokenizers")
    for number in range(3):
        text = tokenizer.decode(rows.row(number).ids[:30].tolist())
        continued, infilled = lines[6 + 2 * number], lines[7 + 2 * number]
        for line in (continued, infilled):
            assert (line["prompt"], line["original"]) == (text[:10], text[10:20])
        assert "suffix" not in continued
        assert infilled["suffix"] == text[20:]
        assert infilled["new_tokens"] == 10
        assert continued["new_tokens"] <= 10


def test_fewer_prompts_than_asked_for_are_noticed(chats, tmp_path):
    asked = chats("validation.sample_every=2", "validation.samples=9", "run.total_tokens=512")
    told = [e.sentence for e in run_training(asked, tmp_path / "run") if isinstance(e, Noticed)]
    assert len(told) == 1
    assert told[0].endswith("has too few prompts to answer: 8, and validation.samples asks for 9")


def test_every_model_folder_of_a_run_tells_how_to_generate_with_it(chats, tmp_path):
    run_training(chats(), tmp_path / "run")
    folders = (tmp_path / "run" / "model", newest_checkpoint(tmp_path / "run") / "model")
    for folder in folders:
        facts = json.loads((folder / "generation_config.json").read_text())
        assert (facts["eos_token_id"], facts["block_length"]) == ([EOS], 4)
        load_model(folder)


def test_the_tokenizer_of_the_base_serves_where_the_data_lack_theirs(chats, tmp_path):
    run_training(chats("run.total_tokens=512"), tmp_path / "base")
    (tmp_path / "chats" / "tokenizer.json").unlink()
    asked = chats(f"model.ckpt={tmp_path / 'base'}", "run.total_tokens=512")
    run_training(asked, tmp_path / "run")
    assert (tmp_path / "run" / "model" / "tokenizer.json").exists()


def test_the_tokenizer_is_needed_only_for_text(chats, tmp_path):
    packed = shutil.copytree(tmp_path / "chats", tmp_path / "bare")
    (packed / "tokenizer.json").unlink()
    asked = tiny_recipe(packed, "validation.sample_every=2")
    assert prepare(asked).prompts == ()


@pytest.mark.parametrize("key", ["validation.samples", "generation.max_new_tokens"])
def test_numbers_that_make_no_sense_are_usage_errors(chats, key):
    with pytest.raises(UsageError, match=f"{key} must be at least 1"):
        chats(f"{key}=0")
