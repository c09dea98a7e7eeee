"""`illada pack` as a person meets it: streams, exit codes, interruptions, damage."""

import json
import signal
import time

import numpy as np
import pytest

EOS = 2
PACK = ("pack", "tokens", "--sequence-length", "256", "--holdout", "0.1")


def documents_of(tokens, longest):
    generator = np.random.default_rng(0)
    ends = np.cumsum(generator.integers(1, longest, 2 * tokens // longest))
    ids = (generator.zipf(1.3, ends[-1]) % 30_000 + 6).astype(np.uint32)
    ids[ends - 1] = EOS
    return np.split(ids, ends[:-1])


@pytest.fixture
def tokens(write_tokens):
    return write_tokens(documents_of(60_000, 600), 32_768)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def test_pack_writes_train_and_validation_and_prints_the_folder(illada, tokens, tmp_path):
    done = illada(*PACK)
    assert done.stdout == "tokens-packed\n"
    assert "validation: " in done.stderr
    assert {path.name for path in (tmp_path / "tokens-packed").iterdir()} == {
        "manifest.json",
        "train",
        "validation",
    }
    again = illada(*PACK)
    assert again.stdout == "tokens-packed\n"
    assert "complete already" in again.stderr


def test_json_is_one_object_a_line_and_the_only_stdout(illada, tokens):
    result = json.loads(illada(*PACK, "--json").stdout)
    assert result["output"] == "tokens-packed"
    stats = [
        json.loads(line)
        for line in illada("pack", "--stats", "tokens-packed", "--json").stdout.splitlines()
    ]
    assert [part["part"] for part in stats] == ["train", "validation"]
    assert sum(part["tokens"] for part in stats) == tokens.tokens
    assert stats[0]["rows"] == result["train"]["rows"]
    checks = illada("pack", "--verify", "tokens-packed", "--json").stdout.splitlines()
    assert [json.loads(line)["problems"] for line in checks] == [[], []]


def test_stats_describe_documents_and_rows(illada, tokens):
    assert f"{tokens.documents:,}" in illada("pack", "--stats", "tokens").stdout
    illada(*PACK, "--quiet")
    text = illada("pack", "--stats", "tokens-packed").stdout
    assert "empty share" in text
    assert "sequence_length 256" in text


def test_quiet_leaves_stderr_empty(illada, tokens):
    assert illada(*PACK, "-q").stderr == ""


@pytest.mark.parametrize("mode", ["stream", "fit"])
def test_a_dry_run_foretells_the_rows_and_writes_nothing(illada, tokens, tmp_path, mode):
    plan = illada(*PACK, "--mode", mode, "-n", "--json").stdout.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]
    result = json.loads(illada(*PACK, "--mode", mode, "--json").stdout)
    assert [json.loads(line)["rows"] for line in plan] == [
        result[part]["rows"] for part in ("train", "validation")
    ]


def test_other_settings_need_fresh(illada, tokens):
    illada(*PACK)
    refused = illada(*PACK, "--seed", "7", code=2)
    assert "made with other settings: seed 0 instead of 7" in refused.stderr
    assert "--fresh" in refused.stderr
    illada(*PACK, "--seed", "7", "--fresh")
    illada(*PACK, "--seed", "7")


def test_a_flipped_byte_is_reported_with_shard_and_frame(illada, tokens, tmp_path):
    illada(*PACK)
    path = tmp_path / "tokens-packed" / "train" / "shard-000000.u16.zst"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    found = illada("pack", "--verify", "tokens-packed", code=1)
    assert "shard-000000.u16.zst, frame 0: " in found.stdout
    assert "1 problem in tokens-packed" in found.stderr
    assert "validation: " in found.stdout


def test_another_tokenizer_beside_a_dataset_is_reported_once(illada, corpus, tmp_path):
    illada("pack", corpus, "-o", tmp_path / "rows", "--holdout", "0.4", "--sequence-length", "64")
    (tmp_path / "rows" / "tokenizer.json").write_text("{}")
    done = illada("pack", "--verify", tmp_path / "rows", code=1)
    assert done.stdout.count("is not the tokenizer that made the tokens") == 1
    assert "1 problem in" in done.stderr


def test_a_flipped_byte_in_the_input_stops_packing(illada, tokens, tmp_path):
    path = tmp_path / "tokens" / "shard-000000.u16.zst"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    failed = illada(*PACK, code=1)
    assert "shard-000000.u16.zst, frame 0: " in failed.stderr
    assert not list((tmp_path / "tokens-packed").rglob("shard*"))


def test_a_truncated_shard_is_one_sentence(illada, tokens, tmp_path):
    path = tmp_path / "tokens" / "shard-000000.u16.zst"
    path.write_bytes(path.read_bytes()[:-100])
    for arguments in (PACK, ("pack", "--verify", "tokens"), ("pack", "--stats", "tokens")):
        failed = illada(*arguments, code=1)
        assert "illada: damaged dataset: " in failed.stderr
        assert "Traceback" not in failed.stderr


def test_an_empty_dataset_is_one_sentence(illada, write_tokens, tmp_path):
    write_tokens([], 32_768)
    assert "nothing to pack" in illada(*PACK, code=1).stderr
    assert not (tmp_path / "tokens-packed").exists()


def test_no_manifest_says_what_to_do(illada, tokens, tmp_path):
    (tmp_path / "tokens" / "manifest.json").unlink()
    failed = illada(*PACK, code=1)
    assert "no manifest.json" in failed.stderr
    assert "run the same command again" in failed.stderr
    assert "no such file or folder" in illada("pack", "nowhere", code=1).stderr


def test_another_format_version_is_refused(illada, tokens, tmp_path):
    path = tmp_path / "tokens" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    assert "format version 99" in illada(*PACK, code=1).stderr


def test_a_full_disk_leaves_nothing_under_a_final_name(illada, tokens, tmp_path):
    folder = tmp_path / "tokens-packed" / "train"
    folder.mkdir(parents=True)
    (folder / "shard-000000.u16.zst.partial").symlink_to("/dev/full")
    failed = illada(*PACK, code=1)
    assert "no space left on device: tokens-packed/train/shard-000000.u16.zst" in failed.stderr
    assert "hint: free some space" in failed.stderr
    assert not list(folder.iterdir())
    illada(*PACK)


def test_an_output_that_cannot_be_made_is_one_sentence(illada, tokens, tmp_path):
    (tmp_path / "file").write_text("")
    assert "not a directory: file/out" in illada(*PACK, "-o", "file/out", code=1).stderr


def test_the_input_is_never_the_output(illada, tokens, tmp_path):
    before = files_of(tmp_path / "tokens")
    for extra in ((), ("--fresh",)):
        assert "is the input" in illada(*PACK, "-o", "tokens", *extra, code=2).stderr
    assert files_of(tmp_path / "tokens") == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("pack",),
        ("pack", "tokens", "--stats", "tokens"),
        ("pack", "tokens", "--mode", "best"),
        ("pack", "tokens", "--sequence-length", "0"),
        ("pack", "tokens", "--holdout", "2"),
        ("pack", "tokens", "--sequence_length", "8"),
    ],
)
def test_a_wrong_option_is_code_two(illada, arguments):
    done = illada(*arguments, code=2)
    assert done.stdout == ""
    assert "hint: see illada pack --help" in done.stderr


