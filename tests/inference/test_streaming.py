"""Streamed text equals plain text for every tokenizer, mask and block length."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illada_core.inference.canvas import continuation
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Request
from illada_core.inference.sampler import Commit
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import TextTask
from illada_core.inference.text_sampler import Generation, TextSampler
from illada_core.model.config import ModelConfig
from illada_core.text.tokenizer import load_tokenizer
from tests.text.kinds import KINDS, content_of, numbered
from tests.text.test_tokenizer import write_tokenizer

# Of these nothing is shown before the end.
UNSTEADY = {
    "a replaced text": {"type": "Replace", "pattern": {"String": "ab"}, "content": "x"},
}


def unsteady(last):
    decoder = {"type": "Sequence", "decoders": [{"type": "Fuse"}, last]}
    model = {"type": "BPE", "vocab": numbered([*"abc x"]), "merges": []}
    return content_of(model, None, None, decoder)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    contents = KINDS | {name: unsteady(last) for name, last in UNSTEADY.items()}
    folder = tmp_path_factory.mktemp("kinds")
    return {
        name: load_tokenizer(write_tokenizer(folder / str(at), content), "tokenizers")
        for at, (name, content) in enumerate(contents.items())
    }


def checkpoint_of(tokenizer, mask):
    """Return a checkpoint of a tokenizer; its mask is <mask>, or the first id past all others."""
    past = tokenizer.vocab_size
    config = ModelConfig(past + 1, 8, 1, 1, 1, 8, 8, max_length=64)
    mask_id = past if mask == "past" else tokenizer.special.mask
    end_ids = (tokenizer.special.eos,)
    return Checkpoint(Path("model"), config, tokenizer, mask_id, end_ids, block_length=4)


@dataclass
class RandomModel:
    """Logits without sense, but many for bytes, so that characters break off."""

    generator: torch.Generator
    favoured: list[int]
    vocab_size: int

    def __call__(self, ids_T, ends, rows_M):
        logits_MV = torch.randn(len(rows_M), self.vocab_size, generator=self.generator)
        logits_MV[:, self.favoured] += 2
        return logits_MV


@given(
    kind=st.sampled_from([*KINDS, *UNSTEADY]),
    mask=st.sampled_from(["inside", "past"]),
    block_length=st.integers(1, 9),
    canvas=st.sampled_from(["variable", "fixed"]),
    stop=st.sampled_from([(), ("the",), ("a", " b"), ("\ufffd",)]),
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 30),
)
@settings(max_examples=400, deadline=None)
def test_streamed_text_equals_plain_text(
    tokenizers, kind, mask, block_length, canvas, stop, seed, steps
):
    tokenizer = tokenizers[kind]
    checkpoint = checkpoint_of(tokenizer, mask)
    generator = torch.Generator().manual_seed(seed)
    spelt = [n for text in ("é 日😀 ab", "the  a.") for n in tokenizer.encode(text)]
    favoured = [*sorted(set(spelt)), checkpoint.mask_id]
    model = RandomModel(generator, favoured, checkpoint.config.vocab_size)
    sampler = TextSampler(checkpoint, model)
    asked = Settings(block_length=block_length, stop=stop, max_new_tokens=24)
    if canvas == "fixed":
        asked = replace(asked, canvas="fixed")
    task = continuation([tokenizer.special.bos], 24, grows=asked.grows)
    index = sampler.add(TextTask(Request("prompt", ""), task, asked))
    shown = ""
    for _ in range(steps):
        for number, event in sampler.step():
            assert number == index
            if isinstance(event, Commit):
                settled = sampler.settled(index) or shown  # None where it is finished
                assert settled.startswith(shown)
                assert "<mask>" not in settled
                shown = settled
            else:
                assert isinstance(event, Generation)
                assert event.text.startswith(shown)
                assert event.text == tokenizer.decode(event.output_ids) or stop
                return
    if not stop:
        assert sampler.cancel(index).text.startswith(shown)


def test_byte_level_text_is_shown_as_it_settles(tokenizers):
    tokenizer = tokenizers["byte level"]
    ids = tokenizer.encode("ab é")
    shown = [tokenizer.settled(ids[:end]) for end in range(len(ids) + 1)]
    assert shown == ["", "ab", "ab ", "ab ", "ab é"]


def test_a_run_of_bytes_is_shown_when_it_is_over(tokenizers):
    tokenizer = tokenizers["gemma"]
    whole = tokenizer.encode("日b")
    broken = [*tokenizer.encode("日")[:3], *tokenizer.encode("日")[:1], *tokenizer.encode("b")]
    assert [tokenizer.settled(whole[:end]) for end in range(5)] == ["", "", "", "", "日b"]
    assert tokenizer.settled(broken[:4]) == ""
    assert tokenizer.settled(broken) == tokenizer.decode(broken) == "\ufffd" * 4 + "b"
