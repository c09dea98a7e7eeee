"""Chat examples in tables and hub datasets: the same documents as from lines of JSON."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from illada_core.data.build.job import Job
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import list_sources
from illada_core.errors import DataError
from illada_core.text.tokenizer import load_tokenizer
from tests.text.chat import HEADERS, WHOLE, documents_of, job_of, run, write_examples

EXAMPLES = [
    {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
    for n in range(40)
]
EXAMPLES[3]["messages"][1]["reasoning_content"] = None
EXAMPLES[5]["messages"].insert(0, {"role": "system", "content": "naïve 日本"})


@pytest.fixture
def places(tmp_path):
    """Write the examples in every way; return what to call each."""
    lines = tmp_path / "pairs.jsonl"
    lines.write_text("".join(json.dumps(example) + "\n" for example in EXAMPLES))
    table = pa.Table.from_pylist(EXAMPLES)
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=7)
    with pa.ipc.new_stream(tmp_path / "pairs.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "train.jsonl").write_bytes(lines.read_bytes())
    (tmp_path / "pairs.json").write_text(json.dumps(EXAMPLES, indent=1))
    names = ("pairs.jsonl", "pairs.json", "pairs.parquet", "pairs.arrow")
    return [*(str(tmp_path / name) for name in names), f"hf:{hub}"]


def test_tables_and_hub_datasets_hold_the_same_examples(tokenizer_folder, places, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    found = []
    for number, place in enumerate(places):
        job = Job(list_sources([place], "chat"), tokenizer, "", chat=WHOLE)
        dataset, report = run(job, tmp_path / f"tokens{number}")
        assert report.documents == len(EXAMPLES)
        found.append(documents_of(dataset))
    assert all(documents == found[0] for documents in found)


def test_rows_are_read_from_any_of_them_on(places):
    for place in places:
        sources = list_sources([place], "chat")
        for first in (0, 1, 8, 39):
            texts = [chunk.read() for chunk in corpus_chunks(sources, None, (0, first))]
            records = [record for part in texts for record in part.records]
            assert records == [*range(first, 40)]


def test_a_damaged_table_is_named(tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet: damaged"):
        run(job_of(tmp_path / "bad.parquet", tokenizer), tmp_path / "tokens")


def test_lines_may_be_called_jsonl(tokenizer_folder, examples, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    job = Job(list_sources([str(path)]), tokenizer, "", chat=WHOLE)
    assert run(job, tmp_path / "tokens")[1].documents == len(examples)