@pytest.mark.parametrize("unbuffered", [None, "1"])
def test_a_closed_pipe_is_code_141(start_illada, tokens, unbuffered):
    process = start_illada("pack", "--stats", "tokens", PYTHONUNBUFFERED=unbuffered)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""


def test_stopped_and_killed_runs_end_like_one_that_was_not(
    illada, start_illada, write_tokens, tmp_path
):
    write_tokens(documents_of(16_000_000, 3000), 32_768)
    command = ("pack", "tokens", "--workers", "1")
    illada(*command, "-o", "whole")
    partial = tmp_path / "broken" / "train" / "shard-000000.u16.zst.partial"

    stopped = start_illada(*command, "-o", "broken")
    wait_for(partial, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=60) == 143
    assert "again to quit now" in stopped.stderr.read()
    assert not partial.exists()

    killed = start_illada(*command, "-o", "broken")
    wait_for(partial, killed)
    killed.kill()
    killed.wait(timeout=60)
    assert partial.exists()

    illada(*command, "-o", "broken")
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


@pytest.fixture
def corpus(illada, tmp_path):
    """A folder of text with the tokenizer.json that was trained on it."""
    generator = np.random.default_rng(0)
    (tmp_path / "corpus").mkdir()
    for number in range(40):
        words = generator.choice(["alpha", "beta", "gamma", "delta", "<[MASK]>"], 60 + number)
        (tmp_path / "corpus" / f"{number:02}.txt").write_text(" ".join(words))
    illada("tokenize", "corpus", "--train-vocab", "300", "-o", "corpus/tokenizer.json")
    return tmp_path / "corpus"


