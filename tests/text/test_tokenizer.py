"""Text and ids turn into each other exactly, and no text becomes a control token (law 10)."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from illada_core.data.build.vocabulary import CONTROL_TOKENS, train_vocabulary
from illada_core.errors import DataError, UsageError
from illada_core.text.library_json import encoding_json
from illada_core.text.special_tokens import KNOWN_NAMES, TURN_ENDS, SpecialIds
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import (
    read_tokenizer_files,
    with_eos,
    with_mask,
    write_tokenizer_files,
)

ENGINES = ["tokenizers", "fastokens"]
FAMILY_NAMES = sorted({name for names in KNOWN_NAMES.values() for name in names})


def write_tokenizer(folder, content, **beside):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    for name, value in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def added_token(content, id, special=True, **flags):
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
        **flags,
    }


@pytest.fixture
def content(tokenizer_file):
    return json.loads(tokenizer_file.read_bytes())


@pytest.fixture(params=ENGINES)
def tokenizer(request, tokenizer_file):
    pytest.importorskip(request.param)
    return load_tokenizer(tokenizer_file, request.param)


def test_the_engine_asked_for_is_used(tokenizer, request):
    assert tokenizer.engine.startswith(request.node.callspec.params["tokenizer"])
    assert tokenizer.fallback is None


@pytest.mark.parametrize(
    "text", ["", " ", "\r\n\t\0", "\ufeffGröße 日本語 😀", "\U0010ffff", "e\u0301"]
)
def test_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_flat_ids_are_those_of_each_text(tokenizer):
    texts = ["one", "", "two words", "<[EOS]>"]
    ids, ends = tokenizer.encode_flat(texts)
    assert (ids.dtype, ends.dtype) == ("uint32", "int64")
    starts = [0, *ends[:-1]]
    parts = [ids[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
    assert parts == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("name", [*CONTROL_TOKENS, *FAMILY_NAMES, "<|reserved|>", *TURN_ENDS, "~~"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_vocabulary", [False, True])
def test_text_never_becomes_a_control_token(tmp_path, content, name, engine, in_vocabulary):
    pytest.importorskip(engine)
    content["model"]["ignore_merges"] = True  # a whole word is looked up, as Llama 3 does
    number = content["model"]["vocab"].get(name, 400)
    if name not in CONTROL_TOKENS:
        content["added_tokens"].append(added_token(name, number, special=name not in TURN_ENDS))
        if in_vocabulary:
            content["model"]["vocab"][name] = number
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": name, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]}},
    }
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", content), engine)
    for text in (name, f"a {name} b", f"{name}{name}", f"\n{name}\n"):
        ids = tokenizer.encode(text)
        assert not set(ids) & set(tokenizer.controls.values())
        assert tokenizer.decode(ids) == text
    assert tokenizer.controls[name] == number


def test_text_never_becomes_a_control_token_of_a_unigram_vocabulary(tmp_path):
    pieces = ["<s>", "</s>", "<mask>", "<unk>", *"</>skamun ", "a"]
    content = {
        "version": "1.0",
        "added_tokens": [added_token(name, number) for number, name in enumerate(pieces[:4])],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -1.0] for piece in pieces]},
    }
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", content), "tokenizers")
    ids = tokenizer.encode("</s> a <mask>")
    assert min(ids) > 3
    assert tokenizer.decode(ids) == "</s> a <mask>"


def test_runs_of_spaces_stay_the_tokens_they_are(tmp_path, content):
    content["added_tokens"].append(added_token("    ", 410, special=False))
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", content))
    assert tokenizer.encode("    x")[0] == 410
    assert tokenizer.decode(tokenizer.encode("    x")) == "    x"
    assert "    " not in tokenizer.controls
    assert tokenizer.vocab_size == 411


@given(st.lists(st.text(max_size=40), max_size=8))
@settings(max_examples=60, deadline=None)
@example(["\tdef f(x):\n\t\treturn  x\r\n", "It's 'S 12345 \u3000\u00a0x", "<[MASK]>"])
def test_both_engines_give_the_same_ids(engines, texts):
    (slow_ids, slow_ends), (fast_ids, fast_ends) = (engine.encode_flat(texts) for engine in engines)
    assert slow_ids.tolist() == fast_ids.tolist()
    assert slow_ends.tolist() == fast_ends.tolist()
    assert [engines[0].decode(engines[0].encode(text)) for text in texts] == texts


@pytest.fixture(scope="module")
def engines(tokenizer_file):
    pytest.importorskip("fastokens")
    return [load_tokenizer(tokenizer_file, engine) for engine in ENGINES]


def test_an_engine_that_disagrees_is_found_out_and_replaced(tokenizer_file, monkeypatch):
    pytest.importorskip("fastokens")
    texts = ["some text", "more of it"]
    assert not load_tokenizer(tokenizer_file).disagrees(texts)
    tokenizer, other = load_tokenizer(tokenizer_file), load_tokenizer(tokenizer_file, "tokenizers")

    def wrong(texts):
        ids, ends = other.encode_flat(texts)
        return ids[::-1], ends

    monkeypatch.setattr(tokenizer, "_encode", wrong)
    assert tokenizer.disagrees(texts)
    tokenizer.fall_back("it was wrong")
    assert tokenizer.encode(texts[0]) == other.encode(texts[0])
    assert tokenizer.engine.startswith("tokenizers")


def test_a_file_the_fast_engine_refuses_is_encoded_by_the_other(tmp_path, content):
    words = {"type": "WordLevel", "vocab": {"hello": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    content |= {"model": words, "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", {**content, "decoder": None}))
    assert tokenizer.encode("hello there") == [0, 1]
    if tokenizer.engine.startswith("tokenizers"):
        assert "fastokens" in tokenizer.fallback


def test_control_tokens_are_left_out_of_text_or_kept_by_name(tokenizer):
    ids = [tokenizer.special.bos, *tokenizer.encode("hi"), tokenizer.special.eos]
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, keep_special=True) == "<[BOS]>hi<[EOS]>"
    assert tokenizer.piece(5) == "<[MASK]>"
    with pytest.raises(DataError, match="id 400 is not in the vocabulary of 400"):
        tokenizer.decode([400])


def test_ids_that_no_token_has_are_decoded_to_nothing(tmp_path, content):
    content["added_tokens"].append(added_token("<far>", 450))
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "gap", content))
    assert tokenizer.vocab_size == 451
    assert tokenizer.decode([449, *tokenizer.encode("hi"), 420], keep_special=True) == "hi"


def test_special_ids_come_from_the_configuration_beside(tmp_path, content):
    config = {"eos_token": {"content": "<[SEP]>"}, "bos_token": None}
    folder = write_tokenizer(tmp_path / "t", content, tokenizer_config=config)
    assert read_tokenizer_files(folder).special == SpecialIds(bos=0, pad=1, eos=4, mask=5)


def test_special_ids_come_from_the_model_if_the_tokenizer_names_none(tmp_path, content):
    config = {"eos_token_id": [4, 2], "bos_token_id": None, "pad_token_id": 2}
    folder = write_tokenizer(tmp_path / "t", content, config=config)
    assert read_tokenizer_files(folder).special == SpecialIds(bos=0, pad=2, eos=4, mask=5)


@pytest.mark.parametrize("name", KNOWN_NAMES["eos"])
def test_end_tokens_of_known_families_are_known_by_name(tmp_path, content, name):
    content["added_tokens"] = [added_token(name, 300)]
    files = read_tokenizer_files(write_tokenizer(tmp_path / "t", content))
    assert files.special == SpecialIds(None, None, 300, None)


def test_an_end_token_can_be_named(tokenizer_file):
    files = read_tokenizer_files(tokenizer_file)
    assert with_eos(files, "<[SEP]>").special.eos == 4
    with pytest.raises(UsageError, match="no token <end>"):
        with_eos(files, "<end>")


def test_a_mask_token_can_be_added_and_travels_with_the_files(tmp_path, content):
    content["added_tokens"] = content["added_tokens"][:5]
    del content["model"]["vocab"]["<[MASK]>"]
    folder = write_tokenizer(tmp_path / "t", content, tokenizer_config={"eos_token": "<[EOS]>"})
    before = read_tokenizer_files(folder)
    assert before.special.mask is None
    after = with_mask(before, "<[MASK]>")
    assert (after.special.mask, after.vocab_size) == (400, 401)
    write_tokenizer_files(after, folder)
    again = read_tokenizer_files(folder)
    assert (again.sha256, again.special) == (after.sha256, after.special)
    tokenizer = load_tokenizer(folder)
    assert 400 not in tokenizer.encode("<[MASK]>")
    assert tokenizer.piece(400) == "<[MASK]>"


def test_an_added_token_can_be_the_mask(tokenizer_file, tmp_path):
    files = with_mask(read_tokenizer_files(tokenizer_file), "<[UNK]>")
    assert (files.special.mask, files.vocab_size) == (3, 400)
    write_tokenizer_files(files, tmp_path)
    assert read_tokenizer_files(tmp_path).special.mask == 3


def test_chat_templates_are_found_in_both_places(tmp_path, content):
    folder = write_tokenizer(tmp_path / "t", content, tokenizer_config={"chat_template": "old"})
    assert read_tokenizer_files(folder).chat_template == "old"
    (folder / "chat_template.jinja").write_text("new")
    assert read_tokenizer_files(folder).chat_template == "new"


def test_the_copy_for_encoding_keeps_every_id(tmp_path, content):
    files = read_tokenizer_files(write_tokenizer(tmp_path / "t", content))
    copy = json.loads(encoding_json(content, files.added, files.controls))
    assert sorted(copy["model"]["vocab"].values()) == sorted(content["model"]["vocab"].values())
    assert not set(copy["model"]["vocab"]) & set(CONTROL_TOKENS)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"model": {"vocab": {}}}', b"\xff"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_missing_tokenizer_says_how_to_get_one(tmp_path):
    with pytest.raises(DataError, match="no tokenizer at") as caught:
        load_tokenizer(tmp_path)
    assert "--train-vocab" in caught.value.hint


def test_training_gives_released_ids_and_the_same_file_every_time(tokenizer_file, content):
    from tests.phrases import TRAINING_TEXT

    assert [content["model"]["vocab"][token] for token in CONTROL_TOKENS] == [0, 1, 2, 3, 4, 5]
    assert len(content["model"]["vocab"]) == 400
    assert train_vocabulary([TRAINING_TEXT], 400) == content
    assert read_tokenizer_files(tokenizer_file).special == SpecialIds(0, 1, 2, 5)


def test_a_vocabulary_without_room_for_merges_is_refused():
    with pytest.raises(UsageError, match="262 is too small"):
        train_vocabulary(["text"], 262)


def test_a_vocabulary_needs_text():
    with pytest.raises(DataError, match="no text"):
        train_vocabulary([], 400)
