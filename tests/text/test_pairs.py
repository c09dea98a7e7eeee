"""Prompt and continuation are cut where the prompt's ids end, and encoded apart where they melt."""

import random
import string

import pytest

from illada_core.text.pairs import encode_continuations

MERGES = {"(A": 1000, "(B": 1001, "n a": 1002, "ab": 1003, " w": 1004, "?\n": 1005}


def encode(text):
    """Take the longest known piece from the left; any other character is its own id."""
    ids = []
    while text:
        piece = next((piece for piece in MERGES if text.startswith(piece)), text[0])
        ids.append(MERGES[piece] if piece in MERGES else ord(piece))
        text = text[len(piece) :]
    return ids


def test_a_continuation_is_what_the_whole_has_beyond_the_prompt():
    found = encode_continuations(encode, "in a", [" word", "b"])
    assert found.prompt == [ord("i"), 1002]
    assert found.continuations == [[1004, *map(ord, "ord")], [ord("b")]]
    assert found.apart == ()


def test_white_space_that_ends_a_prompt_goes_to_its_continuations():
    with_space = encode_continuations(encode, "a ", ["word", "x"])
    assert with_space == encode_continuations(encode, "a", [" word", " x"])


def test_continuations_that_melt_with_the_prompt_are_encoded_apart_and_told():
    found = encode_continuations(encode, "Answer:\n(", ["A)", "B)", "C)"])
    assert found.prompt == encode("Answer:\n(")
    assert found.continuations == [[ord(letter), ord(")")] for letter in "ABC"]
    assert found.apart == (0, 1)
    spaced = encode_continuations(encode, "in ", ["a", "b"])
    assert spaced.continuations == [encode(" a"), encode(" b")]
    assert spaced.apart == (0,)


def test_white_space_that_melts_with_the_prompt_alone_stays_there():
    found = encode_continuations(encode, "in?\n", ["x", " w"])
    assert found.prompt == [ord("i"), ord("n"), 1005]
    assert (found.continuations, found.apart) == ([[ord("x")], [1004]], ())


def test_a_continuation_that_vanishes_has_no_ids():
    found = encode_continuations(lambda text: encode(text.replace("-", "")), "x", ["-", "y"])
    assert (found.continuations, found.apart) == ([[], [ord("y")]], ())


@pytest.mark.parametrize("seed", range(20))
def test_no_character_is_lost_and_none_counted_twice(seed):
    """Ids of prompt and continuation together spell the whole text, whatever melts."""
    generator = random.Random(seed)
    pieces = {number: piece for piece, number in MERGES.items()}
    for _ in range(50):
        prompt, after = (
            "".join(
                generator.choices("(ABn a w?\n" + string.ascii_lowercase, k=generator.randint(1, 8))
            )
            for _ in range(2)
        )
        found = encode_continuations(encode, prompt, [after])
        ids = [*found.prompt, *found.continuations[0]]
        assert "".join(pieces.get(number) or chr(number) for number in ids) == prompt + after
        assert (encode(prompt + after) == ids) == (not found.apart)
