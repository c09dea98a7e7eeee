"""Files of lines: marks, line ends and compression that change no document."""

import gzip

import zstandard

from illada_core.text.messages import Message
from illada_core.text.tokenizer import load_tokenizer
from tests.text.chat import EOS, HEADERS, asked_ids, documents_of, job_of, run, write_examples


def test_windows_lines_byte_order_marks_blank_lines_and_empty_prompts_are_fine(
    tokenizer_folder, tmp_path
):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    pair, bare = '{"prompt": "q", "response": "a"}', '{"prompt": "", "response": "a"}'
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(f"\ufeff{pair}\r\n\r\n \n{bare}".encode())
    dataset, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    assert next(dataset.indexes()).document_records.tolist() == [0, 3]
    for (ids, turns), text in zip(documents_of(dataset), ("q", ""), strict=True):
        asked = asked_ids(tokenizer, [Message("user", text)])
        assert ids == [*asked, *tokenizer.encode("a"), tokenizer.special.pad, EOS]
        assert turns == [0] * len(asked) + [1] * (len(ids) - len(asked))


def test_compressed_files_hold_the_same_examples(examples, tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    expected, _ = run(job_of(path, tokenizer), tmp_path / "tokens")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(path.read_bytes()))
    for number, name in enumerate(("a.jsonl.gz", "a.jsonl.zst")):
        found, _ = run(job_of(tmp_path / name, tokenizer), tmp_path / f"tokens{number}")
        assert documents_of(found) == documents_of(expected)