def test_text_is_tokenized_on_the_way(illada, corpus, tmp_path):
    command = ("pack", "corpus", "--sequence-length", "64", "--mode", "fit", "--holdout", "0.2")
    plan = json.loads(illada(*command, "-n", "--json").stdout)
    assert (plan["inputs"], plan["tokenizer"]) == (40, "corpus/tokenizer.json")
    assert not (tmp_path / "corpus-packed").exists()
    result = json.loads(illada(*command, "--json").stdout)
    assert result["train"]["documents"] + result["validation"]["documents"] == 40
    folder = tmp_path / "corpus-packed"
    assert (folder / "tokenizer.json").read_bytes() == (corpus / "tokenizer.json").read_bytes()
    illada("pack", "--verify", "corpus-packed")
    illada("pack", "--verify", "corpus-packed/tokens")
    assert "complete already" in illada(*command).stderr
    assert "made with other settings" in illada(*command, "--seed", "1", code=2).stderr


def test_a_corpus_is_never_the_output_and_rows_are_never_packed_again(illada, corpus):
    before = files_of(corpus)
    refused = illada("pack", "corpus", "-o", "corpus", code=2)
    assert refused.stderr.startswith("illada: corpus is the input\n")
    assert files_of(corpus) == before
    illada("pack", "corpus", "-q")
    for folder in ("corpus-packed", "corpus-packed/train"):
        refused = illada("pack", folder, "-o", "again", code=2)
        assert refused.stderr.startswith(f"illada: {folder} is packed already\n")


def test_several_texts_are_packed_together_and_datasets_are_not(illada, corpus, tokens, tmp_path):
    named = ("corpus/00.txt", "corpus/01.txt", "--tokenizer", "corpus")
    assert "gives the output no name" in illada("pack", *named, code=2).stderr
    result = json.loads(illada("pack", *named, "-o", "out", "--holdout", "0", "--json").stdout)
    assert result["train"]["documents"] == 2
    refused = illada("pack", "tokens", "corpus", "-o", "both", code=2)
    assert "token datasets are packed one at a time" in refused.stderr


def test_text_without_a_tokenizer_says_what_to_do(illada, corpus):
    (corpus / "tokenizer.json").unlink()
    failed = illada("pack", "corpus", code=2)
    assert "no tokenizer" in failed.stderr
    assert "--train-vocab" in failed.stderr


def test_text_that_cannot_be_used_says_what_can_be_done(illada, corpus, tmp_path):
    (corpus / "41.txt").write_bytes(b"\xff\xfe not text \x00")
    failed = illada("pack", "corpus", code=1)
    assert "41.txt" in failed.stderr
    assert "hint: illada tokenize has options for that" in failed.stderr
    assert not (tmp_path / "corpus-packed" / "manifest.json").exists()


def test_the_tokenizer_of_another_dataset_is_refused(illada, tokens, corpus, tmp_path):
    refused = illada(*PACK, "--tokenizer", "corpus", code=2)
    assert "is not the tokenizer that made tokens" in refused.stderr
    assert not (tmp_path / "tokens-packed").exists()


def test_help_shows_examples_before_options(illada):
    text = illada("pack", "--help").stdout
    assert text.index("illada pack tokens/") < text.index("--sequence-length")


def test_help_shows_examples_under_their_heading(illada):
    text = illada("pack", "--help").stdout
    assert text.index("Examples:") < text.index("illada pack --chat") < text.index("Options:")
    assert "Examples:" in illada("tokenize", "--help").stdout
