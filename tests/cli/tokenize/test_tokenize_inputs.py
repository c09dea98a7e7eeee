"""`illada tokenize` on inputs as people have them, and what it tells of tokenizers."""

import gzip
import json

import pytest

from tests.text.kinds import KINDS


def ids_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_records_of_a_json_file_are_documents_each(illada, trained, tmp_path):
    tokenizer = ("--tokenizer", trained / "tokenizer.json")
    records = [{"text": "First page.\nIt has two lines."}, {"text": "Second page é."}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "part.json.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "array.json").write_text(json.dumps(records))
    (tmp_path / "table.csv").write_text('text\n"First page.\nIt has two lines."\nSecond page é.\n')
    found = [
        ids_of(illada("tokenize", name, *tokenizer))
        for name in ("part.json.gz", "array.json", "table.csv")
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2


def test_an_ordinary_word_is_no_control_token(illada, trained, tmp_path):
    for path in trained.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "t.txt").write_text("self e\n")
    asked = ("tokenize", "t.txt", "--tokenizer", "tokenizer.json", "-o", "out")
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    word = next(token for token in vocabulary if token.isalpha() and len(token) > 1)
    for option in ("--mask", "--eos"):
        done = illada(*asked, option, word, code=2)
        assert f"{word!r} is an ordinary word of the vocabulary" in done.stderr
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "e"}')
    assert "calls the ordinary word 'e' its eos token" in illada(*asked, code=1).stderr
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_is_not_begun_if_a_file_is_bad_or_leaves_it_out(illada, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.txt").write_text("some text of words and words\n" * 50)
    for name in ("b.txt", "c.txt"):
        (tmp_path / "corpus" / name).write_bytes(b"\xff")
    asked = ("tokenize", "corpus", "--train-vocab", "300", "-o", "tokenizer.json")
    done = illada(*asked, code=1)
    assert "2 files cannot be used:\n  b.txt:1: not UTF-8 (byte 0xff)\n  c.txt:1" in done.stderr
    assert "merging" not in done.stderr
    assert "left out: b.txt:1" in illada(*asked, "--on-error", "skip").stderr


def test_a_scan_names_all_bad_files_before_a_dataset_is_begun(illada, trained, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(b"good\n\xff")
    asked = ("tokenize", "a.txt", "b.txt", "--tokenizer", trained / "tokenizer.json", "-o", "out")
    done = illada(*asked, "--scan", code=1)
    assert "2 files cannot be used" in done.stderr
    assert not (tmp_path / "out").exists()
    done = illada(*asked, "--encoding", "cp1252")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["settings"]["encodings"] == {"a.txt": "cp1252", "b.txt": "cp1252"}


@pytest.mark.parametrize("output", [(), ("-o", "out")])
def test_unknown_tokens_are_counted_and_told(illada, tmp_path, output):
    content = KINDS["words"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "t.txt").write_text("the fox a dog")
    done = illada("tokenize", "t.txt", "--tokenizer", "tokenizer.json", *output)
    assert "2 tokens are [UNK]: the vocabulary lacks letters of this text" in done.stderr


def test_what_files_disagree_on_is_told_once(illada, trained, tmp_path):
    for path in trained.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<[SEP]>"}')
    (tmp_path / "t.txt").write_text("text")
    done = illada("tokenize", "t.txt", "--tokenizer", "tokenizer.json", "-o", "out")
    said = "tokenizer_config.json calls <[EOS]> the eos token, special_tokens_map.json <[SEP]>"
    assert done.stderr.count(said) == 1
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["tokenizer"]["special"]["eos"] == 4
