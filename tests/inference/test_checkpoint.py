"""Checkpoints as the verbs see them before any weight is loaded: ids, text, conversations."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from illada_core.data.build.examples import encode_examples
from illada_core.data.build.fitting import ChatFormat
from illada_core.data.sources.reading import Texts
from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.evaluation.items import ScoringSettings, prepare_item
from illada_core.evaluation.shapes import read_choice_request
from illada_core.inference import checkpoint as module
from illada_core.inference.checkpoint import choose_device, open_checkpoint
from illada_core.inference.requests import Prompting, read_request
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import prepare
from illada_core.inference.text_sampler import complete_settings
from illada_core.model.families.family import Reading
from illada_core.text.conversations import Chats
from illada_core.text.messages import Dialogue, Message
from illada_core.text.tokenizer import load_tokenizer
from tests.conftest import REPO
from tests.text.kinds import KINDS
from tests.text.test_tokenizer import write_tokenizer

FIXTURES = REPO / "tests" / "fixtures"
FIRST_BYTE_ID = 6
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{{ bos_token }}{{ m.role }}\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)


def ids_of(text):
    return [FIRST_BYTE_ID + byte for byte in text.encode()]


@pytest.fixture
def folder(byte_model, tmp_path):
    """A copy of the byte model, to be changed."""
    return shutil.copytree(byte_model, tmp_path / "model")


def test_ids_come_from_the_files(folder):
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.mask_id == 5
    assert checkpoint.end_ids == (2, 262)
    assert checkpoint.encode_text("ab") == ids_of("ab")
    assert checkpoint.encode_text("ab", bos=True) == [0, *ids_of("ab")]
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 77]}')
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.end_ids == (2, 77, 262)
    assert checkpoint.encode_text("ab") == [0, *ids_of("ab")]
    assert checkpoint.encode_text("ab", bos=False) == ids_of("ab")


def test_the_bos_is_the_tokenizers_where_config_json_names_none(folder):
    facts = json.loads((folder / "config.json").read_text())
    del facts["bos_token_id"]
    (folder / "config.json").write_text(json.dumps(facts))
    assert open_checkpoint(str(folder)).encode_text("ab", bos=True) == [0, *ids_of("ab")]


def test_every_eos_id_of_either_file_ends_a_text_and_none_is_outside_the_model(folder):
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "eos_token_id": [2, 9]}))
    assert open_checkpoint(str(folder)).end_ids == (2, 9, 262)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 99999]}')
    with pytest.raises(CheckpointError, match="eos_token_id 99999 is none of the model's 320 ids"):
        open_checkpoint(str(folder))


def test_the_block_length_is_the_models_where_none_is_asked_for(folder):
    for written, expected in ((None, 32), (8, 8)):
        if written:
            (folder / "generation_config.json").write_text(json.dumps({"block_length": written}))
        checkpoint = open_checkpoint(str(folder))
        assert complete_settings(Settings(), checkpoint)[0].block_length == expected
        assert complete_settings(Settings(block_length=5), checkpoint)[0].block_length == 5


@pytest.mark.parametrize("wrong", ["0", "true", '"8"', "2.5"])
def test_a_block_length_that_is_none_is_told(folder, wrong):
    (folder / "generation_config.json").write_text(f'{{"block_length": {wrong}}}')
    with pytest.raises(CheckpointError, match="not a whole number above 0"):
        open_checkpoint(str(folder))


def test_the_mask_can_be_named_but_not_as_another_special_id(folder):
    assert open_checkpoint(str(folder), mask_id=300).mask_id == 300
    for wrong in (0, 1, 2, 320):
        with pytest.raises(UsageError):
            open_checkpoint(str(folder), mask_id=wrong)


@pytest.mark.parametrize("control", ["<[BOS]>", "<[EOS]>", "<[MASK]>", "<|eot_id|>"])
@pytest.mark.parametrize("is_shipped", [True, False])
def test_control_strings_in_text_stay_text_in_prompts_and_conversations(
    folder, control, is_shipped
):
    if is_shipped:
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.encode_text(f"a{control}b") == ids_of(f"a{control}b")
    said = ids_of(f"a{control}b")
    turn = [0, *ids_of("user\n"), *said, *([262] if is_shipped else ids_of("\n"))]
    expected = [*turn, 0, *ids_of("assistant\n")]
    assert checkpoint.encode_chat(Dialogue((Message("user", f"a{control}b"),))) == expected


def test_a_refused_system_message_opens_the_first_user_turn(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    checkpoint = open_checkpoint(str(folder))
    apart = (Message("system", "Be brief."), Message("user", "Hi"))
    together = Message("user", "Be brief.\n\nHi")
    assert checkpoint.encode_chat(Dialogue(apart)) == checkpoint.encode_chat(Dialogue((together,)))


WITH_TOOLS = (
    "{% for t in tools or [] %}{{ t.function.name }}\n{% endfor %}"
    "{% for m in messages %}{{ m.content }}\n{% endfor %}{{ 'deep' if think else 'quick' }}:"
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def test_tools_and_variables_of_a_line_reach_the_template_in_generate_and_score(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": WITH_TOOLS}))
    checkpoint = open_checkpoint(str(folder))
    messages = [{"role": "user", "content": "Hi"}]
    for given, text in [
        ({}, "Hi\nquick:"),
        ({"tools": TOOLS}, "add\nHi\nquick:"),
        ({"chat_template_kwargs": {"think": True}, "tools": None}, "Hi\ndeep:"),
    ]:
        fields = {"messages": messages, **given}
        task = prepare(read_request(1, fields), checkpoint, Settings(), Prompting())
        assert list(task.task.runs[0]) == ids_of(text)
        asked = read_choice_request(1, {**fields, "choices": ["a", "b"]})
        item = prepare_item(asked, checkpoint, ScoringSettings(), Prompting())
        assert item.item.prompt.tolist() == ids_of(text)
    with pytest.raises(DataError, match="chat_template_kwargs is not an object"):
        read_request(1, {"messages": messages, "chat_template_kwargs": 5})


def test_letters_that_the_vocabulary_lacks_are_counted(folder, tmp_path):
    path = write_tokenizer(tmp_path / "words", KINDS["words"])
    checkpoint = replace(open_checkpoint(str(folder)), tokenizer=load_tokenizer(path))
    asked = read_choice_request(1, {"prompt": "the fox a dog", "choices": [" the", " x y"]})
    assert prepare_item(asked, checkpoint, ScoringSettings(), Prompting()).unknown == 4
    task = prepare(read_request(1, {"prompt": "the fox"}), checkpoint, Settings(), Prompting())
    assert task.unknown == 1
    assert checkpoint.tokenizer.tell_unknown(1).startswith("1 token is [UNK]")
    line = json.dumps({"prompt": "the fox", "response": "the"})
    texts = Texts([line], [0], [0], [len(line)])
    encoded = encode_examples(texts, 0, Chats(checkpoint.tokenizer), 2, ChatFormat())
    assert encoded.unknown == sum(encoded.ids == checkpoint.tokenizer.unknown_id) > 0


def test_a_tokenizer_larger_than_the_model_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"][-1]["id"] = 320
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="321 ids, the model only 320"):
        open_checkpoint(str(folder))


def test_without_a_tokenizer_only_ids_are_served(folder):
    (folder / "tokenizer.json").unlink()
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.mask_id, checkpoint.end_ids) == (5, (2,))
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json"):
        checkpoint.encode_text("a")


def test_settings_that_contradict_a_checkpoint_are_refused_and_what_is_off_is_told(folder):
    checkpoint = open_checkpoint(folder)
    for wrong in (320, -1):
        with pytest.raises(UsageError, match=f"{wrong} is outside the model's 320 ids"):
            complete_settings(Settings(stop_ids=(wrong,)), checkpoint)
    with pytest.raises(UsageError, match="mask id 5"):
        complete_settings(Settings(stop_ids=(5,)), checkpoint)
    (folder / "tokenizer.json").unlink()
    settings, notices = complete_settings(Settings(end_thinking_boost=2.0), open_checkpoint(folder))
    assert settings.end_thinking_boost == 0
    assert ["its boost is off" in notice for notice in notices] == [True]


def test_weights_go_to_any_gpu_in_bfloat16_and_stay_as_stored_on_a_cpu(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        module, "load_model", lambda *given, **reading: asked.append(given) or torch.nn.Linear(1, 1)
    )
    checkpoint = open_checkpoint(folder)
    for device, dtype in (("cuda", "auto"), ("cuda:1", "auto"), ("cpu", "auto")):
        checkpoint.load(device, dtype)
    checkpoint.load("cuda:1", torch.float16)
    dtypes = [dtype for _, _, dtype in asked]
    assert dtypes == ["bfloat16", "bfloat16", "auto", "float16"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("mps", "no device that is served"),
        ("meta", "no device that is served"),
        ("", "no device that is served"),
        ("cuda:99", "there is no device"),
        ("cpu:x", "there is no device"),
    ],
)
def test_a_device_that_is_not_served_is_refused(wanted, said):
    with pytest.raises(UsageError, match=said):
        choose_device(wanted)


def test_how_a_folder_is_read_is_told_unless_it_is_lladas_own_way(folder):
    assert open_checkpoint(folder).told_reading is None
    dream = open_checkpoint(FIXTURES / "dream-tiny")
    assert dream.told_reading == (
        f"{FIXTURES / 'dream-tiny'} is read as a dream model: full attention, and each row of "
        "logits speaks of the next token"
    )
    asked = open_checkpoint(FIXTURES / "dream-tiny", asked=Reading("causal", shift=False))
    assert asked.told_reading.endswith(
        "causal attention, and each row of logits speaks of its own token"
    )
    loaded = asked.load()
    assert (loaded.config.attention, loaded.config.shift) == ("causal", False)
