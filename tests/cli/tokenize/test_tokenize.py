"""`illada tokenize` as a person meets it: datasets, exit codes, interruptions, bad input."""

import gzip
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.corpus import TEXT, TOKENIZE
from tests.conftest import command_environment


def test_text_becomes_a_dataset_and_comes_back(illada, corpus, tmp_path):
    done = illada(*TOKENIZE, "-o", "tokens")
    assert done.stdout == "tokens\n"
    assert "2 documents, " in done.stderr
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {
        "manifest.json",
        "shard-000000-0000.u16.zst",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert illada("tokenize", "tokens", "--decode").stdout == TEXT * 40
    again = illada(*TOKENIZE, "-o", "tokens")
    assert again.stdout == "tokens\n"
    assert "complete already: 2 documents" in again.stderr


def test_a_training_writes_what_hugging_face_expects(trained):
    config = json.loads((trained / "tokenizer_config.json").read_text())
    names = {key: config[f"{key}_token"] for key in ("bos", "pad", "eos", "unk", "mask")}
    assert names == {
        "bos": "<[BOS]>",
        "pad": "<[PAD]>",
        "eos": "<[EOS]>",
        "unk": "<[UNK]>",
        "mask": "<[MASK]>",
    }
    tokens = json.loads((trained / "tokenizer.json").read_text())["model"]["vocab"]
    assert [tokens[names[key]] for key in ("bos", "pad", "eos", "unk", "mask")] == [0, 1, 2, 3, 5]


def test_a_training_is_the_same_every_time_and_never_replaces_a_file(illada, corpus, tmp_path):
    arguments = ("tokenize", "corpus", "--train-vocab", "300", "-o", "v/tokenizer.json")
    illada(*arguments)
    first = (tmp_path / "v" / "tokenizer.json").read_bytes()
    again = illada(*arguments)
    assert "v/tokenizer.json exists: training to see whether it is the same" in again.stderr
    assert (tmp_path / "v" / "tokenizer.json").read_bytes() == first
    refused = illada(*arguments[:3], "290", *arguments[4:], code=2)
    assert "v/tokenizer.json exists, and is another vocabulary" in refused.stderr
    assert (tmp_path / "v" / "tokenizer.json").read_bytes() == first
    illada(*arguments, "--fresh")
    assert (tmp_path / "v" / "tokenizer.json").read_bytes() == first
    printed = illada("tokenize", "corpus", "--train-vocab", "300", "-o", "-", "-q")
    assert json.loads(printed.stdout) == json.loads(first)
    assert printed.stderr == ""


def test_a_training_never_replaces_what_another_tokenizer_says_of_itself(illada, corpus, tmp_path):
    beside = tmp_path / "made" / "tokenizer_config.json"
    beside.parent.mkdir()
    beside.write_text('{"eos_token": "<mine>"}')
    command = ("tokenize", "corpus", "--train-vocab", "300", "-o", "made")
    refused = illada(*command, code=2).stderr
    assert refused.startswith("illada: made/tokenizer_config.json exists\n\nhint: use --fresh")
    assert beside.read_text() == '{"eos_token": "<mine>"}'
    illada(*command, "--fresh")


def test_json_reports_the_dataset(illada, corpus):
    report = json.loads(illada(*TOKENIZE, "-o", "tokens", "--json", "-q").stdout)
    assert (report["output"], report["documents"]) == ("tokens", 2)


def test_a_dry_run_writes_nothing(illada, corpus, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    plan = illada(*TOKENIZE, "-o", "tokens", "-n", "--json")
    facts = json.loads(plan.stdout)
    assert (facts["inputs"], facts["bytes"]) == (2, 40 * len(TEXT.encode()))
    assert "tokenizer.json" in illada(*TOKENIZE, "-o", "tokens", "--dry-run").stdout
    illada("tokenize", "corpus", "--train-vocab", "300", "-o", "new.json", "-n")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_tokenizer_in_a_corpus_is_used_and_is_no_document(illada, corpus, tmp_path):
    for path in tmp_path.glob("tokenizer*"):
        path.rename(corpus / path.name)
    report = json.loads(illada("tokenize", "corpus", "-o", "corpus/tokens", "--json").stdout)
    assert report["documents"] == 2
    again = illada("tokenize", "corpus", "-o", "corpus/tokens")
    assert "complete already" in again.stderr


def test_a_mask_token_can_be_added_on_the_way(illada, corpus, tmp_path):
    illada(*TOKENIZE, "-o", "tokens", "--mask", "<|hide|>", "--eos", "<[SEP]>")
    special = json.loads((tmp_path / "tokens" / "manifest.json").read_text())["tokenizer"]
    assert (special["special"]["mask"], special["special"]["eos"]) == (400, 4)
    assert special["vocab_size"] == 401
    again = illada(*TOKENIZE, "-o", "tokens", "--mask", "<|hide|>", "--eos", "<[SEP]>")
    assert "complete already" in again.stderr


def test_no_torch_is_imported(corpus, tmp_path):
    script = (
        "import sys\nfrom illada_cli.app import main\n"
        "code = main(['tokenize', 'corpus', '--tokenizer', 'tokenizer.json', '-o', 'tokens'])\n"
        "assert code == 0 and 'torch' not in sys.modules and 'datasets' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=command_environment(), check=True
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no input files in corpus"),
        ({"a.txt": b""}, "no document has any text (1 empty)"),
        ({"a.bin": b"\x7fELF\0\0"}, "a.bin:1: binary (it holds a zero byte)"),
        ({"a.txt": b"ok\nG\xf6the\n"}, "a.txt:2: not UTF-8 (byte 0xf6)"),
        ({"a.jsonl": b'{"text": "x"}\n{"text": \n'}, "a.jsonl:2: broken JSON"),
        ({"a.jsonl": b'{"content": "x"}\n'}, 'a.jsonl:1: no key "text"'),
        ({"a.jsonl.gz": gzip.compress(b"{}" * 99)[:-9]}, "a.jsonl.gz:1: damaged (the file is cut"),
        ({"a.jsonl.zst": b"no zstd"}, "a.jsonl.zst:1: damaged (not valid zstd)"),
        ({"a.parquet": b"no parquet"}, "a.parquet: damaged"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_dataset(illada, corpus, tmp_path, files, said):
    for path in corpus.iterdir():
        path.unlink()
    for name, data in files.items():
        (corpus / name).write_bytes(data)
    done = illada(*TOKENIZE, "-o", "tokens", "-q", code=1)
    assert done.stdout == ""
    assert done.stderr.startswith(f"illada: {said}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "tokens" / "manifest.json").exists()
    assert not list(tmp_path.glob("tokens/shard*"))


def test_skipping_counts_what_is_left_out_by_reason(illada, corpus):
    (corpus / "c.jsonl").write_text('{"text": "x"}\n{\n{\n{"t": 1}\n')
    (corpus / "d.bin").write_bytes(b"\0")
    done = illada(*TOKENIZE, "-o", "tokens", "--on-error", "skip")
    assert "left out: c.jsonl:2: broken JSON" in done.stderr
    assert 'left out: 4 documents (1 binary, 2 broken JSON, 1 no key "text")' in done.stderr
    assert "3 documents, " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tokenize",), "Missing argument"),
        (("tokenize", "corpus", "-o", "tokens"), "no tokenizer: give one with --tokenizer"),
        (("tokenize", "corpus", "--train-vocab", "300"), "a vocabulary needs a file"),
        (
            ("tokenize", "corpus", "--train-vocab", "10", "-o", "x"),
            "a vocabulary of 10 is too small",
        ),
        ((*TOKENIZE, "--decode", "-o", "x"), "--decode writes text to stdout"),
        ((*TOKENIZE, "--eos", "<end>", "-o", "x"), "the tokenizer has no token <end>"),
        (("tokenize", "hf:a/b/c/d", "--tokenizer", "tokenizer.json"), "names no hub dataset"),
        ((*TOKENIZE, "corpus/a.txt", "-o", "x"), "the same input is named twice: corpus/a.txt"),
        ((*TOKENIZE, "--format", "xml"), "Invalid value"),
    ],
)
def test_wrong_usage_is_code_2(illada, corpus, tmp_path, arguments, said):
    done = illada(*arguments, code=2)
    assert said in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("tokenize", "nowhere", "--tokenizer", "tokenizer.json"),
            "no such file or folder: nowhere",
        ),
        (("tokenize", "corpus", "--tokenizer", "nowhere.json"), "no tokenizer at nowhere.json"),
        (("tokenize", "corpus", "--tokenizer", "corpus/a.txt"), "is not valid JSON"),
        ((*TOKENIZE, "-o", "corpus/a.txt/tokens"), "not a directory: corpus/a.txt/tokens"),
        ((*TOKENIZE, "-o", "corpus/a.txt"), "exists: corpus/a.txt"),
    ],
)
def test_what_cannot_be_is_code_1(illada, corpus, arguments, said):
    assert said in illada(*arguments, code=1).stderr


