"""Cutting a giant document changes no id and loses no character, however it is buffered."""

import random

import numpy as np
import pytest

from illada_core.data.build.encoding import encode_documents
from illada_core.text import cutting
from illada_core.text.cutting import cut_text, last_clean_cut
from illada_core.text.tokenizer import load_tokenizer

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


def test_a_text_without_any_clean_place_is_cut_all_the_same(small_pieces):
    text = "x" * 1000
    assert last_clean_cut(text, 100) == 300
    assert "".join(cut_text([text])) == text
