"""Our causal family beside transformers' own model, asked the same items through the harness."""

import json
import os
import shutil
from string import ascii_lowercase

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")  # which the harness' hf model asks for
os.environ["HF_HUB_OFFLINE"] = "1"

from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.baseline import ask_baseline, open_baseline
from illada_core.benchmark.definition import load_benchmark
from illada_core.benchmark.examination import for_checkpoint, write_results
from illada_core.benchmark.report import compare
from illada_core.benchmark.results import Result
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.items import ScoringSettings
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.settings import Settings
from tests.benchmark.items import docs_for
from tests.benchmark.oracle import FACTS, exam_of, examine
from tests.conftest import REPO

COUNT = 24
IDS = 512  # of the model
SUMS_AGREE = 1e-3  # nats over a choice, in float32


@pytest.fixture(scope="module")
def causal_model(byte_model, tmp_path_factory):
    """A tiny model of SmolLM2's family with the tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("causal") / "model"
    shutil.copytree(REPO / "tests" / "fixtures" / "smollm2-tiny", folder)
    content = json.loads((byte_model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    pairs = (a + b for a in ascii_lowercase for b in ascii_lowercase)
    words = zip(range(max(vocabulary.values()) + 1, IDS), pairs, strict=False)
    vocabulary.update({word: number for number, word in words})  # so that each id has a text
    (folder / "tokenizer.json").write_text(json.dumps(content))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<[EOS]>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


def exams_for(checkpoint):
    scoring, settings = ScoringSettings(delimiter=" "), Settings(max_new_tokens=24)
    return [
        for_checkpoint(
            exam_of(
                load_benchmark(name),
                docs_for(name, COUNT),
                shots=0,
                scoring=scoring,
                settings=settings,
            ),
            checkpoint,
        )
        for name in ("arc_easy", "piqa", "winogrande", "gsm8k")
    ]


def test_picks_and_texts_of_a_causal_family_equal_those_of_transformers(causal_model, tmp_path):
    checkpoint = open_checkpoint(causal_model)
    exams = exams_for(checkpoint)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours = examine(exams, checkpoint.load(), tmp_path / "ours", causal_model)
    named = f"hf:{causal_model}"
    model = open_baseline(named, "cpu")
    with open_answers(tmp_path / "theirs") as answers:
        keys = ask_baseline(exams, named, model, answers)
        path = write_results(exams, keys, named, answers, tmp_path / "theirs", FACTS, None)
        asked_again = ask_baseline(exams, named, None, answers)  # nothing is left to ask
    assert asked_again == keys
    theirs = Result.read(path)
    for test in compare([ours], [theirs]):
        assert (test.paired.count, test.paired.won, test.paired.lost) == (COUNT, 0, 0)
    for exam in exams:
        for one, other in zip(ours.samples(exam.name), theirs.samples(exam.name), strict=True):
            if exam.is_scored:
                pairs = zip(one["filtered_resps"], other["filtered_resps"], strict=True)
                assert all(abs(a - b) < SUMS_AGREE for (a, _), (b, _) in pairs)
            else:
                assert one["resps"] == other["resps"]
    texts = {line["resps"][0][0] for line in ours.samples("gsm8k")}
    assert len(texts) > COUNT // 2


def test_a_baseline_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="KIND:MODEL"):
        open_baseline("just-a-name", "cpu")
    with pytest.raises(UsageError, match="no model hff"):
        open_baseline("hff:there", "cpu")
    with pytest.raises(DataError, match="cannot be loaded"):
        open_baseline(f"hf:{tmp_path}", "cpu")
