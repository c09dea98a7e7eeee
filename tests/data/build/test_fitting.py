"""Examples made to fit a row: cut or left out, never in the middle of a response; padding."""

import numpy as np
import pytest

from illada_core.data.build.fitting import ChatFormat, Example, make_fit, pad
from illada_core.data.store.verify import verify
from illada_core.text.messages import Message
from illada_core.text.tokenizer import load_tokenizer
from tests.text.chat import EOS, HEADERS, documents_of, job_of, run, write_examples


def slow_cut(tokens, longest):
    """Cut a list of (id, turn, asked): whole exchanges from the beginning, else less is asked."""
    stops = [
        place
        for place in range(1, len(tokens) + 1)
        if tokens[place - 1][1] and tokens[place - 1][1] not in [t for _, t, _ in tokens[place:]]
    ]
    beginnings = []
    for stop in stops:
        beginning = tokens[:stop]
        if beginning[-1][0] != EOS:
            beginning = [*beginning, (EOS, beginning[-1][1], False)]
        beginnings.append(beginning)
    fitting = [beginning for beginning in beginnings if len(beginning) <= longest]
    if fitting:
        return fitting[-1]
    first = beginnings[0]
    while len(first) > longest:
        asked = [place for place, token in enumerate(first) if token[2]]
        if len(asked) < 2:
            return None
        first = first[: asked[0]] + first[asked[0] + 1 :]
    return first


@pytest.mark.parametrize("seed", range(60))
def test_a_cut_keeps_whole_responses_their_end_and_the_frame(seed):
    generator = np.random.default_rng(seed)
    ends_with_eos = generator.random() < 0.5
    tokens = []
    for turn in range(1, int(generator.integers(1, 4)) + 1):
        ids = iter(generator.integers(10, 99, 99).tolist())
        tokens += [(next(ids), 0, bool(generator.random() < 0.7)) for _ in range(turn % 3 + 4)]
        tokens += [(next(ids), turn, False) for _ in range(int(generator.integers(1, 6)))]
        if ends_with_eos:
            tokens[-1] = (EOS, turn, False)
    if not ends_with_eos:
        tokens.append((EOS, turn, False))
    ids, turns, asked = (np.array(column) for column in zip(*tokens, strict=True))
    example = Example(ids.astype(np.uint32), turns.astype(np.uint16))

    def asked_of(count):
        return np.append(asked, False)[:count]

    for longest in range(2, len(tokens)):
        got, expected = make_fit(example, asked_of, longest, EOS), slow_cut(tokens, longest)
        found = got and [*zip(got.ids.tolist(), got.turns.tolist(), strict=True)]
        assert found == (expected and [(number, turn) for number, turn, _ in expected])


@pytest.mark.parametrize(("on_long", "kept"), [("drop", 1), ("cut", 2)])
def test_examples_longer_than_a_row_are_dropped_or_cut_and_counted(
    tokenizer_folder, tmp_path, on_long, kept
):
    tokenizer = load_tokenizer(tokenizer_folder(None))
    short, long_prompt, long_response = (
        [Message("user", "q" * asked), Message("assistant", "7" * said)]
        for asked, said in ((3, 3), (200, 3), (3, 200))
    )
    path = write_examples(tmp_path / "pairs.jsonl", [short, long_prompt, long_response])
    job = job_of(path, tokenizer, ChatFormat(60, on_long))
    dataset, report = run(job, tmp_path / "tokens")
    assert report.documents == kept
    assert report.cut == dataset.manifest.settings["cut_examples"] == (on_long == "cut")
    reason = "longer than a row" if on_long == "drop" else "response too long for a row"
    assert report.skipped == dataset.manifest.settings["left_out"] == {reason: 3 - kept}
    assert max(len(ids) for ids, _ in documents_of(dataset)) <= 60
    again, report = run(job, tmp_path / "tokens")
    assert (report.was_complete, report.cut) == (True, on_long == "cut")
    assert again.fingerprint == dataset.fingerprint


def test_padding_repeats_eos_as_part_of_the_last_response(examples, tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    plain, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    wide, _ = run(job_of(path, tokenizer, ChatFormat(eos_padding=16)), tmp_path / "wide")
    for (ids, turns), (padded_ids, padded_turns) in zip(
        documents_of(plain), documents_of(wide), strict=True
    ):
        count = -len(ids) % 16
        assert padded_ids == ids + [EOS] * count
        assert padded_turns == turns + [turns[-1]] * count
    assert [step.problem for step in verify(wide) if step.problem] == []


def test_padding_ends_with_the_row():
    example = Example(np.array([9, EOS], np.uint32), np.array([0, 1], np.uint16))
    assert pad(example, EOS, ChatFormat(5, "drop", 8)).turns.tolist() == [0, 1, 1, 1, 1]
    assert len(pad(example, EOS, ChatFormat(None, None, 8)).ids) == 8
    assert len(pad(example, EOS, ChatFormat(None, None, 2)).ids) == 2
