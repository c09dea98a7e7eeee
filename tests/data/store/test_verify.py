"""What a check finds in a chat dataset made by hand, and what statistics tell of one."""

import random

import numpy as np

from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.write import pack
from illada_core.data.store.dataset import open_dataset, open_packed
from illada_core.data.store.manifest import InputFile, Manifest, write_manifest
from illada_core.data.store.shards import TokenShardWriter, shard_name
from illada_core.data.store.verify import describe, verify
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord
from tests.text.chat import EOS, HEADERS, documents_of, job_of, random_messages, run, write_examples


def problems_of(folder, ids, document_lengths, span_lengths):
    """Write a chat dataset of one shard by hand and return the problems that verify finds."""
    folder.mkdir()
    ends, none = np.cumsum(document_lengths), np.zeros(len(document_lengths), np.int64)
    with TokenShardWriter(folder / shard_name(0, 300), 300, "job") as writer:
        writer.add_documents(np.array(ids, np.uint32), ends, none, none)
        if span_lengths:
            lengths = np.array(span_lengths)
            writer.add_spans(lengths, np.arange(len(lengths)) % 2)
        entry = writer.close()
    record = TokenizerRecord("hash", 300, SpecialIds(bos=0, pad=1, eos=EOS, mask=5))
    inputs = (InputFile("pairs.jsonl", 1, "hash"),)
    write_manifest(folder, Manifest("documents", record, inputs, {"chat": True}, (entry,)))
    return [step.problem for step in verify(open_dataset(folder)) if step.problem]


def test_verify_checks_spans_and_ends_and_allows_ends_within(tmp_path):
    sound = problems_of(tmp_path / "a", [9, EOS, 9, EOS, 9, EOS], [4, 2], [2, 2, 1, 1])
    assert sound == []
    (crossing,) = problems_of(tmp_path / "b", [9, EOS, 9, EOS, 9, EOS], [4, 2], [2, 3, 1])
    assert "a span that goes on after its document" in crossing
    (endless,) = problems_of(tmp_path / "c", [9, EOS, 9, 9, 9, EOS], [4, 2], [2, 2, 1, 1])
    assert "no eos at the end of a document, at token 3" in endless
    (lacking,) = problems_of(tmp_path / "d", [9, EOS], [2], [])
    assert "disagree" in lacking
    (short,) = problems_of(tmp_path / "e", [9, EOS], [2], [1])
    assert "its spans hold 1 tokens, not 2" in short


def test_statistics_tell_examples_responses_and_tokens_by_role(tokenizer_folder, tmp_path):
    generator = random.Random(3)
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    examples = [random_messages(generator) for _ in range(100)]
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    source, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    list(pack(source, tmp_path / "packed", PackSettings(64, "stream", "row", True, 1, 0.0)))
    train, _ = open_packed(tmp_path / "packed")
    stored = documents_of(source)
    for facts in (describe(source), describe(train)):
        assert facts["examples"] == 100
        responses = [turns.count(t) for _, turns in stored for t in range(1, max(turns) + 1)]
        assert facts["responses"] == len(responses) == sum(len(m) // 2 for m in examples)
        assert facts["response_tokens"] == sum(responses)
        assert facts["prompt_tokens"] == sum(turns.count(0) for _, turns in stored)
        assert facts["response_length"]["max"] == max(responses)
        assert facts["response_length"]["mean"] == round(np.mean(responses), 2)
        assert facts["prompt_length"]["min"] == min(turns.count(0) for _, turns in stored)
        assert facts["example_length"]["max"] == max(len(ids) for ids, _ in stored)
        assert (facts["cut_examples"], facts["left_out"]) == (0, {})


def test_a_plain_dataset_has_no_statistics_of_turns(write_tokens):
    facts = describe(write_tokens([np.array([9, EOS], np.uint32)], 300))
    assert not {"examples", "responses", "left_out"} & facts.keys()