def test_a_tokenizer_that_names_no_end_token_asks_for_one(illada, corpus, tmp_path):
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").unlink()
    done = illada(*TOKENIZE, "-o", "tokens", code=2)
    assert "does not say which token ends a document" in done.stderr
    assert "--eos" in done.stderr


def test_other_settings_are_refused_and_fresh_replaces(illada, corpus):
    illada(*TOKENIZE, "-o", "tokens")
    done = illada(*TOKENIZE, "-o", "tokens", "--shard-tokens", "100", code=2)
    assert "was made from other inputs, or with other settings" in done.stderr
    assert "--fresh" in done.stderr
    again = illada(*TOKENIZE, "-o", "tokens", "--shard-tokens", "100", "--fresh")
    assert "complete already" not in again.stderr


def test_another_tokenizer_in_the_folder_is_not_replaced_unasked(illada, corpus, tmp_path):
    mine = tmp_path / "tokens" / "tokenizer.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    done = illada(*TOKENIZE, "-o", "tokens", code=2)
    assert "tokens holds another tokenizer.json" in done.stderr
    assert mine.read_text() == "{}"
    illada(*TOKENIZE, "-o", "tokens", "--fresh")
    assert mine.read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_without_the_hub_a_hub_dataset_is_one_clear_error(illada, corpus, tmp_path):
    done = illada(
        "tokenize",
        "hf:owner/name#train",
        "--tokenizer",
        "tokenizer.json",
        "-o",
        "tokens",
        code=1,
        HF_HOME=str(tmp_path / "hub"),
    )
    assert "illada: cannot read hf:owner/name#train: " in done.stderr
    assert "without network" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_leaves_nothing_half_written_and_is_gone_on_from(corpus, illada, tmp_path):
    (corpus / "c.txt").write_text(random.Random(0).randbytes(300_000).hex())
    command = f"{sys.executable} -m illada_cli {' '.join(TOKENIZE)} -o tokens --shard-tokens 1000"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; {command}"],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("illada: file too large: tokens/shard-00")
    left = {path.name for path in (tmp_path / "tokens").iterdir()}
    assert "tokenize-000000.jsonl.partial" in left
    assert not {name for name in left if name.endswith(".zst.partial")}
    assert "manifest.json" not in left
    resumed = illada(*TOKENIZE, "-o", "tokens", "--shard-tokens", "1000")
    assert "finished by an earlier run" in resumed.stderr
    illada("pack", "--verify", "tokens")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_stops_in_good_order(start_illada, illada, corpus, tmp_path, number, code):
    for file in range(400):
        (corpus / f"{file}.txt").write_text(TEXT * 300)
    arguments = (*TOKENIZE, "-o", "tokens", "--shard-tokens", "100000", "--engine", "tokenizers")
    process = start_illada(*arguments)
    while not list(tmp_path.glob("tokens/shard-*.zst")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(number)
    _, talk = process.communicate(timeout=30)
    assert process.returncode == code
    assert "dropping the shard at hand, finished ones are kept, again to quit now" in talk
    assert "run the same command again to go on" in talk
    assert not list(tmp_path.glob("tokens/*.zst.partial"))


def test_a_signal_ends_a_training_at_once(start_illada, corpus, tmp_path):
    (corpus / "big.txt").write_text("".join(f"word{number} " for number in range(300_000)))
    process = start_illada("tokenize", "corpus", "--train-vocab", "30000", "-o", "v.json")
    for line in process.stderr:
        if "merging" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert not (tmp_path / "v.json").exists()
