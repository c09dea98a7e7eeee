"""What is special: control tokens never come from text, other added tokens do, as elsewhere."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from illada_core.errors import DataError, UsageError
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import read_tokenizer_files, with_eos, with_mask
from tests.byte_model import byte_letters
from tests.text.test_tokenizer import ENGINES, added_token, write_tokenizer

VOCABULARY = {letter: number for number, letter in enumerate(byte_letters())}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# Flags of tokens that are vocabulary; all that `tokenizers` knows.
WORDS = [
    added_token("<think>", 257, special=False),
    added_token("</think>", 258, special=False),
    added_token("<tool_call>", 260, special=False, normalized=True),
    added_token("<left>", 261, special=False, lstrip=True),
    added_token("<right>", 263, special=False, rstrip=True),
    added_token("word", 264, special=False, single_word=True),
    added_token("ṩ", 265, special=False, normalized=True),
    added_token("   ", 266, special=False),
]
CONTROLS = [
    added_token("<s>", 256),
    added_token("<|im_end|>", 259, special=False),  # the end of a turn, whatever its mark
    added_token("<mask>", 262, special=False),
]
MODEL = {"type": "BPE", "vocab": VOCABULARY, "merges": []}


def byte_content(words=WORDS, controls=CONTROLS, normalizer=None):
    return {
        "version": "1.0",
        "added_tokens": sorted([*words, *controls], key=lambda token: token["id"]),
        "normalizer": normalizer,
        "pre_tokenizer": BYTES,
        "post_processor": None,
        "decoder": BYTES,
        "model": MODEL,
    }


def ids_of_the_library(content, text):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module", params=[None, {"type": "NFC"}, {"type": "Lowercase"}], ids=str)
def loaded(request, tmp_path_factory):
    content = byte_content(normalizer=request.param)
    folder = write_tokenizer(tmp_path_factory.mktemp("words") / "t", content)
    return content, [load_tokenizer(folder, engine) for engine in ("tokenizers", "auto")]


SPELT = [token["content"] for token in WORDS]
TEXTS = st.lists(
    st.sampled_from([*SPELT, *"aWe \n<>|ṩ", "s\u0323\u0307", "WORD", "<THINK>", "w"])
).map("".join)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_other_added_tokens_are_found_in_text_as_the_library_finds_them(loaded, text):
    content, engines = loaded
    for tokenizer in engines:
        assert tokenizer.encode(text) == ids_of_the_library(content, text)


@given(st.lists(st.sampled_from(["<s>", "<|im_end|>", "<mask>", "<think>", " ", "a"])).map("".join))
@settings(max_examples=100, deadline=None)
def test_control_tokens_are_those_marked_and_those_with_a_role_and_no_text_gives_one(loaded, text):
    for tokenizer in loaded[1]:
        assert tokenizer.controls == {"<s>": 256, "<|im_end|>": 259, "<mask>": 262}
        ids = tokenizer.encode(text)
        assert not {256, 259, 262}.intersection(ids)
        assert tokenizer.decode(ids) == text
        assert ids.count(257) == text.count("<think>")


def test_a_control_token_that_merges_make_is_made_no_more(tmp_path):
    content = byte_content([], [added_token("he", 256)])
    vocabulary = {**VOCABULARY, "he": 256, "the": 257}
    content["model"] = {**MODEL, "vocab": vocabulary, "merges": ["h e", "t he"]}
    for engine in ENGINES:
        pytest.importorskip(engine)
        tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", content), engine)
        ids = tokenizer.encode("the he")
        assert 256 not in ids
        assert tokenizer.decode(ids) == "the he"


def test_a_file_that_calls_an_ordinary_word_a_control_token_is_refused(tmp_path):
    content = byte_content()
    folder = write_tokenizer(tmp_path / "t", content, tokenizer_config={"eos_token": "e"})
    with pytest.raises(DataError, match="calls the ordinary word 'e' its eos token"):
        load_tokenizer(folder)


def test_a_control_token_that_is_a_letter_is_refused(tmp_path):
    content = byte_content([], [added_token("e", VOCABULARY["e"])])
    with pytest.raises(DataError, match="the control token 'e' is also a letter"):
        load_tokenizer(write_tokenizer(tmp_path / "t", content))


def test_an_ordinary_word_cannot_be_named_as_eos_or_mask(tmp_path):
    content = byte_content()
    content["model"] = {**MODEL, "vocab": {**VOCABULARY, "self": 256}, "merges": []}
    content["added_tokens"] = []
    files = read_tokenizer_files(write_tokenizer(tmp_path / "t", content))
    for name in (with_eos, with_mask):
        with pytest.raises(UsageError, match="'self' is an ordinary word"):
            name(files, "self")


def test_ids_that_a_models_files_name_as_ends_are_control_tokens(tmp_path):
    content = byte_content([added_token("<stop>", 260, special=False), *WORDS[:2]])
    ends = {"eos_token_id": [256, 260]}
    folder = write_tokenizer(tmp_path / "t", content, generation_config=ends)
    assert load_tokenizer(folder).controls["<stop>"] == 260


def test_dropout_is_off_when_text_is_encoded(tmp_path):
    content = byte_content([], [])
    vocabulary = {**VOCABULARY, "ab": 256}
    content["model"] = {**MODEL, "vocab": vocabulary, "merges": ["a b"], "dropout": 0.5}
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", content))
    assert tokenizer.encode("abab" * 50) == [256] * 100
