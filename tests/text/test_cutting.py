"""Cutting a giant document changes no id and loses no character, however it is buffered."""

import random

import numpy as np
import pytest

from illada_core.data.build.encoding import encode_documents
from illada_core.text import cutting
from illada_core.text.cutting import cut_text, last_clean_cut
from illada_core.text.tokenizer import load_tokenizer
from tests.text.kinds import KINDS
from tests.text.test_tokenizer import write_tokenizer

WORDS = [
    "fox",
    "It's",
    "1,024",
    "\n",
    "\n\n",
    "  ",
    "    return",
    "日本語",
    "é",
    "x_y",
    "😀",
    "--",
    "a",
]


def random_text(seed, words):
    generator = random.Random(seed)
    return "".join(generator.choice(WORDS) + generator.choice([" ", " ", ""]) for _ in range(words))


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_CHARACTERS", 200)
    monkeypatch.setattr(cutting, "WINDOWS", (40, 200))
    monkeypatch.setattr(cutting, "AROUND", 40)


@pytest.mark.parametrize("block", [1, 7, 1000, 10**6])
def test_pieces_do_not_depend_on_the_blocks(small_pieces, block):
    text = random_text(0, 3000)
    blocks = (text[start : start + block] for start in range(0, len(text), block))
    assert list(cut_text(blocks)) == (whole := list(cut_text([text])))
    assert "".join(whole) == text
    assert max(map(len, whole)) <= 202


@pytest.mark.parametrize("engine", ["tokenizers", "fastokens"])
def test_a_giant_document_has_the_ids_it_would_have_uncut(tokenizer_file, small_pieces, engine):
    pytest.importorskip(engine)
    tokenizer = load_tokenizer(tokenizer_file, engine)
    texts = [random_text(seed, 2000) for seed in range(20)] + ["short", ""]
    ids, ends = encode_documents(texts, tokenizer)
    expected = [tokenizer.encode(text) for text in texts]
    assert np.split(ids, ends)[0].tolist() == expected[0]
    assert [part.tolist() for part in np.split(ids, ends)[:-1]] == expected


@pytest.mark.parametrize("text", ["1234567      89", "1,2;3.4,"])
def test_a_text_without_letters_is_cut_too(tokenizer_file, small_pieces, text):
    tokenizer = load_tokenizer(tokenizer_file, "tokenizers")
    pieces = list(cut_text([text * 500], tokenizer.cuts_cleanly))
    assert "".join(pieces) == text * 500
    assert max(map(len, pieces)) <= 202
    ids, _ = encode_documents([text * 500], tokenizer)
    assert ids.tolist() == tokenizer.encode(text * 500)


def test_a_text_without_any_clean_place_is_cut_all_the_same(small_pieces):
    text = "x" * 1000
    assert last_clean_cut(text, 100) == 300
    assert "".join(cut_text([text])) == text


def test_where_ids_count_a_text_without_any_clean_place_is_not_cut(small_pieces):
    asked = []
    pieces = list(cut_text(["x1" * 500], lambda before, after: asked.append((before, after))))
    assert pieces == ["x1" * 500]
    assert {len(before) <= 40 and len(after) <= 40 for before, after in asked} == {True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["tokenizers", "auto"])
def test_cutting_changes_no_id_of_any_kind_of_tokenizer(tmp_path, small_pieces, kind, engine):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", KINDS[kind]), engine)
    letters = [
        "the",
        " the",
        " a",
        "ab",
        "  ",
        "    ",
        "\n",
        " <a b> ",
        "<think>",
        "日é",
        "1",
        "b.",
        "'",
        "x",
    ]
    longest = 0
    for seed in range(30):
        generator = random.Random(seed)
        chosen = generator.sample(letters, generator.randrange(1, len(letters)))
        text = "".join(generator.choices(chosen, k=generator.randrange(200, 900)))
        ids, _ = encode_documents([text], tokenizer)
        assert ids.tolist() == tokenizer.encode(text)
        blocks = (text[at : at + 37] for at in range(0, len(text), 37))
        pieces = list(cut_text(blocks, tokenizer.cuts_cleanly))
        assert pieces == list(cut_text([text], tokenizer.cuts_cleanly))
        longest = max(longest, len(pieces))
    assert longest > 3


def test_a_rest_of_a_document_is_encoded_as_such(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "t", KINDS["llama 2"]))
    text = "the ab the"
    ids = tokenizer.encode(text)
    assert [*tokenizer.encode("the ab"), *tokenizer.encode_rest(" the").tolist()] == ids
    assert [*tokenizer.encode("the ab"), *tokenizer.encode(" the")] != ids
