"""The files beside tokenizer.json mean what they mean to transformers; disagreements are told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illada_core.errors import DataError
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import (
    copy_tokenizer,
    read_tokenizer_files,
    with_eos,
    write_tokenizer_files,
)
from tests.text.kinds import KINDS, SIGN, added, llama, metaspace
from tests.text.test_tokenizer import write_tokenizer

BOS = {"SpecialToken": {"id": "<s>", "type_id": 0}}
EOS = {"SpecialToken": {"id": "</s>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def template_processing(content, *single):
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    named = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("<s>", "</s>")}
    pair = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": list(single),
        "pair": pair,
        "special_tokens": named,
    }


def in_transformers(folder):
    transformers = pytest.importorskip("transformers")
    config = folder / "tokenizer_config.json"
    if not config.exists():
        config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return transformers.AutoTokenizer.from_pretrained(str(folder))


LLAMA = {
    f"LlamaTokenizer, {kind}": (kind, {"tokenizer_class": "LlamaTokenizer", "legacy": legacy})
    for kind, legacy in (("llama 2", True), ("gemma", False), ("llama, metaspace", True))
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Our tokenizers with both engines, and that of transformers, by kind."""
    folder = tmp_path_factory.mktemp("pairs")
    found = {}
    for name, (kind, config) in ({kind: (kind, {}) for kind in KINDS} | LLAMA).items():
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
        content = {**KINDS[kind]}
        content["post_processor"] = template_processing(content, BOS, TEXT, EOS)
        place = write_tokenizer(folder / str(len(found)), content, tokenizer_config=config)
        ours = [load_tokenizer(place, engine) for engine in ("tokenizers", "auto")]
        found[name] = ours, in_transformers(place)
    return found


SPELT = ["the", " the", "ab", "  ", " ", "\n", "<think>", "<a b>", "é", "日", "1.", "'", SIGN, "x"]


@given(kind=st.sampled_from([*KINDS, *LLAMA]), parts=st.lists(st.sampled_from(SPELT)))
@settings(max_examples=400, deadline=None)
def test_plain_text_has_the_ids_of_transformers_without_a_trailing_eos(pairs, kind, parts):
    ours, theirs = pairs[kind]
    text = "".join(parts)
    expected = theirs(text)["input_ids"]
    eos = ours[0].special.eos
    assert expected[-1] == eos
    for tokenizer in ours:
        assert [*tokenizer.files.opening_ids, *tokenizer.encode(text)] == expected[:-1]


ROLES = {
    "config": ({"eos_token": "</s>"}, {}),
    "map over config": ({"eos_token": "</s>"}, {"eos_token": "<s>", "pad_token": "<mask>"}),
    "map alone": ({}, {"eos_token": {"content": "<s>", "lstrip": False}}),
    "null in map": ({"eos_token": "</s>", "bos_token": "</s>"}, {"bos_token": "<s>"}),
    "listed tokens win over the map": (
        {"eos_token": "</s>", "added_tokens_decoder": {"262": {"content": "<s>", "special": True}}},
        {"eos_token": "<s>"},
    ),
}


@pytest.mark.parametrize("case", ROLES)
def test_roles_are_those_of_transformers(tmp_path, case):
    config, old_map = ROLES[case]
    content = KINDS["byte level"]
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    if "added_tokens_decoder" in config:
        listed = {str(ids["<s>"]): config["added_tokens_decoder"]["262"]}
        config = {**config, "added_tokens_decoder": listed}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    folder = write_tokenizer(
        tmp_path / "t", content, tokenizer_config=config, special_tokens_map=old_map
    )
    ours, theirs = read_tokenizer_files(folder), in_transformers(folder)
    assert ours.special.eos == theirs.eos_token_id
    if "pad_token" in old_map:
        assert ours.special.pad == theirs.pad_token_id
    both = config.get("eos_token") and old_map.get("eos_token")
    assert any("calls </s> the eos token" in said for said in ours.notices) == bool(both)


