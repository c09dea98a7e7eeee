"""Where the examples of `illada pack --chat` come from: streams, files, and folders of them."""

import gzip
import json

import numpy as np

from tests.cli.pack.conftest import PAIRS, documents_of


def test_standard_input_and_compressed_files(pack_chat, illada, tmp_path):
    pack_chat()
    text = (tmp_path / "pairs.jsonl").read_text()
    common = ("--tokenizer", "model", "--sequence-length", "256", "--holdout", "0")
    nameless = illada("pack", "--chat", "-", *common, code=2)
    assert "standard input gives the output no name" in nameless.stderr
    illada("pack", "--chat", "-", *common, "-o", "from-stdin", stdin=text)
    (tmp_path / "more.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert illada("pack", "--chat", "more.jsonl.gz", *common).stdout == "more-packed\n"
    for other in ("from-stdin", "more-packed"):
        for (ids, turns), (wanted_ids, wanted_turns) in zip(
            documents_of(tmp_path / other), documents_of(tmp_path / "pairs-packed"), strict=True
        ):
            np.testing.assert_array_equal(ids, wanted_ids)
            np.testing.assert_array_equal(turns, wanted_turns)


def test_several_files_and_folders_of_them(illada, model, write_pairs, tmp_path):
    (tmp_path / "all").mkdir()
    write_pairs(PAIRS[:1], "all/a.jsonl")
    write_pairs(PAIRS[1:], "all/b.jsonl")
    (tmp_path / "all" / "README.md").write_text("Not an example.")
    common = ("--tokenizer", "model", "--holdout", "0", "--json")
    by_folder = json.loads(illada("pack", "--chat", "all", *common).stdout)
    assert (by_folder["output"], by_folder["train"]["examples"]) == ("all-packed", 3)
    named = ("all/a.jsonl", "all/b.jsonl")
    assert "no name" in illada("pack", "--chat", *named, *common, code=2).stderr
    by_name = json.loads(illada("pack", "--chat", *named, *common, "-o", "named").stdout)
    assert by_name["train"]["tokens"] == by_folder["train"]["tokens"]


def test_a_json_of_a_folder_is_taken_where_it_holds_examples(illada, model, tmp_path):
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "alpaca.json").write_text(json.dumps(PAIRS))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=1))
    common = ("--tokenizer", "model", "--sequence-length", "256", "--holdout", "0")
    done = illada("pack", "--chat", "chats", *common)
    assert f"{len(PAIRS)} examples" in done.stderr
    assert "passed over, no lists of examples: dataset_info.json" in done.stderr
    (folder / "alpaca.json").unlink()
    failed = illada("pack", "--chat", "chats", *common, "-o", "none", code=1)
    assert "no examples in chats" in failed.stderr
