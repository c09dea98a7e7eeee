"""`illada tokenize` as a person meets it: pipes, streams, exit codes, interruptions, bad input."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import command_environment
from tests.data.conftest import TRAINING_TEXT

TOKENIZE = ("tokenize", "corpus", "--tokenizer", "tokenizer.json")
TEXT = "The quick brown fox <[MASK]> jumps.\nIt's  1,024 zwölf\t日本語 😀\n"


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tokenizer.json that the verb itself has trained."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TRAINING_TEXT)
    command = [sys.executable, "-m", "illada_cli", "tokenize", "text.txt"]
    options = ["--train-vocab", "400", "-o", "tokenizer.json"]
    done = subprocess.run(
        [*command, *options], cwd=folder, env=command_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "tokenizer.json\n"), done.stderr
    return folder


@pytest.fixture
def corpus(tmp_path, trained):
    for path in trained.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "corpus").mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / "corpus" / name).write_text(TEXT * 20)
    return tmp_path / "corpus"


def test_text_becomes_a_dataset_and_comes_back(illada, corpus, tmp_path):
    done = illada(*TOKENIZE, "-o", "tokens")
    assert done.stdout == "tokens\n"
    assert "2 documents, " in done.stderr
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {
        "manifest.json",
        "shard-000000.u16.zst",
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
    refused = illada(*arguments, code=2)
    assert "v/tokenizer.json exists" in refused.stderr
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


@pytest.mark.parametrize("text", [TEXT, "", "\n", "no newline", "\r\n\r\n", "<[EOS]><[PAD]>"])
def test_ids_go_through_a_pipe_and_come_back_exactly(illada, corpus, text):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json")
    ids = illada(*arguments, stdin=text)
    assert len(ids.stdout.splitlines()) == 1
    assert not set(json.loads(ids.stdout)) & set(range(6))
    assert ids.stderr == ""
    assert illada(*arguments, "--decode", stdin=ids.stdout).stdout == text.replace("\r\n", "\n")


def test_decoded_texts_are_json_if_asked_for(illada, corpus):
    command = ("tokenize", "-", "--tokenizer", "tokenizer.json")
    ids = illada(*command, "--format", "lines", stdin="one\ntwo\n").stdout
    texts = illada(*command, "--decode", "--json", stdin=ids).stdout
    assert texts == '{"text": "one"}\n{"text": "two"}\n'


def test_bytes_survive_the_round_trip(corpus, tmp_path):
    data = "\ufeffa\r\n\u2028b\x1b[31m\v\x00".replace("\x00", "").encode()
    command = f"{sys.executable} -m illada_cli tokenize - --tokenizer tokenizer.json"
    done = subprocess.run(
        f"{command} | {command} --decode",
        shell=True,
        input=data,
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
    )
    assert done.stdout == data


def test_lines_and_json_lines_are_documents_in_a_pipe(illada, corpus):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--format")
    lines = illada(*arguments, "lines", stdin="one\n\ntwo words\n").stdout
    assert [bool(json.loads(line)) for line in lines.splitlines()] == [True, False, True]
    decode = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--decode", "--format")
    records = illada(*decode, "jsonl", stdin=lines).stdout
    assert records == '{"text": "one"}\n{"text": ""}\n{"text": "two words"}\n'
    assert illada(*arguments, "jsonl", stdin=records).stdout == lines
    described = illada(*arguments, "jsonl", "--json", stdin=records).stdout.splitlines()
    assert [json.loads(line)["record"] for line in described] == [0, 1, 2]
    assert illada(*decode, "lines", stdin="\n".join(described)).stdout == "one\n\ntwo words\n"


def test_the_ids_of_a_line_follow_it_at_once(start_illada, corpus):
    process = start_illada("tokenize", "-", "--tokenizer", "tokenizer.json", "--format", "lines")
    for text in ("first\n", "second\n"):
        process.stdin.write(text)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(10) == 0


def test_files_print_their_ids_too(illada, corpus):
    done = illada(*TOKENIZE, "--json", "--workers", "1")
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["a.txt", "b.md"]
    assert illada(*TOKENIZE, "-o", "-").stdout == illada(*TOKENIZE).stdout


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
        (("tokenize", "corpus", "--tokenizer", "corpus/a.txt"), "is not a tokenizer.json"),
        ((*TOKENIZE, "-o", "corpus/a.txt/tokens"), "not a directory: corpus/a.txt/tokens"),
        ((*TOKENIZE, "-o", "corpus/a.txt"), "exists: corpus/a.txt"),
    ],
)
def test_what_cannot_be_is_code_1(illada, corpus, arguments, said):
    assert said in illada(*arguments, code=1).stderr


def test_ids_that_are_none_are_named_by_line(illada, corpus):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--decode")
    done = illada(*arguments, stdin="[77]\n[1.5]\n", code=1)
    assert "-:2: not a JSON array of ids" in done.stderr
    assert "id 999 is not in the vocabulary" in illada(*arguments, stdin="[999]", code=1).stderr


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
    assert "tokenize.jsonl.partial" in left
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


def test_a_closed_pipe_is_141(corpus, tmp_path):
    for file in range(50):
        (corpus / f"{file}.txt").write_text(TEXT * 20)
    command = f"{sys.executable} -m illada_cli {' '.join(TOKENIZE)}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_ids_to_a_full_device_fail(corpus, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "illada_cli", *TOKENIZE],
            cwd=tmp_path,
            env=command_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("illada: no space left on device")


def test_a_named_pipe_is_read_as_a_stream(illada, corpus, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"printf 'some text' > {tmp_path / 'pipe'}"]):
        done = illada("tokenize", "pipe", "--tokenizer", "tokenizer.json")
    assert (
        illada(
            "tokenize", "-", "--tokenizer", "tokenizer.json", "--decode", stdin=done.stdout
        ).stdout
        == "some text"
    )