@pytest.mark.parametrize("is_special", [True, False])
def test_marks_and_tokens_that_the_configuration_lists_count_as_in_transformers(
    tmp_path, is_special
):
    content = KINDS["byte level"]
    think = next(token for token in content["added_tokens"] if token["content"] == "<think>")
    listed = {
        str(think["id"]): {"content": "<think>", "special": is_special, "normalized": False},
        str(think["id"] + 1): {"content": "<more>", "special": not is_special, "normalized": False},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": listed}
    folder = write_tokenizer(tmp_path / "t", content, tokenizer_config=config)
    tokenizer, theirs = load_tokenizer(folder), in_transformers(folder)
    for text in ("a <think> b", "a <more> b"):
        is_control = text[2:-2] in tokenizer.controls
        assert is_control == (is_special == ("think" in text))
        assert is_control or tokenizer.encode(text) == theirs(text)["input_ids"]
    assert len(tokenizer.files.notices) == is_special


def test_tokens_of_the_old_file_are_added(tmp_path):
    content = KINDS["byte level"]
    number = max(token["id"] for token in content["added_tokens"]) + 1
    folder = write_tokenizer(tmp_path / "t", content, added_tokens={"<new>": number})
    tokenizer, theirs = load_tokenizer(folder), in_transformers(folder)
    assert tokenizer.encode("a<new>b") == theirs("a<new>b")["input_ids"]
    assert number in tokenizer.encode("a<new>b")
    (folder / "added_tokens.json").write_text('{"<new>": "seven"}')
    with pytest.raises(DataError, match=r"added_tokens\.json lists no added tokens \(<new> is"):
        load_tokenizer(folder)


def test_bos_stands_where_the_post_processor_or_the_configuration_puts_it(tmp_path):
    content = {**KINDS["byte level"]}
    bos = next(token["id"] for token in content["added_tokens"] if token["content"] == "<s>")
    processor = template_processing(content, BOS, TEXT, EOS)
    levels = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    cls = {"type": "BertProcessing", "sep": ["</s>", 9], "cls": ["<s>", bos]}
    for number, (found, wanted, ids, notices) in enumerate(
        [
            (None, None, (), 0),
            (None, True, (bos,), 1),
            (processor, None, (bos,), 0),
            (processor, True, (bos,), 0),
            (processor, False, (bos,), 1),
            ({"type": "Sequence", "processors": [levels, processor]}, None, (bos,), 0),
            (cls, None, (bos,), 0),
        ]
    ):
        config = {} if wanted is None else {"add_bos_token": wanted}
        folder = write_tokenizer(
            tmp_path / str(number), {**content, "post_processor": found}, tokenizer_config=config
        )
        files = read_tokenizer_files(folder)
        assert (files.opening_ids, len(files.notices)) == (ids, notices)


def test_templates_are_found_where_transformers_finds_them(tmp_path):
    folder = write_tokenizer(tmp_path / "t", KINDS["byte level"])

    def found():
        files = read_tokenizer_files(folder)
        return dict(files.chat_templates), len(files.notices)

    assert found() == ({}, 0)
    (folder / "chat_template.json").write_text('{"chat_template": "processor"}')
    assert found() == ({"default": "processor"}, 0)
    named = [{"name": "default", "template": "old"}, {"name": "tool_use", "template": "tools"}]
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": named}))
    assert found() == ({"default": "old", "tool_use": "tools"}, 0)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "config"}))
    assert found() == ({"default": "config"}, 1)
    assert in_transformers(folder).chat_template == "config"
    (folder / "chat_template.jinja").write_text("file")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/rag.jinja").write_text("other")
    assert found() == ({"default": "file", "rag": "other"}, 2)
    assert in_transformers(folder).chat_template == {"default": "file", "rag": "other"}
    written = read_tokenizer_files(folder)
    for name, write in (("copied", copy_tokenizer), ("written", write_tokenizer_files)):
        copy = tmp_path / name
        copy.mkdir()
        write(folder if write is copy_tokenizer else written, copy)
        assert read_tokenizer_files(copy).chat_templates == written.chat_templates
    (folder / "tokenizer_config.json").write_text('{"chat_template": 5}')
    with pytest.raises(DataError, match="holds no chat template"):
        read_tokenizer_files(folder)


def test_what_a_person_names_outlives_the_old_map(tmp_path):
    folder = write_tokenizer(
        tmp_path / "t", KINDS["byte level"], special_tokens_map={"eos_token": "</s>"}
    )
    files = with_eos(read_tokenizer_files(folder), "<s>")
    copied = tmp_path / "copied"
    copied.mkdir()
    write_tokenizer_files(files, copied)
    assert read_tokenizer_files(copied).special == files.special


@pytest.mark.parametrize(
    ("kind", "legacy", "told"),
    [("llama 2", True, []), ("llama 2", False, ["(first)", "(always)"])],
)
def test_a_class_that_marks_spaces_otherwise_than_the_file_is_told(tmp_path, kind, legacy, told):
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy}
    folder = write_tokenizer(tmp_path / "t", KINDS[kind], tokenizer_config=config)
    notices = read_tokenizer_files(folder).notices
    assert len(notices) == bool(told)
    assert all(word in notices[0] for word in told)


def test_a_token_that_no_file_gives_an_id_and_lost_bytes_are_told(tmp_path):
    folder = write_tokenizer(
        tmp_path / "t", KINDS["byte level"], tokenizer_config={"pad_token": "[PAD]"}
    )
    files = read_tokenizer_files(folder)
    assert files.special.pad is None
    assert files.notices == ("no file gives the pad token [PAD] an id, so it is passed over",)
    content = json.loads(json.dumps(KINDS["byte level"]))
    content["model"] = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    content["added_tokens"] = [added("<s>", 1)]
    files = read_tokenizer_files(write_tokenizer(tmp_path / "few", content))
    assert files.notices == ("the vocabulary lacks 255 of 256 bytes: text loses them",)


def test_the_fast_engine_encodes_texts_whose_spaces_are_marked_by_a_pre_tokenizer(tmp_path):
    pytest.importorskip("fastokens")
    for scheme in ("always", "first", "never"):
        folder = write_tokenizer(tmp_path / scheme, llama(None, metaspace(scheme, split=False)))
        fast, slow = load_tokenizer(folder, "fastokens"), load_tokenizer(folder, "tokenizers")
        for text in ("", " ", "a", " a", "  a b", f"{SIGN}a", "\na\nb"):
            assert fast.encode(text) == slow.encode(text)
